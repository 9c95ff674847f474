// One session with the gateway: connects, asks and answers, notices a dead link, and comes back by itself.

import { CLOSE_POLICY, CLOSE_REMOVED, CLOSE_REPLACED, SUBPROTOCOL } from "./wire.js";

const BACKOFF_MS_MIN = 250;
const BACKOFF_MS_MAX = 10_000;
/** How long an attempt to connect, up to Welcome, may take. */
const WELCOME_MS_MAX = 10_000;
/** How long the gateway may take to answer before the link counts as dead. */
const ANSWER_MS_MAX = 15_000;
/** Refused attempts in a row after which the page says that the server does not take this session. */
const REFUSALS_TOLD = 3;

/**
 * States, told to `onState(state, detail)`: "connecting" (the first time), "connected", "reconnecting", "refused" (the
 * server is there and does not take the session; attempts go on), "replaced" (another window took over; attempts have
 * ended), "closed" (ended by `close`, or by the server's rules, with a reason).
 */
export class Connection {
  #url;
  #token;
  #handlers;
  #socket = null;
  #state = "connecting";
  #nextId = 1;
  #pending = new Map();
  #attempts = 0;
  #refusals = 0;
  #timers = new Set();
  #retry = null;
  #goAway = null;
  #wake = () => this.#retryNow();

  /**
   * `url()` resolves to the gateway's address. `handlers`: onState(state, detail), onWelcome(welcome), onEvent(event).
   */
  constructor(url, token, handlers) {
    this.#url = url;
    this.#token = token;
    this.#handlers = handlers;
    window.addEventListener("online", this.#wake);
    this.#connect();
  }

  get connected() {
    return this.#state === "connected";
  }

  /** Sends a frame without asking for an answer. */
  tell(body) {
    if (this.connected) this.#socket.send(JSON.stringify(body));
  }

  /** Sends a frame; resolves to its answer, or rejects when the connection is lost first. */
  ask(body) {
    if (!this.connected) return Promise.reject(new Error("not connected"));
    const id = this.#nextId;
    this.#nextId = id >= 0xffffffff ? 1 : id + 1;
    this.#socket.send(JSON.stringify({ id, ...body }));
    const socket = this.#socket;
    return new Promise((resolve, reject) => {
      const timer = this.#after(ANSWER_MS_MAX, () => this.#lost(socket));
      this.#pending.set(id, { resolve, reject, timer });
    });
  }

  /** Ends the session for good. */
  close() {
    this.#end("closed", null);
  }

  async #connect() {
    this.#retry = null;
    let socket;
    try {
      const url = new URL(await this.#url());
      if (this.#ended()) return;
      url.searchParams.set("access_token", this.#token);
      socket = new WebSocket(url, SUBPROTOCOL);
    } catch {
      // The server is not there: that is no refusal of this session.
      this.#refusals = 0;
      this.#scheduleRetry();
      return;
    }
    this.#socket = socket;
    const welcomed = this.#after(WELCOME_MS_MAX, () => this.#lost(socket));
    socket.onmessage = ({ data }) => {
      this.#clear(welcomed);
      if (socket === this.#socket) this.#receive(JSON.parse(data));
    };
    socket.onclose = ({ code, reason }) => {
      this.#clear(welcomed);
      if (socket !== this.#socket) return;
      if (code === CLOSE_REPLACED) this.#end("replaced", null);
      else if (code === CLOSE_POLICY || code === CLOSE_REMOVED) this.#end("closed", reason);
      else this.#lost(socket);
    };
  }

  #receive(frame) {
    const waiting = frame.replyTo && this.#pending.get(frame.replyTo);
    if (waiting) {
      this.#pending.delete(frame.replyTo);
      this.#clear(waiting.timer);
      waiting.resolve(frame);
    } else if (frame.welcome) {
      this.#attempts = 0;
      this.#refusals = 0;
      this.#goAway = null;
      this.#setState("connected", null);
      this.#beat(this.#socket, (frame.welcome.heartbeatS || 30) * 1000);
      this.#handlers.onWelcome(frame.welcome);
    } else if (frame.event) {
      this.#handlers.onEvent(frame.event);
    } else if (frame.goAway) {
      this.#goAway = frame.goAway;
    }
  }

  /** A heartbeat asks for an answer: silence shows that the link is dead long before TCP does. */
  #beat(socket, everyMs) {
    this.#after(everyMs / 2, () => {
      if (socket !== this.#socket || !this.connected) return;
      this.ask({}).catch(() => {});
      this.#beat(socket, everyMs);
    });
  }

  #lost(socket) {
    if (socket !== this.#socket) return;
    const refused = !this.connected;
    this.#drop();
    socket.onclose = null;
    socket.close();
    this.#refusals = refused ? this.#refusals + 1 : 0;
    this.#scheduleRetry();
  }

  /** Forgets the socket; what was asked on it is the asker's to ask again. */
  #drop() {
    this.#socket = null;
    for (const timer of this.#timers) clearTimeout(timer);
    this.#timers.clear();
    for (const { reject } of this.#pending.values()) reject(new Error("the connection was lost"));
    this.#pending.clear();
  }

  /**
   * After a random time, so that a gateway that comes back is not met by everybody at once: within the window it named, or up to
   * a bound that doubles with each attempt.
   */
  #scheduleRetry() {
    if (this.#ended()) return;
    let waitMs;
    if (this.#goAway) {
      const { reconnectMinMs = 0, reconnectMaxMs = 0 } = this.#goAway;
      waitMs = reconnectMinMs + Math.random() * Math.max(0, reconnectMaxMs - reconnectMinMs);
      this.#goAway = null;
    } else {
      const bound = Math.min(BACKOFF_MS_MAX, BACKOFF_MS_MIN * 2 ** this.#attempts);
      waitMs = BACKOFF_MS_MIN + Math.random() * bound;
      this.#attempts = Math.min(this.#attempts + 1, 16);
    }
    this.#setState(this.#refusals >= REFUSALS_TOLD ? "refused" : "reconnecting", null);
    this.#retry = setTimeout(() => this.#connect(), waitMs);
  }

  #retryNow() {
    if (this.#retry === null) return;
    clearTimeout(this.#retry);
    this.#connect();
  }

  #end(state, detail) {
    this.#setState(state, detail);
    window.removeEventListener("online", this.#wake);
    clearTimeout(this.#retry);
    this.#retry = null;
    const socket = this.#socket;
    this.#drop();
    if (socket) {
      socket.onclose = null;
      socket.close();
    }
  }

  #ended() {
    return this.#state === "closed" || this.#state === "replaced";
  }

  #setState(state, detail) {
    this.#state = state;
    this.#handlers.onState(state, detail);
  }

  #after(ms, action) {
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      action();
    }, ms);
    this.#timers.add(timer);
    return timer;
  }

  #clear(timer) {
    clearTimeout(timer);
    this.#timers.delete(timer);
  }
}
