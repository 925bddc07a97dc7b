/** Whether this reader is counted. One who isn't sees the numbers all the same. */

import { options } from "./settings.js";

// This machine and its network: files (no host), names without a dot, [IPv6], RFC 1918.
const LOCAL = /^[^.]*$|\.localhost$|^(127|10|192\.168|172\.(1[6-9]|2\d|3[01]))\.[\d.]+$/;

export function isCounted() {
  let isIgnored = options.respectDnt != null && (navigator.globalPrivacyControl || navigator.doNotTrack == 1);
  try {
    // Set by editors who don't want their own reading counted: localStorage.statsvc_ignore = "true".
    isIgnored ||= localStorage.statsvc_ignore;
  } catch {
    // storage is switched off
  }
  return !isIgnored && (options.countLocal != null || !LOCAL.test(location.hostname));
}
