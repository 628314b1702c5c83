// A pad for digits. It is the page's own, so that no keyboard learns what was typed and nothing
// stands in a field. Digits are in one array, which is overwritten when the screen goes; what is shown and
// said is how many there are.

import { button, make, say, show } from "./dom.js";
import { text } from "./text.js";

const most = 12;

// Asks for digits: {title, lead, least, exactly, ok} are functions or numbers, since the language may
// change. enter is called with the array, and overwrites it. back is what else one can do.
export function askDigits({ title, lead, above, least, exactly, ok, enter, back }) {
  const digits = new Uint8Array(most);
  const end = exactly ?? most;
  let count = 0;
  let dots;

  const tell = (words) => {
    say(words);
    if (dots) dots.replaceChildren(...drawn(count, exactly ?? least));
  };
  const add = (d) => {
    if (count === end) {
      say(exactly ? text("pad_exactly", exactly) : text("pad_most", most));
      return;
    }
    digits[count++] = d;
    tell(text("pad_digits", count));
  };
  const erase = () => {
    if (count > 0) digits[--count] = 0;
    tell(text("pad_erased", count));
  };
  const done = () => {
    if (count < (exactly ?? least)) {
      say(exactly ? text("pad_exactly", exactly) : text("pad_least", least));
      return;
    }
    const typed = digits.slice(0, count);
    digits.fill(0);
    count = 0;
    enter(typed);
  };
  // Keyboards of a computer, and switches for people who cannot touch.
  const key = (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    if (/^[0-9]$/.test(event.key)) add(Number(event.key));
    else if (event.key === "Backspace") erase();
    else if (event.key === "Enter" && !(event.target instanceof HTMLButtonElement)) done();
    else return;
    event.preventDefault();
  };
  document.addEventListener("keydown", key);

  show(() => {
    dots = make("p.dots", { "aria-hidden": "true" }, ...drawn(count, exactly ?? least));
    const keys = [1, 2, 3, 4, 5, 6, 7, 8, 9].map((d) => button(String(d), () => add(d), "button.key"));
    keys.push(
      button(text("back"), back, "button.key.small"),
      button("0", () => add(0), "button.key"),
      make("button.key", { type: "button", click: erase, "aria-label": text("pad_erase") }, "⌫"),
    );
    return {
      title: title(),
      content: [above?.(), dots, make("p", null, lead())],
      actions: [make("div.pad", { role: "group", "aria-label": text("pad_keys") }, ...keys), button(ok(), done, "button.primary")],
      leave: () => {
        document.removeEventListener("keydown", key);
        digits.fill(0);
      },
    };
  });
}

function drawn(count, wanted) {
  return Array.from({ length: Math.max(count, wanted) }, (_, i) => make(i < count ? "span.dot.full" : "span.dot"));
}
