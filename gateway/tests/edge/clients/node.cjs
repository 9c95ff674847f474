// Node's `ws` against an echo gateway and against the product: node node.cjs ECHO_URL WS_URL ALICES_TOKEN BOBS_TOKEN.
// Prints "ok" and ends with 0, or throws.
'use strict';
const assert = require('node:assert/strict');
const { once } = require('node:events');
const WebSocket = require('ws');

const [echoUrl, chatUrl, ...tokens] = process.argv.slice(2);
const LARGE = Buffer.alloc(1_000_000, 'x');

async function next(socket) {
  const [data, isBinary] = await once(socket, 'message');
  return isBinary ? data : data.toString();
}

async function opened(url, protocols, options) {
  const socket = new WebSocket(url, protocols, options);
  await once(socket, 'open');
  return socket;
}

async function echo() {
  // ws offers permessage-deflate by default.
  const socket = await opened(echoUrl, ['first.example', 'second.example']);
  assert.deepEqual([socket.protocol, socket.extensions], ['first.example', '']);
  for (const message of ['text', '', 'ünïcödé 🐦', Buffer.from([0, 1, 255]), LARGE]) {
    const answer = next(socket);
    socket.send(message);
    assert.deepEqual(await answer, message);
  }
  const joined = next(socket);
  socket.send('in ', { fin: false });
  socket.ping('between');
  socket.send('three ', { fin: false });
  socket.send('pieces', { fin: true });
  const [pong] = await once(socket, 'pong');
  assert.equal(pong.toString(), 'between');
  assert.equal(await joined, 'in three pieces');

  const closed = once(socket, 'close');
  socket.close(4321, 'done');
  const [code] = await closed;
  assert.equal(code, 4321);
}

/** The gateway closes first: on a message that is too large, and on a frame without a mask. */
async function closedByGateway() {
  for (const [options, size, wanted] of [[{}, 2_000_000, 1009], [{ mask: false }, 1, 1002]]) {
    const socket = await opened(echoUrl);
    const closed = once(socket, 'close');
    socket.send(Buffer.alloc(size), options);
    const [code] = await closed;
    assert.equal(code, wanted);
  }
}

async function chat() {
  const [alice, bob] = await Promise.all(tokens.map(async (token) => {
    const headers = { Authorization: `Bearer ${token}` };
    const socket = new WebSocket(chatUrl, ['roost.v1.json'], { headers });
    const welcome = JSON.parse(await next(socket)).welcome;
    return { socket, user: welcome.user };
  }));
  assert.equal(alice.socket.protocol, 'roost.v1.json');
  const delivered = next(bob.socket);
  const answered = next(alice.socket);
  const payload = Buffer.from('hello, Bob').toString('base64');
  const send = { to: { user: bob.user }, clientId: Buffer.from('1').toString('base64'), payload };
  alice.socket.send(JSON.stringify({ id: 1, send }));
  assert.equal(JSON.parse(await answered).replyTo, 1);
  const { event } = JSON.parse(await delivered);
  assert.deepEqual([event.message.from, event.message.payload], [alice.user, payload]);
  for (const { socket } of [alice, bob]) {
    const closed = once(socket, 'close');
    socket.close(1000);
    assert.equal((await closed)[0], 1000);
  }
}

(async () => {
  await echo();
  await closedByGateway();
  await chat();
  console.log('ok');
})();
