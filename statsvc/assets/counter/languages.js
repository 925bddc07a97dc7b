/** Labels and numbers, as the language of an element writes them. */

/* global LABELS: by language, "SHIFT|title|visits|…"; see build.py */

/**
 * The first of the element's, the page's and the reader's languages that can be written: the locale of its numbers,
 * and the language of its labels. Chromium writes no Lao and no Khmer numbers: they are as in Vietnamese and English.
 */
export function languageOf(element) {
  for (const tag of [
    element.closest("[lang]")?.lang,
    document.documentElement.lang,
    navigator.language,
    "en",
  ]) {
    try {
      const locale = tag.replace(/_/g, "-");
      const language = locale.split("-")[0].toLowerCase();
      const isKnown = LABELS[language];
      if (Intl.NumberFormat.supportedLocalesOf(locale)[0]) return [locale, isKnown ? language : "en"];
      if (isKnown) return [language == "lo" ? "vi" : "en", language];
    } catch {
      // not the form of a language tag
    }
  }
}

/** A label's text. Browsers have words for the periods, but Chromium has none in Lao and Khmer. */
export function label(language, index, name) {
  const texts = LABELS[language].split("|");
  const text = texts[index]
    ? texts[index].replace(/[^ ]/g, (letter) => String.fromCharCode(letter.charCodeAt() + +texts[0]))
    : new Intl.RelativeTimeFormat(language, { numeric: "auto" }).format(
        -(name == "yesterday"),
        name.split("-")[1] || "day",
      );
  return text.replace(/./, (letter) => letter.toUpperCase());
}

/** A number or a moment; undefined for anything else. */
export function written(value, locale) {
  for (const what of [value, new Date(value)])
    if (value != null && what >= 0) return what.toLocaleString(locale);
}
