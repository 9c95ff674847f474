'use strict';
// An echo server as users of ws write it: no compression, one process. It prints its port once it listens.
//
//   node server.js PORT

const { WebSocketServer } = require('ws');

const port = Number(process.argv[2]);
if (!Number.isInteger(port)) {
  console.error('usage: node server.js PORT');
  process.exit(2);
}
// As many waiting to be accepted as the kernel allows; Node's own default is 511.
const server = new WebSocketServer({ host: '127.0.0.1', port, backlog: 65535 }, () => {
  console.log(`ready port=${server.address().port}`);
});
server.on('connection', (socket) => {
  // A connection that broke has ended: nothing else is to be done.
  socket.on('error', () => {});
  socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }));
});
