"""Python's `websockets` as both clients. Run: python tests/clients/python.py ws://127.0.0.1:8787
(`pip install websockets`; behind a self-signed certificate also SSL_CERT_FILE=cert.pem)."""

import asyncio
import hashlib
import json
import re
import sys
import time

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

LIMIT_S = 120
MIB = 1 << 20
LOGS = 10_000
BASE = sys.argv[1] if len(sys.argv) > 1 else "ws://127.0.0.1:8787"
SESSION = f"python-{time.time_ns()}"


def report(what):
    print(f"ok python: {what}", flush=True)


def equal(got, expected, what):
    if got != expected:
        raise AssertionError(f"{what}: expected {str(expected)[:200]}, got {str(got)[:200]}")


class Client(ClientConnection):
    """Gives out each message once. A connection may begin with a repetition of the last application messages that its
    side has had, from any of them on, complete and in order. `had` is all of them, of all connections of the side."""

    SYSTEM = re.compile(r"connected|(desktop|mobile)_(connected|disconnected)|error")
    at, repeats = None, 0

    async def recv(self, decode=None):
        while True:
            message = await super().recv()
            if self.is_new(message):
                return message.encode() if decode is False and isinstance(message, str) else message

    def is_new(self, message):
        if isinstance(message, str) and len(message) < 1_000 and self.SYSTEM.fullmatch(json.loads(message)["type"]):
            return True
        if self.at is None:
            self.at = self.had.index(message) if message in self.had else len(self.had)
        is_new = self.at == len(self.had)
        if is_new:
            self.had.append(message)
        else:
            equal(message == self.had[self.at], True, f"repeat {self.repeats} is what came before")
            self.repeats += 1
        self.at += 1
        return is_new


HAD = {"desktop": [], "mobile": []}


async def join(client_type, **options):
    """Connects with the default offer of permessage-deflate and takes the relay's `connected`."""
    url = f"{BASE}/{client_type}/{SESSION}"
    client = await connect(url, max_size=None, create_connection=Client, **options)
    client.had = HAD[client_type]
    await expect(client, type="connected", clientType=client_type, sessionId=SESSION)
    return client


async def rejoin(client_type, **options):
    """Joins while the peer is there. What the relay sends again comes behind both notices."""
    client = await join(client_type, **options)
    await expect(client, type="mobile_connected" if client_type == "desktop" else "desktop_connected")
    equal(client.repeats, 0, "repeats before the notices")
    return client


async def expect(client, **fields):
    """Takes the next message and checks that it has these fields, and a timestamp in milliseconds."""
    message = json.loads(await client.recv())
    equal({name: message.get(name) for name in fields}, fields, "message")
    assert abs(message["timestamp"] / 1000 - time.time()) < 60, f"no current timestamp in {message}"
    return message


async def send_all(client, texts):
    for i, text in enumerate(texts):
        await client.send(text)  # waits while more than 32 KiB wait in this process
        if i % 500 == 499:
            await asyncio.sleep(0)  # lets the other clients run


async def claimed():
    """A session with a secret, brought as a Bearer token."""
    url, secret = f"{BASE}/%s/claimed-{SESSION}", {"Authorization": "Bearer correct-horse-battery-staple"}
    async with connect(url % "desktop", additional_headers=secret) as desktop:
        await expect(desktop, type="connected")
        for wrong in {}, {"Authorization": "Bearer correct-horse-battery-stapel"}:
            try:
                async with connect(url % "mobile", additional_headers=wrong):
                    raise AssertionError("a stranger was let in")
            except InvalidStatus as refused:
                equal(refused.response.status_code, 403, "status")
        async with connect(url % "mobile", additional_headers=secret) as mobile:
            await expect(mobile, type="connected")
            await expect(mobile, type="desktop_connected")
            await expect(desktop, type="mobile_connected")
    report("a claimed session takes its secret as a Bearer token, and nobody without it")


async def closed(client):
    """Reads what is left until the close; returns the code, the reason and the messages."""
    left = []
    try:
        while True:
            left.append(await client.recv(decode=False))
    except ConnectionClosed:
        return client.close_code, client.close_reason, left


def log(i):
    level = ("log", "warn", "error")[i % 3]
    ones = "1, " * (i % 40)
    return (
        f'{{"type":"console_log","n":{i},"level":"{level}",'
        f'"args":["count {i}: \\"quoted\\", ü, 🚀",  {{"list":[{ones}0]}}]}}'
    )


def bundle(size):
    """A `bundle_update` of exactly `size` bytes that no JSON library would write again in the same way."""
    head = (
        '{ "type":"bundle_update",\t"n":[1.50e+02, -0, 12345678901234567890], "type" : "bundle_update",'
        ' "\\/\\u00fc":"\\ud83d\\ude80", "code":"'
    )
    tail = '" }\r\n '
    parts, left, number = [head], size - len(head.encode()) - len(tail), 0
    while True:
        code = (
            f"__d(function (g, r, m) {{\n\t// module {number}: größer, 日本語, 👩‍💻 🚀\n"
            f'\tm.exports = {{ id: {number}, path: "C:\\src\\mod-{number}.js", text: `a\r\nb\u2028\0` }};\n}}, {number});\n'
        )
        part = json.dumps(code, ensure_ascii=number % 2 == 0)[1:-1]
        if len(part.encode()) > left:
            return "".join(parts) + "x" * left + tail
        parts.append(part)
        left -= len(part.encode())
        number += 1


async def scenario():
    desktop = await join("desktop")
    assert "permessage-deflate" in desktop.request.headers["Sec-WebSocket-Extensions"]
    equal(desktop.response.headers.get("Sec-WebSocket-Extensions"), None, "extensions")
    equal(desktop.protocol.extensions, [], "extensions")
    report("the offer of permessage-deflate is left unanswered")

    await desktop.send('{"type":"hello"}')
    await expect(desktop, type="error", code="peer_not_connected", error="Mobile device not connected")
    mobile = await join("mobile")
    await expect(mobile, type="desktop_connected")
    await expect(desktop, type="mobile_connected")
    report("both sides are told of each other")

    for mib in (5, 50):
        text = bundle(mib * MIB)
        sent, begun = text.encode(), time.monotonic()
        _, received = await asyncio.gather(desktop.send(text), mobile.recv(decode=False))
        took = round((time.monotonic() - begun) * 1000)
        digest = hashlib.sha256(received).hexdigest()
        equal(digest, hashlib.sha256(sent).hexdigest(), "SHA-256")
        assert received == sent, "the bundle differs although its SHA-256 agrees"
        report(f"bundle_update of {mib} MiB arrives unchanged ({took} ms, SHA-256 {digest[:12]})")

    await desktop.send(b"\x00\xff binary")
    equal(await mobile.recv(), b"\x00\xff binary", "binary message")
    await asyncio.wait_for(await mobile.ping(b"payload"), 10)
    report("a binary message stays binary, a ping is answered with its payload")

    # The close stands right behind 4,000 logs, all of which must arrive before the notice.
    async def send_and_leave():
        await send_all(mobile, map(log, range(4_000)))
        await mobile.close(1000, "to the background")

    leaving = asyncio.create_task(send_and_leave())
    for i in range(4_000):
        equal(await desktop.recv(decode=False), log(i).encode(), f"console_log {i}")
    await expect(desktop, type="mobile_disconnected")
    await leaving
    equal(mobile.close_code, 1000, "close of the mobile")
    mobile = await rejoin("mobile")
    await expect(desktop, type="mobile_connected")
    report("mobile closes behind 4,000 console_log messages and comes back")

    # A second desktop joins while logs are under way. It gets all that the first has not had, and before that the last of
    # what the first had, as far as the relay does not know that it had it. `Client` checks what comes again.
    count = 4_000

    def take(got):
        nonlocal count
        equal(got, log(count).encode(), f"console_log {count}")
        count += 1

    async def take_until(end):
        while count < end:
            take(await desktop.recv(decode=False))

    sending = asyncio.create_task(send_all(mobile, map(log, range(4_000, 9_000))))
    take(await desktop.recv(decode=False))
    first, desktop = desktop, await rejoin("desktop")
    code, reason, left = await closed(first)
    equal((code, reason), (1000, "New desktop connection"), "close of the first desktop")
    for got in left:
        take(got)
    by_first = count - 4_000
    await expect(mobile, type="desktop_connected")
    await asyncio.gather(sending, take_until(9_000))
    await asyncio.gather(send_all(mobile, map(log, range(9_000, LOGS))), take_until(LOGS))
    await desktop.send('{"type":"end"}')
    equal(await mobile.recv(), '{"type":"end"}', "the mobile's next message after desktop_connected")
    report(
        f"desktop is replaced: {by_first} logs to the first, {6_000 - by_first} to the second "
        f"behind {desktop.repeats} repeats, none lost, no desktop_disconnected"
    )

    old, mobile = mobile, await rejoin("mobile", subprotocols=["a", "b"])
    equal(mobile.subprotocol, "a", "subprotocol")
    equal((await closed(old))[:2], (1000, "New mobile connection"), "close of the first mobile")
    report("mobile is replaced, the first subprotocol offered is echoed")

    await expect(desktop, type="mobile_connected")
    try:
        await desktop.send('"' + "x" * 64 * MIB + '"')
    except ConnectionClosed:
        pass
    await expect(desktop, type="error", code="message_too_large")
    equal((await closed(desktop))[0], 1009, "close of the desktop")
    await mobile.close()
    report("a message over 64 MiB is refused and closed with 1009")


async def cut_short():
    """A desktop that vanishes in the middle of a bundle, of which the mobile has had a part."""
    desktop, mobile = await join("desktop"), await rejoin("mobile")
    text, written = bundle(50 * MIB), asyncio.Event()

    async def half():
        yield text[: len(text) // 2]
        written.set()
        await asyncio.sleep(LIMIT_S)

    sending = asyncio.create_task(desktop.send(half()))
    ending = asyncio.create_task(closed(mobile))
    await written.wait()
    await asyncio.sleep(0.5)
    assert not ending.done()
    desktop.transport.abort()
    equal(await ending, (1011, "Message cut short", []), "what the mobile sees")
    sending.cancel()
    report("a mobile whose desktop vanishes in the middle of a bundle is closed with 1011, and sees nothing of it")


async def main():
    try:
        await asyncio.wait_for(scenario(), LIMIT_S)
        await asyncio.wait_for(cut_short(), LIMIT_S)
        await asyncio.wait_for(claimed(), LIMIT_S)
    except asyncio.TimeoutError:
        print(f"not ok python: not done within {LIMIT_S} s")
        sys.exit(1)
    except Exception as error:
        print(f"not ok python: {type(error).__name__}: {error}")
        sys.exit(1)


asyncio.run(main())
