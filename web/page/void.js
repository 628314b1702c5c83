// The page behind a code: it shows a void, and lets a supervisor approve it.

import { now } from "./ask.js";
import { fromBase32, fromText, toText } from "./bytes.js";
import { available, encipher, forVoid, hasSigned, isFor, isPageKey, subjectDigest } from "./crypto.js";
import { button, facts, make, say, show } from "./dom.js";
import { guide } from "./guide.js";
import { askDigits } from "./pad.js";
import { ended, send, waiting } from "./page.js";
import { currencyName, number, text, time } from "./text.js";

const leastPIN = 6;

const code = location.pathname.slice("/V/".length);
const bytes = fromBase32(code, 98);

// What the code itself says of its end, in milliseconds. It only chooses between two texts.
const over = () => bytes && now() >= new DataView(bytes.buffer).getUint32(22) * 1000;

const unusable = () => (over() ? ended("expired", "bad") : ended("unusable", "bad"));
const refusals = {
  VOID_CODE_REFUSED: [unusable],
  VOID_NOT_FOUND: [unusable],
  POLICY_DENIED: ["elsewhere", "bad"],
  // What others may know of somebody's PIN or passkey is that it was not accepted.
  PIN_RECORD_NOT_FOUND: ["not_accepted", "bad"],
};

async function look() {
  if (!bytes) {
    ended("unusable", "bad");
    return;
  }
  const v = await send("/api/void", { code }, { wait: "loading", own: refusals });
  if (v) showVoid(v);
}

// States in which there is nothing to approve.
const states = {
  SCANNED: ["scanned", "wait"],
  AUTHORIZED: ["already", "good"],
  CONFIRMED: ["already", "good"],
  DECLINED: ["declined", "bad"],
  EXPIRED: ["expired", "bad"],
  CANCELLED: ["cancelled", "bad"],
};

function showVoid(v) {
  if (states[v.state]) {
    ended(...states[v.state]);
    return;
  }
  const passkey = v.passkey && typeof PublicKeyCredential === "function" && navigator.credentials;
  const pin = v.pin && v.key && v.code_key && available();
  if (!Number.isSafeInteger(v.amount) || (!passkey && !pin)) {
    ended(v.passkey || v.pin ? "old" : "elsewhere", "bad");
    return;
  }
  const left = () => Math.max(0, Math.ceil((Date.parse(v.expires_at) - now()) / 1000));
  let timer;
  const tick = setInterval(() => {
    const seconds = left();
    if (timer) timer.textContent = inWords(seconds);
    if (seconds === 30) say(text("soon_over"));
    if (seconds === 0) ended("expired", "bad");
  }, 1000);
  show(() => {
    timer = make("span", { role: "timer" }, inWords(left()));
    return {
      title: text("void_title"),
      content: [
        amountOf(v),
        make("p", null, text("void_lead")),
        facts(
          [text("merchant"), v.merchant],
          [text("terminal"), v.terminal],
          [text("reference"), v.reference],
          [text("paid_at"), time(v.paid_at)],
          [text("time_left"), timer],
        ),
        v.passkey && !passkey ? make("p", null, text("passkey_old")) : null,
        guide("void"),
      ],
      actions: [
        passkey ? button(text("approve_passkey"), () => approveByPasskey(v), "button.primary") : null,
        pin ? button(text("use_pin"), () => checkKeys(v), passkey ? "button" : "button.primary") : null,
      ],
      leave: () => clearInterval(tick),
    };
  });
}

const inWords = (seconds) => (seconds < 60 ? text("seconds_left", seconds) : text("minutes_left", Math.floor(seconds / 60), seconds % 60));

const plain = (v) => `${number(v.amount, v.digits)} ${v.currency}`;

function amountOf(v) {
  return make("p.amount", null, make("strong", null, number(v.amount, v.digits)), " ", make("span", null, `${v.currency} ${currencyName(v.currency)}`));
}

// By passkey.

async function approveByPasskey(v) {
  waiting("confirming");
  let assertion;
  try {
    assertion = await navigator.credentials.get({
      publicKey: { challenge: fromText(v.challenge), rpId: location.hostname, allowCredentials: [], userVerification: "required", timeout: 60000 },
    });
  } catch {
    assertion = null; // cancelled, too late, or there is none: browsers do not say which
  }
  if (!assertion?.response.userHandle) {
    ended("not_confirmed", "bad", [], () => retry(v));
    return;
  }
  const { clientDataJSON, authenticatorData, signature, userHandle } = assertion.response;
  finish(v, "/api/void/passkey", {
    code,
    user: toText(userHandle),
    id: toText(assertion.rawId),
    client_data: toText(clientDataJSON),
    authenticator_data: toText(authenticatorData),
    signature: toText(signature),
  });
}

// By PIN.

// Nobody is asked for a PIN before it is known that the code and the modules' key are of the same
// signer, and that the code is for the merchant who is shown.
async function checkKeys(v) {
  waiting("loading");
  const codeKey = fromText(v.code_key);
  if ((await hasSigned(codeKey, bytes)) && (await isPageKey(v.key, codeKey)) && (await isFor(v.merchant, bytes))) askWho(v);
  else ended("forged", "bad");
}

function askWho(v) {
  const field = make("input", {
    id: "name", type: "text", maxlength: "64", autocomplete: "off", autocapitalize: "none", autocorrect: "off", spellcheck: "false", enterkeyhint: "next",
    "aria-describedby": "hint", keydown: (event) => event.key === "Enter" && next(),
  });
  const wrong = make("p.wrong", { id: "wrong", role: "alert" });
  let ofTerminal = false;
  const choice = (value, label) => make("label.choice", null,
    make("input", { type: "radio", name: "of", checked: ofTerminal === value, change: () => { ofTerminal = value; } }), make("span", null, label));
  const next = () => {
    const name = field.value.trim();
    if (/^[A-Za-z][A-Za-z0-9._-]{0,63}$/.test(name)) {
      askPIN(v, name, ofTerminal);
      return;
    }
    wrong.textContent = text("who_name_wrong");
    field.setAttribute("aria-invalid", "true");
    field.focus();
  };
  show(() => ({
    title: text("who_title"),
    content: [
      make("p", null, text("who_lead")),
      make("label", { for: "name" }, text("who_name")),
      field,
      make("p.hint", { id: "hint" }, text("who_name_hint")),
      wrong,
      make("fieldset", null, make("legend", null, text("who_where")), choice(false, text("who_of_shop", v.merchant)), choice(true, text("who_of_terminal", v.terminal))),
    ],
    actions: [button(text("next"), next, "button.primary"), button(text("back"), () => showVoid(v))],
  }));
}

function askPIN(v, name, ofTerminal) {
  askDigits({
    title: () => text("pad_pin", name),
    above: () => amountOf(v),
    lead: () => text("pad_pin_lead"),
    least: leastPIN,
    ok: () => text("pad_approve", plain(v)),
    back: () => askWho(v),
    enter: async (digits) => {
      waiting("sending");
      const subject = await subjectDigest({ kind: "SUPERVISOR", merchant: v.merchant, terminal: ofTerminal ? v.terminal : "", name });
      const context = await forVoid(fromText(v.digest), subject);
      const { point, block } = await encipher(digits, fromText(v.key.point), subject, context);
      finish(v, "/api/void/pin", { code, name, of_terminal: ofTerminal, point: toText(point), block: toText(block) });
    },
  });
}

// Both.

const retry = (v) => [button(text("again"), () => showVoid(v), "button.primary")];

// What an approval comes to that was not verified and has changed nothing. Others have used up a try.
const results = {
  METHOD_NOT_ALLOWED: ["elsewhere", "bad"],
  METHOD_USED: ["elsewhere", "bad"],
  SAME_PERSON: ["elsewhere", "bad"],
  UNAVAILABLE: ["busy", "wait"],
};

async function finish(v, path, body) {
  const outcome = await send(path, body, { own: refusals, look });
  if (!outcome) return;
  if (outcome.verified && outcome.result === "PARTLY_AUTHORIZED") ended("partly", "wait");
  else if (outcome.verified && (outcome.state === "AUTHORIZED" || outcome.state === "CONFIRMED")) ended("approved", "good");
  else if (states[outcome.state]) ended(...states[outcome.state]);
  else if (results[outcome.result]) ended(...results[outcome.result], [], () => retry(v));
  else if (outcome.result === "NOT_VERIFIED" && outcome.tries_left > 0) ended("not_verified", "bad", [outcome.tries_left], () => retry(v));
  else ended("not_accepted", "bad");
}

look();
