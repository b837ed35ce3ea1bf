// Checks of what recipe.js promises, in Node and in Chromium. recipe.mjs runs them.
// `world` starts and stops relays and puts slow or broken networks before them; see recipe.mjs.

import { bundle, check, Client, equal } from "./scenario.mjs";

const MIB = 1 << 20;
const PATIENCE_MS = 1_500;
const PAUSES_MS = [50, 1_000];
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Runs every check with this `pair`, or only the one named `only`, and reports each. Throws at the first failure. */
export async function checks(pair, world, report, only) {
  let sessions = 0;
  const base = await world.relay([]);
  const session = () => `recipe-${++sessions}`;
  const join = (base, clientType, session, options) => new End(pair, `${base}/${clientType}/${session}`, options);
  const both = (desktopBase, mobileBase, options, name = session()) =>
    [join(desktopBase, "desktop", name, options), join(mobileBase, "mobile", name, options)];

  /** A first message each way, so that each has received the other's `have`. */
  async function meet(desktop, mobile) {
    desktop.send("to the mobile");
    await mobile.expect(["to the mobile"]);
    mobile.send("to the desktop");
    await desktop.expect(["to the desktop"]);
  }

  async function firstMessages() {
    const [desktop, mobile] = both(base, base);
    desktop.send({ type: "bundle_update", code: "größer 🚀" });
    mobile.send([1, null]);
    await mobile.expect([{ type: "bundle_update", code: "größer 🚀" }]);
    await desktop.expect([[1, null]]);
    for (const i of range(100)) mobile.send(i);
    await desktop.expect(range(100));
    await leave(desktop, mobile);
    report("the first messages arrive, and a hundred logs in order");
  }

  async function lateMobile() {
    const name = session();
    const desktop = join(base, "desktop", name);
    await sleep(100);
    desktop.send("older bundle");
    desktop.send("update of the older bundle");
    desktop.send("bundle", true);
    desktop.send("update");
    await sleep(100);
    const mobile = join(base, "mobile", name);
    await mobile.expect(["bundle", "update"]);
    // The phone's app is restarted, so it has nothing.
    await mobile.leave();
    const again = join(base, "mobile", name);
    await again.expect(["bundle", "update"]);
    await leave(desktop, again);
    report("a mobile that comes late, or starts anew, gets the latest bundle and what came after it");
  }

  async function vanishesInBundle() {
    const [slow, network] = [await world.network(base, 4 * MIB), await world.network(base, 4 * MIB)];
    const [desktop, mobile] = both(slow, network, { slowest: 1_000 });
    await meet(desktop, mobile);
    const before = await world.carried(network);
    const text = bundle(8 * MIB);
    desktop.send(text, true);
    for (const i of range(20)) desktop.send(i);
    while ((await world.carried(network)) - before < 2 * MIB) await sleep(20);
    // The phone reconnects while most of the bundle is still in transit to the relay, with the updates behind it.
    await world.cut(network);
    await mobile.expect([text, ...range(20)]);
    equal((await world.attempts(network)).length, 2, "connections of the mobile");
    await leave(desktop, mobile);
    report("a phone that vanishes in the middle of a bundle gets it whole, and what was sent behind it in order");
  }

  async function swallowed() {
    for (const [slowSide, at] of [["mobile", 1], ["desktop", 0]]) {
      const network = await world.network(base);
      const ends = at === 1 ? both(base, network) : both(network, base);
      await meet(...ends);
      await world.swallow(network, true);
      // The relay has written all of it to the socket, so it reports nothing.
      for (const i of range(3)) ends[1 - at].send(i);
      for (const i of range(3)) ends[at].send(i);
      await sleep(200);
      await world.cut(network);
      await world.swallow(network, false);
      ends[1 - at].send(3);
      ends[at].send(3);
      await ends[at].expect(range(4));
      await ends[1 - at].expect(range(4));
      await leave(...ends);
      report(`what a broken network of the ${slowSide} swallowed arrives, both ways, once and in order`);
    }
  }

  async function relayDies() {
    const mortal = await world.relay([]);
    const [desktop, mobile] = both(mortal, mortal);
    await meet(desktop, mobile);
    await world.signal(mortal, "SIGKILL");
    await sleep(100);
    desktop.send("while it was dead");
    mobile.send("while it was dead");
    await sleep(500);
    await world.relay([], mortal);
    desktop.send("after it");
    mobile.send("after it");
    await mobile.expect(["while it was dead", "after it"]);
    await desktop.expect(["while it was dead", "after it"]);
    await leave(desktop, mobile);
    report("a relay is killed and started again: both come back, and nothing is missing");
  }

  async function replaced() {
    const networks = [await world.network(base), await world.network(base)];
    const name = session();
    const [first, mobile] = both(networks[0], base, {}, name);
    await meet(first, mobile);
    const second = join(networks[1], "desktop", name);
    second.send("from the second");
    equal(await first.end(), { code: 1000, reason: "New desktop connection" }, "end of the first desktop");
    await sleep(2 * PAUSES_MS[1]);
    equal((await world.attempts(networks[0])).length, 1, "connections of the first desktop");
    equal((await world.attempts(networks[1])).length, 1, "connections of the second desktop");
    await second.expect(["to the desktop"]); // It has nothing yet, so it gets what the first one had.
    await mobile.expect(["from the second"]);
    const other = join(base, "mobile", name);
    equal(await mobile.end(), { code: 1000, reason: "New mobile connection" }, "end of the first mobile");
    await other.expect(["from the second"]);
    await leave(second, other);
    report("a desktop and a mobile that are replaced tell their apps and do not fight");
  }

  async function deadRelay() {
    const frozen = await world.relay([]);
    const network = await world.network(frozen);
    const [desktop, mobile] = both(network, frozen);
    await meet(desktop, mobile);
    await sleep(2 * PATIENCE_MS);
    desktop.connect();
    equal((await world.attempts(network)).length, 1, "connections of a desktop that has nothing to say");
    const begun = performance.now();
    await world.signal(frozen, "SIGSTOP");
    while ((await world.attempts(network)).length === 1) {
      check(performance.now() - begun < 2 * PATIENCE_MS, "a relay that stands still was not noticed");
      await sleep(20);
    }
    const took = Math.round(performance.now() - begun);
    check(took > PATIENCE_MS / 2, `a relay that stands still was given up after ${took} ms`);
    desktop.send("while it stood still");
    await sleep(PATIENCE_MS);
    await world.signal(frozen, "SIGCONT");
    mobile.send("later");
    await mobile.expect(["while it stood still"]);
    await desktop.expect(["later"]);
    await leave(desktop, mobile);
    report(`a relay that stands still is noticed within ${took} ms, and all goes on when it does`);
  }

  async function slowLinks() {
    const [up, down] = [await world.network(base, 4 * MIB), await world.network(base, 4 * MIB)];
    const text = bundle(20 * MIB);
    for (const [what, bases] of [["reader", [base, down]], ["sender", [up, base]]]) {
      const [desktop, mobile] = both(...bases, { slowest: 1_000 });
      await meet(desktop, mobile);
      const begun = performance.now();
      desktop.send(text, true);
      desktop.send("behind it");
      await mobile.expect([text, "behind it"]);
      const took = Math.round(performance.now() - begun);
      check(took > 2 * PATIENCE_MS, `the bundle took ${took} ms only, so the check means nothing`);
      await leave(desktop, mobile);
      report(`a bundle of 20 MiB takes ${took} ms with a slow ${what}, and the ping timer does not cut it off`);
    }
    equal((await world.attempts(down)).length, 1, "connections of the slow mobile");
    equal((await world.attempts(up)).length, 1, "connections of the slow desktop");
  }

  async function repeats() {
    const name = session();
    const mobile = join(base, "mobile", name);
    await sleep(100);
    const desktop = await Client.join(base, "desktop", name);
    await desktop.expect({ type: "mobile_connected" });
    equal(JSON.parse(await desktop.next()), { type: "have", run: "", id: 0 }, "the mobile's first message");
    const say = (id, run = "r", first = id === 1) =>
      desktop.socket.send(JSON.stringify({ type: "data", run, id, first, value: `${run}${id}` }));
    for (const id of [1, 1, 3, 2, 1, 3, 3, 5, 4]) say(id);
    say(2, "s");
    for (const id of [1, 2, 2]) say(id, "s");
    say(7, "s", true);
    say(5, "s", true);
    say(8, "s");
    await mobile.expect(["r1", "r2", "r3", "r4", "s1", "s2", "s7", "s8"]);
    desktop.socket.close();
    await mobile.leave();
    report("repeats are dropped, and nothing overtakes what was lost");
  }

  async function backsOff() {
    const network = await world.network(base);
    await world.refuse(network, true);
    const [desktop, mobile] = both(network, base);
    await sleep(7_000);
    const refused = await world.attempts(network);
    const gaps = refused.slice(1).map((at, i) => at - refused[i]);
    const shown = gaps.map(Math.round).join(", ");
    check(refused.length >= 8 && refused.length <= 20, `${refused.length} tries in 7 s`);
    check(gaps[0] < 300, `the first pause is long: ${shown} ms`);
    const capped = gaps.slice(-5);
    check(Math.max(...gaps) < PAUSES_MS[1] + 250, `the pauses grow without end: ${shown} ms`);
    check(Math.min(...capped) > PAUSES_MS[1] / 2 - 50, `the pauses do not grow: ${shown} ms`);
    check(Math.max(...capped) - Math.min(...capped) > 50, `the pauses have no jitter: ${shown} ms`);
    await world.refuse(network, false);
    desktop.send("let in");
    await mobile.expect(["let in"]);
    const tries = async () => (await world.attempts(network)).length;
    const pauseAfterCut = async () => {
      const before = await tries();
      const begun = performance.now();
      await world.cut(network);
      while ((await tries()) === before) await sleep(5);
      return Math.round(performance.now() - begun);
    };
    const early = await pauseAfterCut();
    check(early > PAUSES_MS[1] / 2 - 50, `a connection that was cut at once made the pause ${early} ms`);
    desktop.send("back");
    await mobile.expect(["back"]);
    await sleep(PATIENCE_MS / 2);
    const late = await pauseAfterCut();
    check(late < 300, `a connection that had proved good made the pause ${late} ms`);
    desktop.send("again");
    await mobile.expect(["again"]);
    await leave(desktop, mobile);
    report(`refused ${refused.length} times in 7 s, with growing pauses (${shown} ms)`);
    report(`the pause is ${early} ms after a connection that did not last, and ${late} ms after a good one`);
  }

  async function finalCloses() {
    const small = await world.relay(["--max-message-size", "1MiB", "--session-timeout", "1s"]);
    const network = await world.network(small);
    const [desktop, mobile] = both(network, network);
    await meet(desktop, mobile);
    equal(await desktop.end(), { code: 1000, reason: "Session timeout" }, "end of the desktop");
    equal(await mobile.end(), { code: 1000, reason: "Session timeout" }, "end of the mobile");
    await sleep(500);
    equal((await world.attempts(network)).length, 2, "connections");
    desktop.send("after the timeout");
    desktop.connect();
    mobile.connect();
    await mobile.expect(["after the timeout"]);
    report("a session that times out ends for both, until their apps connect again");

    const [sender, peer] = both(network, network);
    await meet(sender, peer);
    const before = (await world.attempts(network)).length;
    sender.send("x".repeat(2 * MIB));
    equal((await sender.end()).code, 1009, "close of the desktop");
    await sleep(500);
    equal((await world.attempts(network)).length, before, "connections");
    await leave(peer, desktop, mobile);
    report("a message that is too large ends the desktop, which does not send it again and again");

    const name = session();
    const [first, stranger] = both(base, base, {}, name);
    await meet(first, stranger);
    await first.leave();
    const owner = new Client(`${base}/desktop/${name}?secret=correct-horse-battery-staple`);
    equal((await stranger.end()).code, 1008, "close of a mobile without the secret");
    owner.socket.close();
    report("a mobile without the secret of a claimed session is ended for good");
  }

  const breaks = { vanishesInBundle, swallowed, relayDies, replaced, deadRelay };
  const all = { firstMessages, lateMobile, ...breaks, slowLinks, repeats, backsOff, finalCloses };
  for (const [name, run] of Object.entries(all)) if (!only || name === only) await run();
}

/** An app with one end of a pairing. Received values are kept in order until they are taken. */
class End {
  inbox = [];

  constructor(pair, url, options) {
    this.ended = new Promise((resolve) => {
      Object.assign(this, pair(url, {
        patience: PATIENCE_MS,
        pauses: PAUSES_MS,
        ...options,
        onMessage: (value) => this.inbox.push(value),
        onEnd: (code, reason) => resolve({ code, reason }),
      }));
    });
  }

  /** Takes these values, in this order, and checks that no other follows immediately. */
  async expect(values, withinMs = 30_000) {
    const deadline = performance.now() + withinMs;
    while (this.inbox.length < values.length && performance.now() < deadline) await sleep(10);
    await sleep(50);
    const got = this.inbox.splice(0).map(short);
    equal(got.join(), values.map(short).join(), "values");
  }

  /** How it ended for good. */
  end() {
    return Promise.race([this.ended, sleep(30_000).then(() => ({ code: "none in 30 s" }))]);
  }

  async leave() {
    this.close();
    await this.ended;
  }
}

const leave = (...ends) => Promise.all(ends.map((end) => end.leave()));
const range = (count) => Array.from({ length: count }, (_, i) => i);

/** A value as text. A long one is shown by its length and a checksum. */
function short(value) {
  const text = JSON.stringify(value);
  if (text.length < 100) return text;
  let sum = 0;
  for (let i = 0; i < text.length; i++) sum = (Math.imul(sum, 31) + text.charCodeAt(i)) | 0;
  return `${text.length} characters with sum ${sum}`;
}
