// Node's `ws` package as both clients. Run: NODE_PATH=/dir/node_modules node tests/clients/node.mjs ws://127.0.0.1:8787
// (`npm install ws` in /dir; behind a self-signed certificate also NODE_EXTRA_CA_CERTS=cert.pem).

import { createRequire } from "node:module";
import { setTimeout as sleep } from "node:timers/promises";
import { bundle, check, Client, equal, scenario } from "./scenario.mjs";

const LIMIT_MS = 120_000;
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

/** What a mobile that reads nothing does to the desktop, and to the mobile that takes its place. */
async function pressure() {
  const session = `pressure-${Date.now()}`;
  const desktop = await Client.join(base, "desktop", session);
  const mobile = await Client.join(base, "mobile", session);
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

  mobile.socket.pause();
  await new Promise((resolve) => desktop.socket.send(text, resolve));
  await sleep(1_000);
  const second = await Client.join(base, "mobile", session);
  mobile.socket.resume();
  await second.expect({ type: "desktop_connected" });
  check((await second.next()) === text, "the bundle differs");
  equal(await mobile.closed, { code: 1000, reason: "New mobile connection", wasClean: true }, "close of the first mobile");
  equal(mobile.inbox.length, 0, "messages to the first mobile");
  await desktop.expect({ type: "mobile_connected" });
  report("a mobile that is replaced in the middle of a bundle leaves the whole of it to its successor");
}
