/*
 * statsvc: counts the page, keeps its reader among the current visitors, and shows the site's numbers.
 *
 *   <script defer src="https://stats.example/counter.js" data-domain="hue.gov.vn"></script>
 *
 *   data-domain        the site as it is registered, or several with commas between: each counts the page, and the
 *                      first one's numbers are shown; without it, the page's host without "www."
 *   data-canonical     count the page by its <link rel="canonical">, where that is of the same host
 *   data-respect-dnt   don't count readers who ask for that: Global Privacy Control, Do Not Track
 *   data-count-local   count on localhost, private addresses and names without a dot too
 *
 * What shows numbers, each in the language of where it stands:
 *
 *   <visit-counter show="visits,current"></visit-counter>            the counter box; see box.js and box.css
 *   <b data-statsvc="visits.total">1.055.568</b>                     a number by its path in GET /api/totals
 *   <b data-statsvc="page.pageviews">44</b>                          of this page: also page.visits, page.current
 *   <b data-statsvc-page="/tin-tuc/1">44</b>                         of another page; its pageviews, or what
 *                                                                    data-statsvc-page-value="visits" says
 *
 * What they hold stays until there is a number, and whenever there is none. statsvc("Download") sends an event.
 *
 * It stores nothing in the browser: no cookie, no localStorage. It reads one word there: localStorage.statsvc_ignore,
 * with which editors leave out their own reading.
 *
 * Browsers from 2020 on; the box wants those from 2023, and older ones show what the page put into it. The built file
 * has a budget, which tests/test_assets.py holds: where a line here is terse, that is why.
 */
import { define } from "./box.js";
import { show } from "./elements.js";
import { shows, sites } from "./settings.js";
import { start } from "./tracker.js";

// A prerendered page has no reader yet.
if (sites[0]) {
  if (document.prerendering) document.addEventListener("prerenderingchange", start);
  else start();
}

if (shows) {
  // With `async` in place of `defer` the answer can be here before the elements are.
  addEventListener("DOMContentLoaded", show);
  define();
}
