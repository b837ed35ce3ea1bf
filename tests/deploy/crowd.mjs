// 1,000 connections in 500 pairs. Each pair sends a message back and forth, and each connection is replaced once.
// Run: NODE_PATH=/dir/node_modules node tests/deploy/crowd.mjs ws://127.0.0.1:8787 (for /dir see tests/clients/node.mjs)

import { createRequire } from "node:module";
import { Client, equal } from "../clients/scenario.mjs";

const PAIRS = 500;
const LIMIT_MS = 60_000;
const base = process.argv[2] ?? "ws://127.0.0.1:8787";
globalThis.WebSocket = createRequire(import.meta.url)("ws");

const fail = (error) => {
  console.log(`not ok crowd: ${error.message}`);
  process.exit(1);
};
setTimeout(() => fail(new Error(`not done within ${LIMIT_MS / 1000} s`)), LIMIT_MS).unref();
try {
  const pairs = await Promise.all(Array.from({ length: PAIRS }, (_, i) => pair(`crowd-${process.pid}-${i}`)));
  console.log(`ok crowd: ${2 * PAIRS} connections at once, each with a message to and fro`);
  await Promise.all(pairs.map(replace));
  console.log(`ok crowd: ${PAIRS} mobiles are replaced, and get what their desktop sends`);
} catch (error) {
  fail(error);
}
process.exit(0);

async function pair(session) {
  const desktop = await Client.join(base, "desktop", session);
  const mobile = await Client.join(base, "mobile", session);
  await desktop.expect({ type: "mobile_connected" });
  await mobile.expect({ type: "desktop_connected" });
  desktop.socket.send(`{"to":"${session}"}`);
  equal(await mobile.next(), `{"to":"${session}"}`, "message");
  mobile.socket.send(`{"fro":"${session}"}`);
  equal(await desktop.next(), `{"fro":"${session}"}`, "message");
  return { session, desktop, mobile };
}

async function replace({ session, desktop, mobile }) {
  // What the first one has not confirmed comes again.
  const second = await Client.join(base, "mobile", session, [], mobile.had);
  await second.expect({ type: "desktop_connected" });
  equal((await mobile.closed).code, 1000, "close code");
  await desktop.expect({ type: "mobile_connected" });
  desktop.socket.send('{"again":true}');
  equal(await second.next(), '{"again":true}', "message");
}
