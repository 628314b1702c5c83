// The page behind a link: somebody sets a PIN or a passkey, by a code that was read out.

import { equal, fromBase32, fromText, toText } from "./bytes.js";
import { available, encipher, forCode, forNewPIN, forPasskey, isPageKey, ownKey, subjectDigest } from "./crypto.js";
import { button, facts, make, show } from "./dom.js";
import { guide } from "./guide.js";
import { askDigits } from "./pad.js";
import { ended, send, waiting } from "./page.js";
import { text, time } from "./text.js";

const codeSize = 8;

const link = location.hash.slice(1);

const refusals = {
  PIN_RECORD_NOT_FOUND: ["link_wrong", "bad"],
  PIN_RECORD_ENDED: ["link_wrong", "bad"],
  PIN_RECORD_STATE: ["link_wrong", "bad"],
  POLICY_DENIED: ["link_wrong", "bad"],
};

async function look() {
  if (!fromBase32(link, 16)) {
    ended("link_wrong", "bad");
    return;
  }
  const e = await send("/api/enrolment", { link }, { wait: "loading", own: refusals });
  if (!e) return;
  if (!available() || (e.kind === "PASSKEY" && typeof PublicKeyCredential !== "function")) {
    ended("old", "bad");
    return;
  }
  const [subject, approval] = [fromText(e.subject), fromText(e.approval)];
  // What is shown is what the code and the PIN are enciphered for. The link names no signer, unlike a
  // code: that the key is the modules' is the service's word.
  const kind = e.kind === "PIN" ? "SUPERVISOR" : e.kind;
  const shown = await subjectDigest({ kind, merchant: e.merchant, terminal: e.terminal ?? "", name: e.name });
  if (equal(shown, subject) && equal(approval.subarray(0, 16), fromBase32(link, 16)) && (await isPageKey(e.key, fromText(e.code_key)))) begin({ ...e, subject, approval });
  else ended("forged", "bad");
}

function begin(e) {
  const passkey = e.kind === "PASSKEY";
  show(() => ({
    title: text(passkey ? "set_passkey" : "set_pin"),
    content: [
      make("p", null, text(passkey ? "set_passkey_lead" : "set_pin_lead")),
      facts(
        [text("merchant"), e.merchant],
        [text("terminal"), e.terminal || text("whole_shop")],
        [text("person"), e.name],
        [text("until"), time(e.expires_at)],
      ),
      guide("set"),
    ],
    actions: [button(text("begin"), () => (passkey ? askToCreate(e) : askCode(e, (digits) => codeForPIN(e, digits))), "button.primary")],
  }));
}

function askCode(e, enter) {
  askDigits({
    title: () => text("code_title"),
    lead: () => text("code_lead"),
    exactly: codeSize,
    ok: () => text("next"),
    back: () => begin(e),
    enter,
  });
}

async function entry(e, digits, context, own) {
  const { point, block } = await encipher(digits, fromText(e.key.point), e.subject, context, own);
  return { point: toText(point), block: toText(block) };
}

// A PIN. The code is enciphered as soon as it is typed, and stays good for other PINs.

async function codeForPIN(e, digits) {
  waiting("loading");
  const own = await ownKey();
  askPIN(e, await entry(e, digits, await forCode(e.approval, e.subject), own), own);
}

function askPIN(e, code, own) {
  askDigits({
    title: () => text("pin_title"),
    lead: () => text("pin_lead", e.least),
    least: e.least,
    ok: () => text("next"),
    back: () => begin(e),
    enter: (digits) => repeatPIN(e, code, own, digits),
  });
}

function repeatPIN(e, code, own, first) {
  askDigits({
    title: () => text("repeat_title"),
    lead: () => text("repeat_lead"),
    least: e.least,
    ok: () => text("done"),
    back: () => {
      first.fill(0);
      askPIN(e, code, own);
    },
    enter: async (second) => {
      const same = first.length === second.length && first.every((d, i) => d === second[i]);
      second.fill(0);
      if (!same) {
        first.fill(0);
        ended("differ", "bad", [], () => [button(text("again"), () => askPIN(e, code, own), "button.primary")]);
        return;
      }
      waiting("sending");
      const pin = await entry(e, first, await forNewPIN(e.approval, e.subject), own);
      const weak = () => ended("weak", "bad", [], () => [button(text("choose_other"), () => askPIN(e, code, own), "button.primary")]);
      const answer = await send("/api/enrolment/pin", { link, code, pin }, { own: { ...refusals, PIN_WEAK: [weak] }, look });
      if (answer) finish(answer, "pin_set", () => askCode(e, (digits) => codeForPIN(e, digits)));
    },
  });
}

// A passkey. It is made first, since the code is enciphered for it alone; a wrong code is typed again for
// the same one.

function askToCreate(e) {
  show(() => ({
    title: text("create_title"),
    content: [make("p", null, text("create_lead"))],
    actions: [button(text("create"), () => create(e), "button.primary"), button(text("back"), () => begin(e))],
  }));
}

async function create(e) {
  waiting("confirming");
  let made;
  try {
    made = await navigator.credentials.create({
      publicKey: {
        challenge: fromText(e.challenge),
        rp: { id: location.hostname, name: location.hostname },
        user: { id: e.subject, name: e.name, displayName: `${e.name} (${e.merchant})` },
        pubKeyCredParams: [{ type: "public-key", alg: -7 }],
        authenticatorSelection: { residentKey: "required", requireResidentKey: true, userVerification: "required" },
        attestation: "none",
        timeout: 120000,
      },
    });
  } catch {
    made = null; // cancelled, too late, or not possible: browsers do not say which
  }
  const data = made?.response.getAuthenticatorData?.();
  if (!data) {
    ended("create_failed", "bad", [], () => [button(text("again"), () => askToCreate(e), "button.primary")]);
    return;
  }
  askCode(e, (digits) => codeForPasskey(e, made.response.clientDataJSON, new Uint8Array(data), digits));
}

async function codeForPasskey(e, clientData, authenticatorData, digits) {
  waiting("sending");
  const code = await entry(e, digits, await forPasskey(e.approval, e.subject, authenticatorData));
  const body = { link, code, client_data: toText(clientData), authenticator_data: toText(authenticatorData) };
  const answer = await send("/api/enrolment/passkey", body, { own: refusals, look });
  if (answer) finish(answer, "passkey_set", () => askCode(e, (typed) => codeForPasskey(e, clientData, authenticatorData, typed)));
}

// Both.

function finish(answer, key, again) {
  if (answer.verified) ended(key, "good");
  else ended("code_wrong", "bad", [], () => [button(text("code_again"), again, "button.primary")]);
}

look();
