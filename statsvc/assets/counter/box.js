/**
 * <visit-counter>: the counter box.
 *
 *   show="visits,current"   its rows; those of ROWS below, others are left out
 *   lang, theme             where they aren't the page's and the system's
 *   site                    another site's numbers; they come once, and aren't followed
 *   label-visits="…"        another label for a row, and label-title
 */

import { fill, latest } from "./elements.js";
import { label, languageOf } from "./languages.js";
import { getTotals } from "./service.js";
import { sites } from "./settings.js";

/* global STYLE */

/** What a label names: the path of its number in the totals. In the order of the labels' texts; see build.py. */
const ROWS = {
  title: 0,
  visits: "visits.total",
  current: "current.visitors",
  pageviews: "pageviews.total",
  peak: "current.peak.visitors",
  page: "page.pageviews",
  today: "visits.today",
  yesterday: "visits.yesterday",
  "this-week": "visits.this_week",
  "this-month": "visits.this_month",
  "this-year": "visits.this_year",
};

let style;

/** Throws in browsers before 2023, where the page's own content of the element stays. */
export function define() {
  style = new CSSStyleSheet(); // which a strict policy of the page lets pass, unlike a <style>
  style.replaceSync(STYLE);
  customElements.define(
    "visit-counter",
    class extends HTMLElement {
      connectedCallback() {
        const site = this.getAttribute("site");
        if (site && site != sites[0]) {
          this.totals = {};
          getTotals([site]).then((totals) => draw(this, (this.totals = totals)), Boolean);
        }
        draw(this);
      }
    },
  );
}

export function draw(box) {
  const totals = box.totals || latest;
  const root = box.shadowRoot || box.attachShadow({ mode: "open" });
  const given = (name) => box.getAttribute(name);
  const [locale, language] = languageOf(box);
  const rows = (given("show") || "visits,current").split(/[\s,]+/).filter((row) => ROWS[row]);
  const labels = ["title", ...rows].map(
    (name) => given("label-" + name) || label(language, Object.keys(ROWS).indexOf(name) + 1, name),
  );
  // Built again only when it isn't the same any more: a selection, or a reader's place in it, is kept.
  if (box.built != (box.built = locale + rows + labels)) {
    const lines = rows.map((row, i) => {
      const value = make("dd value", "–");
      value.lang = locale;
      value.dataset.statsvc = ROWS[row];
      return make("div row " + row, make("dt label", labels[i + 1]), value);
    });
    const frame = make("section box", make("p title", labels[0]), make("dl", ...lines));
    frame.lang = language;
    frame.dir = "auto";
    frame.setAttribute("role", "group");
    frame.setAttribute("aria-label", labels[0]);
    root.adoptedStyleSheets = [style];
    root.replaceChildren(frame, make("slot"));
  }
  root.firstChild.className = totals.visits ? "" : "waits";
  fill(root, totals);
}

/** The first part is the tag too. */
function make(parts, ...children) {
  const element = document.createElement(parts.split(" ")[0]);
  element.part = parts;
  element.append(...children);
  return element;
}
