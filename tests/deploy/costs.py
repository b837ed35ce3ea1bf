"""Measures what a balancer adds to a relay: processor time, latency and memory. Run: tests/deploy/cluster numbers

The clients are raw sockets in this process. They answer no pings, so the relays are told to expect no confirmations.
All processes share the same cores, so times are only for comparison.
Processor times are those of the processes named."""

import asyncio
import os
import pathlib
import socket
import struct
import tempfile
import time

from processes import Cluster, Relay, cpu_s, free_port, resident_kib

SECS = 3
SESSIONS = 64
IDLE = 8000
BUNDLE = 50_000_000


def frame(payload):
    """A binary message with a mask of zeros."""
    n = len(payload)
    if n < 126:
        length = bytes([0x80 | n])
    elif n < 1 << 16:
        length = b"\xfe" + struct.pack(">H", n)
    else:
        length = b"\xff" + struct.pack(">Q", n)
    return b"\x82" + length + bytes(4) + payload


def join(at, path):
    client = socket.create_connection(at)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.sendall(
        f"GET {path} HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
    )
    return client


def pair(at, session):
    sides = [join(at, f"/{kind}/{session}") for kind in ("desktop", "mobile")]
    for side in sides:
        side.settimeout(10)
        heard = b""
        while b'"mobile_connected"' not in heard and b'"desktop_connected"' not in heard:
            heard += side.recv(4096)
    return sides


class Costs:
    """Processor time of the relays and of the balancer since this object was made."""

    def __init__(self, relays, balancers):
        self.pids = relays, balancers
        self.begun = [sum(map(cpu_s, pids)) for pids in self.pids]

    def so_far(self):
        return [sum(map(cpu_s, pids)) - begun for pids, begun in zip(self.pids, self.begun)]


def latency(at):
    """The latency of a message of 128 bytes there and back, one at a time."""
    desktop, mobile = pair(at, "latency")
    message, took = frame(b"x" * 128), []
    end = time.monotonic() + SECS
    while time.monotonic() < end:
        begun = time.perf_counter()
        for a, b in ((desktop, mobile), (mobile, desktop)):
            a.sendall(message)
            left = len(message) - 4
            while left:
                left -= len(b.recv(left))
        took.append((time.perf_counter() - begun) * 1e6)
    took.sort()
    return took[len(took) // 2], took[len(took) * 99 // 100]


class Bouncer(asyncio.Protocol):
    """Sends back all frames of one size, and counts the messages."""

    count = 0

    def __init__(self, message):
        self.message, self.got = message, 0

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.got += len(data)
        while self.got >= len(self.message) - 4:
            self.got -= len(self.message) - 4
            Bouncer.count += 1
            self.transport.write(self.message)


async def ping_pong(at, costs):
    """64 sessions; in each, one message of 128 bytes goes back and forth."""
    loop, message = asyncio.get_running_loop(), frame(b"x" * 128)
    transports = []
    for i in range(SESSIONS):
        for side in pair(at, f"bounce{i}"):
            transports.append((await loop.create_connection(lambda: Bouncer(message), sock=side))[0])
    for transport in transports[::2]:
        transport.write(message)
    await asyncio.sleep(0.5)
    before, count, begun = costs(), Bouncer.count, time.monotonic()
    await asyncio.sleep(SECS)
    spent, count = before.so_far(), Bouncer.count - count
    rate = count / (time.monotonic() - begun)
    for transport in transports:
        transport.abort()
    return rate, [s / count * 1e6 for s in spent]


def bundle(at, costs):
    """Messages of 50 MB, one after the other, sent by a separate process."""
    desktop, mobile = pair(at, "bundle")
    message, room, rounds = frame(b"x" * BUNDLE), bytearray(1 << 20), 10
    spent, took = costs(), []
    desktop.settimeout(60)
    for _ in range(rounds):
        begun = time.monotonic()
        if os.fork() == 0:
            desktop.sendall(message)
            os._exit(0)
        got = 0
        while got < BUNDLE:
            got += mobile.recv_into(room)
        took.append(time.monotonic() - begun)
        os.wait()
        mobile.settimeout(0.2)
        try:
            while mobile.recv_into(room):  # what the frames' headers added
                pass
        except TimeoutError:
            mobile.settimeout(10)
    mb = rounds * BUNDLE / 1e6
    return sorted(took)[rounds // 2], [s / mb * 1e6 for s in spent.so_far()]


def idle(at, pids):
    """Memory in KiB per idle connection, for each process."""
    pair(at, "warm")
    before = [sum(map(resident_kib, some)) for some in pids]
    clients = [side for i in range(IDLE // 2) for side in pair(at, f"idle{i}")]
    time.sleep(1)
    return [(sum(map(resident_kib, some)) - b) * 1024 / len(clients) for some, b in zip(pids, before)]


def joins(at, costs):
    """Sessions that come and go."""
    spent, count, begun = costs(), 0, time.monotonic()
    while time.monotonic() < begun + SECS:
        for side in pair(at, f"come{count}"):
            side.close()
        count += 1
    return count / (time.monotonic() - begun), [s / count * 1e6 for s in spent.so_far()]


CASES = [
    ("us, a message of 128 B to and fro, one at a time: median", lambda at, costs, pids: latency(at)[:1]),
    ("us of CPU, a message of 128 B, 64 sessions to and fro", lambda at, costs, pids: asyncio.run(ping_pong(at, costs))),
    ("us of CPU, a MB of messages of 50 MB", lambda at, costs, pids: bundle(at, costs)),
    ("us of CPU, a session that comes and goes", lambda at, costs, pids: joins(at, costs)),
    ("bytes of memory, an idle connection of 8,000", lambda at, costs, pids: idle(at, pids)),
]


def main():
    """Each case directly and through each balancer, all within about half a minute."""
    options = ["--redelivery-window", "0s"]
    single = Relay(pathlib.Path(tempfile.mkdtemp(prefix="numbers-")), 9, (free_port(), free_port()), options)
    clusters = [Cluster(balancer, options) for balancer in ("haproxy", "nginx", "caddy")]
    try:
        targets = {"direct": ((single.host, single.ports[0]), [single.process.pid], [])}
        for cluster in clusters:
            relays = [relay.process.pid for relay in cluster.relays]
            targets[cluster.balancer] = (("127.0.0.1", cluster.port), relays, cluster.workers())
        for what, measure in CASES:
            print(f"{what}   (load of the machine: {os.getloadavg()[0]:.1f})")
            base = None
            for name, (at, relays, balancers) in targets.items():
                figures, rate = measure(at, lambda: Costs(relays, balancers), (relays, balancers)), ""
                if isinstance(figures, tuple) and len(figures) == 2 and isinstance(figures[1], list):
                    rate, figures = f"; {RATES[what](figures[0])} by the clock", figures[1]
                base = base or sum(figures)
                parts = f" = relay {figures[0]:,.1f} + balancer {figures[1]:,.1f}" if len(figures) == 2 else ""
                print(f"  {name}: {sum(figures):,.1f}{parts}; {sum(figures) / base:.1f} times direct{rate}", flush=True)
        print("processor time of two cores, with the clients on the same ones: compare figures, do not add them up")
    finally:
        single.end()
        for cluster in clusters:
            cluster.end()


RATES = dict(zip([what for what, _ in CASES[1:4]], (
    lambda rate: f"{rate:,.0f} messages/s",
    lambda took: f"{BUNDLE / took / 1e6:,.0f} MB/s, one stream",
    lambda rate: f"{rate:,.0f} sessions/s",
)))
main()
