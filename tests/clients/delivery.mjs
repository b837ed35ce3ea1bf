// Real phones that are killed, reloaded or cut off while a relay sends to them. `delivery` starts this as process 1 of
// namespaces of its own, so that nothing outlives it.
//
// kill     the phone's process ends by SIGKILL and is started again
// reload   the phone's page in Chromium is loaded again
// cut      the phone's network is down for some time
// crash    the phone kills itself on each bundle, before its library can answer a ping
// repeats  the example for receivers that must take each message once
//
// The first three happen in the middle of a bundle of 5 MiB and between 1,000 numbered logs. Each phone writes a line
// for each message. Every message must have its line, in order. Repeats are allowed and counted.

import { setTimeout as sleep } from "node:timers/promises";
import { Desktop, Network, PagePhone, ProcessPhone, startRelay, until, WebSocket } from "./delivery-world.mjs";
import { numbering, receive } from "./repeats.mjs";
import { bundle, check, equal } from "./scenario.mjs";

const LIMIT_MS = Number(process.env.LIMIT_SECONDS ?? 60) * 1_000;
const CUT_MS = Number(process.env.CUT_SECONDS ?? 20) * 1_000;
const ROUNDS = Number(process.env.ROUNDS ?? 3);
const LOGS = 1_000;
const LOG_INTERVAL_MS = 5;
const BUNDLE = bundle(5 << 20);
const clients = process.env.CLIENTS.split(" ").filter(Boolean);
const faults = (process.env.FAULTS ?? "kill reload cut crash repeats").split(" ");
/** With the first relay a phone that was cut off replaces its own connection. The second has ended it by then. */
const PORTS = [8787, 8788];

for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => process.exit(1));
let passed = 0, failed = 0;
const rows = [];

await startRelay(PORTS[0], []);
await startRelay(PORTS[1], ["--ping-interval", `${CUT_MS / 5}ms`]);
// Each client has a network of its own, so that they can be cut off at the same time.
await Promise.all(clients.map(lane));
if (faults.includes("repeats")) await report("repeats", repeats);
const head = ["client", "fault", "in", "rounds", "missing", "out of order", "changed", "repeats"];
if (rows.length) print(head, rows.sort());
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed ? 1 : 0);

async function lane(client) {
  const network = await Network.open();
  const isPage = client === "chromium";
  const browser = isPage && (await PagePhone.browser(network));
  const url = (port, session) => `ws://${network.host}:${port}/mobile/${session}`;
  const process = (...at) => new ProcessPhone(client, network, url(...at));
  const phone = isPage ? (...at) => new PagePhone(browser, url(...at)) : process;
  const restart = (phone) => phone.restart();
  const kinds = { kill: !isPage && restart, reload: isPage && restart, cut };
  for (const [fault, happens] of Object.entries(kinds)) {
    if (!happens || !faults.includes(fault)) continue;
    for (const [place, send] of [["bundle", aroundBundle], ["logs", amongLogs]]) {
      const total = { rounds: 0, missing: 0, disordered: 0, changed: 0, repeats: 0 };
      for (let round = 1; round <= ROUNDS; round++) {
        const port = PORTS[fault === "cut" ? round % 2 : 0];
        const what = `${client}, ${fault}, ${place}, round ${round}`;
        await report(what, () => trial(phone, port, network, happens, send, total));
      }
      rows.push([client, fault, place, ...Object.values(total)]);
    }
  }
  // Chromium, outside its pages, and Python's `websockets` answer a ping before the program sees the message.
  if (faults.includes("crash") && ["node", "okhttp"].includes(client)) {
    await report(`${client}, crash on each bundle`, () => crash(client, network, url));
  }
  if (browser) await browser.close();
}

async function cut(_phone, network) {
  network.set("down");
  await sleep(CUT_MS);
  network.set("up");
}

/** One round: a phone, a fault, and all lines that the phone has written. Adds to `total`. */
async function trial(newPhone, port, network, happens, send, total) {
  const session = newSession();
  const desktop = await Desktop.join(port, session);
  const phone = newPhone(port, session);
  let lines, result;
  try {
    await phone.start();
    await desktop.until((desktop) => desktop.mobiles > 0, LIMIT_MS);
    await send(desktop, phone, network, happens);
    const last = desktop.sent.length - 1;
    const isLast = () => phone.lines.some((line) => line.startsWith(`${last} `));
    await until(phone, "line", isLast, () => `the phone's line for message ${last}`, LIMIT_MS);
    await desktop.until((desktop) => desktop.delivered === desktop.sent.length - 1, LIMIT_MS);
  } finally {
    lines = await phone.stop();
    desktop.leave();
    result = audit(lines, desktop.sent);
    total.rounds++;
    for (const [name, count] of Object.entries(result)) total[name] += count;
  }
  const { missing, disordered, changed } = result;
  equal([missing, disordered, changed].join(), "0,0,0", "missing, out of order, changed");
  equal(desktop.undelivered, 0, "messages that were given up");
  equal(desktop.refused.join(), "", "errors to the desktop");
  check(lines.filter((line) => line === "system connected").length > 1, "the fault has ended no connection");
  if (port === PORTS[1]) check(desktop.departures > 0, "the relay has not noticed the cut");
}

/** The fault comes when half of the bundle has been carried to the phone. */
async function aroundBundle(desktop, phone, network, happens) {
  for (let i = 0; i < 10; i++) desktop.log();
  const half = network.carries(BUNDLE.length / 2, LIMIT_MS);
  const id = desktop.send(BUNDLE);
  for (let i = 0; i < 10; i++) desktop.log();
  await half;
  check(!phone.lines.some((line) => line.startsWith(`${id} `)), "the fault is too late: the bundle is there");
  await happens(phone, network);
  desktop.log();
}

/** The fault comes in the middle of the logs, which go on. */
async function amongLogs(desktop, phone, network, happens) {
  let fault;
  const begun = performance.now();
  for (let i = 0; i < LOGS; i++) {
    if (i === LOGS / 2) {
      check(phone.lines.length > 1, "the fault is too early: no log is there");
      fault = happens(phone, network);
      fault.catch(() => {}); // Awaited below.
    }
    desktop.log();
    await sleep(begun + i * LOG_INTERVAL_MS - performance.now());
  }
  await fault;
}

/** Compares a phone's lines with what was sent. */
function audit(lines, sent) {
  const had = new Set();
  const counts = { missing: 0, disordered: 0, changed: 0, repeats: 0 };
  let newest = 0, previous = 0; // Of all connections, and of this one.
  for (const line of lines) {
    const [id, bytes, sha256] = line.split(" ");
    if (line === "system connected") previous = 0;
    if (id === "system") continue;
    const number = Number(id);
    if (had.has(number)) counts.repeats++;
    else if (number < newest) counts.disordered++;
    // Within a connection there are neither gaps nor repeats.
    if (previous && number !== previous + 1) counts.disordered++;
    if (bytes !== sent[number]?.bytes || sha256 !== sent[number]?.sha256) counts.changed++;
    had.add(number);
    [newest, previous] = [Math.max(newest, number), number];
  }
  counts.missing = sent.length - 1 - had.size;
  return counts;
}

/** A phone that cannot live with a bundle gets it three times. Then its sender is told, and the phone is spared. */
async function crash(client, network, url) {
  const session = newSession();
  const desktop = await Desktop.join(PORTS[0], session);
  const phone = new ProcessPhone(client, network, url(PORTS[0], session), ["crash"]);
  const whole = () => `1 ${desktop.sent[1].bytes} ${desktop.sent[1].sha256}`;
  const bundles = () => phone.lines.filter((line) => line === whole()).length;
  try {
    await phone.start();
    await desktop.until((desktop) => desktop.mobiles === 1, LIMIT_MS);
    desktop.send(BUNDLE);
    for (const connection of [1, 2, 3]) {
      if (connection > 1) await phone.start();
      await until(phone, "end", () => phone.hasEnded, () => `end of phone ${connection}`, LIMIT_MS);
      equal(bundles(), connection, "whole bundles at the phone");
      equal(phone.process.signalCode, "SIGKILL", "the phone's end");
      if (connection < 3) equal(desktop.undelivered, 0, "messages given up before the third connection");
    }
    await desktop.until((desktop) => desktop.undelivered > 0, LIMIT_MS);
    equal(desktop.undelivered, 1, "messages given up");
    await phone.start();
    await desktop.until((desktop) => desktop.mobiles === 4, LIMIT_MS);
    const log = desktop.log();
    const isThere = () => phone.lines.some((line) => line.startsWith(`${log} `));
    await until(phone, "line", isThere, () => "the log behind the bundle", LIMIT_MS);
    await desktop.until((desktop) => desktop.delivered === 1, LIMIT_MS);
    equal(bundles(), 3, "bundles at the phone in all");
    equal(desktop.refused.join(), "", "errors to the desktop");
  } finally {
    await phone.stop();
    desktop.leave();
  }
}

/** The example, on a connection whose library answers no ping, so that all of its messages are repeated. */
async function repeats() {
  const [session, port] = [newSession(), PORTS[0]];
  const sockets = [], raw = [], got = [];
  globalThis.WebSocket = class extends WebSocket {
    constructor(url) {
      super(url, { autoPong: sockets.length > 0 });
      sockets.push(this);
      this.on("message", (data) => JSON.parse(data).run && raw.push(String(data)));
    }
  };
  const desktop = await Desktop.join(port, session);
  receive(`ws://127.0.0.1:${port}/mobile/${session}`, (message) => got.push(message.text));
  await desktop.until((desktop) => desktop.mobiles === 1, LIMIT_MS);
  const isThere = (count) => until(sockets.at(-1), "message", () => raw.length === count, () => `${raw}`, LIMIT_MS);
  // The second start of the app counts from 1 again.
  for (const number of [numbering(), numbering()]) {
    for (const text of ["a", "b", "c"]) desktop.socket.send(number({ type: "note", text }));
  }
  await isThere(6);
  sockets[0].terminate();
  await desktop.until((desktop) => desktop.mobiles === 2, LIMIT_MS);
  await isThere(12);
  await desktop.until((desktop) => desktop.delivered === 6, LIMIT_MS);
  equal(raw.slice(6).join(), raw.slice(0, 6).join(), "messages on the second connection");
  equal(got.filter(Boolean).join(""), "abcabc", "messages taken");
  sockets[1].onclose = null;
  sockets[1].terminate();
  desktop.leave();
}

function newSession() {
  return `delivery-${crypto.randomUUID()}`;
}

async function report(what, job) {
  try {
    await job();
    passed++;
    console.log(`ok ${what}`);
  } catch (error) {
    failed++;
    console.log(`not ok ${what}: ${error.message}`);
  }
}

function print(...[head, body]) {
  const all = [head, ...body];
  const widths = head.map((_, i) => Math.max(...all.map((row) => String(row[i]).length)));
  for (const row of all) console.log(row.map((cell, i) => String(cell).padEnd(widths[i])).join("  ").trimEnd());
}
