"""Pairs of clients behind real balancers, while relays die, come back, join, leave and fill up. Run: tests/deploy/cluster"""

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

from processes import TOKEN, Cluster
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

PAIRS = 300
BEAT_S = 0.5
MEET_S = 30
# A message sent this shortly before its sender saw the close may have reached the relay too late.
LATE_S = 0.5
# Time from the end of a relay until the balancer has noticed it, and has finished all reactions.
NOTICE_S = {"haproxy": 8, "nginx": 3, "caddy": 6}
# Time between the closes of two sessions if a relay has few (DRAIN_INTERVAL_MAX in src/relay/limits.rs).
DRAIN_INTERVAL_S = 0.01
passed = failed = 0


def report(ok, what):
    global passed, failed
    passed, failed = passed + bool(ok), failed + (not ok)
    print(f"{'ok' if ok else 'not ok'} {what}", flush=True)


async def until(condition, limit_s):
    """Waits for the condition. Returns whether it came true in time."""
    deadline = time.monotonic() + limit_s
    while not (is_true := condition()) and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
    return is_true


class Client:
    """A client that reconnects when its connection ends: first at once, then with growing random pauses."""

    def __init__(self, pair, client_type, url):
        self.pair, self.client_type, self.url = pair, client_type, url
        self.socket, self.joins = None, 0
        # When its connections ended, with their codes; the statuses of refusals, 0 for a failed connection; notices.
        self.closes, self.refusals, self.notices = [], [], []
        self.task = asyncio.create_task(self.run())

    async def run(self):
        pause_s = 0.05
        while True:
            try:
                socket = await connect(self.url, compression=None, ping_interval=None, max_size=None, open_timeout=20)
            except (OSError, InvalidHandshake, EOFError, TimeoutError) as error:
                self.refusals.append(error.response.status_code if isinstance(error, InvalidStatus) else 0)
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
            self.closes.append((time.monotonic(), socket.close_code))

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
        await until(lambda: self.joins > joins, MEET_S)


class Pair:
    """A desktop that sends a number twice a second, and a mobile that returns it."""

    def __init__(self, port, session):
        self.session, self.since, self.last_echo = session, 0.0, 0.0
        # The part of its ID in a relay's list.
        self.shown = session[:4]
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
        """Resets what the pair has noticed."""
        for side in self.sides:
            side.closes.clear()
            side.refusals.clear()
            side.notices.clear()
        self.since = time.monotonic()

    def sent_between(self, begin, end):
        return [n for n, at in self.sent.items() if begin < at < end]

    def has_all_back(self, end):
        return all(n in self.echoes for n in self.sent_between(self.since, end))

    def is_undisturbed(self):
        return not any(side.closes or side.notices for side in self.sides)

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
        """Begins pairs. Some IDs differ only in case; all differ in the four characters that a relay's list shows."""
        new = []
        for _ in range(count):
            self.count += 1
            new.append(Pair(self.cluster.port, f"{random.choice('SsT_-')}{self.count:03x}-end"))
        self.pairs += new
        return new

    async def met(self, pairs, limit_s=None):
        """Waits until all pairs exchange new messages. Returns the pairs that do, with the seconds for each."""
        begun, took = time.monotonic(), {}
        while len(took) < len(pairs) and time.monotonic() < begun + (limit_s or MEET_S):
            await asyncio.sleep(0.02)
            for pair in pairs:
                if pair not in took and pair.last_echo > begun:
                    took[pair] = time.monotonic() - begun
        return took

    async def unmoved(self, pairs):
        """How many pairs have seen no close or notice since `forget`, and get back all that they sent until now."""
        now = time.monotonic()
        await until(lambda: all(pair.has_all_back(now) for pair in pairs), 10)
        return sum(pair.is_undisturbed() and pair.has_all_back(now) for pair in pairs)

    async def say_unmoved(self, pairs, what):
        unmoved = await self.unmoved(pairs)
        self.say(unmoved == len(pairs), f"{what}: {unmoved} of {len(pairs)} see no close, no notice and no message lost")

    async def of_relay(self, index):
        """The pairs on this relay, and the other pairs."""
        its = await asyncio.to_thread(self.cluster.relays[index].sessions)
        return [pair for pair in self.pairs if pair.shown in its], [pair for pair in self.pairs if pair.shown not in its]

    async def shares(self, pairs):
        """How many pairs each relay has, and how many are on two relays or incomplete."""
        places = await asyncio.to_thread(self.cluster.places)
        of_pairs = [places.get(pair.shown, {}) for pair in pairs]
        apart = sum(list(place.values()) != [2] for place in of_pairs)
        return [sum(relay.name in place for place in of_pairs) for relay in self.cluster.relays], apart

    def forget(self):
        for pair in self.pairs:
            pair.forget()

    async def leave(self, pairs):
        await asyncio.gather(*(pair.end() for pair in pairs))
        self.pairs = [pair for pair in self.pairs if pair not in pairs]

    async def end(self):
        await self.leave(self.pairs)
        self.cluster.end()


def seconds(took):
    return f"median {statistics.median(took):.1f} s, at most {max(took):.1f} s" if took else "none"


async def all_meet(run):
    """All pairs meet, on one relay each."""
    pairs = run.begin(PAIRS)
    took = await run.met(pairs)
    shares, apart = await run.shares(pairs)
    ok = len(took) == PAIRS and not apart and all(share > PAIRS / 6 for share in shares)
    run.say(ok, f"{len(took)} of {PAIRS} pairs meet, {apart} not on one relay; relays have {shares} of them")


async def health(run):
    """The relays' answers to the balancers' checks."""
    asked = [await asyncio.to_thread(run.cluster.relays[0].ask, path) for path in ("/readyz", "/metrics")]
    run.say([status for status, _ in asked] == [200, 401], f"/readyz takes no token, /metrics does: {asked}")


async def one_dies(run):
    """Kills the second relay. Its sessions meet again on other relays, and other sessions notice nothing."""
    its, others = await run.of_relay(1)
    run.forget()
    await asyncio.sleep(1)
    run.cluster.relays[1].end(signal.SIGKILL)
    took = await run.met(its)
    _, apart = await run.shares(its)
    # Faster than by checks, which take five seconds: the balancer notices the refused connection.
    ok = len(took) == len(its) > 0 and not apart and max(took.values()) < 4
    run.say(ok, f"kill -9 of one relay: {len(took)} of its {len(its)} pairs meet again on the others ({seconds(took.values())})")
    await asyncio.sleep(NOTICE_S[run.cluster.balancer])
    if run.cluster.balancer == "haproxy":
        run.say(run.cluster.state("relay2") == "DOWN", "it finds the relay down by its checks")
    await run.say_unmoved(others, f"the other pairs, in these {NOTICE_S[run.cluster.balancer] + 1} s")
    codes = {code for pair in its for side in pair.sides for _, code in side.closes}
    again = sum(len(side.closes) != 1 for pair in its for side in pair.sides)
    run.say(codes == {1006} and not again, f"those that the dead relay had see one end each, without a close frame: {codes}, {again} otherwise")


async def mobiles_come_back(run, when):
    """Each mobile leaves and comes back while its desktop stays."""
    run.forget()
    await asyncio.gather(*(pair.mobile.leave_and_come_back() for pair in run.pairs))
    took = await run.met(run.pairs, limit_s=5)
    stayed = sum(not pair.desktop.closes for pair in run.pairs)
    ok = len(took) == stayed == len(run.pairs)
    run.say(ok, f"{when}: {len(took)} of {len(run.pairs)} mobiles that come back alone find their desktop, which stayed")


async def torn_apart_and_mended(run, when):
    """Without a table some pairs are separated. They meet when their desktops reconnect as well."""
    run.forget()
    await asyncio.gather(*(pair.mobile.leave_and_come_back() for pair in run.pairs))
    together = await run.met(run.pairs, limit_s=4)
    apart = [pair for pair in run.pairs if pair not in together]
    await asyncio.gather(*(pair.desktop.leave_and_come_back() for pair in apart))
    took = await run.met(run.pairs)
    what = f"{when}: {len(apart)} of {len(run.pairs)} mobiles that come back alone miss their desktop"
    run.say(bool(apart) and len(took) == len(run.pairs), f"{what}; all meet once those desktops come back as well")


async def new_pairs(run, count=PAIRS):
    """Begins pairs, and ends them again; returns whether all met, and how many each relay had."""
    pairs = run.begin(count)
    took = await run.met(pairs)
    shares, apart = await run.shares(pairs)
    await run.leave(pairs)
    return len(took) == count and not apart, shares


async def one_comes_back(run):
    await asyncio.to_thread(run.cluster.relays[1].start)
    up = await until(lambda: run.cluster.state("relay2") == "UP", 20)
    await mobiles_come_back(run, "the dead relay is back")
    ok, shares = await new_pairs(run)
    run.say(up and ok and shares[1] > 0, f"{PAIRS} new pairs: relays have {shares} of them")


async def one_is_added(run):
    run.forget()
    await asyncio.to_thread(run.cluster.add_relay)
    await asyncio.sleep(2)
    await run.say_unmoved(run.pairs, "a fourth relay is added and HAProxy reloaded")
    await mobiles_come_back(run, "a fourth relay is there")
    ok, shares = await new_pairs(run)
    run.say(ok and shares[3] > 0, f"{PAIRS} new pairs: relays have {shares} of them")


async def one_is_emptied(run):
    """Drains a relay by the balancer: no new sessions until it is empty."""
    run.cluster.ask("set server relays/relay1 state drain")
    its, _ = await run.of_relay(0)
    await mobiles_come_back(run, "relay1 is set to drain in HAProxy")
    ok, shares = await new_pairs(run)
    kept, _ = await run.of_relay(0)
    run.say(ok and shares[0] == 0 and len(kept) == len(its) > 0, f"relay1 keeps its {len(kept)} sessions and gets no new one: {shares}")
    run.cluster.ask("set server relays/relay1 state ready")


async def one_drains(run, index):
    """SIGTERM. Its sessions move in pairs, one after another, while messages flow and new clients connect."""
    leaving = run.cluster.relays[index]
    its, others = await run.of_relay(index)
    run.forget()
    await asyncio.sleep(2)
    stop = time.monotonic()
    leaving.process.send_signal(signal.SIGTERM)
    new = run.begin(50)
    met_again = asyncio.create_task(run.met(its))
    new_took = await run.met(new)
    took, code = await met_again, await asyncio.to_thread(leaving.process.wait, 30)
    await until(lambda: all(side.closes for pair in its for side in pair.sides), 15)
    closes = [[end for side in pair.sides for end in side.closes] for pair in its]
    codes = {end[1] for ends in closes for end in ends}
    one_each = all(len(side.closes) == 1 for pair in its for side in pair.sides)
    run.say(code == 0 and codes == {1001} and one_each and its, f"SIGTERM: the relay exits with {code} and closes each of its {2 * len(its)} connections once, with {codes}")
    if not one_each:
        return
    firsts = sorted(min(at for at, _ in ends) for ends in closes)
    due = DRAIN_INTERVAL_S * (len(its) - 1)
    # On a busy machine closes may be seen late, mostly the first ones, but never early.
    middle, last, spread = firsts[len(firsts) // 2] - stop, firsts[-1] - stop, firsts[-1] - firsts[0]
    gaps = sorted(abs(ends[0][0] - ends[1][0]) for ends in closes)
    ok = 0.95 * due < last < due + 3 and 0.45 * due < middle and due / 4 < spread and gaps[len(gaps) // 2] < due / 4
    run.say(ok, f"sessions are closed over {spread:.2f} s ({due:.2f} s asked for), the two sides of one within {gaps[len(gaps) // 2] * 1000:.0f} ms (median)")
    _, apart = await run.shares(its)
    run.say(len(took) == len(its) and not apart, f"its {len(its)} pairs meet again on the others, {apart} apart ({seconds(took.values())})")
    # Messages after SIGTERM count, too: a session works until it is closed.
    sent = [(pair, n) for pair in its for n in pair.sent_between(pair.since, pair.desktop.closes[0][0] - LATE_S)]
    missing = sum(n not in pair.arrived for pair, n in sent)
    after = sum(n in pair.arrived for pair in its for n in pair.sent_between(stop, pair.desktop.closes[0][0]))
    run.say(missing == 0 and after > 0, f"{missing} of the {len(sent)} messages that they sent before their closes are lost; {after} arrive that were sent after SIGTERM")
    refusals = [status for pair in new for side in pair.sides for status in side.refusals]
    _, apart = await run.shares(new)
    run.say(len(new_took) == len(new) and not refusals and not apart, f"{len(new_took)} of {len(new)} pairs that begin meanwhile meet elsewhere, {len(refusals)} connections refused")
    await run.leave(new)
    await asyncio.sleep(NOTICE_S[run.cluster.balancer] - 2)
    await run.say_unmoved(others, "the other pairs")


async def slow_phone(run):
    """A stopping relay keeps its grace period: failing health checks do not cut off its deliveries."""
    # The longest message that the relay receives whole before it forwards it.
    port, size, per_second = run.cluster.port, 1 << 20, 160 << 10
    async with connect(f"ws://127.0.0.1:{port}/desktop/slow-one", compression=None, max_size=None, ping_interval=None) as desktop:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 16)
        writer.write(b"GET /mobile/slow-one HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                     b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        relay = next(relay for relay in run.cluster.relays if "slow" in relay.sessions())
        await desktop.send(b"x" * size)
        ended, got, at = asyncio.create_task(asyncio.to_thread(relay.end)), 0, time.monotonic()
        states = set()
        while data := await reader.read(1 << 16):
            got += data.count(b"x")
            if run.cluster.balancer == "haproxy" and not ended.done():
                states.add(run.cluster.state(relay.name))
            await asyncio.sleep(max(0, got / per_second - (time.monotonic() - at)))
        writer.close()
        code, took = await ended, time.monotonic() - at
        ok = got == size and code == 0 and took > 5 and states <= {"UP", "NOLB"}
        run.say(ok, f"SIGTERM in the middle of 1 MiB to a phone of 160 KiB/s: {got >> 10} KiB arrive, in {took:.1f} s; {states or ''}")


async def one_is_full(balancer, edit=lambda config: config):
    """The first relay has room for ten sessions."""
    run = Run(Cluster(balancer, edit=edit, first=["--max-connections", "20"]))
    relay = run.cluster.relays[0]
    try:
        for _ in range(200):
            await run.met(run.begin(1), limit_s=5)
            if (await asyncio.to_thread(relay.ask, "/readyz"))[1] == "full\n":
                break
        its, _ = await run.of_relay(0)
        if balancer == "haproxy":
            # Immediately, before the next check.
            new = run.begin(40)
            took = await run.met(new)
            shares, apart = await run.shares(new)
            refusals = sum(len(side.refusals) for pair in new for side in pair.sides)
            run.say(len(took) == 40 and not refusals and not apart and not shares[0], f"a full relay is passed over: {len(took)} of 40 new pairs meet on the others, {refusals} connections refused: {shares}")
            run.say(await until(lambda: run.cluster.state("relay1") == "NOLB", 5), "it finds the relay full by its checks")
        if balancer == "caddy":
            await asyncio.sleep(3)
        if balancer != "nginx":
            new = run.begin(60)
            took = await run.met(new)
            refusals = sum(len(side.refusals) for pair in new for side in pair.sides)
            shares, apart = await run.shares(new)
            run.say(len(took) == 60 and not refusals and not apart and not shares[0], f"a relay known to be full: {len(took)} of 60 new pairs meet on the others, {refusals} connections refused: {shares}")
        else:
            new = run.begin(60)
            await asyncio.sleep(2)
            left = [pair for pair in new if pair.mobile.joins == 0]
            statuses = {status for pair in left for side in pair.sides for status in side.refusals}
            shares, _ = await run.shares(new)
            took = await run.met([pair for pair in new if pair not in left])
            run.say(statuses == {503} and left and len(took) + len(left) == 60 and not shares[0], f"a full relay answers 503: {len(left)} of 60 new pairs are refused with {statuses}, the others meet: {shares}")
        if balancer == "haproxy":
            run.forget()
            url = f"ws://127.0.0.1:{run.cluster.port}/mobile/{its[0].session}"
            try:
                async with connect(url):
                    status = 101
            except InvalidStatus as refused:
                status = refused.response.status_code
            run.say(status == 503, f"a second phone for a session of the full relay gets its {status}, and is not sent elsewhere")
            await asyncio.gather(*(pair.mobile.leave_and_come_back() for pair in its))
            took = await run.met(its, limit_s=10)
            stayed = sum(not pair.desktop.closes for pair in its)
            run.say(len(took) == stayed == len(its) == 10, f"{len(took)} of the {len(its)} phones of the full relay that come back alone find their desktop")
    finally:
        await run.end()


async def addresses(balancer, edit=lambda config: config, options=(), what="X-Forwarded-For"):
    """The relay checks the client's real address, not one that the client claims."""
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
        if what == "PROXY protocol":
            await asyncio.sleep(1.5)
            states = [cluster.state(relay.name) for relay in cluster.relays]
            run.say(states == ["UP"] * 3, f"the checks speak plain HTTP all the same: {states}")
    finally:
        await run.end()


async def issued(edit=lambda config: config):
    """Sessions that relays issue, joined only with their secrets."""
    with tempfile.NamedTemporaryFile("w", suffix=".keys") as keys:
        keys.write(f"alice {TOKEN}\n")
        keys.flush()
        run, joined = Run(Cluster("haproxy", ["--api-keys", keys.name], edit)), 0
    try:
        for _ in range(40):
            question = urllib.request.Request(f"http://127.0.0.1:{run.cluster.port}/sessions", method="POST",
                                              headers={"Authorization": f"Bearer {TOKEN}"})
            answer = json.load(await asyncio.to_thread(urllib.request.urlopen, question))
            try:
                for url in (answer["mobileUrl"], answer["desktopUrl"]):
                    async with connect(f"ws://127.0.0.1:{run.cluster.port}{url}", compression=None):
                        joined += 1
            except InvalidStatus:
                pass
        run.say(joined == 80, f"POST /sessions with --api-keys: {joined} of 80 clients join 40 issued sessions by the secret alone")
    finally:
        await run.end()


async def no_issues(run):
    connection = http.client.HTTPConnection("127.0.0.1", run.cluster.port)
    connection.request("POST", "/sessions")
    answer = connection.getresponse()
    run.say(answer.status == 501, f"POST /sessions is answered with {answer.status}: {answer.read().decode().strip()}")


def without_memory(config):
    """HAProxy's configuration without its table."""
    memory = ("http-request track", "http-request disable", "stick", "http-request set-var(txn.place)")
    return "".join(line for line in config.splitlines(True) if not line.strip().startswith(memory))


def with_proxy_protocol(config):
    return config.replace(" weight 100\n", " weight 100 send-proxy-v2\n")


async def across(cluster, *steps):
    """Runs the steps with 300 pairs. Each step begins with the state after the previous one."""
    run = Run(cluster)
    try:
        for step in (all_meet, *steps):
            await step(run)
    finally:
        await run.end()


async def haproxy():
    await across(Cluster("haproxy"), health, one_dies, one_comes_back, one_is_added, one_is_emptied, first_drains, slow_phone)
    await across(Cluster("haproxy", edit=without_memory), ring_grows)
    await one_is_full("haproxy")
    await addresses("haproxy")
    await addresses("haproxy", with_proxy_protocol, ["--proxy-protocol"], "PROXY protocol")
    await issued()


async def first_drains(run):
    await one_drains(run, 0)


async def third_drains(run):
    await one_drains(run, 2)


async def ring_grows(run):
    await asyncio.to_thread(run.cluster.add_relay)
    await torn_apart_and_mended(run, "the ring by itself, a fourth relay is added")


async def ring_heals(run):
    await asyncio.to_thread(run.cluster.relays[1].start)
    # Longer than Caddy's fail_duration and the time between its checks.
    await asyncio.sleep(12 if run.cluster.balancer == "caddy" else 1)
    await torn_apart_and_mended(run, "the dead relay is back")


async def plain(balancer):
    await across(Cluster(balancer), one_dies, ring_heals, third_drains, no_issues)
    await one_is_full(balancer)
    await addresses(balancer)


async def attempt(what, doing):
    random.seed(1)
    try:
        await doing
    except Exception:
        traceback.print_exc()
        report(False, f"{what}: failed")


async def main():
    begun = time.monotonic()
    for balancer in sys.argv[1:]:
        await attempt(balancer, haproxy() if balancer == "haproxy" else plain(balancer))
    print(f"{time.monotonic() - begun:.0f} s")
    print(f"{passed} passed, {failed} failed")
    sys.exit(failed > 0)


if __name__ == "__main__":
    asyncio.run(main())
