/** What the editor wrote on the script's tag. */

const script = document.currentScript;

export const options = script.dataset;
export const service = new URL(".", script.src).href;

// A portal's template and its page may both have the script: each site is counted by the first that names it.
// Not on `window`, where an element with that id would be found.
const named = (history.statsvc ||= []);

/** The elements of a page show the numbers that its first script has. */
export const shows = !named[0];

/** The sites that this script counts for. */
export const sites = (options.domain || location.hostname.replace(/^www\./, ""))
  .split(/[\s,]+/)
  .filter((site) => !named.includes(service + site) && named.push(service + site));
