// What this browser keeps of an account: conversations, the outbox among them, and its place in the stream.
// Each conversation lies under a key of its own, so that a message costs one conversation's writing.

const MESSAGES_MAX = 500;
const CONVERSATIONS_MAX = 200;
/** Characters kept of one account, a share of the 5 million a browser gives an origin. */
const CHARACTERS_MAX = 2_000_000;
/** Receipts kept that came before the answer that tells which message they are about. */
const EARLY_RECEIPTS_MAX = 500;

/**
 * An outgoing message: { out: true, clientId, text, atMs, state, id?, error? }, where state is "queued" (not answered yet),
 * "sent", "delivered", "read" or "failed".
 * An incoming message: { out: false, id, text, atMs, read }, where read is "no", "told" (sent to the server) or "yes" (answered).
 */
export class History {
  #prefix;
  #conversations = new Map();
  #meta;
  #dirty = new Set();

  constructor(user) {
    this.#prefix = `roost.v1.history.${user}.`;
    this.#meta = this.#read("meta") ?? { acknowledged: "0", early: [] };
    for (const key of Object.keys(localStorage).filter((key) => key.startsWith(this.#prefix))) {
      const conversation = this.#read(key.slice(this.#prefix.length));
      if (conversation?.peer) this.#conversations.set(conversation.peer, conversation);
    }
  }

  /** Our place in the stream, a 64-bit number as text. */
  get acknowledged() {
    return this.#meta.acknowledged;
  }

  set acknowledged(seq) {
    this.#meta.acknowledged = seq;
  }

  /** Conversations, the one with the newest message first. */
  list() {
    const newest = ({ messages, startedAtMs }) => messages.at(-1)?.atMs ?? startedAtMs;
    return [...this.#conversations.values()].sort((a, b) => newest(b) - newest(a));
  }

  find(peer) {
    return this.#conversations.get(peer);
  }

  /** The conversation with this number, begun where there is none. */
  open(peer) {
    let conversation = this.#conversations.get(peer);
    if (!conversation) {
      conversation = { peer, startedAtMs: Date.now(), messages: [] };
      this.#conversations.set(peer, conversation);
      this.touch(conversation);
    }
    return conversation;
  }

  /** To be written with the next `save`. */
  touch(conversation) {
    this.#dirty.add(conversation);
  }

  /** Adds a message at its place in time. */
  add(conversation, message) {
    const { messages } = conversation;
    let place = messages.length;
    while (place > 0 && messages[place - 1].atMs > message.atMs) place -= 1;
    messages.splice(place, 0, message);
    this.touch(conversation);
  }

  /** Keeps a receipt whose message is not known by its number yet. */
  addEarly(message, state) {
    this.#meta.early.push([message, state]);
    this.#meta.early.splice(0, this.#meta.early.length - EARLY_RECEIPTS_MAX);
  }

  /** States of receipts that came early for this message, and forgets them. */
  takeEarly(message) {
    const states = this.#meta.early.filter(([id]) => id === message).map(([, state]) => state);
    if (states.length > 0) this.#meta.early = this.#meta.early.filter(([id]) => id !== message);
    return states;
  }

  /**
   * Writes what changed; conversations before the place in the stream, so that a crash in between repeats events instead of
   * losing them. False where the browser's storage is full even so.
   */
  save() {
    this.#bound();
    for (let attempt = 0; attempt < 8; attempt += 1) {
      try {
        for (const conversation of this.#dirty) this.#write(conversation.peer, conversation);
        this.#write("meta", this.#meta);
        this.#dirty.clear();
        return true;
      } catch {
        if (!this.#forgetOldest()) return false;
      }
    }
    return false;
  }

  #bound() {
    for (const conversation of this.#dirty) {
      const excess = conversation.messages.length - MESSAGES_MAX;
      if (excess > 0) conversation.messages = keepTail(conversation.messages, excess);
    }
    const rest = this.list().slice(CONVERSATIONS_MAX);
    for (const conversation of rest.filter(({ messages }) => !messages.some(isQueued))) this.#forget(conversation);
    let characters = this.#characters();
    while (characters > CHARACTERS_MAX && this.#forgetOldest()) characters = this.#characters();
  }

  #characters() {
    let total = 0;
    for (const { messages } of this.#conversations.values()) {
      for (const { text } of messages) total += text.length + 150;
    }
    return total;
  }

  /** Halves the longest conversation; what is still to be sent stays. */
  #forgetOldest() {
    const size = ({ messages }) => messages.reduce((sum, { text }) => sum + text.length + 150, 0);
    const longest = [...this.#conversations.values()].sort((a, b) => size(b) - size(a))[0];
    if (!longest) return false;
    const before = longest.messages.length;
    longest.messages = keepTail(longest.messages, Math.ceil(before / 2));
    this.touch(longest);
    return longest.messages.length < before;
  }

  #forget(conversation) {
    this.#conversations.delete(conversation.peer);
    this.#dirty.delete(conversation);
    localStorage.removeItem(this.#prefix + conversation.peer);
  }

  #read(name) {
    try {
      return JSON.parse(localStorage.getItem(this.#prefix + name));
    } catch {
      return null;
    }
  }

  #write(name, value) {
    localStorage.setItem(this.#prefix + name, JSON.stringify(value));
  }
}

function isQueued({ out, state }) {
  return out && state === "queued";
}

function keepTail(messages, excess) {
  return messages.filter((message, index) => index >= excess || isQueued(message));
}
