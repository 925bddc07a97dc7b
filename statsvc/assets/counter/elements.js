/** The page's own elements that show numbers, and the latest numbers. */

import { draw } from "./box.js";
import { languageOf, written } from "./languages.js";
import { getTotals } from "./service.js";
import { shows, sites } from "./settings.js";

const MOST_PATHS = 100; // the service answers no more at once

/** The totals, with the page's own as `page`. */
export let latest = {};

/** Is there anything on the page that follows the numbers? */
export const hasPlaces = () => document.querySelector("visit-counter,[data-statsvc]");

/** An answer arrived. A private site's has no numbers. */
export function take(totals) {
  if (!shows) return;
  if (totals.visits) latest = { ...latest, ...totals };
  show();
}

/** Fill all that is on the page now. What an element holds stays until there is a number. */
export function show() {
  document.querySelectorAll("visit-counter:defined").forEach(draw);
  fill(document, latest);
}

/** Elements that name a number by a dotted path: data-statsvc="current.peak.at". */
export const fill = (root, totals) =>
  root.querySelectorAll("[data-statsvc]").forEach((element) =>
    write(
      element,
      element.dataset.statsvc.split(".").reduce((value, key) => value?.[key], totals),
    ),
  );

/**
 * Fill the elements of a list of articles, each with its page's number. `cache` is fetch's: with "force-cache" the
 * browser answers from its own cache, however old, so that a page opened while the service is away has numbers.
 */
export function remember(cache = "no-cache") {
  if (!shows) return;
  const elements = [...document.querySelectorAll("[data-statsvc-page]")];
  do {
    const some = elements.splice(0, MOST_PATHS);
    if (some[0] || hasPlaces()) {
      getTotals([sites[0], ...some.map((element) => element.dataset.statsvcPage)], cache).then((totals) => {
        some.forEach((element) =>
          write(
            element,
            totals.pages[element.dataset.statsvcPage]?.[element.dataset.statsvcPageValue || "pageviews"],
          ),
        );
        if (!latest.visits) take(totals);
      }, Boolean);
    }
  } while (elements[0]);
}

function write(element, value) {
  const text = written(value, languageOf(element)[0]);
  if (text && text != element.textContent) element.textContent = text;
}
