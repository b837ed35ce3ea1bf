"""Pairs of clients across real balancers, while relays die, come back, join and leave. Run: tests/deploy/cluster"""

import asyncio
import http.client
import json
import random
import signal
import statistics
import sys
import tempfile
import time
import traceback
import urllib.request

from processes import Cluster, wait_until
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

PAIRS = 300
BEAT_S = 0.25
MEET_S = 30
passed = failed = 0


def report(ok, what):
    global passed, failed
    passed, failed = passed + ok, failed + (not ok)
    print(f"{'ok' if ok else 'not ok'} {what}", flush=True)


class Client:
    """Comes back whenever its connection ends, at first at once, then with growing and random pauses."""

    def __init__(self, pair, client_type, url):
        self.pair, self.client_type, self.url = pair, client_type, url
        self.socket, self.joins, self.refused = None, 0, 0
        self.closes, self.notices = [], []
        self.task = asyncio.create_task(self.run())

    async def run(self):
        pause_s = 0.05
        while True:
            try:
                socket = await connect(self.url, compression=None, ping_interval=None, max_size=None, open_timeout=20)
            except (OSError, InvalidHandshake, EOFError, TimeoutError):
                self.refused += 1
                await asyncio.sleep(pause_s * random.uniform(0.5, 1.5))
                pause_s = min(2 * pause_s, 1)
                continue
            self.socket, pause_s = socket, 0.05
            self.joins += 1
            try:
                async for message in socket:
                    await self.take(json.loads(message))
            except ConnectionClosed:
                pass
            self.socket = None
            self.closes.append(socket.close_code)

    async def take(self, message):
        kind = message["type"]
        if kind == "beat":
            self.pair.arrived.add(message["n"])
            await self.send({"type": "echo", "n": message["n"]})
        elif kind == "echo":
            self.pair.echoed(message["n"])
        elif kind.endswith("_disconnected") or kind == "error":
            self.notices.append(message)

    async def send(self, message):
        try:
            if self.socket:
                await self.socket.send(json.dumps(message))
        except ConnectionClosed:
            pass

    async def leave_and_come_back(self):
        joins = self.joins
        if self.socket:
            await self.socket.close()
        while self.joins == joins:
            await asyncio.sleep(0.02)


class Pair:
    """A desktop that sends a number four times a second, and a mobile that returns it."""

    def __init__(self, port, session):
        self.session, self.last_echo = session, 0.0
        self.sent, self.arrived, self.echoes = {}, set(), set()
        self.sides = [
            Client(self, "desktop", f"ws://127.0.0.1:{port}/desktop/{session}?platform=ios&n={random.random()}"),
            Client(self, "mobile", f"ws://127.0.0.1:{port}/mobile/{session}"),
        ]
        if random.random() < 0.5:
            self.sides.reverse()
        self.desktop, self.mobile = sorted(self.sides, key=lambda side: side.client_type)
        self.beating = asyncio.create_task(self.beat())

    async def beat(self):
        await asyncio.sleep(random.uniform(0, BEAT_S))
        n = 0
        while True:
            n += 1
            self.sent[n] = time.monotonic()
            await self.desktop.send({"type": "beat", "n": n})
            await asyncio.sleep(BEAT_S)

    def echoed(self, n):
        self.echoes.add(n)
        self.last_echo = max(self.last_echo, self.sent[n])

    def forget(self):
        """From now on counts what the pair notices."""
        for side in self.sides:
            side.closes.clear()
            side.notices.clear()
        self.since = time.monotonic()

    def noticed_nothing(self):
        old = time.monotonic() - 2
        silent = not any(side.closes or side.notices for side in self.sides)
        return silent and all(n in self.echoes for n, at in self.sent.items() if self.since < at < old)

    async def end(self):
        for task in [self.beating, *(side.task for side in self.sides)]:
            task.cancel()
        for side in self.sides:
            if side.socket:
                await side.socket.close()


class Run:
    def __init__(self, cluster):
        self.cluster, self.pairs, self.count = cluster, [], 0

    def say(self, ok, what):
        report(ok, f"{self.cluster.balancer}: {what}")

    def begin(self, count):
        """Begins pairs whose IDs differ in case, too."""
        new = []
        for _ in range(count):
            self.count += 1
            new.append(Pair(self.cluster.port, f"{random.choice(['Session', 'session', 'S_', 's-'])}{self.count}"))
        self.pairs += new
        return new

    async def met(self, pairs, limit_s=MEET_S):
        """Waits until all exchange messages sent from now on; returns those that do, with the seconds that each took."""
        begun, took = time.monotonic(), {}
        while len(took) < len(pairs) and time.monotonic() < begun + limit_s:
            await asyncio.sleep(0.02)
            for pair in pairs:
                if pair not in took and pair.last_echo > begun:
                    took[pair] = time.monotonic() - begun
        return took

    def forget(self):
        self.cluster.new_joins()
        for pair in self.pairs:
            pair.forget()

    async def end(self):
        await asyncio.gather(*(pair.end() for pair in self.pairs))
        self.cluster.end()


def seconds(took):
    return f"median {statistics.median(took):.1f} s, at most {max(took):.1f} s" if took else "none"


async def all_meet(run, count=PAIRS):
    """All pairs meet, on one relay each. Returns where."""
    run.cluster.new_joins()
    pairs = run.begin(count)
    took = await run.met(pairs)
    places = run.cluster.new_joins()
    apart = [session for session, relays in places.items() if len(relays) != 1]
    shares = [sum(relay.name in relays for relays in places.values()) for relay in run.cluster.relays]
    run.say(len(took) == count and not apart, f"{count} pairs meet, both sides on one relay; relays have {shares} of them")
    return {session: relays.pop() for session, relays in places.items() if len(relays) == 1}


async def one_dies(run, places):
    """Kills the second relay. Its sessions meet again on the others, and nobody else notices."""
    victim = run.cluster.relays[1]
    its = [pair for pair in run.pairs if places[pair.session] == victim.name]
    others = [pair for pair in run.pairs if pair not in its]
    await asyncio.sleep(1)
    run.forget()
    victim.end(signal.SIGKILL)
    took = await run.met(its)
    run.say(len(took) == len(its), f"kill -9 of one relay: its {len(its)} pairs meet again on the others ({seconds(took.values())})")
    # Long enough for the balancer to find the relay down, and for whatever that might do to others.
    await asyncio.sleep(15)
    unmoved = sum(pair.noticed_nothing() for pair in others)
    run.say(unmoved == len(others), f"{unmoved} of the other {len(others)} pairs see no close, no notice and no message lost in 15 s")
    codes = {code for pair in its for side in pair.sides for code in side.closes}
    again = sum(len(side.closes) > 1 for pair in its for side in pair.sides)
    run.say(codes <= {1006} and not again, f"the pairs that it carried see one end, without a close frame, and no second")


async def mobiles_come_back(run, when, expect_all=True):
    """Each mobile leaves and comes back while its desktop stays. Returns the pairs that are torn apart."""
    run.forget()
    await asyncio.gather(*(pair.mobile.leave_and_come_back() for pair in run.pairs))
    took = await run.met(run.pairs, limit_s=5)
    apart = [pair for pair in run.pairs if pair not in took]
    if expect_all:
        stayed = sum(not pair.desktop.closes for pair in run.pairs)
        ok = not apart and stayed == len(run.pairs)
        run.say(ok, f"{when}: {len(took)} of {len(run.pairs)} mobiles that come back alone find their desktop, which stayed")
    return apart


async def torn_apart_and_mended(run, when):
    """Without a memory, some are torn apart; they meet once their desktops come back as well."""
    apart = await mobiles_come_back(run, when, expect_all=False)
    await asyncio.gather(*(pair.desktop.leave_and_come_back() for pair in apart))
    took = await run.met(run.pairs)
    what = f"{when}: {len(apart)} of {len(run.pairs)} mobiles that come back alone miss their desktop"
    run.say(bool(apart) and len(took) == len(run.pairs), f"{what}; all meet once those desktops come back as well")


async def new_sessions(run, when, count=PAIRS):
    run.cluster.new_joins()
    pairs = run.begin(count)
    took = await run.met(pairs)
    places = run.cluster.new_joins()
    names = [relay.name for relay in run.cluster.relays]
    shares = [sum(name in places.get(pair.session, ()) for pair in pairs) for name in names]
    await asyncio.gather(*(pair.end() for pair in pairs))
    run.pairs = [pair for pair in run.pairs if pair not in pairs]
    return len(took) == count, shares


async def one_comes_back(run):
    cluster = run.cluster
    wait_until("mark-down", lambda: ("relays", "relay2", "DOWN") in cluster.servers(), 20)
    cluster.relays[1].start()
    wait_until("mark-up", lambda: ("relays", "relay2", "UP") in cluster.servers(), 20)
    await mobiles_come_back(run, "the dead relay is back")
    ok, shares = await new_sessions(run, "back")
    run.say(ok and shares[1] > 0, f"300 new pairs: relays have {shares} of them")


async def one_is_added(run):
    run.forget()
    await asyncio.to_thread(run.cluster.add_relay)
    await asyncio.sleep(4)
    unmoved = sum(pair.noticed_nothing() for pair in run.pairs)
    run.say(unmoved == len(run.pairs), f"a fourth relay is added and HAProxy reloaded: {unmoved} of {len(run.pairs)} pairs notice nothing")
    await mobiles_come_back(run, "a fourth relay is there")
    ok, shares = await new_sessions(run, "added")
    run.say(ok and shares[3] > 0, f"300 new pairs: relays have {shares} of them")


async def one_is_drained(run):
    """Two steps: no new sessions; then SIGTERM."""
    cluster, leaving = run.cluster, run.cluster.relays[0]
    cluster.ask("set server relays/relay1 state drain")
    await mobiles_come_back(run, "relay1 is set to drain")
    joined = cluster.new_joins()
    its = [pair for pair in run.pairs if "relay1" in joined[pair.session]]
    ok, shares = await new_sessions(run, "drain")
    run.say(ok and shares[0] == 0 and bool(its), f"relay1 keeps its {len(its)} sessions and gets no new one: {shares}")

    run.forget()
    await asyncio.sleep(2)
    stop = time.monotonic()
    ended = asyncio.create_task(asyncio.to_thread(leaving.end))
    took = await run.met(its)
    code = await ended
    closes = [code for pair in its for side in pair.sides for code in side.closes]
    run.say(code == 0 and set(closes) == {1001}, f"SIGTERM: relay1 exits with {code} and closes its {len(closes)} connections with {set(closes)}")
    run.say(len(took) == len(its), f"its {len(its)} pairs meet again on the others ({seconds(took.values())})")
    sent = [(pair, n) for pair in its for n, at in pair.sent.items() if pair.since < at < stop]
    missing = sum(n not in pair.arrived for pair, n in sent)
    run.say(missing == 0, f"{missing} of the {len(sent)} messages sent in the two seconds before it are lost")
    await asyncio.sleep(15)
    others = [pair for pair in run.pairs if pair not in its]
    unmoved = sum(pair.noticed_nothing() for pair in others)
    run.say(unmoved == len(others), f"{unmoved} of the other {len(others)} pairs notice nothing")


async def slow_phone(run):
    """A relay that stops has its grace: failing health checks do not cut off what it still delivers."""
    port, size = run.cluster.port, 48 << 20
    async with connect(f"ws://127.0.0.1:{port}/desktop/slow", compression=None, max_size=None) as desktop:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 16)
        writer.write(b"GET /mobile/slow HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                     b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        run.cluster.new_joins()
        begun = asyncio.create_task(desktop.send(b"x" * size))
        await asyncio.sleep(1)
        relay = next(relay for relay in run.cluster.relays if relay.process.poll() is None and relay.health()["sessions"] > 0
                     and "slow" in relay.log.read_text().rpartition("connected to session")[2])
        await begun
        ended, got, at = asyncio.create_task(asyncio.to_thread(relay.end)), 0, time.monotonic()
        while data := await reader.read(1 << 16):
            got += data.count(b"x")
            await asyncio.sleep(max(0, got / (7 << 20) - (time.monotonic() - at)))
        writer.close()
        code = await ended
        run.say(got == size and code == 0, f"SIGTERM in the middle of 48 MiB to a phone of 7 MiB/s: {got >> 20} MiB arrive, in {time.monotonic() - at:.1f} s")


async def addresses(balancer, edit=lambda config: config, options=(), what="X-Forwarded-For"):
    """The relay judges the client's own address, and not what the client says of it."""
    cluster = Cluster(balancer, ["--deny", "127.0.0.2/32", "--deny", "203.0.113.0/24", *options], edit)
    run = Run(cluster)

    async def status(source, headers):
        try:
            url = f"ws://127.0.0.1:{cluster.port}/desktop/a"
            async with connect(url, additional_headers=headers, local_addr=(source, 0)) as socket:
                return socket.response.status_code
        except InvalidStatus as refused:
            return refused.response.status_code

    try:
        lies = {"X-Forwarded-For": "203.0.113.9", "Forwarded": "for=203.0.113.8"}
        statuses = [await status(*way) for way in [("127.0.0.3", {}), ("127.0.0.3", lies), ("127.0.0.2", {}), ("127.0.0.2", lies)]]
        run.say(statuses == [101, 101, 403, 403], f"relays see the clients' addresses by {what}, and no lies: {statuses}")
    finally:
        await run.end()


async def issued(run):
    """Sessions that relays issue, joined by their secrets alone."""
    joined = 0
    for _ in range(40):
        question = urllib.request.Request(f"http://127.0.0.1:{run.cluster.port}/sessions", method="POST",
                                          headers={"Authorization": "Bearer 0123456789abcdef"})
        answer = json.load(await asyncio.to_thread(urllib.request.urlopen, question))
        try:
            for url in (answer["mobileUrl"], answer["desktopUrl"]):
                async with connect(f"ws://127.0.0.1:{run.cluster.port}{url}", compression=None):
                    joined += 1
        except InvalidStatus:
            pass
    return joined


def without_memory(config):
    """HAProxy's ring by itself."""
    return "".join(line for line in config.splitlines(True) if not line.strip().startswith(("http-request track", "stick")))


async def haproxy():
    run = Run(Cluster("haproxy"))
    try:
        places = await all_meet(run)
        await one_dies(run, places)
        await one_comes_back(run)
        await one_is_added(run)
        await one_is_drained(run)
        await slow_phone(run)
    finally:
        await run.end()

    run = Run(Cluster("haproxy", edit=without_memory))
    try:
        await all_meet(run)
        await asyncio.to_thread(run.cluster.add_relay)
        await torn_apart_and_mended(run, "the ring by itself, a fourth relay is added")
    finally:
        await run.end()

    await addresses("haproxy")
    await addresses("haproxy", lambda config: config.replace(" weight 100\n", " weight 100 send-proxy-v2\n"), ["--proxy-protocol"], "PROXY protocol")


async def haproxy_issues():
    keys = tempfile.NamedTemporaryFile("w", suffix=".keys")
    keys.write("alice 0123456789abcdef\n")
    keys.flush()
    run = Run(Cluster("haproxy", ["--api-keys", keys.name]))
    try:
        joined = await issued(run)
        run.say(joined == 80, f"POST /sessions with --api-keys: {joined} of 80 clients join 40 issued sessions by the secret alone")
    finally:
        await run.end()


async def plain(balancer):
    run = Run(Cluster(balancer))
    try:
        places = await all_meet(run)
        await one_dies(run, places)
        run.cluster.relays[1].start()
        # Longer than Caddy's fail_duration and the time between its checks.
        await asyncio.sleep(12)
        await torn_apart_and_mended(run, "the dead relay is back")
        connection = http.client.HTTPConnection("127.0.0.1", run.cluster.port)
        connection.request("POST", "/sessions")
        answer = connection.getresponse()
        run.say(answer.status == 501, f"POST /sessions is answered with {answer.status}: {answer.read().decode().strip()}")
    finally:
        await run.end()
    await addresses(balancer)


async def main():
    for balancer in sys.argv[1:]:
        random.seed(1)
        try:
            if balancer == "haproxy":
                await haproxy()
                await haproxy_issues()
            else:
                await plain(balancer)
        except Exception:
            traceback.print_exc()
            report(False, f"{balancer}: failed")
    print(f"{passed} passed, {failed} failed")
    sys.exit(failed > 0)


asyncio.run(main())
