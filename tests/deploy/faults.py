"""Plants faults in the configurations and the relays, which the checks of cluster.py must find. Run: tests/deploy/cluster faults

Each line of FAULTS has the fault, the part of a `not ok` line that shows that it was found, and the steps to run."""

import asyncio
import contextlib
import io
import random
import re
import signal
import sys
import time
import traceback

import cluster as tests
from cluster import across, addresses, issued, one_is_full, with_proxy_protocol, without_memory
from processes import Cluster


def says(pattern, replacement):
    """An edit of a configuration, which must change something."""
    def edit(config):
        changed = re.sub(pattern, replacement, config)
        assert changed != config, pattern
        return changed
    return edit


def haproxy(*steps, edit=lambda config: config):
    return across(Cluster("haproxy", edit=edit), *steps)


async def kills_another(run):
    """As one_dies, but a relay that should live dies as well."""
    await asyncio.gather(tests.one_dies(run), dies(run, 2))


async def dies(run, index):
    await asyncio.sleep(3)
    run.cluster.relays[index].end(signal.SIGKILL)


async def drains_by_kill(run):
    """A relay that stops without a drain."""
    relay = run.cluster.relays[0]
    relay.process.send_signal = lambda how, send=relay.process.send_signal: send(signal.SIGKILL)
    await tests.one_drains(run, 0)


async def readyz_asks_for_a_token(run):
    run.cluster.relays[0].ask = lambda path: (401, "")
    await tests.health(run)


async def empties_another(run):
    ask = run.cluster.ask
    run.cluster.ask = lambda command: ask(command.replace("relay1", "relay2"))
    await tests.one_is_emptied(run)


async def dead_one_stays_dead(run):
    await tests.one_dies(run)
    run.cluster.relays[1].start = lambda: None
    await tests.one_comes_back(run)


NO_PATH_HASH = says(r"balance hash var\(txn.session\)", "balance hash path")
FAULTS = [
    ("the client type counts for the place", "pairs meet, ", lambda: haproxy(edit=lambda c: NO_PATH_HASH(without_memory(c)))),
    ("/readyz takes a token", "/readyz takes no token", lambda: haproxy(readyz_asks_for_a_token)),
    ("a client that is refused is not sent on", "kill -9", lambda: haproxy(tests.one_dies, edit=says("option redispatch 1", "no option redispatch"))),
    ("another relay dies as well", "the other pairs", lambda: haproxy(kills_another)),
    ("no checks", "finds the relay down", lambda: haproxy(tests.one_dies, edit=says("server check port", "server port"))),
    ("the dead relay stays dead", "new pairs: relays have", lambda: haproxy(dead_one_stays_dead)),
    ("a reload cuts off", "HAProxy reloaded", lambda: haproxy(tests.one_is_added, edit=says("hard-stop-after 30m", "hard-stop-after 1s"))),
    ("no memory", "a fourth relay is there", lambda: haproxy(tests.one_is_added, edit=without_memory)),
    ("another relay is set to drain", "relay1 keeps its", lambda: haproxy(empties_another)),
    ("a relay stops without a drain", "SIGTERM: the relay exits", lambda: haproxy(drains_by_kill)),
    ("a grace of 50 ms", "sessions are closed over",
     lambda: across(Cluster("haproxy", ["--shutdown-grace", "50ms"]), tests.first_drains)),
    ("draining is a failure", "48 MiB", lambda: haproxy(tests.slow_phone, edit=says(".*L7OKC ! status 503\n", ""))),
    ("draining cuts off at once", "SIGTERM: the relay exits",
     lambda: haproxy(tests.first_drains, edit=lambda c: says("fall 5", "fall 1")(says("inter 1s", "inter 50ms")(says(".*L7OKC ! status 503\n", "")(c))))),
    ("newcomers are not sent on from a relay that drains", "that begin meanwhile",
     lambda: haproxy(tests.first_drains, edit=says("option redispatch 1", "no option redispatch"))),
    ("a 503 is not sent on", "a full relay is passed over", lambda: one_is_full("haproxy", says("empty-response 503", "empty-response"))),
    ("who is full is not found", "finds the relay full", lambda: one_is_full("haproxy", says("uri /readyz", "uri /livez"))),
    ("who is full is tried", "a relay known to be full", lambda: one_is_full("haproxy", lambda c: says("uri /readyz", "uri /livez")(says("empty-response 503", "empty-response")(c)))),
    ("members of a full relay's sessions are sent on", "a second phone", lambda: one_is_full("haproxy", says(".*disable-l7-retry.*\n", ""))),
    ("no memory beside a full relay", "phones of the full relay", lambda: one_is_full("haproxy", without_memory)),
    ("clients say who they are", "no lies", lambda: addresses("haproxy", says(r"http-request set-header X-Forwarded-For.*\n", "option forwardfor if-none\n"))),
    ("the checks speak the PROXY protocol", "plain HTTP", lambda: addresses("haproxy", lambda c: says("send-proxy-v2", "send-proxy-v2 check-send-proxy")(with_proxy_protocol(c)), ["--proxy-protocol"], "PROXY protocol")),
    ("issued sessions are not remembered", "POST /sessions", lambda: issued(says(".*stick store-response res.*\n", ""))),
    ("nginx hashes the path", "pairs meet, ", lambda: across(Cluster("nginx", edit=says(r"hash \$session", "hash $uri")))),
    ("nginx sends on a 503", "a full relay answers 503", lambda: one_is_full("nginx", says("proxy_http_version 1.1;", "proxy_http_version 1.1; proxy_next_upstream error timeout http_503;"))),
    ("nginx answers POST /sessions", "answered with", lambda: across(Cluster("nginx", edit=says("return 501 ", "return 201 ")), tests.no_issues)),
    ("Caddy hashes nothing", "pairs meet, ", lambda: across(Cluster("caddy", edit=says("lb_policy header X-Session", "lb_policy random")))),
    ("Caddy checks /livez", "a relay known to be full", lambda: one_is_full("caddy", says("/readyz\n", "/livez\n"))),
]


async def main():
    missed, chosen = 0, sys.argv[1:]
    tests.MEET_S = 6
    for what, line, steps in FAULTS:
        if chosen and not any(word in what for word in chosen):
            continue
        random.seed(1)
        output, begun = io.StringIO(), time.monotonic()
        with contextlib.redirect_stdout(output):
            try:
                await steps()
            except Exception:
                traceback.print_exc(file=sys.stdout)
        found = [text for text in output.getvalue().splitlines() if text.startswith("not ok") and line in text]
        missed += not found
        print(f"{'ok' if found else 'not ok'} {what}: {found[0][7:] if found else output.getvalue()} ({time.monotonic() - begun:.0f} s)", flush=True)
    count = sum(not chosen or any(word in what for word in chosen) for what, _, _ in FAULTS)
    print(f"{count - missed} passed, {missed} failed")
    sys.exit(missed > 0)


asyncio.run(main())
