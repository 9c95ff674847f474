// Accounts: sign-up and sign-in over HTTP, and what of them this browser keeps. Which account is signed in is a matter of the
// tab: it holds the account in its sessionStorage, a copy lies in localStorage under its number, and a tab that is new begins
// with the one used last.

/** The account of this tab, null once it has signed out; not there in a tab that is new. */
const TAB = "roost.v1.tab";
/** Followed by the number. */
const ACCOUNT = "roost.v1.account.";
/** The number that was signed in to last, in any tab. */
const LAST_USED = "roost.v1.last-used";
const DEVICES = "roost.v1.devices";
const DEVICE_MAX = 2 ** 31 - 1;
/** How long the server may take over an answer. */
const ANSWER_MS_MAX = 30_000;

/** A refusal in a sentence for the person at the screen. */
export class Refused extends Error {}

/** Creates an account and signs in to it. */
export async function signUp(user, password) {
  await post("/v1/users", { user, password });
  return signIn(user, password);
}

/** Signs in; returns and keeps { user, device, token, expiresAtS }. */
export async function signIn(user, password) {
  const device = deviceOf(user);
  const answer = await post("/v1/login", { user, password, device });
  const account = { user, device, token: answer.token, expiresAtS: answer.expires_at_s };
  localStorage.setItem(ACCOUNT + user, JSON.stringify(account));
  localStorage.setItem(LAST_USED, user);
  sessionStorage.setItem(TAB, JSON.stringify(account));
  return account;
}

/** The account that is signed in in this tab and whose token still holds, or null. */
export function signedIn() {
  const fresh = sessionStorage.getItem(TAB) === null;
  const own = read(sessionStorage, TAB, null);
  if (!own && !fresh) return null;
  const kept = read(localStorage, ACCOUNT + (own?.user ?? localStorage.getItem(LAST_USED)), null);
  const account = [own, kept].find((known) => known?.expiresAtS > Date.now() / 1000) ?? null;
  if (account) sessionStorage.setItem(TAB, JSON.stringify(account));
  return account;
}

/**
 * Forgets the token in this tab and for tabs to come; a tab that is signed in to the same account keeps its own. The device
 * number and the history stay for the next time.
 */
export function signOut() {
  const own = read(sessionStorage, TAB, null);
  sessionStorage.setItem(TAB, "null");
  if (own && read(localStorage, ACCOUNT + own.user, null)?.token === own.token) {
    localStorage.removeItem(ACCOUNT + own.user);
  }
}

/** Where the gateway's WebSocket is. */
export async function websocketUrl() {
  const response = await fetch("/v1/config", { cache: "no-store", signal: AbortSignal.timeout(ANSWER_MS_MAX) });
  if (!response.ok) throw new Refused(`The server answered ${response.status}.`);
  return (await response.json()).websocket;
}

/**
 * This browser's device number for a user. It outlives signing out, because the server keeps a place in the user's
 * stream for each device.
 */
function deviceOf(user) {
  const devices = read(localStorage, DEVICES, {});
  if (!devices[user]) {
    devices[user] = 1 + (crypto.getRandomValues(new Uint32Array(1))[0] % DEVICE_MAX);
    localStorage.setItem(DEVICES, JSON.stringify(devices));
  }
  return devices[user];
}

function read(storage, key, otherwise) {
  try {
    return JSON.parse(storage.getItem(key)) ?? otherwise;
  } catch {
    return otherwise;
  }
}

async function post(path, body) {
  let response;
  try {
    const signal = AbortSignal.timeout(ANSWER_MS_MAX);
    response = await fetch(path, { method: "POST", body: JSON.stringify(body), signal });
  } catch {
    throw new Refused("The server cannot be reached. Check your connection and try again.");
  }
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Refused(answer.error ?? `The server answered ${response.status}.`);
  return answer;
}
