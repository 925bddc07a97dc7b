/*
 * statsvc: counts this page, keeps its reader among the current visitors, and shows the site's numbers.
 *
 *   <script defer src="https://stats.example/counter.js" data-domain="hue.gov.vn"></script>
 *
 *   data-domain   the site as it is registered; without it, the page's host without "www."
 *
 * An element that names a number shows it, written as in the element's language:
 *
 *   <b data-statsvc="visits.total">1.055.568</b>
 *
 * The name is a path into the totals, as GET /api/totals answers them: visits.today, pageviews.total,
 * current.visitors, current.peak.at and so on. page.visits, page.pageviews and page.current are of this
 * page. What the element holds stays until there is a number, and whenever there is none.
 *
 * It stores nothing in the browser: no cookie, no localStorage.
 */
(() => {
  "use strict";

  // Only a script of type="module" isn't the current one.
  const script = document.currentScript || document.querySelector('script[src*="/counter.js"]');
  const endpoint = new URL("/api/event", script.src).href;
  const domain = script.dataset.domain || location.hostname.replace(/^www\./, "");

  const LONGEST_URL = 2000; // the service takes no longer one
  const LONGEST_INTERVAL_SECONDS = 24 * 3600; // setTimeout takes no more than 24 days, and then fires at once

  // A portal's template and its page may both have the script. A symbol, since `window.statsvc` would
  // be any element with that id.
  const onThisPage = Symbol.for("statsvc");
  const counters = window[onThisPage] || (window[onThisPage] = new Set());
  const counter = `${endpoint} ${domain}`;
  if (counters.has(counter)) return;
  // Where a page counts for several sites, its elements show the numbers of the first.
  const shows = counters.size === 0;
  counters.add(counter);

  let view; // what is counted once: the page as loaded, or as restored by the back button
  let intervalSeconds = 120;
  let reportedAt;
  let stretch; // of the interval after it, at random: readers who came all at once spread out
  let timer;
  let totals = null; // the last answer
  let warned = false;

  function start() {
    document.addEventListener("visibilitychange", schedule);
    // With `async` in place of `defer` the answer can be here before the elements are.
    document.addEventListener("DOMContentLoaded", show);
    window.addEventListener("pageshow", (event) => {
      if (event.persisted) countPage();
    });
    countPage();
  }

  function countPage() {
    view = { counted: false };
    report();
  }

  async function report() {
    reportedAt = Date.now();
    stretch = 1 + Math.random() / 10;
    schedule();
    try {
      const response = await send(view);
      totals = await response.json();
      followInterval(totals.engagement_seconds);
      show();
    } catch (error) {
      if (!warned) console.warn(`statsvc: ${endpoint} gave no numbers for ${domain}: ${error.message}`);
      warned = true;
    }
  }

  /** Only a visible page reports. One that was hidden past its time does so as soon as it is seen again. */
  function schedule() {
    clearTimeout(timer);
    if (document.visibilityState !== "visible") return;
    const wait = intervalSeconds * 1000 * stretch;
    // Not `performance.now()`, which stands still while a computer sleeps; so the clock may be set back.
    const waited = Math.max(0, Date.now() - reportedAt);
    timer = setTimeout(report, Math.max(0, wait - waited));
  }

  function followInterval(seconds) {
    if (!(seconds >= 1)) return;
    intervalSeconds = Math.min(seconds, LONGEST_INTERVAL_SECONDS);
    schedule();
  }

  /** Send what the view is due: to be counted, or that it is still read. Throws where it was not taken. */
  async function send(view) {
    const name = view.counted ? "engagement" : "pageview";
    view.counted = true; // while there is no answer, assume so: a slow answer is no reason to count again
    try {
      const response = await fetch(endpoint, {
        method: "POST",
        // Text goes as text/plain, which another origin may be sent without being asked first (preflight).
        body: JSON.stringify({ n: name, u: address(), d: domain, r: document.referrer || null }),
        credentials: "omit",
        keepalive: true, // counted though the reader is on the way to the next page
      });
      if (!response.ok) throw new Error(await sentence(response));
      return response;
    } catch (error) {
      if (name === "pageview") view.counted = false; // the next report counts it
      throw error;
    }
  }

  function address() {
    const whole = location.href;
    return whole.length <= LONGEST_URL ? whole : (location.origin + location.pathname).slice(0, LONGEST_URL);
  }

  /** What the service says is wrong. */
  async function sentence(response) {
    const { error } = await response.json().catch(() => ({}));
    return `${response.status} ${error || response.statusText}`;
  }

  function show() {
    if (!shows || totals === null) return;
    const page = Object.values(totals.pages || {})[0]; // an event's answer has the event's page alone
    for (const element of document.querySelectorAll("[data-statsvc]")) {
      const value = valueAt({ ...totals, page }, element.dataset.statsvc);
      const text = format(value, languageOf(element));
      if (text !== null && text !== element.textContent) element.textContent = text;
    }
  }

  function valueAt(value, path) {
    for (const key of path.trim().split(".")) {
      if (value === null || typeof value !== "object") return null;
      value = value[key];
    }
    return value;
  }

  /** As the language writes it; null for what isn't a number, a moment or a text. */
  function format(value, language) {
    if (Number.isFinite(value)) return new Intl.NumberFormat(language).format(value);
    if (typeof value !== "string") return null;
    const moment = /^\d{4}-\d\d-\d\dT/.test(value) ? Date.parse(value) : NaN;
    if (Number.isNaN(moment)) return value;
    const [digits, twoDigits] = ["numeric", "2-digit"];
    const date = { year: digits, month: twoDigits, day: twoDigits };
    const time = { hour: twoDigits, minute: twoDigits };
    return new Intl.DateTimeFormat(language, { ...date, ...time }).format(moment);
  }

  /** The first language that the browser can write: the element's, the page's, or the reader's. */
  function languageOf(element) {
    const marked = element.closest("[lang]");
    const tags = [marked && marked.getAttribute("lang"), document.documentElement.lang, navigator.language];
    return tags.map((tag) => (tag || "").replace(/_/g, "-")).find(isSupported);
  }

  function isSupported(tag) {
    try {
      return Intl.NumberFormat.supportedLocalesOf(tag).length > 0;
    } catch {
      return false; // not the form of a language tag
    }
  }

  // A prerendered page has no reader yet.
  if (document.prerendering) document.addEventListener("prerenderingchange", start, { once: true });
  else start();
})();
