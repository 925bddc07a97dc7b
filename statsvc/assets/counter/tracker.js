/** Counts what is seen, and keeps its reader among the current visitors. */

import { remember, take } from "./elements.js";
import { isCounted } from "./privacy.js";
import { getTotals, sendEvent, sendPixel } from "./service.js";
import { options, service, sites } from "./settings.js";
import { follow } from "./stream.js";

let counts; // is this reader counted?
let view; // what is counted once: the page as loaded or as restored by the back button, or a route of it
let place; // where it is
let intervalMilliseconds = 120000;
let reportedAt;
let warned;

export function start() {
  counts = isCounted();
  // The canonical link's address, when the editor asks for it and it is of this host.
  const link = options.canonical != null && document.querySelector("[rel=canonical]");
  move(0, link && link.href.includes("//" + location.host + "/") && link.href);
  addEventListener("popstate", move);
  addEventListener("pageshow", (event) => event.persisted && see(view.u));
  document.addEventListener("visibilitychange", beat);
  setInterval(beat, 1000);
  for (const change of ["pushState", "replaceState"]) {
    const original = history[change];
    history[change] = (...given) => move(original.apply(history, given));
  }
  window.statsvc = report;
}

/** Seen is a new page, unless only the hash has changed, or nothing. */
function move(_, address) {
  if (place != (place = location.pathname + location.search)) {
    if (view) setTimeout(remember, 1000); // by then a route's list of articles is there
    see(address || location.origin + location.pathname);
  }
}

function see(address) {
  // The id is for a report whose answer is lost: the next one may say the same, and counts once.
  view = { n: "pageview", u: address, d: sites + "", id: Math.random(), b: +navigator.webdriver };
  report();
}

/** Only a visible page reports. One that was hidden past its time does so as soon as it is seen again. */
function beat() {
  const isSeen = !document.hidden;
  // Not `performance.now()`, which stands still while a computer sleeps; so the clock may be set back.
  if (isSeen && Math.abs(Date.now() - reportedAt) > intervalMilliseconds) report();
  follow(isSeen);
}

/** Send what the view is due, that it is seen or still read; or an event with a name of the page's own. */
function report(name) {
  const seen = view;
  const event = { ...seen, ...(name && { n: name, id: "" }) };
  const read = () => (seen.n = "engagement");
  if (!name) read(); // while there is no answer, assume so: a slow one is no reason to count again
  reportedAt = Date.now();
  (counts ? sendEvent(event) : getTotals([sites[0], location.pathname])).then(
    (totals) => {
      // At random, so that readers who came all at once spread out.
      intervalMilliseconds = totals.engagement_seconds * (1000 + Math.random() * 100);
      for (const path in totals.pages) totals.page = totals.pages[path]; // there is one
      take(totals);
      remember();
    },
    (error) => {
      remember("force-cache");
      warned ||= !console.warn("statsvc: " + sites, error);
      if (event.n == "pageview") seen.n = event.n; // the next report counts it
      if (counts && error.message) setTimeout(sendPixel, 1000, event, read);
    },
  );
}
