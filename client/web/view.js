// The page's elements. What people write goes into the document as text only, never as markup.

import { unreadCount } from "./session.js";

const SVG = "http://www.w3.org/2000/svg";
const HUES = 8;
/** Closer to the end than this, in CSS pixels, the list follows new messages. */
const FOLLOW_PX = 120;

const STATUS = {
  connecting: "Connecting…",
  connected: "Connected",
  reconnecting: "Reconnecting…",
  refused: "Reconnecting…",
  replaced: "In another window",
  closed: "Not connected",
};

/** What a mark is called, and how it is drawn. */
const MARKS = {
  queued: ["Waiting to be sent", "M8 4.6V8l2.4 1.6M14 8A6 6 0 1 1 2 8a6 6 0 0 1 12 0z"],
  sent: ["Sent", "M4 8.6l3.3 3.2L14 5"],
  delivered: ["Delivered", "M1 8.6l3.3 3.2L11 5M8 11l.9.8L15.8 5"],
  read: ["Read", "M1 8.6l3.3 3.2L11 5M8 11l.9.8L15.8 5"],
  failed: ["Not sent", "M9 4.5v5M9 12.2v.1"],
};

const timeFormat = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const dayFormat = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long" });
const shortDayFormat = new Intl.DateTimeFormat(undefined, { day: "2-digit", month: "2-digit" });

export const elements = Object.fromEntries(
  [...document.querySelectorAll("[id]")].map((element) => [element.id, element]),
);

/** Shows the sign-in card or the chat. */
export function showPage(name) {
  elements.door.hidden = name !== "door";
  elements.chat.hidden = name !== "chat";
}

/** Shows a sentence in one of the places for errors; hides it without one. */
export function showError(element, sentence) {
  element.textContent = sentence ?? "";
  element.hidden = !sentence;
}

export function showStatus(state) {
  const offline = !navigator.onLine && state !== "connected";
  elements.status.dataset.state = state;
  elements.status.textContent = offline ? "Offline" : STATUS[state];
}

/** A line above everything, with at most one button. */
export function showBanner(text, action) {
  elements.banner.hidden = !text;
  elements["banner-text"].textContent = text ?? "";
  elements["banner-action"].hidden = !action;
  elements["banner-action"].textContent = action?.label ?? "";
  elements["banner-action"].onclick = action?.run ?? null;
}

export function showConversations(conversations, openPeer, href) {
  elements["no-conversations"].hidden = conversations.length > 0;
  const focused = elements.conversations.contains(document.activeElement) && document.activeElement.dataset.peer;
  elements.conversations.replaceChildren(
    ...conversations.map((conversation) => conversationItem(conversation, openPeer, href)),
  );
  if (focused) elements.conversations.querySelector(`[data-peer="${focused}"]`)?.focus();
  const unread = conversations.reduce((sum, conversation) => sum + unreadCount(conversation), 0);
  document.title = unread > 0 ? `(${unread}) Roost` : "Roost";
}

/** The right-hand side: a conversation, or the invitation to choose one. */
export function showConversation(conversation, onRetry) {
  elements.chat.classList.toggle("has-open", conversation !== null);
  elements["pane-empty"].hidden = conversation !== null;
  elements["pane-open"].hidden = conversation === null;
  if (!conversation) {
    elements.messages.replaceChildren();
    delete elements.messages.dataset.peer;
    return;
  }
  const { peer } = conversation;
  elements["peer-number"].textContent = peer;
  dressAvatar(elements["peer-avatar"], peer);
  const list = elements.messages;
  const changedPeer = list.dataset.peer !== peer;
  const follow = changedPeer || list.scrollHeight - list.scrollTop - list.clientHeight < FOLLOW_PX;
  if (changedPeer) list.replaceChildren();
  list.dataset.peer = peer;
  updateMessages(list, conversation, onRetry);
  if (follow) list.scrollTop = list.scrollHeight;
}

/** Brings the list in line with the messages, keeping the elements that are there. */
function updateMessages(list, { messages }, onRetry) {
  const known = new Map([...list.children].map((element) => [element.dataset.key, element]));
  const wanted = [];
  let before = null;
  for (const message of messages) {
    const day = dayFormat.format(message.atMs);
    if (!before || dayFormat.format(before.atMs) !== day) {
      wanted.push(known.get(`d${day}`) ?? dayItem(day));
      before = null;
    }
    const key = message.out ? `o${message.clientId}` : `i${message.id}`;
    const element = known.get(key) ?? messageItem(key, message);
    element.classList.toggle("follows", before?.out === message.out);
    if (message.out) dressMark(element, message, onRetry);
    wanted.push(element);
    before = message;
  }
  const kept = new Set(wanted);
  for (const element of known.values()) if (!kept.has(element)) element.remove();
  wanted.forEach((element, index) => {
    if (list.children[index] !== element) list.insertBefore(element, list.children[index] ?? null);
  });
}

function conversationItem(conversation, openPeer, href) {
  const { peer, messages } = conversation;
  const last = messages.at(-1);
  const unread = unreadCount(conversation);
  const avatar = make("span", "avatar");
  avatar.setAttribute("aria-hidden", "true");
  dressAvatar(avatar, peer);
  const top = make("span", "row", [make("strong", "peer", peer), make("span", "when", last ? when(last.atMs) : "")]);
  const preview = make("span", "preview", last?.text.slice(0, 200) ?? "No messages yet");
  const bottom = make("span", "row", last?.out ? [markOf(last.state), preview] : [preview]);
  if (unread > 0) {
    const badge = make("span", "badge", String(Math.min(unread, 999)));
    badge.setAttribute("aria-label", `${unread} unread`);
    bottom.append(badge);
  }
  const link = make("a", "conversation", [avatar, make("span", "lines", [top, bottom])]);
  link.href = href(peer);
  link.dataset.peer = peer;
  if (peer === openPeer) link.setAttribute("aria-current", "true");
  return make("li", "", [link]);
}

function dayItem(day) {
  const item = make("li", "day", [make("span", "", day)]);
  item.dataset.key = `d${day}`;
  return item;
}

function messageItem(key, message) {
  const foot = make("span", "foot", [make("time", "", timeFormat.format(message.atMs))]);
  const item = make("li", `message ${message.out ? "out" : "in"}`, [
    make("div", "bubble", [make("p", "text", message.text), foot]),
  ]);
  item.dataset.key = key;
  return item;
}

function dressMark(item, message, onRetry) {
  if (item.dataset.state === message.state) return;
  item.dataset.state = message.state;
  const bubble = item.firstElementChild;
  bubble.querySelector(".foot .mark")?.remove();
  bubble.querySelector(".foot").append(markOf(message.state));
  item.querySelector(".failure")?.remove();
  if (message.state !== "failed") return;
  const again = make("button", "link", "Try again");
  again.type = "button";
  again.onclick = () => onRetry(message.clientId);
  item.append(make("p", "failure", [make("span", "", `Not sent: ${message.error} `), again]));
}

function markOf(state) {
  const [name, path] = MARKS[state];
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 18 16");
  svg.setAttribute("aria-hidden", "true");
  const line = document.createElementNS(SVG, "path");
  line.setAttribute("d", path);
  svg.append(line);
  const mark = make("span", `mark ${state}`, [svg, make("span", "visually-hidden", name)]);
  mark.title = name;
  return mark;
}

/** The last two digits on a colour of the number's own. */
function dressAvatar(element, peer) {
  element.textContent = peer.slice(-2);
  element.dataset.hue = String(Number(BigInt(peer) % BigInt(HUES)));
}

function when(atMs) {
  const today = new Date().toDateString() === new Date(atMs).toDateString();
  return (today ? timeFormat : shortDayFormat).format(atMs);
}

function make(name, className, content = "") {
  const element = document.createElement(name);
  if (className) element.className = className;
  element.append(...(Array.isArray(content) ? content : [content]));
  return element;
}
