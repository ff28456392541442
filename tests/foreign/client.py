"""Two users talk through a running server with the `websockets` package, a client this project did not write.

Usage: client.py HOST:PORT. Exits with 0 when everything was as the protocol says.
"""

import asyncio
import json
import sys
import urllib.request
import uuid

import websockets

HOST = sys.argv[1]


def call(method, path, body=None, token=None):
    request = urllib.request.Request(f"http://{HOST}{path}", method=method)
    request.add_header("Content-Type", "application/json")
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(request, data, timeout=30) as response:
        answer = json.load(response)
    assert answer["success"], answer
    return answer.get("data")


def user(name):
    call("POST", "/api/auth/register", {"username": name, "password": "correct horse"})
    return call("POST", "/api/auth/login", {"username": name, "password": "correct horse"})


async def frame(socket, kind):
    while True:
        message = json.loads(await asyncio.wait_for(socket.recv(), 30))
        if message["type"] == kind:
            return message["data"]
        assert message["type"] != "error", message


def connect(pair):
    # The token in the subprotocol list: the way of browsers, which cannot set headers.
    return websockets.connect(
        f"ws://{HOST}/ws", subprotocols=["gochat.v1", f"bearer.{pair['accessToken']}"], proxy=None
    )


async def main():
    tail = uuid.uuid4().hex[:6]
    ann, bob = user(f"ann{tail}"), user(f"bob{tail}")
    chat = call("POST", "/api/conversations", {"type": 1, "members": [bob["user"]["id"]]}, ann["accessToken"])["id"]
    async with connect(ann) as a, connect(bob) as b:
        assert a.subprotocol == "gochat.v1", a.subprotocol
        await frame(a, "connected")
        await frame(b, "connected")
        for n in range(1, 101):
            text = f"message {n} — ünïcödé 👋"
            data = {"conversationId": chat, "content": text, "messageType": 1, "client_msg_id": f"c{n}"}
            await a.send(json.dumps({"type": "send-message", "data": data}))
            ack = await frame(a, "message-ack")
            got = await frame(b, "new-message")
            assert ack["client_msg_id"] == f"c{n}", ack
            assert got["content"] == text and got["id"] == ack["messageId"] and got["seqId"] == ack["seqId"], (got, ack)
        # A fragmented message, and the same client_msg_id again: acknowledged with the first message's ids.
        again = json.dumps({"type": "send-message", "data": data})
        await a.send([again[:10], again[10:40], again[40:]])
        repeat = await frame(a, "message-ack")
        assert repeat["messageId"] == ack["messageId"] and repeat["duplicate"] is True, repeat
        await b.send(json.dumps({"type": "mark-read", "data": {"conversationId": chat, "seqId": ack["seqId"]}}))
        updated = await frame(b, "conversation-updated")
        assert updated["updates"]["unreadCount"] == 0, updated
        await b.send(json.dumps({"type": "ping"}))
        while json.loads(await asyncio.wait_for(b.recv(), 30))["type"] != "pong":
            pass
        await (await b.ping())
    history = call("GET", f"/api/conversations/{chat}/messages?after_seq=0&limit=100", token=bob["accessToken"])
    assert history["complete"] is True and len(history["messages"]) == 100, history
    print("ok: 100 messages sent, acknowledged, delivered and stored")


asyncio.run(main())
