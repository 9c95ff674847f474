// What a chat is: messages out, kept until they are answered; messages in, acknowledged once they are kept; marks.

import { websocketUrl } from "./account.js";
import { Connection } from "./connection.js";
import { History } from "./history.js";
import { byteLength, decodeText, encodeText, isAfter, newClientId } from "./wire.js";

/** How long events are gathered before they are written and acknowledged together. */
const SAVE_AFTER_MS = 40;
const RETRY_MS_MIN = 500;
const RETRY_MS_MAX = 30_000;
/** Messages in one Read. */
const READ_MAX = 100;
/** Marks in the order a message takes them; it never goes back. */
const STATES = ["queued", "failed", "sent", "delivered", "read"];

/** Why the server did not take a message, for the person who wrote it. Codes not named here mean: send it again. */
const FAILURES = {
  NOT_FOUND: "There is no account with this number.",
  TOO_LARGE: "This message is too long.",
  FORBIDDEN: "The server does not allow this message.",
  MALFORMED: "The server could not read this message.",
  CONFLICT: "The server refused this message.",
};

export class Session {
  account;
  history;
  /** "connecting", "connected", "reconnecting", "refused", "replaced" or "closed"; see Connection. */
  state = "connecting";
  #connection;
  #onChange;
  #payloadBytesMax = 65_536;
  /** What the server's clock is ahead of ours; its times and ours stand in one list. */
  #clockAheadMs = 0;
  /** Numbers to which a message, and about whose messages a Read, is on its way. */
  #sending = new Set();
  #telling = new Set();
  #saveTimer = null;
  #visiblePeer = null;

  /** `onChange(what)`: "state" with a detail, or "conversation" with the conversation that changed. */
  constructor(account, onChange) {
    this.account = account;
    this.history = new History(account.user);
    this.#onChange = onChange;
    this.#connection = new Connection(websocketUrl, account.token, {
      onState: (state, detail) => {
        this.state = state;
        // The other window keeps the history from here on.
        if (state === "replaced") clearTimeout(this.#saveTimer);
        onChange("state", detail);
      },
      onWelcome: (welcome) => this.#welcome(welcome),
      onEvent: (event) => this.#event(event),
    });
  }

  /** Ends the session; what was not sent stays in the outbox. */
  close() {
    if (this.state !== "replaced") this.#save();
    this.#connection.close();
  }

  /** Writes to a number. The message is kept here until the server answers for it. Returns why not, or null. */
  send(peer, text) {
    if (this.state === "replaced") return "This account is open in another window.";
    if (byteLength(text) > this.#payloadBytesMax) {
      return `A message can be at most ${Math.floor(this.#payloadBytesMax / 1024)} KiB long.`;
    }
    const conversation = this.history.open(peer);
    const newest = conversation.messages.at(-1)?.atMs ?? 0;
    const atMs = Math.max(Date.now() + this.#clockAheadMs, newest);
    const message = { out: true, clientId: newClientId(), text, atMs, state: "queued" };
    this.history.add(conversation, message);
    if (!this.history.save()) {
      conversation.messages = conversation.messages.filter((other) => other !== message);
      return "This browser's storage is full; the message was not sent.";
    }
    this.#changed(conversation);
    this.#flush(conversation);
    return null;
  }

  /** Sends a failed message once more. */
  retry(peer, clientId) {
    const conversation = this.history.find(peer);
    const message = conversation?.messages.find((other) => other.clientId === clientId);
    if (message?.state !== "failed") return;
    message.state = "queued";
    delete message.error;
    this.#changed(conversation);
    this.#flush(conversation);
  }

  /** The conversation the person is looking at, or null: its messages count as read. */
  show(peer) {
    this.#visiblePeer = peer;
    const conversation = peer && this.history.find(peer);
    if (conversation) this.#markRead(conversation);
  }

  #welcome(welcome) {
    this.#payloadBytesMax = welcome.payloadBytesMax || this.#payloadBytesMax;
    if (welcome.timeMs) this.#clockAheadMs = Number(welcome.timeMs) - Date.now();
    // A place past the stream's end is of a stream that is no more: the server has lost its store, or is another.
    if (isAfter(this.history.acknowledged, welcome.head ?? "0")) {
      this.history.acknowledged = welcome.acknowledged ?? "0";
    }
    this.#sending.clear();
    this.#telling.clear();
    for (const conversation of this.history.list()) {
      this.#flush(conversation);
      this.#tellRead(conversation);
    }
    this.show(this.#visiblePeer);
    this.#saveSoon();
  }

  /** Events come at least once: what is behind our place was kept already. */
  #event(event) {
    const seq = event.seq ?? "0";
    if (isAfter(seq, this.history.acknowledged)) {
      if (event.message) this.#receive(event.message);
      else if (event.receipt) this.#receipt(event.receipt);
      this.history.acknowledged = seq;
    }
    this.#saveSoon();
  }

  #receive(message) {
    const own = message.from === this.account.user;
    const peer = own ? message.to?.user : message.from;
    if (!peer || (message.kind ?? "TEXT") === "SIGNAL") return;
    const text = describe(message);
    const atMs = Number(message.sentAtMs ?? Date.now() + this.#clockAheadMs);
    const conversation = this.history.open(peer);
    if (own) {
      // From another device of ours; or this one's own, where it signed in anew.
      if (conversation.messages.some(({ out, clientId }) => out && clientId === message.clientId)) return;
      const added = { out: true, clientId: message.clientId, id: message.id, text, atMs, state: "sent" };
      this.history.add(conversation, added);
      this.#applyEarly(added);
    } else {
      if (conversation.messages.some(({ out, id }) => !out && id === message.id)) return;
      this.history.add(conversation, { out: false, id: message.id, text, atMs, read: "no" });
    }
    this.#changed(conversation);
    if (peer === this.#visiblePeer) this.#markRead(conversation);
  }

  #receipt(receipt) {
    const state = (receipt.mark ?? "DELIVERED") === "READ" ? "read" : "delivered";
    const conversation = this.history.find(receipt.by);
    for (const id of receipt.message ?? []) {
      const message = conversation?.messages.findLast((other) => other.out && other.id === id);
      if (message) advance(message, state);
      else this.history.addEarly(id, state);
    }
    if (conversation) this.#changed(conversation);
  }

  /** Sends what is queued, one message a conversation at a time, so that they keep their order. */
  async #flush(conversation) {
    const { peer } = conversation;
    if (this.#sending.has(peer) || !this.#connection.connected) return;
    const message = conversation.messages.find(({ out, state }) => out && state === "queued");
    if (!message) return;
    this.#sending.add(peer);
    let answer;
    try {
      const send = { to: { user: peer }, clientId: message.clientId, payload: encodeText(message.text) };
      answer = await this.#connection.ask({ send });
    } catch {
      return; // The connection was lost; the next Welcome begins anew.
    }
    this.#sending.delete(peer);
    if (this.#answered(message, answer)) {
      this.#changed(conversation);
      this.#flush(conversation);
    } else {
      const waitMs = Math.min(RETRY_MS_MAX, answer.error?.retryAfterMs || RETRY_MS_MIN);
      setTimeout(() => this.#flush(conversation), waitMs + Math.random() * RETRY_MS_MIN);
    }
  }

  /** Whether the server has decided about the message; if not, it is to be sent again. */
  #answered(message, { sent, error }) {
    if (sent) {
      message.id = sent.id;
      advance(message, "sent");
      this.#applyEarly(message);
      return true;
    }
    const failure = FAILURES[error?.code];
    if (!failure) return false;
    message.state = "failed";
    message.error = failure;
    return true;
  }

  #applyEarly(message) {
    for (const state of this.history.takeEarly(message.id)) advance(message, state);
  }

  #markRead(conversation) {
    const unread = conversation.messages.filter(({ out, read }) => !out && read === "no");
    if (unread.length === 0) return;
    for (const message of unread) message.read = "told";
    this.#changed(conversation);
    this.#tellRead(conversation);
  }

  /** Tells the server what was read, until it has answered for all of it. */
  async #tellRead(conversation) {
    const { peer } = conversation;
    const told = conversation.messages.filter(({ out, read }) => !out && read === "told").slice(0, READ_MAX);
    if (told.length === 0 || this.#telling.has(peer) || !this.#connection.connected) return;
    this.#telling.add(peer);
    let answer;
    try {
      answer = await this.#connection.ask({ read: { message: told.map(({ id }) => id) } });
    } catch {
      return; // The connection was lost; the next Welcome begins anew.
    }
    this.#telling.delete(peer);
    if (answer.error) {
      setTimeout(() => this.#tellRead(conversation), answer.error.retryAfterMs || RETRY_MS_MAX);
      return;
    }
    for (const message of told) message.read = "yes";
    this.history.touch(conversation);
    this.#saveSoon();
    this.#tellRead(conversation);
  }

  #changed(conversation) {
    this.history.touch(conversation);
    this.#saveSoon();
    this.#onChange("conversation", conversation);
  }

  #saveSoon() {
    this.#saveTimer ??= setTimeout(() => this.#save(), SAVE_AFTER_MS);
  }

  /** Keeps first, acknowledges then. */
  #save() {
    clearTimeout(this.#saveTimer);
    this.#saveTimer = null;
    if (this.history.save()) this.#connection.tell({ ack: { upTo: this.history.acknowledged } });
    else this.#onChange("full", null);
  }
}

/** Unread messages of a conversation. */
export function unreadCount({ messages }) {
  return messages.filter(({ out, read }) => !out && read === "no").length;
}

function advance(message, state) {
  if (STATES.indexOf(state) > STATES.indexOf(message.state)) message.state = state;
}

/** The text to show for a message of any kind. */
function describe({ kind = "TEXT", sealed = false, payload = "" }) {
  if (sealed) return "[encrypted message]";
  return kind === "TEXT" ? decodeText(payload) : `[${kind.toLowerCase()}]`;
}
