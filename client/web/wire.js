// The JSON form of the wire contract (proto/contract/roost.proto), as far as this page speaks it.

export const SUBPROTOCOL = "roost.v1.json";

/** Close code of a connection that a newer one of the same device replaced. */
export const CLOSE_REPLACED = 4001;

/** Close code of a session whose device its user has removed. */
export const CLOSE_REMOVED = 4002;

/** Close code of a session the gateway's rules refuse; the reason says why. */
export const CLOSE_POLICY = 1008;

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** Bytes as base64; in steps, because a call takes only so many arguments. */
function toBase64(bytes) {
  let binary = "";
  for (let start = 0; start < bytes.length; start += 4096) {
    binary += String.fromCharCode(...bytes.subarray(start, start + 4096));
  }
  return btoa(binary);
}

/** Text as base64 of its UTF-8. */
export function encodeText(text) {
  return toBase64(encoder.encode(text));
}

/** Text of base64 (or base64url) UTF-8; what is no UTF-8 becomes U+FFFD, what is no base64 the empty text. */
export function decodeText(base64) {
  try {
    const binary = atob(base64.replaceAll("-", "+").replaceAll("_", "/"));
    return decoder.decode(Uint8Array.from(binary, (character) => character.charCodeAt(0)));
  } catch {
    return "";
  }
}

/** Size of a text in bytes of UTF-8. */
export function byteLength(text) {
  return encoder.encode(text).length;
}

/** A fresh client_id: 16 random bytes as base64. */
export function newClientId() {
  return toBase64(crypto.getRandomValues(new Uint8Array(16)));
}

/**
 * A user number as people write it ("+49 170 123-4567"), in digits alone; null where it is none (1 to 2^63-1).
 * A string: such numbers do not fit a JavaScript number.
 */
export function parseUser(text) {
  const digits = text.trim().replace(/^\+/, "").replace(/[\s().-]/g, "");
  const valid = /^[1-9][0-9]{0,18}$/.test(digits) && BigInt(digits) < 2n ** 63n;
  return valid ? digits : null;
}

/** Whether the 64-bit number `a` (as text) is greater than `b`. */
export function isAfter(a, b) {
  return BigInt(a) > BigInt(b);
}
