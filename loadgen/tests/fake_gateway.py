"""Answers every second upgrade with a wrong Sec-WebSocket-Accept, and says it is a gateway. Ends with SIGTERM."""

import base64
import hashlib
import signal
import socketserver
import sys
import threading

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
number = 0
lock = threading.Lock()


class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        global number
        key = b""
        for line in iter(self.rfile.readline, b"\r\n"):
            if not line:
                return
            if line.lower().startswith(b"sec-websocket-key:"):
                key = line.split(b":", 1)[1].strip()
        with lock:
            number += 1
            wrong = number % 2 == 0
        if wrong:
            key = b"AAAAAAAAAAAAAAAAAAAAAA=="
        accept = base64.b64encode(hashlib.sha1(key + GUID).digest())
        self.wfile.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        self.rfile.read()


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128


host, port = sys.argv[sys.argv.index("--listen") + 1].rsplit(":", 1)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
server = Server((host, int(port)), Handler)
print(f"ready ws={host}:{port} http=127.0.0.1:1 shards=1", flush=True)
server.serve_forever()
