// What is enciphered and verified on the phone. Package pinrecord (doc.go) has every byte of it, and
// the tests hold this file against that package.
//
// What JavaScript cannot promise: that digits are nowhere else in memory. They are kept in one
// Uint8Array, which is overwritten after use, and are never made a string or part of the page. But the
// browser may have copied the array, and it knew which key was touched. A page that somebody has
// exchanged can keep everything; see "The page on the phone" in docs/threats.md.

import { ascii, equal, eightBytes, fromText, join } from "./bytes.js";

const curve = { name: "ECDH", namedCurve: "P-256" };

export const available = () =>
  Boolean(globalThis.isSecureContext && globalThis.crypto?.subtle && typeof BigInt === "function");

export async function sha256(...parts) {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", join(...parts)));
}

// Subjects.

const kinds = { SUPERVISOR: 1, CARDHOLDER: 2, PASSKEY: 3 };

export function subjectDigest({ kind, merchant, terminal, name }) {
  const text = (t) => join([t.length], ascii(t));
  return sha256(ascii("keyd pin subject 1\0"), [kinds[kind]], text(merchant), text(terminal), text(name));
}

// The 16 digits that stand in a block where others have a PAN, as an array.
export function subjectNumber(digest) {
  let n = 0n;
  for (const byte of digest) n = (n << 8n) | BigInt(byte);
  const digits = Array.from(`0${(n % 10n ** 14n).toString().padStart(14, "0")}`, Number);
  let sum = 0; // ISO/IEC 7812-1 annex B
  for (const [i, d] of digits.slice().reverse().entries()) {
    const doubled = i % 2 === 0 ? d * 2 : d;
    sum += doubled > 9 ? doubled - 9 : doubled;
  }
  return [...digits, (10 - (sum % 10)) % 10];
}

// What an entry is for: 32 bytes, which the key of its block depends on.

export const forVoid = (digest, subject) => sha256(ascii("keyd phone void 1\0"), digest, subject);
export const forCode = (approval, subject) => sha256(ascii("keyd phone code 1\0"), approval, subject);
export const forNewPIN = (approval, subject) => sha256(ascii("keyd phone new pin 1\0"), approval, subject);
export const forPasskey = async (approval, subject, authenticatorData) =>
  sha256(ascii("keyd phone passkey 1\0"), approval, subject, await sha256(authenticatorData));

// Keys that are believed.

// The key pair that signs codes has signed the modules' point as well. Returns whether it has, and
// whether this signature is good now by the phone's clock, which may be off by some minutes.
export async function isPageKey(key, codeKey) {
  const text = join(ascii("keyd page key 1\0"), fromText(key.point), eightBytes(key.expires_at));
  return (await signed(codeKey, fromText(key.signature), text)) && key.expires_at > Date.now() / 1000 - 900;
}

// Whether a code, 98 bytes, names a key and was signed with it (docs/void-code.md).
export async function hasSigned(codeKey, code) {
  const identifier = (await sha256(codeKey)).subarray(0, 4);
  return equal(identifier, code.subarray(2, 6)) && signed(codeKey, code.subarray(34), join(ascii("keyd void code 1\0"), code.subarray(0, 34)));
}

// Whether a code is for a merchant.
export async function isFor(merchant, code) {
  const audience = (await sha256(ascii("keyd void audience 1\0"), ascii(merchant))).subarray(0, 8);
  return equal(audience, code.subarray(26, 34));
}

async function signed(codeKey, signature, text) {
  try {
    const key = await crypto.subtle.importKey("spki", codeKey, { name: "ECDSA", namedCurve: "P-256" }, false, ["verify"]);
    return await crypto.subtle.verify({ name: "ECDSA", hash: "SHA-256" }, key, signature, text);
  } catch {
    return false; // it is no key
  }
}

// Entries.

// The phone's key pair, for one entry. A code and the PIN that it sets have one together: by that the
// modules know that whoever typed the one typed the other.
export const ownKey = () => crypto.subtle.generateKey(curve, false, ["deriveBits"]);

// Enciphers digits for one use. The digits are overwritten whatever happens. Returns the phone's
// point and the block.
export async function encipher(digits, modulesPoint, subject, context, own) {
  try {
    own ??= await ownKey();
    const random = crypto.getRandomValues(new Uint8Array(8));
    return await encipherWith(own, random, digits, modulesPoint, subject, context);
  } finally {
    digits.fill(0);
  }
}

// The same with a given key pair and given random bytes, for the tests.
export async function encipherWith(own, random, digits, modulesPoint, subject, context) {
  const point = new Uint8Array(await crypto.subtle.exportKey("raw", own.publicKey));
  const modules = await crypto.subtle.importKey("raw", modulesPoint, curve, false, []);
  const z = new Uint8Array(await crypto.subtle.deriveBits({ name: "ECDH", public: modules }, own.privateKey, 256));
  const derived = await sha256([0, 0, 0, 1], z, ascii("keyd phone pin 1\0"), modulesPoint, point, context);
  const raw = derived.subarray(0, 16);
  const key = await crypto.subtle.importKey("raw", raw, "AES-CBC", false, ["encrypt"]);
  z.fill(0);
  derived.fill(0);
  const field = pinField(digits, random);
  const once = await one(key, field);
  field.fill(0);
  const pan = panField(subjectNumber(subject));
  const between = once.map((byte, i) => byte ^ pan[i]);
  return { point, block: await one(key, between) };
}

// AES of one block: CBC with a zero vector, whose first block is just that. The second is padding.
async function one(key, block) {
  const cipher = new Uint8Array(await crypto.subtle.encrypt({ name: "AES-CBC", iv: new Uint8Array(16) }, key, block));
  return cipher.slice(0, 16);
}

// The PIN field of ISO 9564-1 format 4 (9.4.2.2.2): 4, the length, the digits, A to 16 digits, then
// 8 random bytes.
function pinField(digits, random) {
  if (digits.length < 4 || digits.length > 12 || digits.some((d) => d > 9)) throw new RangeError("digits");
  const field = new Uint8Array(16).fill(0xaa, 0, 8);
  field[0] = 0x40 | digits.length;
  digits.forEach((d, i) => {
    const at = 1 + (i >> 1);
    field[at] = i % 2 ? (field[at] & 0xf0) | d : (field[at] & 0x0f) | (d << 4);
  });
  field.set(random, 8);
  return field;
}

// The PAN field of format 4 (9.4.2.2.3) for a number of 16 digits.
function panField(number) {
  const field = new Uint8Array(16);
  [number.length - 12, ...number].forEach((d, i) => {
    field[i >> 1] |= d << (i % 2 ? 0 : 4);
  });
  return field;
}
