// The short guide, behind a line that opens it.

import { make } from "./dom.js";
import { text } from "./text.js";

export function guide(which) {
  const paragraphs = ["what", "look", "never"].map((part) => make("p", null, text(`guide_${which}_${part}`)));
  return make("details", null, make("summary", null, text(`guide_${which}`)), ...paragraphs);
}
