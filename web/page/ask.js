// Asking the service, over networks that are slow or not there.

// A refusal, or no answer at all: reason is the service's, or one of OFFLINE and NO_ANSWER. again says
// that the very same request may be sent again: the service answers it as the first time.
export class Refused extends Error {
  constructor(reason, again) {
    super(reason);
    this.reason = reason;
    this.again = again;
  }
}

// How far the service's clock is ahead of the phone's, in milliseconds. It is as exact as seconds are.
let ahead = 0;
export const now = () => Date.now() + ahead;

const patience = 20000; // milliseconds for one try
const pauses = [1000, 3000]; // before the second and the third

export async function ask(path, body) {
  const text = JSON.stringify(body);
  for (let tries = 0; ; tries++) {
    try {
      return await once(path, text);
    } catch (refused) {
      if (!refused.again || refused.reason === "OFFLINE" || tries === pauses.length) throw refused;
      await new Promise((done) => setTimeout(done, pauses[tries]));
    }
  }
}

async function once(path, body) {
  const end = new AbortController();
  const timer = setTimeout(() => end.abort(), patience);
  try {
    const answer = await fetch(path, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body,
      signal: end.signal,
      cache: "no-store",
      credentials: "omit",
      redirect: "error",
    });
    const date = Date.parse(answer.headers.get("date"));
    if (date) ahead = date - Date.now();
    const said = await answer.json();
    if (!answer.ok) throw new Refused(said.error, said.retry === true);
    return said;
  } catch (error) {
    if (error instanceof Refused) throw error;
    throw new Refused(navigator.onLine ? "NO_ANSWER" : "OFFLINE", true);
  } finally {
    clearTimeout(timer);
  }
}
