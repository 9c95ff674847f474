//! The browser's WebSocket, without any page of ours.

use anyhow::Result;
use serde_json::{Value, json};

use super::Browser;

/// It offers permessage-deflate, and sends a large message in fragments.
const SCRIPT: &str = r"
const [url, done] = arguments;
const opened = (protocols) => new Promise((resolve, reject) => {
  const socket = new WebSocket(url, protocols);
  socket.binaryType = 'arraybuffer';
  socket.onopen = () => resolve(socket);
  socket.onerror = () => reject(new Error('no connection'));
});
const echoed = (socket, message) => new Promise((resolve, reject) => {
  socket.onmessage = (event) => resolve(event.data);
  socket.onclose = (event) => reject(new Error(`closed with ${event.code}`));
  socket.send(message);
});
const closed = (socket) => new Promise((resolve) => {
  socket.onclose = (event) => resolve([event.code, event.wasClean]);
});
(async () => {
  const seen = {};
  const socket = await opened(['first.example', 'second.example']);
  seen.protocol = socket.protocol;
  seen.extensions = socket.extensions;
  seen.text = [];
  for (const text of ['text', '', 'ünïcödé 🐦']) seen.text.push(await echoed(socket, text));
  seen.binary = [...new Uint8Array(await echoed(socket, new Uint8Array([0, 1, 255])))];
  const large = new Uint8Array(1000000).map((_, at) => at * 7);
  const back = new Uint8Array(await echoed(socket, large));
  seen.large = back.length === large.length && back.every((byte, at) => byte === large[at]);
  const end = closed(socket);
  socket.close(4321, 'done');
  seen.closed = await end;
  const other = await opened([]);
  const cut = closed(other);
  other.send(new Uint8Array(1048577));
  seen.closedByGateway = await cut;
  return seen;
})().then(done, (error) => done({ error: String(error) }));
";

impl Browser {
    /// Goes through what a WebSocket can do against an echo at `url`; what was seen. `page` is one of the same machine: others may not
    /// reach it.
    pub async fn echo(&self, page: &str, url: &str) -> Result<Value> {
        self.goto(page).await?;
        Ok(self.client.execute_async(SCRIPT, vec![json!(url)]).await?)
    }
}
