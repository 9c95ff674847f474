"""Python's `websockets` against an echo gateway and against the product: client.py ECHO_URL WS_URL ALICES_TOKEN BOBS_TOKEN.

Prints "ok" and ends with 0, or raises.
"""

import asyncio
import base64
import json
import sys

import websockets

echo_url, chat_url, *tokens = sys.argv[1:]


async def echo():
    # permessage-deflate is offered by default.
    async with websockets.connect(echo_url, subprotocols=["first.example", "second.example"]) as socket:
        assert (socket.subprotocol, socket.extensions) == ("first.example", []), (socket.subprotocol, socket.extensions)
        for message in ["text", "", "ünïcödé 🐦", b"\0\1\xff", bytes(1_000_000)]:
            await socket.send(message)
            assert await socket.recv() == message
        # An iterable is sent as one message in fragments.
        await socket.send(["in ", "three ", "pieces"])
        assert await socket.recv() == "in three pieces"
        await socket.send([b"", b"binary", b""])
        assert await socket.recv() == b"binary"
        await asyncio.wait_for(await socket.ping(b"are you there"), 20)
        await socket.close(4321, "done")
    assert socket.close_code == 4321, socket.close_code


async def closed_by_gateway():
    async with websockets.connect(echo_url) as socket:
        await socket.send(bytes(2_000_000))
        try:
            await socket.recv()
            raise AssertionError("it was not closed")
        except websockets.exceptions.ConnectionClosed as closed:
            assert closed.rcvd.code == 1009 and closed.sent.code == 1009 and closed.rcvd_then_sent, closed


async def chat():
    def headers(token):
        return {"Authorization": f"Bearer {token}"}

    json_only = {"subprotocols": ["roost.v1.json"]}
    async with websockets.connect(chat_url, extra_headers=headers(tokens[0]), **json_only) as alice:
        async with websockets.connect(chat_url, extra_headers=headers(tokens[1]), **json_only) as bob:
            from_user = json.loads(await alice.recv())["welcome"]["user"]
            to_user = json.loads(await bob.recv())["welcome"]["user"]
            payload = base64.b64encode(b"hello, Bob").decode()
            send = {"to": {"user": to_user}, "clientId": base64.b64encode(b"2").decode(), "payload": payload}
            await alice.send(json.dumps({"id": 1, "send": send}))
            assert json.loads(await alice.recv())["replyTo"] == 1
            message = json.loads(await bob.recv())["event"]["message"]
            assert (message["from"], message["payload"]) == (from_user, payload), message
    assert (alice.close_code, bob.close_code) == (1000, 1000)


async def main():
    await echo()
    await closed_by_gateway()
    await chat()
    print("ok")


asyncio.run(asyncio.wait_for(main(), 60))
