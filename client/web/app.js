// The page: what people do leads to the account and the session, what these tell leads to the view.

import { Refused, signIn, signOut, signedIn, signUp } from "./account.js";
import { Session } from "./session.js";
import { elements, showBanner, showConversation, showConversations, showError, showPage, showStatus } from "./view.js";
import { parseUser } from "./wire.js";

let session = null;
let drawing = false;
/** Where a tab tells the others of this browser which number it has just signed out of. */
const left = new BroadcastChannel("roost.v1.left");

begin();

function begin() {
  const account = signedIn();
  if (account) openChat(account);
  else openDoor(null);
}

// ---------------------------------------------------------------- signing in

function openDoor(notice) {
  session?.close();
  session = null;
  showPage("door");
  showError(elements["door-error"], notice);
  elements.user.focus();
}

function chooseTab(creating) {
  elements["tab-sign-up"].setAttribute("aria-pressed", String(creating));
  elements["tab-sign-in"].setAttribute("aria-pressed", String(!creating));
  elements["door-submit"].textContent = creating ? "Create account" : "Sign in";
  elements.password.autocomplete = creating ? "new-password" : "current-password";
  elements["password-hint"].hidden = !creating;
  showError(elements["door-error"], null);
}

elements["tab-sign-in"].onclick = () => chooseTab(false);
elements["tab-sign-up"].onclick = () => chooseTab(true);

elements["door-form"].onsubmit = async (event) => {
  event.preventDefault();
  const creating = elements["tab-sign-up"].getAttribute("aria-pressed") === "true";
  const user = parseUser(elements.user.value);
  const password = elements.password.value;
  if (!user) {
    showError(elements["door-error"], "Enter your number in digits, for example +49 170 1234567.");
    elements.user.focus();
    return;
  }
  if (password === "" || (creating && password.length < 8)) {
    showError(elements["door-error"], creating ? "Choose a password of at least 8 characters." : "Enter your password.");
    elements.password.focus();
    return;
  }
  elements["door-submit"].disabled = true;
  showError(elements["door-error"], null);
  try {
    const account = await (creating ? signUp(user, password) : signIn(user, password));
    elements["door-form"].reset();
    openChat(account);
  } catch (error) {
    showError(elements["door-error"], error instanceof Refused ? error.message : "Something went wrong; try again.");
    if (!(error instanceof Refused)) console.error(error);
  } finally {
    elements["door-submit"].disabled = false;
  }
};

elements["sign-out"].onclick = () => {
  location.hash = "";
  chooseTab(false);
  leave();
};

/** Signs this tab out. The session ends first: its history is then kept where a tab that takes over reads it. */
function leave() {
  const user = session?.account.user;
  openDoor(null);
  signOut();
  left.postMessage(user);
}

/** The tab that replaced this one has signed out: nothing holds this account but this tab. */
left.onmessage = ({ data }) => {
  if (session?.state === "replaced" && session.account.user === data) location.reload();
};

// ---------------------------------------------------------------- the session

function openChat(account) {
  session = new Session(account, (what, detail) => {
    if (what === "state") sessionState(detail);
    else if (what === "full") showBanner("This browser's storage is full; new messages wait on the server.", null);
    draw();
  });
  elements["own-number"].textContent = account.user;
  showPage("chat");
  sessionState(null);
  route();
}

function sessionState(detail) {
  const state = session?.state ?? "connecting";
  showStatus(state);
  const again = { label: "Sign in again", run: leave };
  switch (state) {
    case "reconnecting":
      showBanner("Reconnecting… what you write is kept and sent as soon as the server is back.", null);
      break;
    case "refused":
      showBanner("The server cannot be reached, or does not accept this sign-in any more. Still trying…", again);
      break;
    case "replaced":
      showBanner("This account is open in another window.", { label: "Use it here", run: () => location.reload() });
      break;
    case "closed":
      showBanner(`The server ended the session${detail ? `: ${detail}` : ""}.`, again);
      break;
    default:
      showBanner(null, null);
  }
}

// ---------------------------------------------------------------- conversations

/** The open conversation is in the address, so that the browser's own back button closes it. */
function openPeer() {
  return parseUser(location.hash.replace(/^#/, ""));
}

function route() {
  if (!session) return;
  const peer = openPeer();
  if (peer) session.history.open(peer);
  showError(elements["composer-error"], null);
  look();
  drawNow();
  if (peer && matchMedia("(min-width: 700px)").matches) elements.text.focus();
}

/** Only what is on a visible page counts as read. */
function look() {
  session?.show(document.visibilityState === "visible" ? openPeer() : null);
}

/** Draws once a frame, however many messages arrive. */
function draw() {
  if (drawing) return;
  drawing = true;
  queueMicrotask(drawNow);
}

function drawNow() {
  drawing = false;
  if (!session) return;
  const peer = openPeer();
  showConversations(session.history.list(), peer, (other) => `#${other}`);
  showConversation(peer ? session.history.open(peer) : null, (clientId) => session.retry(peer, clientId));
}

elements["new-chat"].onsubmit = (event) => {
  event.preventDefault();
  const peer = parseUser(elements["new-peer"].value);
  showError(elements["new-chat-error"], peer ? null : "Enter a number in digits, for example +49 170 1234567.");
  if (!peer) return;
  elements["new-chat"].reset();
  location.hash = peer;
};

elements.back.onclick = () => {
  location.hash = "";
};

window.addEventListener("hashchange", route);
document.addEventListener("visibilitychange", look);
window.addEventListener("offline", () => session && showStatus(session.state));
window.addEventListener("online", () => session && showStatus(session.state));

// ---------------------------------------------------------------- writing

elements.composer.onsubmit = (event) => {
  event.preventDefault();
  const text = elements.text.value.trim();
  const peer = openPeer();
  if (!text || !peer || !session) return;
  const refusal = session.send(peer, text);
  showError(elements["composer-error"], refusal);
  if (refusal) return;
  elements.text.value = "";
  fitComposer();
  drawNow();
  elements.messages.scrollTop = elements.messages.scrollHeight;
};

elements.text.onkeydown = (event) => {
  // While an input method composes, Enter belongs to it.
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  elements.composer.requestSubmit();
};

elements.text.oninput = fitComposer;

/** As high as what is written, up to the style's limit. */
function fitComposer() {
  const { style, offsetHeight, clientHeight } = elements.text;
  style.height = "auto";
  style.height = `${elements.text.scrollHeight + offsetHeight - clientHeight}px`;
}
