// Two apps that encrypt their messages: desktop in Node, mobile in Chromium, a recorder between them.
// Run: NODE_PATH=/dir/node_modules node tests/clients/encryption.mjs ws://127.0.0.1:8787 (for /dir see browser.mjs)

import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { setTimeout as sleep } from "node:timers/promises";
import { App } from "./app.mjs";
import { channel, pairingLink } from "./encrypted.mjs";
import { Recorder } from "./recorder.mjs";
import { check, equal } from "./scenario.mjs";

const LIMIT_MS = 180_000;
const relay = process.argv[2] ?? "ws://127.0.0.1:8787";
const require = createRequire(import.meta.url);
const ws = require("ws");
const { chromium } = require("playwright-core");
globalThis.WebSocket = ws;

/** Part of every value that is sent. It must not appear outside the apps. */
const SECRET = "größer than the relay 🚀";
/** After this time the relay knows what has arrived, because it waits 250 ms at most before it asks. */
const CONFIRMED_MS = 1_000;
const report = (what) => console.log(`ok encryption: ${what}`);

const requests = [];
const pages = createServer((request, response) => {
  requests.push(`${request.method} ${request.url} ${request.rawHeaders.join(" ")}`);
  const script = request.url.match(/^\/(app|encrypted)\.mjs$/);
  response.setHeader("Content-Type", script ? "text/javascript" : "text/html; charset=utf-8");
  const page = "<!doctype html><title>mobile</title>";
  response.end(script ? readFileSync(new URL(`.${request.url}`, import.meta.url)) : page);
});
await new Promise((resolve) => pages.listen(0, "127.0.0.1", resolve));
const recorder = new Recorder(ws, relay);
await recorder.listening;
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  // From --disable-quic on: Chromium itself sends nothing to other hosts.
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"].concat(
    ["--disable-background-networking", "--disable-component-update", "--disable-sync"],
  ),
});
const limit = setTimeout(() => browser.close(), LIMIT_MS);
let failure;
try {
  await scenario(await browser.newPage());
} catch (error) {
  failure = error;
  console.log(`not ok encryption: ${error.message.split("\n")[0]}`);
}
clearTimeout(limit);
await browser.close();
process.exit(failure ? 1 : 0);

async function scenario(page) {
  const link = pairingLink(`http://127.0.0.1:${pages.address().port}/pair`);
  const start = () =>
    page.evaluate(async (base) => {
      globalThis.app = await (await import("/app.mjs")).App.start(base, location.href, "mobile");
    }, recorder.url);
  const mobile = {
    send: (value) => page.evaluate((value) => app.send(value), value),
    next: () => page.evaluate(() => app.next()),
    /** All refusals since the last call, at least so many. */
    refusals: (count) => page.evaluate((count) => app.refusals(count), count),
    /** Receives one value and sends it back, so that large values stay in the page. */
    echo: () => page.evaluate(async () => app.send(await app.next())),
    reconnect: () =>
      page.evaluate(async () => {
        await new Promise((resolve) => ((app.socket.onclose = resolve), app.socket.close(1000)));
        await app.connect();
      }),
  };
  const value = (n) => ({ type: "console_log", n, text: SECRET });

  const desktop = await App.start(recorder.url, link, "desktop");
  await page.goto(link);
  await start();
  await desktop.send(value(0));
  equal(await mobile.next(), value(0), "value");
  await mobile.send(value(1));
  equal(await desktop.next(), value(1), "value");
  report("Node and Chromium open what the other sealed");

  for (const megabytes of [5, 50]) {
    const count = Math.floor((megabytes * 1e6) / Buffer.byteLength(SECRET)) - 2;
    const bundle = { type: "bundle_update", code: SECRET.repeat(count) };
    const begun = performance.now();
    const echo = mobile.echo();
    // The small message is sealed first, but must arrive second.
    await Promise.all([desktop.send(bundle), desktop.send(value(2))]);
    await echo;
    check((await desktop.next()).code === bundle.code, "the bundle differs");
    equal(await mobile.next(), value(2), "value behind the bundle");
    const took = Math.round(performance.now() - begun);
    report(`a bundle of ${megabytes} MB goes there and back (${took} ms), a small message behind it stays there`);
  }

  await Promise.all(Array.from({ length: 1_000 }, (_, n) => desktop.send(value(n))));
  for (let n = 0; n < 1_000; n++) equal(await mobile.next(), value(n), "value");
  report("1,000 messages arrive in order");

  const earlier = recorder.sealed("desktop").at(-1);
  await mobile.reconnect();
  await sleep(CONFIRMED_MS);
  await desktop.send(value(3));
  await mobile.send(value(4));
  equal(await mobile.next(), value(3), "value");
  equal(await desktop.next(), value(4), "value");
  equal(desktop.peerRuns, 1, "runs of the mobile");
  const again = recorder.repeats("mobile", 1);
  equal((await mobile.refusals(again)).length, again, "refusals of what came again");
  report(`a mobile that connects again goes on (${again} refused as come before)`);

  await forge(desktop, mobile, value, earlier);

  await page.reload();
  await start();
  while (desktop.peerRuns < 2) await sleep(10);
  await sleep(CONFIRMED_MS);
  // What the run before has not confirmed comes again. So does, from a malicious relay, all that it was sent.
  const kept = recorder.repeats("mobile", 0);
  const old = recorder.sealed("desktop").filter((text) => text.length < 1_000);
  for (const text of old) recorder.clients.mobile.send(text);
  const all = kept + old.length;
  equal((await mobile.refusals(all)).length, all, "refusals");
  await desktop.send(value(5));
  equal(await mobile.next(), value(5), "value");
  equal(recorder.repeats("mobile", 1), kept, "messages that came again");
  report(`a mobile that was restarted is known as new, and refuses the ${all} messages for the run before (${kept} came again)`);

  await replace(desktop, mobile, link);
  examine(link);
}

/** Attacks of a relay on a message to the mobile. Each is refused, and the unchanged message after it is opened. */
async function forge(desktop, mobile, value, earlier) {
  const flip = (text, at) => text.slice(0, at) + (text[at] === "A" ? "B" : "A") + text.slice(at + 1);
  const edit = (text, fields) => JSON.stringify({ ...JSON.parse(text), ...fields });
  // The last digit of the epoch has two bits that base64 does not use.
  const respell = (iv) => iv.slice(0, -1) + String.fromCharCode(iv.charCodeAt(iv.length - 1) + 1);
  let held;
  for (const [name, twist, sends = 1] of [
    ["a flipped byte", (text) => [flip(text, text.indexOf('"data":"') + 8), text]],
    ["a flipped byte of the tag", (text) => [flip(text, text.length - 4), text]],
    ["a tag cut off", (text) => [edit(text, { data: JSON.parse(text).data.slice(0, -22) }), text]],
    ["another count", (text) => [edit(text, { n: JSON.parse(text).n + 1 }), text]],
    ["a count that wraps", (text) => [edit(text, { n: JSON.parse(text).n + 2 ** 32 }), text]],
    ["a message twice", (text) => [text, text]],
    ["its epoch spelt otherwise", (text) => [text, edit(text, { iv: respell(JSON.parse(text).iv) })]],
    ["a message of an earlier epoch", (text) => [earlier, text]],
    ["the mobile's own message", (text) => [recorder.sealed("mobile").at(-1), text]],
    ["a message after a later one", (text) => (held ? [text, held] : ((held = text), [])), 2],
  ]) {
    recorder.twist = (to, text) => (to === "mobile" && JSON.parse(text).type === "sealed" ? twist(text) : [text]);
    for (let i = 0; i < sends; i++) await desktop.send(value(10));
    equal((await mobile.refusals(1)).length, 1, `refusals of ${name}`);
    equal(await mobile.next(), value(10), `value beside ${name}`);
    report(`${name} is refused`);
  }
  recorder.twist = (_to, text) => [text];
}

/**
 * Messages that wait for a replaced desktop: its own next connection opens them once, another run never does. Those that
 * it read on the old connection come again, for nobody has told the relay of that.
 */
async function replace(desktop, mobile, link) {
  // Together more than the kernel holds for a desktop that reads little.
  const [text, numbers] = [SECRET.repeat(2_500), Array.from({ length: 200 }, (_, n) => n)];
  const sendAll = () => Promise.all(numbers.map((n) => mobile.send({ n, text })));
  await sleep(CONFIRMED_MS);
  // Not through the recorder, which would read the messages that the desktop does not.
  await desktop.connect(relay);
  await desktop.peerIsReady;
  desktop.socket.pause();
  const paused = desktop.socket;
  await sendAll();
  await sleep(CONFIRMED_MS);
  equal(desktop.refused.length, 0, "refusals by a desktop that had confirmed everything");
  await desktop.connect(relay);
  // First the messages that were written to the old connection.
  desktop.socket.pause();
  const ended = new Promise((resolve) => (paused.onclose = resolve));
  paused.resume();
  await ended;
  await sleep(CONFIRMED_MS);
  const byOld = desktop.inbox.length;
  check(byOld < numbers.length, "nothing waited for the desktop's next connection");
  desktop.socket.resume();
  for (const n of numbers) equal((await desktop.next()).n, n, "redelivered value");
  await sleep(CONFIRMED_MS);
  equal(desktop.inbox.length, 0, "values that came twice");
  const again = desktop.refused.splice(0);
  check(again.length <= byOld, `${again.length} messages came again, of ${byOld}`);
  equal(again.filter((why) => why !== "sealed message came before, or too late").join(), "", "other refusals");
  const shares = `${byOld} by the old connection, ${numbers.length - byOld} by the new one`;
  report(`what waited for a replaced desktop is opened once (${shares}, ${again.length} refused as come before)`);

  desktop.socket.pause();
  await sendAll();
  await sleep(CONFIRMED_MS);
  const restarted = await App.start(relay, link, "desktop");
  await restarted.peerIsReady;
  await mobile.send({ n: 99, text: SECRET });
  equal(await restarted.next(), { n: 99, text: SECRET }, "value");
  const refused = restarted.refused.length;
  check(refused > 0 && refused <= numbers.length, `${refused} refusals`);
  report(`what waited for a desktop's earlier run (${refused}) is refused by the next, which is then served`);
}

/** Neither the plain text nor the key is in anything that clients wrote to the relay or to the page's server. */
function examine(link) {
  const key = new URLSearchParams(new URL(link).hash.slice(1)).get("key");
  const raw = Buffer.from(key, "base64url");
  const spelt = [key, raw, raw.toString("hex"), raw.toString("base64")];
  const needles = [SECRET, SECRET.slice(0, 6), "console_log", "bundle_update", ...spelt];
  const finds = (data) => needles.some((needle) => data.includes(needle));
  const shown = [JSON.stringify({ text: SECRET }), `GET /pair?key=${key}`];
  check(shown.every((text) => finds(Buffer.from(text))), "what is in plain view is not found");

  check(!requests.some(finds), "the page's server was sent the key");
  check(!recorder.heads.some(finds), "the relay was sent the key in a request");
  const nonces = new Set();
  let bytes = 0;
  for (const { from, data } of recorder.messages) {
    const { type, n, iv, data: sealed, challenge, ...more } = JSON.parse(data);
    const isKnown = type === "challenge" ? challenge.length === 22 : type === "sealed" && sealed.length > 21;
    check(isKnown, `a message of type ${type}`);
    equal(Object.keys(more).length, 0, "further fields");
    const decoded = Buffer.from(sealed ?? "", "base64url");
    check(!finds(data) && !finds(decoded), `plain text or key from the ${from}`);
    bytes += data.length;
    if (type === "challenge") continue;
    check(!nonces.has(`${from} ${iv} ${n}`), "a nonce was used twice");
    nonces.add(`${from} ${iv} ${n}`);
  }
  const all = `${recorder.messages.length} messages of ${Math.round(bytes / 1e6)} MB`;
  report(`neither plain text nor key is in ${all}, and no nonce is used twice`);
}
