// Node's `ws` package as both clients. Run: NODE_PATH=/dir/node_modules node tests/clients/node.mjs ws://127.0.0.1:8787
// (`npm install ws` in /dir; behind a self-signed certificate also NODE_EXTRA_CA_CERTS=cert.pem).

import { createRequire } from "node:module";
import { setTimeout as sleep } from "node:timers/promises";
import { bundle, check, Client, equal, scenario } from "./scenario.mjs";

const LIMIT_MS = 120_000;
/** More messages of 1 MiB than the kernel buffers of one connection hold. */
const SHORT_ONES = 60;
const base = process.argv[2] ?? "ws://127.0.0.1:8787";
globalThis.WebSocket = createRequire(import.meta.url)("ws");

const report = (what) => console.log(`ok node: ${what}`);
const fail = (error) => {
  console.log(`not ok node: ${error.message}`);
  process.exit(1);
};
setTimeout(() => fail(new Error(`not done within ${LIMIT_MS / 1000} s`)), LIMIT_MS).unref();

try {
  await scenario(base, report);
  await pressure();
} catch (error) {
  fail(error);
}
process.exit(0);

/** A mobile that reads nothing, its effect on the desktop, and the mobile that replaces it. */
async function pressure() {
  const session = `pressure-${Date.now()}`;
  const desktop = await Client.join(base, "desktop", session);
  const had = [];
  const join = () => Client.join(base, "mobile", session, [], had);
  const mobile = await join();
  await desktop.expect({ type: "mobile_connected" });
  await mobile.expect({ type: "desktop_connected" });

  const pong = new Promise((resolve) => mobile.socket.on("pong", (data) => resolve(data.toString())));
  mobile.socket.ping("payload 🚀");
  equal(await pong, "payload 🚀", "pong");
  report("a ping is answered with its payload");

  mobile.socket.pause();
  const text = bundle(50 << 20);
  let written = 0;
  for (let i = 0; i < 3; i++) desktop.socket.send(text, () => written++);
  check(desktop.socket.bufferedAmount > 2 * text.length, "bufferedAmount does not show what waits");
  await sleep(3_000);
  check(written < 3, "three bundles were taken from the desktop while the mobile reads nothing");
  check(desktop.socket.bufferedAmount > 0, "bufferedAmount does not show what waits");
  mobile.socket.resume();
  for (let i = 0; i < 3; i++) check((await mobile.next()) === text, `bundle ${i} differs`);
  equal(written, 3, "bundles taken from the desktop");
  equal(desktop.socket.bufferedAmount, 0, "bufferedAmount at the end");
  report("a mobile that does not read holds the desktop back, and nothing is lost");

  const replaced = { code: 1000, reason: "New mobile connection", wasClean: true };
  const short = bundle((1 << 20) - 8);
  const shorts = Array.from({ length: SHORT_ONES }, (_, i) => `[${1_000 + i},${short} ]`);
  mobile.socket.pause();
  for (const text of shorts) desktop.socket.send(text);
  await sleep(1_000);
  const second = await join();
  mobile.socket.resume();
  equal(await mobile.closed, replaced, "close of the first mobile");
  const toFirst = mobile.rest();
  check(toFirst.every((got, i) => got === shorts[i]), "a bundle to the first mobile differs");
  await second.expect({ type: "desktop_connected" });
  for (const text of shorts.slice(toFirst.length)) check((await second.next()) === text, "a bundle differs");
  await desktop.expect({ type: "mobile_connected" });
  desktop.socket.send('{"type":"end"}');
  equal(await second.next(), '{"type":"end"}', "the message behind the bundles");
  check(toFirst.length < SHORT_ONES, "nothing waited for the second mobile");
  const shares = `${toFirst.length} to it, ${SHORT_ONES - toFirst.length} to its successor, which got ${second.repeats} again`;
  report(`a mobile that is replaced before ${SHORT_ONES} bundles of 1 MiB leaves those that wait (${shares})`);

  second.socket.pause();
  const other = `[${text}]`;
  desktop.socket.send(other);
  await sleep(1_000);
  const third = await join();
  second.socket.resume();
  equal(await second.closed, replaced, "close of the second mobile");
  equal(second.rest().length, 0, "messages to the second mobile");
  await third.expect({ type: "desktop_connected" });
  // The relay has kept all of it, or the desktop gets an error.
  const [whole, told] = [third.next(), error(desktop)];
  const first = await Promise.race([whole, told]);
  if (first.code) {
    equal(first, { code: "undelivered", count: 1 }, "error to the desktop");
    desktop.socket.send(other);
  }
  check((await whole) === other, "the bundle differs");
  const became = first.code ? "its sender is told" : "its successor has all of it";
  report(`a mobile that is replaced in the middle of a bundle of 50 MiB sees nothing of it, and ${became}`);
}

/** The first error message from the relay to this client. */
async function error(client) {
  for (;;) {
    const message = JSON.parse(await client.next());
    if (message.type === "error") return message;
  }
}
