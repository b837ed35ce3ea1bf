"""Compares the relay's counters with a tally of its clients' actions, and with what Prometheus reads. Run: tests/deploy/metrics

Every check is also given a fault, in the text or in Prometheus's configuration, which it must find."""

import asyncio
import bisect
import collections
import contextlib
import json
import logging
import math
import os
import pathlib
import re
import secrets
import socket
import subprocess
import sys
import tempfile
import time
import traceback
import urllib.parse
import urllib.request

from processes import HERE, RELAY, free_port, wait_until
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

TOKEN = secrets.token_hex(16)
# Part of all texts of clients that must not be visible: IDs, secrets, headers, contents.
MARK = "zzLEAK"
ORIGIN = "https://app.example"
PREFIX = "apptuner_relay_"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
MIB = 1 << 20
# The bounds of the relay's histogram of message sizes, in bytes.
SIZES = [64, 256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20, 64 << 20]
# They are closed one after another, so that the shutdown takes a while.
DRAINED_PAIRS = 40
# These depend on the machine's speed, so their values are not compared.
TIMED = {"reads_paused_total"}
# Ended sessions of the first relay: thirteen that both clients left, and one that was issued and never joined.
SESSIONS_OF_PLAIN = 14
# Of the histograms, these counts are the clients' own, too.
COUNTS = {f"{PREFIX}{name}_count" for name in ("message_size_bytes", "message_in_relay_seconds", "delivery_seconds")}
# Not caused by any client here: they need a relay without free memory, and an unread log.
UNTRIED = {'connections_closed_total{reason="no_room"}', "log_lines_dropped_total", "reads_starved_total"}
SETTLE_S = 20
passed = failed = 0


def report(ok, what, details=""):
    global passed, failed
    passed, failed = passed + bool(ok), failed + (not ok)
    print(f"{'ok' if ok else 'not ok'} {what}{f': {details}' if details and not ok else ''}", flush=True)


class Relay:
    def __init__(self, folder, name, *options):
        self.port, self.admin = free_port(), free_port()
        self.tally, self.sizes = collections.Counter(), []
        # Messages that were written in full at least once, but never delivered.
        self.written_in_vain = 0
        # (session, client type) -> what the access lines must say of its connections, in the order in which they end.
        self.ended = collections.defaultdict(list)
        self.tasks, self.log = set(), folder / f"{name}.log"
        command = [RELAY, "--listen", f"127.0.0.1:{self.port}", "--admin", f"127.0.0.1:{self.admin}", *options]
        self.process = subprocess.Popen(
            command, stderr=self.log.open("w"), env={"RUST_LOG": "info", "APPTUNER_RELAY_ADMIN_TOKEN": TOKEN}
        )
        # A connection to test it would be counted.
        wait_until("start of the relay", lambda: "Listening on" in self.log.read_text())

    def ask(self, path="/metrics", token=TOKEN):
        request = urllib.request.Request(f"http://127.0.0.1:{self.admin}{path}", headers={"Authorization": f"Bearer {token}"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.headers["Content-Type"], answer.read().decode()

    def count(self, sample, by=1):
        self.tally[sample] += by

    def opens(self, closes):
        """Counts one connection, and how it ends."""
        self.count("connections_opened_total")
        self.count(f'connections_closed_total{{reason="{closes}"}}')

    async def join(self, client_type, session, closes="client_closed", query="", **options):
        """`closes` is how this connection will end."""
        url = f"ws://127.0.0.1:{self.port}/{client_type}/{MARK}-{session}{query}"
        options.setdefault("user_agent_header", f"{MARK}-agent")
        client = await connect(url, compression=None, ping_interval=None, max_size=None, open_timeout=30, **options)
        self.opens(closes)
        self.count(f'joins_total{{client="{client_type}"}}')
        client.client_type = client_type
        await self.expect(client, "connected")
        return client

    async def expect(self, client, kind):
        message = json.loads(await asyncio.wait_for(client.recv(), 30))
        assert message["type"] == kind, f"{message} instead of {kind}"
        if kind == "error":
            self.count(f'errors_total{{code="{message["code"]}"}}')
        return message

    async def pair(self, session, **options):
        desktop = await self.join("desktop", session, **options)
        mobile = await self.join("mobile", session, **options)
        await self.expect(mobile, "desktop_connected")
        await self.expect(desktop, "mobile_connected")
        return desktop, mobile

    def accepted(self, sender, size, delivered=True, confirmed=False):
        """Counts a message of `size` bytes that the relay accepts."""
        direction = direction_from(sender)
        self.count(f"messages_total{direction}")
        self.count(f"bytes_total{direction}", size)
        self.count(f"messages_{'' if delivered else 'un'}delivered_total{direction}")
        self.count(f"messages_confirmed_total{direction}", confirmed)
        self.sizes.append(size)

    def left(self, session, client_type, confirmed=0, redelivered=0, kept=0, undelivered=0):
        """Counts what the relay must say of a connection that has ended."""
        fields = {"confirmed": confirmed, "redelivered": redelivered, "kept": kept, "undelivered": undelivered}
        self.ended[session, client_type].append(fields)

    async def carry(self, sender, receiver, message):
        await sender.send(message)
        got = await asyncio.wait_for(receiver.recv(), 30)
        assert got == message, "another message has arrived"
        self.accepted(sender.client_type, len(message.encode() if isinstance(message, str) else message))

    def stream(self, receive_buffer=None):
        """A raw socket as a client."""
        stream = socket.socket()
        if receive_buffer:
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        stream.settimeout(30)
        stream.connect(("127.0.0.1", self.port))
        return stream

    def upgrade(self, client_type, session, fields="", receive_buffer=None, closes="lost"):
        stream = self.stream(receive_buffer)
        stream.sendall(
            f"GET /{client_type}/{MARK}-{session} HTTP/1.1\r\nHost: {MARK}.example\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            f"{fields}\r\n".encode()
        )
        assert stream.recv(12) == b"HTTP/1.1 101", "no upgrade"
        self.opens(closes)
        self.count(f'joins_total{{client="{client_type}"}}')
        return stream

    async def request(self, text, status, reason=None):
        """Sends a request and returns the status of its answer. `reason` is why it is refused."""
        stream = await asyncio.to_thread(self.stream)
        with stream:
            stream.sendall(text.encode() if isinstance(text, str) else text)
            answer = await asyncio.to_thread(lambda: b"".join(iter(lambda: stream.recv(65536), b"")))
        assert answer.startswith(f"HTTP/1.1 {status} ".encode()), f"{answer[:200]} to {text[:80]!r}"
        self.opens("refused" if reason else "answered")
        if reason:
            self.count(f'handshakes_refused_total{{reason="{reason}"}}')

    async def upgrade_refused(self, path, status, reason, fields=""):
        await self.request(
            f"GET {path} HTTP/1.1\r\nHost: {MARK}.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{fields}\r\n",
            status,
            reason,
        )

    def expected(self):
        """Every sample in the tally. All others are 0."""
        tally = {f"{PREFIX}{sample}": value for sample, value in self.tally.items()}
        sizes = sorted(self.sizes)
        for bound in SIZES:
            tally[f'{PREFIX}message_size_bytes_bucket{{le="{bound}"}}'] = bisect.bisect_right(sizes, bound)
        tally[f'{PREFIX}message_size_bytes_bucket{{le="+Inf"}}'] = len(sizes)
        tally |= {f"{PREFIX}message_size_bytes_count": len(sizes), f"{PREFIX}message_size_bytes_sum": sum(sizes)}
        total = lambda family: sum(value for sample, value in self.tally.items() if sample.startswith(f"{family}{{"))
        tally[f"{PREFIX}message_in_relay_seconds_count"] = total("messages_delivered_total") + self.written_in_vain
        tally[f"{PREFIX}delivery_seconds_count"] = total("messages_confirmed_total")
        return tally

    def stop(self):
        self.process.terminate()
        return self.process.wait(30)


def direction_from(sender):
    return f'{{direction="{"to_mobile" if sender == "desktop" else "to_desktop"}"}}'


async def closed(client):
    """Reads up to the close and returns its code."""
    with contextlib.suppress(ConnectionClosed):
        while True:
            await asyncio.wait_for(client.recv(), 60)
    return client.close_code


# Checks of the text. Each takes the text and its content type, and returns what is wrong, or nothing.


def samples_of(text):
    """name{labels} -> value, in the order of the text."""
    samples = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            samples[name] = float(value)
    return samples


def check_promtool(text, _):
    run = subprocess.run(["promtool", "check", "metrics"], input=text.encode(), capture_output=True)
    said = (run.stdout + run.stderr).decode().strip()
    return said or (f"exit code {run.returncode}" if run.returncode else "")


def check_content_type(_, content_type):
    return "" if content_type == CONTENT_TYPE else f"Content-Type: {content_type}"


def check_lines(text, _):
    """Each family has one HELP, one TYPE, and then its samples, all together and none of them twice."""
    family, kind, families, names, stage = "", "", set(), set(), ""
    if not text.endswith("\n"):
        return "the last line does not end"
    for line in text.splitlines():
        if match := re.fullmatch(r"# HELP ([a-z_][a-z0-9_]*) (\S.*\.)", line):
            if stage in ("HELP", "TYPE"):
                return f"{family} has no samples"
            family, kind, stage = match[1], "", "HELP"
            if family in families:
                return f"{family} comes twice"
            families.add(family)
        elif match := re.fullmatch(r"# TYPE ([a-z_][a-z0-9_]*) (counter|gauge|histogram)", line):
            if stage != "HELP" or match[1] != family:
                return f"no HELP stands before: {line}"
            kind, stage = match[2], "TYPE"
        else:
            match = re.fullmatch(r'([a-z_][a-z0-9_]*)(\{[a-z]+="[^"\\]*"(?:,[a-z]+="[^"\\]*")*\})? ([0-9.e+-]+)', line)
            suffixes = ("_bucket", "_sum", "_count") if kind == "histogram" else ("",)
            if not match or stage not in ("TYPE", "samples") or match[1] not in [family + end for end in suffixes]:
                return f"neither HELP nor TYPE nor a sample of {family}: {line}"
            stage = "samples"
            name = line.rpartition(" ")[0]
            if name in names:
                return f"{name} comes twice"
            names.add(name)
            if kind == "counter" and not family.endswith("_total"):
                return f"a counter by the name of {family}"
    return "" if stage == "samples" else "it ends without samples"


def check_histograms(text, _):
    samples = samples_of(text)
    families = re.findall(r"^# TYPE (\S+) histogram$", text, re.M)
    if len(families) < 5:
        return f"only {len(families)} histograms"
    for family in families:
        buckets = [(name, value) for name, value in samples.items() if name.startswith(f'{family}_bucket{{le="')]
        bounds = [float(name.split('"')[1]) for name, _ in buckets]
        counts = [value for _, value in buckets]
        if bounds != sorted(set(bounds)) or not bounds or bounds[-1] != math.inf:
            return f"{family}: bounds {bounds}"
        if counts != sorted(counts):
            return f"{family}: counts {counts}"
        if counts[-1] != samples.get(f"{family}_count"):
            return f"{family}: +Inf {counts[-1]} and _count {samples.get(f'{family}_count')}"
        # Each value is above the bound below its bucket, so the sum has a minimum; and a maximum, if none is above all bounds.
        least = sum((b - a) * low for a, b, low in zip([0, *counts], counts, [0, *bounds]))
        most = sum((b - a) * high for a, b, high in zip([0, *counts], counts, bounds) if b > a)
        if not least <= samples.get(f"{family}_sum", -1) + 1e-9 <= most + 1e-6:
            return f"{family}: a sum of {samples.get(f'{family}_sum')} cannot be, from {least} to {most}"
    return ""


def check_labels(text, _):
    """No text of a client appears: all label values come from the relay's own lists."""
    for word in (MARK, "127.0.0.1", "192.0.2", "198.51.100", "app.example", TOKEN):
        if word.lower() in text.lower():
            return f"{word} is in it"
    known = {
        "client": r"desktop|mobile|none",
        "code": r"[a-z_]+",
        "direction": r"to_mobile|to_desktop",
        "features": r"(tls)?",
        "le": r"[0-9.]+|\+Inf",
        "reason": r"[a-z0-9_]+",
        "state": r"paired|waiting|empty",
        "version": r"\d+\.\d+\.\d+",
    }
    for name, value in re.findall(r'([a-z]+)="([^"]*)"', text):
        if not re.fullmatch(known.get(name, "(?!)"), value):
            return f'{name}="{value}"'
    return ""


def check_tally(expected):
    def check(text, _):
        samples, differences = samples_of(text), []
        counters = set(re.findall(r"^# TYPE (\S+) counter$", text, re.M))
        for name, value in samples.items():
            family = name.partition("{")[0]
            if name in expected or family in counters:
                own = family.startswith(PREFIX) and family.removeprefix(PREFIX) not in TIMED
                if own and value != expected.get(name, 0):
                    differences.append(f"{name} is {value:g} instead of {expected.get(name, 0)}")
        differences += [f"{name} is missing" for name in expected if name not in samples]
        return "; ".join(differences)

    return check


def check_process(relay):
    def check(text, _):
        samples, wrong = samples_of(text), []
        pid = relay.process.pid
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        kib = {name: int(value) for name, value in re.findall(r"^(VmRSS|VmSize):\s+(\d+)", status, re.M)}
        ticks = os.sysconf("SC_CLK_TCK")
        booted = int(re.search(r"^btime (\d+)", pathlib.Path("/proc/stat").read_text(), re.M)[1])
        limit = int(re.search(r"Max open files\s+(\d+)", pathlib.Path(f"/proc/{pid}/limits").read_text())[1])
        for name, value, tolerance in [
            ("resident_memory_bytes", 1024 * kib["VmRSS"], 256 * 1024),
            ("virtual_memory_bytes", 1024 * kib["VmSize"], 1 << 20),
            ("cpu_seconds_total", (int(fields[11]) + int(fields[12])) / ticks, 0.2),
            # One more for the connection that asks.
            ("open_fds", len(os.listdir(f"/proc/{pid}/fd")), 1),
            ("max_fds", limit, 0),
            ("start_time_seconds", booted + int(fields[19]) / ticks, 2),
        ]:
            got = samples.get(f"process_{name}")
            if got is None or abs(got - value) > tolerance:
                wrong.append(f"process_{name} is {got}, and the system says {value}")
        return "; ".join(wrong)

    return check


# Actions of clients.


async def messages(relay):
    """Two sessions, messages of known sizes each way, and messages that are answered with an error."""
    desktop, mobile = await relay.pair("one")
    for i in range(40):
        await relay.carry(desktop, mobile, json.dumps({"type": f"{MARK}-type", "n": i, "x": "y" * (i * i)}))
    for size in [64, 65, 256, 257, 1024, 4096, 16384, 65536, 262144, MIB]:
        await relay.carry(mobile, desktop, '"' + "x" * (size - 2) + '"')
    await relay.carry(desktop, mobile, b"\x00\xff" * 500)
    for text in ['{"a":', f'{{"{MARK}" }}', "[1] 2"]:
        await desktop.send(text)
        await relay.expect(desktop, "error")
    other, idle = await relay.pair("two")
    await other.send('{"type":"hello"}')
    await asyncio.sleep(0.5)
    relay.accepted("desktop", 16)
    await mobile.close()
    await relay.expect(desktop, "mobile_disconnected")
    for _ in range(3):
        await desktop.send("{}")
        await relay.expect(desktop, "error")
    return desktop, other, idle


async def ends(relay):
    """Connections that end in every way that needs no waiting."""
    first = await relay.join("desktop", "replaced", closes="replaced")
    mobile = await relay.join("mobile", "replaced")
    await relay.expect(mobile, "desktop_connected")
    second = await relay.join("desktop", "replaced")
    assert await closed(first) == 1000
    await relay.expect(mobile, "desktop_connected")
    await relay.expect(second, "mobile_connected")
    await relay.carry(mobile, second, '{"after":"the replacement"}')
    for client in second, mobile:
        await client.close()
    there = await relay.join("desktop", "contested", closes="replaced")
    for number in range(1, 11):
        newcomer = await relay.join("desktop", "contested", closes="replaced" if number < 10 else "client_closed")
        assert await closed(there) == 1000
        there = newcomer
    await relay.upgrade_refused(f"/desktop/{MARK}-contested", 429, "contested")
    await there.close()

    client = await relay.join("desktop", "large", closes="too_large")
    with contextlib.suppress(ConnectionClosed):
        await client.send('"' + "x" * (2 * MIB) + '"')
    await relay.expect(client, "error")
    assert await closed(client) == 1009
    client = await relay.join("desktop", "protocol", closes="protocol_error")
    client.transport.write(b"\x81\x01x")  # not masked
    assert await closed(client) == 1002
    client = await relay.join("desktop", "utf8", closes="not_utf8")
    await client.send(b"\xff", text=True)
    assert await closed(client) == 1007
    client = await relay.join("desktop", "lost", closes="lost")
    client.transport.abort()
    client = await relay.join("mobile", "claimed", closes="unproven")
    owner = await relay.join("desktop", "claimed", query=f"?secret={MARK}-correct-horse-battery")
    assert await closed(client) == 1008
    await relay.upgrade_refused(f"/mobile/{MARK}-claimed?secret={MARK}-wrong-horse-battery", 403, "secret")
    await owner.close()
    (await asyncio.to_thread(relay.stream)).close()
    relay.opens("lost")


async def undelivered(relay):
    """Clients that read nothing and vanish, and one that reads nothing until it is cut off."""
    for session, slow, other, closes in [
        ("vanishes", "mobile", "desktop", "lost"),
        ("vanishes-too", "desktop", "mobile", "lost"),
        ("stands", "mobile", "desktop", "takes_nothing"),
    ]:
        stream = await asyncio.to_thread(lambda: relay.upgrade(slow, session, receive_buffer=4096, closes=closes))
        sender = await relay.join(other, session)
        await relay.expect(sender, f"{slow}_connected")
        size, count = 200_000, 30
        sending = asyncio.create_task(send_all(sender, '"' + "x" * (size - 2) + '"', count))
        if closes == "lost":
            await asyncio.sleep(1)
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            stream.close()
        lost = missed = 0
        gone = False
        while True:
            message = json.loads(await asyncio.wait_for(sender.recv(), 60))
            if message["type"] == "error":
                relay.count(f'errors_total{{code="{message["code"]}"}}')
                lost += message.get("count", 0)
                missed += message["code"] == "peer_not_connected"
            gone |= message["type"] == f"{slow}_disconnected"
            if gone and sending.done():
                break
        with contextlib.suppress(asyncio.TimeoutError):
            while True:
                message = json.loads(await asyncio.wait_for(sender.recv(), 2))
                relay.count(f'errors_total{{code="{message["code"]}"}}')
                missed += message["code"] == "peer_not_connected"
        assert lost > 0, "nothing was undelivered"
        for index in range(count - missed):
            relay.accepted(other, size, delivered=index >= lost)
        await sender.close()
        stream.close()


async def send_all(client, message, count):
    for _ in range(count):
        await client.send(message)


async def refusals(relay):
    host = f"Host: {MARK}.example\r\n"
    await relay.request(f"GET /health HTTP/1.1\r\n{host}\r\n", 200)
    await relay.request(f"POST /sessions HTTP/1.1\r\n{host}Content-Length: 0\r\n\r\n", 201)
    for text, status, reason in [
        (f"GET /{MARK} HTTP/1.1\r\n{host}\r\n", 404, "not_found"),
        (f"GET /tablet/{MARK}%22%0A HTTP/1.1\r\n{host}\r\n", 404, "not_found"),
        (f"DELETE /desktop/{MARK} HTTP/1.1\r\n{host}\r\n", 405, "method"),
        (f"GET /desktop/{MARK} HTTP/1.1\r\n{host}\r\n", 426, "no_upgrade"),
        (f"{MARK}\r\n\r\n", 400, "bad_request"),
        (f"GET /health HTTP/1.1\r\n{host}X: {MARK * 20_000}\r\n\r\n", 431, "head_too_large"),
        (f"GET /{MARK}", 408, "head_timeout"),
    ]:
        await relay.request(text, status, reason)
    await relay.upgrade_refused(f"/desktop/{MARK}", 403, "origin", f"Origin: https://{MARK}.elsewhere\r\n")


async def silence(relay):
    """A client that answers no ping, and at the same time one that does."""
    stream = await asyncio.to_thread(lambda: relay.upgrade("desktop", "silent", closes="silent"))
    with stream:
        await asyncio.to_thread(lambda: b"".join(iter(lambda: stream.recv(65536), b"")))


async def everything(relay):
    """Runs everything that has to wait at the same time. Returns the clients that stay."""
    stay, *_ = await asyncio.gather(messages(relay), ends(relay), refusals(relay), undelivered(relay), silence(relay))
    return stay


async def limits(relay):
    """Actions that need settings which would disturb the others."""
    key = {"Authorization": f"Bearer {MARK}-key-of-alice"}
    host = f"Host: {MARK}.example\r\n"
    await relay.upgrade_refused(f"/desktop/{MARK}-new", 401, "api_key")
    await relay.request(f"POST /sessions HTTP/1.1\r\n{host}Content-Length: 0\r\n\r\n", 401, "api_key")
    await relay.upgrade_refused(f"/desktop/{MARK}", 403, "address", "X-Forwarded-For: 198.51.100.7\r\n")
    address = "X-Forwarded-For: 192.0.2.77\r\n"
    bearer = f"Authorization: {key['Authorization']}\r\n"
    held = await asyncio.to_thread(lambda: relay.upgrade("desktop", "held", address + bearer, closes="lost"))
    await relay.upgrade_refused(f"/mobile/{MARK}-held", 429, "address_limit", address)
    held.close()

    for sender in "desktop", "mobile":
        await cut_short(relay, sender, bearer, key)
    # A message that does not come whole in time, and another one meanwhile.
    big = b"\x81\xff" + MIB.to_bytes(8, "big") + b"\0\0\0\0" + b'"'
    first = await asyncio.to_thread(lambda: relay.upgrade("desktop", "first", bearer, closes="message_timeout"))
    receiver = await relay.join("mobile", "first", closes="session_timeout")
    await relay.expect(receiver, "desktop_connected")
    first.sendall(big)
    await asyncio.sleep(0.3)
    second = await relay.join("desktop", "second", closes="session_timeout", additional_headers=key)
    mobile = await relay.join("mobile", "second", closes="session_timeout")
    await relay.expect(mobile, "desktop_connected")
    await relay.expect(second, "mobile_connected")
    await relay.carry(second, mobile, '"' + "x" * (MIB - 2) + '"')
    await asyncio.to_thread(lambda: b"".join(iter(lambda: first.recv(65536), b"")))
    first.close()
    await relay.expect(receiver, "desktop_disconnected")
    # The fourth of four places is taken.
    third = await relay.join("desktop", "third", closes="session_timeout", additional_headers=key)
    await relay.upgrade_refused(f"/mobile/{MARK}-third", 503, "connection_limit")
    report(samples_of(relay.ask()[1])[f"{PREFIX}full"] == 1, "metrics: full is 1 while the connection limit is reached")
    for client in receiver, mobile, second, third:
        assert await closed(client) == 1000


async def cut_short(relay, sender, bearer, key):
    """A client that goes in the middle of a message of which its peer has had a part."""
    session = f"cut-by-{sender}"
    if sender == "desktop":
        stream = await asyncio.to_thread(lambda: relay.upgrade("desktop", session, bearer))
        receiver = await relay.join("mobile", session, closes="cut_short")
        await relay.expect(receiver, "desktop_connected")
    else:
        receiver = await relay.join("desktop", session, closes="cut_short", additional_headers=key)
        stream = await asyncio.to_thread(lambda: relay.upgrade("mobile", session))
        await relay.expect(receiver, "mobile_connected")
    begun = b'"' + b"x" * (MIB + MIB // 2)
    await asyncio.to_thread(stream.sendall, b"\x81\xff" + (2 * MIB).to_bytes(8, "big") + b"\0\0\0\0" + begun)
    await asyncio.sleep(0.5)
    stream.close()
    assert await closed(receiver) == 1011
    direction = direction_from(sender)
    relay.count(f"messages_total{direction}")
    relay.count(f"messages_cut_short_total{direction}")
    relay.count(f"bytes_total{direction}", len(begun))
    relay.sizes.append(len(begun))


# Actions for a relay that keeps messages until they are confirmed. `receiver` is "mobile" or "desktop".


def other(client_type):
    return "mobile" if client_type == "desktop" else "desktop"


class Deaf:
    """A raw client that answers no ping. The peer must be there already."""

    @classmethod
    async def join(cls, relay, client_type, session):
        deaf = cls()
        deaf.stream = await asyncio.to_thread(lambda: relay.upgrade(client_type, session, closes="lost"))
        deaf.file = deaf.stream.makefile("rb")
        while await asyncio.to_thread(deaf.file.readline) != b"\r\n":
            pass
        for kind in "connected", f"{other(client_type)}_connected":
            message = json.loads((await deaf.take(1))[0])
            assert message["type"] == kind, f"{message} instead of {kind}"
        return deaf

    async def take(self, count):
        """The next messages. They must be short and unfragmented."""
        return [await asyncio.to_thread(self.next) for _ in range(count)]

    def next(self):
        while True:
            first, length = self.file.read(2)
            length = int.from_bytes(self.file.read(2), "big") if length == 126 else length
            payload = self.file.read(length)
            if first == 0x81:
                return payload.decode()
            assert first in (0x89, 0x8A), f"frame {first:x}"

    def ping(self):
        self.stream.sendall(b"\x89\x80\0\0\0\0")

    def vanish(self):
        self.file.close()
        self.stream.close()


async def confirmations(relay, sender, count):
    """Waits until the relay has told a sender of so many confirmations."""
    while count > 0:
        count -= (await relay.expect(sender, "delivered"))["count"]
    assert count == 0, f"{-count} confirmations too many"


async def repeated(relay, receiver):
    """Messages to a client that vanishes twice before it confirms them, and confirms them on its third connection."""
    session, sender = f"repeated-{receiver}", other(receiver)
    client = await relay.join(sender, session, query="?receipts=1")
    texts = [json.dumps({"n": n}) for n in range(5)]
    for connection in range(2):
        deaf = await Deaf.join(relay, receiver, session)
        await relay.expect(client, f"{receiver}_connected")
        if connection == 0:
            await send_each(client, texts)
        assert await deaf.take(len(texts)) == texts
        deaf.vanish()
        await relay.expect(client, f"{receiver}_disconnected")
        relay.left(session, receiver, redelivered=connection * len(texts), kept=len(texts))
    third = await relay.join(receiver, session)
    await relay.expect(third, f"{sender}_connected")
    await relay.expect(client, f"{receiver}_connected")
    assert [await third.recv() for _ in texts] == texts
    await confirmations(relay, client, len(texts))
    for text in texts:
        relay.accepted(sender, len(text), confirmed=True)
    relay.count(f"messages_redelivered_total{direction_from(sender)}", 2 * len(texts))
    await leave(relay, session, (third, {"confirmed": 5, "redelivered": 5}), (client, {}))


async def given_up(relay, receiver):
    """Messages to a client that vanishes three times before it confirms them."""
    session, sender = f"given-up-{receiver}", other(receiver)
    client = await relay.join(sender, session)
    texts = [json.dumps({"n": n}) for n in range(3)]
    for connection in range(3):
        deaf = await Deaf.join(relay, receiver, session)
        await relay.expect(client, f"{receiver}_connected")
        if connection == 0:
            await send_each(client, texts)
        assert await deaf.take(len(texts)) == texts
        deaf.vanish()
        if connection == 2:
            assert (await relay.expect(client, "error"))["count"] == len(texts)
        await relay.expect(client, f"{receiver}_disconnected")
        waits = {"undelivered" if connection == 2 else "kept": len(texts)}
        relay.left(session, receiver, redelivered=len(texts) if connection else 0, **waits)
    for text in texts:
        relay.accepted(sender, len(text), delivered=False)
    relay.count(f"messages_redelivered_total{direction_from(sender)}", 2 * len(texts))
    relay.count(f"messages_given_up_total{direction_from(sender)}", len(texts))
    relay.written_in_vain += len(texts)
    await leave(relay, session, (client, {}))


async def away(relay, receiver):
    """Messages to a client that is away, more than are kept for it."""
    session, sender, size, count = f"away-{receiver}", other(receiver), 1_000_000, 20
    client = await relay.join(sender, session, query="?receipts=1")
    await (await relay.join(receiver, session)).close()
    relay.left(session, receiver)
    await relay.expect(client, f"{receiver}_connected")
    await relay.expect(client, f"{receiver}_disconnected")
    texts = [f"[{n:9}{' ' * (size - 11)}]" for n in range(count)]
    await send_each(client, [*texts, "not JSON"])
    missed = lost = 0
    while (error := await relay.expect(client, "error"))["code"] != "invalid_json":
        missed += error.get("kept", False)
        lost += error.get("count", 0)
    assert missed == count and 0 < lost < count, f"{missed} messages were missed, {lost} were given up"
    receiving = await relay.join(receiver, session)
    await relay.expect(receiving, f"{sender}_connected")
    await relay.expect(client, f"{receiver}_connected")
    assert [await receiving.recv() for _ in texts[lost:]] == texts[lost:]
    await confirmations(relay, client, count - lost)
    for n in range(count):
        relay.accepted(sender, size, delivered=n >= lost, confirmed=n >= lost)
    relay.count(f"messages_given_up_total{direction_from(sender)}", lost)
    await leave(relay, session, (receiving, {"confirmed": count - lost}), (client, {}))


async def unable(relay, receiver):
    """Messages to a client that is there and never answers a ping: they are delivered, but not confirmed."""
    session, sender = f"unable-{receiver}", other(receiver)
    client = await relay.join(sender, session, query="?receipts=1")
    deaf = await Deaf.join(relay, receiver, session)
    await relay.expect(client, f"{receiver}_connected")
    text = '{"never":"confirmed"}'
    await send_each(client, 3 * [text])
    assert await deaf.take(3) == 3 * [text]
    told = asyncio.create_task(confirmations(relay, client, 3))
    while not told.done():
        await asyncio.to_thread(deaf.ping)
        await asyncio.sleep(0.5)
    await told
    await send_each(client, 2 * [text])
    assert await deaf.take(2) == 2 * [text]
    await confirmations(relay, client, 2)
    for _ in range(5):
        relay.accepted(sender, len(text))
    deaf.vanish()
    await relay.expect(client, f"{receiver}_disconnected")
    relay.left(session, receiver)
    await leave(relay, session, (client, {}))


async def send_each(client, messages):
    for message in messages:
        await client.send(message)


async def leave(relay, session, *clients):
    for client, fields in clients:
        await client.close()
        relay.left(session, client.client_type, **fields)


async def deliveries(relay):
    acts = repeated, given_up, away, unable
    await asyncio.gather(*(act(relay, receiver) for act in acts for receiver in ("mobile", "desktop")))


def check_access_lines(log, ended):
    """The access lines say of each connection what it confirmed, got again and left behind."""
    said = collections.defaultdict(list)
    for line in log.splitlines():
        if line.endswith("Connection ended"):
            fields = dict(re.findall(r"(\w+)=(\S+)", line))
            numbers = {name: int(fields[name]) for name in ("confirmed", "redelivered", "kept", "undelivered")}
            said[fields["session"].removeprefix(f"{MARK}-"), fields["client"]].append(numbers)
    return "; ".join(f"{key}: {said[key]} instead of {own}" for key, own in ended.items() if said[key] != own)


def compare_access_lines(relay):
    log, count = relay.log.read_text(), sum(map(len, relay.ended.values()))
    wrong = check_access_lines(log, relay.ended)
    report(count > 20 and not wrong, f"access lines: what {count} connections confirmed, got again and left", wrong)
    for field in " confirmed=5 ", " redelivered=5 ", " kept=3 ", " undelivered=3 ":
        assert field in log, f"no access line has{field}"
        faulty = log.replace(field, f"{field[:-2]}4 ", 1)
        report(check_access_lines(faulty, relay.ended), f"fault found: another number than{field}(access lines)")


async def draining(relay):
    """Pairs at the time of a SIGTERM; the counts as long as there is somebody to ask."""
    pairs = [await relay.pair(f"drain-{i}", closes="shutting_down") for i in range(DRAINED_PAIRS)]
    relay.process.terminate()
    seen = {}
    while relay.process.poll() is None:
        with contextlib.suppress(OSError):
            seen = samples_of((await asyncio.to_thread(relay.ask))[1]) or seen
        await asyncio.sleep(0.05)
    ended = seen.get(f'{PREFIX}connections_closed_total{{reason="shutting_down"}}', 0)
    report(
        seen.get(f"{PREFIX}draining") == 1 and ended >= 2,
        f"metrics: a shutdown is seen until its end: draining, {ended:g} of {2 * DRAINED_PAIRS} closed with shutting_down",
        f"draining {seen.get(f'{PREFIX}draining')}",
    )
    codes = {await closed(client) for pair in pairs for client in pair}
    assert codes == {1001}, codes


def compare(relay, name):
    """Waits until the relay has counted everything, and reports every check of it."""
    check = check_tally(relay.expected())
    deadline = time.monotonic() + SETTLE_S
    while check(relay.ask()[1], "") and time.monotonic() < deadline:
        time.sleep(0.1)
    content_type, text = relay.ask()
    checks = {
        "the counts are the clients' own": check,
        "promtool check metrics is silent": check_promtool,
        "Content-Type": check_content_type,
        "HELP and TYPE before the samples of each family": check_lines,
        "buckets grow, +Inf is the count, the sum fits": check_histograms,
        "no label has an ID, an address or a client's string": check_labels,
        "what it says of the process is what the system says": check_process(relay),
    }
    for what, check in checks.items():
        said = check(text, content_type)
        report(not said, f"{name}: {what}", said)
    return checks, text, content_type


def plant_faults(checks, text, content_type):
    """Shows each check a text that it must not let pass."""
    tally, promtool, kind, lines, histograms, labels, process = checks  # their names, in the order of compare()
    line = lambda start: re.search(rf"^{re.escape(start)}.*\n", text, re.M)[0]
    counter = line(f"{PREFIX}reads_paused_total ")
    bucket = f'{PREFIX}message_size_bytes_bucket{{le="256"}}'
    last = f'{PREFIX}message_size_bytes_bucket{{le="+Inf"}}'
    help_line, type_line = line(f"# HELP {PREFIX}sessions "), line(f"# TYPE {PREFIX}sessions ")
    faults = [
        (promtool, "a counter without _total", text.replace("reads_paused_total", "reads_paused")),
        (promtool, "a family without HELP", text.replace(help_line, "")),
        (lines, "a sample that comes twice", text + text.splitlines()[-1] + "\n"),
        (promtool, "a number that is none", text.replace(counter, f"{PREFIX}reads_paused_total many\n")),
        (lines, "a family without HELP", text.replace(help_line, "")),
        (lines, "a family without TYPE", text.replace(type_line, "")),
        (lines, "a sample of another family", text.replace(counter, counter + f"{PREFIX}full 1\n")),
        (lines, "a family that comes twice", text + help_line + type_line + line(f"{PREFIX}sessions{{")),
        (lines, "a last line that does not end", text[:-1]),
        (histograms, "a bucket with fewer than the one below", re.sub(rf"^{re.escape(bucket)} .*", f"{bucket} 0", text, flags=re.M)),
        (histograms, "+Inf that is not the count", re.sub(rf"^{re.escape(last)} .*", f"{last} 999999", text, flags=re.M)),
        (histograms, "no +Inf", text.replace(line(last), "")),
        (histograms, "a sum in milliseconds", re.sub(rf"^({PREFIX}event_loop_lag_seconds_sum) .*", r"\1 1e9", text, flags=re.M)),
        (labels, "a session ID", text.replace('client="none"', f'client="{MARK}-one"')),
        (labels, "an address", text.replace('client="none"', 'client="192.0.2.77"')),
        (labels, "a label of another name", text.replace('client="none"', 'agent="none"')),
        (labels, "a value of a client's", text.replace('client="none"', 'client="tablet"')),
    ]
    for name in ("cpu_seconds_total", "resident_memory_bytes", "virtual_memory_bytes", "open_fds", "max_fds", "start_time_seconds"):
        faults.append((process, f"{name} of another process", re.sub(rf"^(process_{name}) .*", r"\1 77", text, flags=re.M)))
    for what, fault, faulty in faults:
        assert faulty != text, fault
        report(checks[what](faulty, content_type), f"fault found: {fault} ({what})")
    report(checks[kind](text, "text/plain"), f"fault found: plain text ({kind})")

    plant_miscounts(checks, text, content_type)


def plant_miscounts(checks, text, content_type, least=80):
    """Of every sample that is compared, shows the check one more and one less."""
    tally = next(iter(checks))
    missed, tried = [], 0
    for name, value in samples_of(text).items():
        family = name.partition("{")[0]
        is_count = f"# TYPE {family} counter" in text or family in COUNTS
        if not is_count or family.startswith("process_") or family.removeprefix(PREFIX) in TIMED:
            continue
        sample = re.search(rf"^{re.escape(name)} .*\n", text, re.M)[0]
        for changed in f"{name} {value + 1:g}\n", f"{name} {value - 1:g}\n":
            tried += 1
            if not checks[tally](text.replace(sample, changed), content_type):
                missed.append(changed.strip())
    report(tried > least and not missed, f"faults found: each of {tried} counts that is one off", "; ".join(missed))


def check_everything_was_tried(texts):
    """No kind of any counter has stayed at zero, or its name could belong to anything."""
    tried, names = set(), set()
    for text in texts:
        counters = set(re.findall(r"^# TYPE (\S+) counter$", text, re.M))
        for name, value in samples_of(text).items():
            if name.partition("{")[0] in counters:
                names.add(name)
                tried |= {name} if value else set()
    untried = {name.removeprefix(PREFIX) for name in names - tried} - {'connections_closed_total{reason="shutting_down"}'}
    report(untried == UNTRIED, f"metrics: all {len(names)} counts but {len(UNTRIED)} have been brought about", f"not {sorted(untried - UNTRIED)}")


class Prometheus:
    """The real one, with the configuration that operators are given and a job that has a wrong token."""

    def __init__(self, folder, relay):
        text = (HERE / "prometheus.yml").read_text()
        token = folder / "token"
        token.write_text(TOKEN + "\n")
        for old, new in {
            "/etc/prometheus/apptuner-relay.token": str(token),
            "127.0.0.1:9787": f"127.0.0.1:{relay.admin}",
            "scrape_interval: 15s": "scrape_interval: 1s",
        }.items():
            assert old in text, f"prometheus.yml says nothing of {old}"
            text = text.replace(old, new)
        text += f'  - job_name: wrong\n    authorization:\n      credentials: {TOKEN}x\n    static_configs:\n      - targets: ["127.0.0.1:{relay.admin}"]\n'
        self.config = folder / "prometheus.yml"
        self.config.write_text(text)
        self.port, self.log = free_port(), folder / "prometheus.log"
        self.process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={self.config}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{self.port}",
            ],
            stdout=self.log.open("w"),
            stderr=subprocess.STDOUT,
        )

    def query(self, query):
        """The values, by their labels."""
        url = f"http://127.0.0.1:{self.port}/api/v1/query?" + urllib.parse.urlencode({"query": query})
        with urllib.request.urlopen(url, timeout=5) as answer:
            result = json.load(answer)["data"]["result"]
        return {series["metric"].get("job", ""): float(series["value"][1]) for series in result}

    def scrapes(self):
        try:
            return self.query('count_over_time(up{job="apptuner-relay"}[5m])').get("apptuner-relay", 0)
        except OSError:
            return 0


async def scraped(folder, relay, text, pair):
    prometheus = Prometheus(folder, relay)
    try:
        config = subprocess.run(["promtool", "check", "config", prometheus.config], capture_output=True)
        report(config.returncode == 0, "prometheus: promtool check config", (config.stdout + config.stderr).decode())
        await asyncio.to_thread(wait_until, "two scrapes", lambda: prometheus.scrapes() >= 2, 90)
        up = prometheus.query("up")
        report(up == {"apptuner-relay": 1, "wrong": 0}, "prometheus: up with the token, and not with another", up)
        report(prometheus.query('scrape_samples_scraped{job="apptuner-relay"}') == {"apptuner-relay": len(samples_of(text))},
               f"prometheus: takes all {len(samples_of(text))} samples")
        desktop, mobile = pair
        before = relay.expected()[f"{PREFIX}message_size_bytes_count"]
        scrapes = prometheus.scrapes()
        while prometheus.scrapes() < scrapes + 4:
            for _ in range(20):
                await relay.carry(desktop, mobile, '{"type":"log"}')
            await asyncio.sleep(0.1)
        sent = len(relay.sizes) - before
        quantile = f"histogram_quantile(0.99, rate({PREFIX}message_in_relay_seconds_bucket[1m]))"
        p99 = prometheus.query(quantile).get("apptuner-relay", math.nan)
        report(0 < p99 < 1, f"prometheus: p99 of {sent} messages in the relay is {1e6 * p99:.0f} µs by histogram_quantile")
        # All of them have 14 bytes, and what is in the lowest bucket is taken to be spread over it.
        median = prometheus.query(f"histogram_quantile(0.5, increase({PREFIX}message_size_bytes_bucket[1m]))").get("apptuner-relay", math.nan)
        report(0 < median <= 64, f"prometheus: and the median of their sizes {median:.0f} bytes")
        total = None
        for _ in range(50):
            total = prometheus.query(f'sum by (job) ({PREFIX}messages_total)').get("apptuner-relay")
            if total == len(relay.sizes):
                break
            await asyncio.sleep(0.2)
        report(total == len(relay.sizes), f"prometheus: knows of all {len(relay.sizes)} messages", total)
        text = prometheus.log.read_text()
        report("level=error" not in text and "level=warn" not in text, "prometheus: nothing in its log", text[-500:])
        # A name of the wrong kind is no query: the quantile must come from buckets.
        none = prometheus.query(f"histogram_quantile(0.99, rate({PREFIX}message_in_relay_seconds_sum[1m]))")
        report(not none, "fault found: a quantile of what is no histogram", none)
    finally:
        prometheus.process.terminate()
        prometheus.process.wait(30)


class Pings(logging.Handler):
    """Counts the pings that the library's clients get and answer."""

    count = 0

    def emit(self, record):
        if record.msg == "< %s" and "PING" in str(record.args[0]):
            self.count += 1


async def main(folder):
    pings = Pings()
    logging.getLogger("websockets.client").addHandler(pings)
    logging.getLogger("websockets.client").setLevel(logging.DEBUG)
    logging.getLogger("websockets.client").propagate = False
    keys = folder / "keys"
    keys.write_text(f"alice {MARK}-key-of-alice\n")
    plain = Relay(
        folder, "plain", "--max-message-size", "1MiB", "--ping-interval", "3s", "--stall-timeout", "4s",
        "--handshake-timeout", "3s", "--reconnect-window", "1s", "--allow-origin", ORIGIN, "--shutdown-grace", "4s",
        "--redelivery-window", "0s",
    )  # fmt: skip
    strict = Relay(
        folder, "strict", "--api-keys", keys, "--max-connections", "4", "--session-timeout", "5s", "--deny", "198.51.100.0/24",
        "--trust-proxy", "127.0.0.1", "--max-connections-per-ip", "1", "--message-timeout", "2s",
        "--redelivery-window", "0s",
    )  # fmt: skip
    # With the default window.
    keeping = Relay(folder, "keeping", "--ping-interval", "2s")
    try:
        stay, *_ = await asyncio.gather(everything(plain), limits(strict), deliveries(keeping))
        # These three, and one who has not said what it is, are connected while the gauges are read.
        idle = await asyncio.to_thread(plain.stream)
        samples = samples_of(plain.ask()[1])
        gauges = {f'connections{{client="{kind}"}}': count for kind, count in [("desktop", 2), ("mobile", 1), ("none", 1)]}
        gauges |= {'sessions{state="paired"}': 1, 'sessions{state="waiting"}': 1, "draining": 0, "full": 0, "buffered_bytes": 0, "clients_starved": 0}
        got = {name: samples.get(PREFIX + name) for name in gauges}
        report(got == gauges, "metrics: the gauges tell who is connected", got)
        idle.close()
        plain.opens("lost")
        for client in stay:
            await client.close()
        plain.count("session_duration_seconds_count", SESSIONS_OF_PLAIN)
        checks, text, content_type = await asyncio.to_thread(compare, plain, "metrics")
        _, strict_text, _ = await asyncio.to_thread(compare, strict, "metrics of the strict one")
        count = samples_of(text)[f"{PREFIX}ping_round_trip_seconds_count"]
        report(0 < count <= pings.count, f"metrics: {count:g} round trips of {pings.count} pings")
        keeping_checks, keeping_text, _ = await asyncio.to_thread(compare, keeping, "metrics of the keeping one")
        compare_access_lines(keeping)
        check_everything_was_tried([text, strict_text, keeping_text])
        plant_faults(checks, text, content_type)
        plant_miscounts(keeping_checks, keeping_text, content_type)
        pair = await plain.pair("scraped")
        await scraped(folder, plain, text, pair)
        for client in pair:
            await client.close()
        await draining(plain)
        codes = [plain.process.wait(30), strict.stop(), keeping.stop()]
        report(codes == [0, 0, 0], "metrics: the relays end with exit code 0", codes)
        for relay in plain, strict, keeping:
            # Two clients took one place from each other on purpose.
            log = "\n".join(line for line in relay.log.read_text().splitlines() if "Two clients take one place" not in line)
            report("ERROR" not in log and "WARN" not in log, "metrics: nothing went wrong in the relay", log[-300:])
    finally:
        for relay in plain, strict, keeping:
            relay.process.kill()


async def run():
    try:
        with tempfile.TemporaryDirectory(prefix="metrics-") as folder:
            await main(pathlib.Path(folder))
    except Exception:
        traceback.print_exc()
        report(False, "metrics: failed")
    print(f"{passed} passed, {failed} failed")
    sys.exit(failed > 0)


asyncio.run(run())
