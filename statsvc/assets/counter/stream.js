/** Follows the first site's numbers while somebody sees them. */

import { hasPlaces, latest, take } from "./elements.js";
import { openStream } from "./service.js";

const LONGEST_WAIT_MILLISECONDS = 30000;
let waitMilliseconds = 2000;
let connectAt = 0;
let source;

/** Called once a second: connect when there is something to fill and somebody to see it, else hang up. */
export function follow(isSeen) {
  if (!isSeen || !window.EventSource || !hasPlaces()) source = source?.close();
  else if (!source && latest.visits && Date.now() > connectAt) {
    source = openStream();
    source.onmessage = ({ data }) => {
      waitMilliseconds = 2000;
      take(JSON.parse(data));
    };
    source.onerror = () => {
      // At random, so that the readers of a service that was restarted don't come back all at once.
      connectAt = Date.now() + waitMilliseconds * (1 + Math.random());
      if (waitMilliseconds < LONGEST_WAIT_MILLISECONDS) waitMilliseconds *= 2;
      source = source.close();
    };
  }
}
