// What both pages do: wait, send, and say why something did not work.

import { ask } from "./ask.js";
import { button, make, show } from "./dom.js";
import { text } from "./text.js";

const paragraph = (key, ...about) => make("p", null, text(key, ...about));

export function waiting(key) {
  show(() => ({ title: text(key), busy: true, content: [make("div.busy", { "aria-hidden": "true" }), paragraph(`${key}_more`)] }));
}

// Shows how something ended, or stopped: its title and its sentence are texts. tone is good or bad.
export function ended(key, tone, about = [], actions = () => []) {
  const mark = { good: "✓", bad: "✕", wait: "…" }[tone];
  show(() => ({
    title: text(key),
    tone,
    content: [make(`div.mark`, { "aria-hidden": "true" }, mark), paragraph(`${key}_more`, ...about)],
    actions: actions(),
  }));
}

// Texts for refusals, and whether something went wrong or it is only a matter of time.
const refusals = {
  RATE_LIMITED: ["too_many", "bad"],
  MODULE_UNAVAILABLE: ["busy", "wait"],
  STORE_UNAVAILABLE: ["busy", "wait"],
  AUDIT_UNAVAILABLE: ["busy", "wait"],
  LEDGER_UNAVAILABLE: ["busy", "wait"],
  EPOCH_STALE: ["busy", "wait"],
  CONFLICT: ["busy", "wait"],
  NO_ANSWER: ["no_answer", "wait"],
  OFFLINE: ["offline", "wait"],
  INTERNAL: ["internal", "bad"],
  REQUEST_INVALID: ["refused", "bad"],
  ORIGIN: ["refused", "bad"],
  BODY: ["no_answer", "wait"],
};

// Asks, and shows that it does. What is refused is shown: as own says for some reasons, else as it is for
// all. What can be sent again is, byte for byte, when somebody taps. Returns nothing when it was refused.
export async function send(path, body, { wait = "sending", own = {}, look }) {
  waiting(wait);
  try {
    return await ask(path, body);
  } catch (refused) {
    const [key, tone] = own[refused.reason] ?? refusals[refused.reason] ?? ["not_accepted", "bad"];
    if (typeof key === "function") {
      key();
      return undefined;
    }
    return new Promise((answer) => {
      const again = () => answer(send(path, body, { wait, own, look }));
      ended(key, tone, [], () => [
        refused.again ? button(text(look ? "send_again" : "again"), again, "button.primary") : null,
        look && refused.again ? button(text("look_again"), () => answer(look())) : null,
      ]);
    });
  }
}
