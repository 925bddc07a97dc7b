/** The calls to the service. Each promise is rejected where there was no good answer. */

import { service, sites } from "./settings.js";

export const sendEvent = (event) =>
  call("event", {
    method: "POST",
    // Text goes as text/plain, which another origin may be sent without being asked first (preflight).
    body: JSON.stringify(event),
    keepalive: true, // counted though the reader is on the way to the next page
  });

/** For pages whose policy lets only images pass. It brings no numbers. */
export const sendPixel = (event, onload) =>
  Object.assign(new Image(), { onload, src: service + "hit.gif?" + new URLSearchParams(event) });

/** The totals of a site and of pages of it. `cache` is fetch's: "force-cache" takes what the browser has, however old. */
export const getTotals = (siteAndPaths, cache) =>
  call("totals?site=" + siteAndPaths.map(encodeURIComponent).join("&path="), { cache });

export const openStream = () => new EventSource(service + "api/stream?site=" + sites[0]);

const call = (what, how) =>
  fetch(service + "api/" + what, how).then((response) =>
    // What isn't good says what is wrong.
    response.ok
      ? response.json()
      : response.text().then((text) => {
          throw response.status + text;
        }),
  );
