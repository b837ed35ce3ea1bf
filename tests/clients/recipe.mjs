// The recipe of the guide's chapter "Clients", in Node and in Chromium.
// Run: NODE_PATH=/dir/node_modules node tests/clients/recipe.mjs
// (`npm install playwright-core` in /dir, `apt-get install chromium`; Node below 22 needs --experimental-websocket).
// RELAY sets another relay's executable, RECIPE another recipe, CHROMIUM another Chromium (or none, if empty), ONLY one
// of the checks, WINDOWS other redelivery windows.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer as createPageServer } from "node:http";
import { createRequire } from "node:module";
import { connect, createServer } from "node:net";
import { resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { checks } from "./recipe-checks.mjs";

const LIMIT_MS = 450_000;
const here = (name) => fileURLToPath(new URL(name, import.meta.url));
const recipe = resolve(process.env.RECIPE ?? here("recipe.js"));
const target = process.env.CARGO_TARGET_DIR ?? here("../../target");
const program = process.env.RELAY ?? `${target}/release/apptuner-relay`;
const chromium = process.env.CHROMIUM ?? "/usr/bin/chromium";

/** Without a window the recipe alone must make up for what connections lose. With one it must live with repeats. */
const windows = (process.env.WINDOWS ?? "0s 30m").split(" ");
let window;

const relays = new Map(); // Processes, by the base of their URLs.
const networks = new Map();
process.on("exit", () => relays.forEach((relay) => relay.kill("SIGKILL")));

/** The functions that the checks use. Arguments and results are JSON, because a page in Chromium calls them, too. */
const world = {
  /** Starts a relay and returns the base of its URLs. With `base`, uses the port of an earlier relay. */
  async relay(options, base) {
    const port = base ? Number(new URL(base).port) : await freePort();
    const all = ["--listen", `127.0.0.1:${port}`, "--answer-pings", "--redelivery-window", window, ...options];
    const relay = spawn(program, all, { stdio: "ignore" });
    relay.on("error", (error) => fail("relay", error));
    base = `ws://127.0.0.1:${port}`;
    relays.set(base, relay);
    const answers = () => fetch(`http://127.0.0.1:${port}/health`).then(() => true, () => false);
    while (!(await answers())) await new Promise((resolve) => setTimeout(resolve, 10));
    return base;
  },
  async signal(base, signal) {
    const relay = relays.get(base);
    relay.kill(signal);
    if (signal === "SIGKILL") await once(relay, "exit");
  },
  /** Puts a network before the relay, with a rate in bytes per second per direction. Returns the base of its URLs. */
  async network(base, bytesPerSecond = Infinity) {
    const network = { pairs: new Set(), attempts: [], carried: 0, bytesPerMs: bytesPerSecond / 1_000 };
    const server = createServer({ noDelay: true }, (client) => join(network, client, Number(new URL(base).port)));
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const own = `ws://127.0.0.1:${server.address().port}`;
    networks.set(own, network);
    return own;
  },
  /** The times at which clients tried to connect through the network. */
  attempts: async (own) => [...networks.get(own).attempts],
  /** The number of bytes that the network delivered to clients. */
  carried: async (own) => networks.get(own).carried,
  /** Ends every connection without a close. */
  cut: async (own) => networks.get(own).pairs.forEach((sockets) => sockets.forEach((socket) => socket.destroy())),
  /** From now on takes all bytes and delivers none, or delivers again. */
  swallow: async (own, isOn) => void (networks.get(own).swallows = isOn),
  /** From now on ends each new connection at once, or accepts it again. */
  refuse: async (own, isOn) => void (networks.get(own).refuses = isOn),
};

function join(network, client, port) {
  network.attempts.push(performance.now());
  client.on("error", () => {});
  if (network.refuses) return client.destroy();
  const relay = connect({ port, host: "127.0.0.1", noDelay: true });
  relay.on("error", () => {});
  const sockets = [client, relay];
  network.pairs.add(sockets);
  carry(network, client, relay, () => {});
  carry(network, relay, client, (count) => (network.carried += count));
  client.on("close", () => (relay.destroy(), network.pairs.delete(sockets)));
  relay.on("close", () => client.end());
}

function carry(network, from, to, count) {
  from.on("data", (bytes) => {
    if (network.swallows) return;
    const hasRoom = to.write(bytes);
    count(bytes.length);
    from.pause();
    const drained = hasRoom ? undefined : once(to, "drain").catch(() => {});
    setTimeout(async () => (await drained, from.resume()), bytes.length / network.bytesPerMs);
  });
}

async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}

/** Checks that the guide shows exactly this recipe. */
function guide() {
  const text = readFileSync(here("../../src/guide/clients.md"), "utf8");
  const blocks = [...text.matchAll(/^```javascript\n(.*?)^```$/gms)].map(([, code]) => code);
  const shown = blocks.filter((code) => code === readFileSync(here("recipe.js"), "utf8"));
  if (shown.length !== 1) throw new Error("the guide's code differs from tests/clients/recipe.js");
  console.log("ok recipe: the guide shows it as it is");
}

async function inChromium() {
  const { chromium: browsers } = createRequire(import.meta.url)("playwright-core");
  const page = '<!doctype html><title>recipe</title>';
  const files = { "/recipe.js": recipe };
  for (const name of ["recipe-checks.mjs", "scenario.mjs"]) files[`/${name}`] = here(name);
  const pages = createPageServer((request, response) => {
    const file = files[request.url];
    response.setHeader("Content-Type", file ? "text/javascript" : "text/html; charset=utf-8");
    response.end(file ? readFileSync(file) : page);
  });
  pages.listen(0, "127.0.0.1");
  await once(pages, "listening");
  const browser = await browsers.launch({
    executablePath: chromium,
    // From --disable-quic on: Chromium itself sends nothing to other hosts.
    args: ["--no-sandbox", "--disable-gpu"].concat(
      ["--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update"],
      ["--disable-sync"],
    ),
  });
  try {
    const page = await browser.newPage();
    await page.exposeFunction("report", (what) => console.log(`ok recipe in Chromium: ${what}`));
    for (const [name, call] of Object.entries(world)) await page.exposeFunction(`world_${name}`, call);
    await page.goto(`http://127.0.0.1:${pages.address().port}/`);
    await page.evaluate(async ([names, only]) => {
      const [{ pair }, { checks }] = [await import("/recipe.js"), await import("/recipe-checks.mjs")];
      const world = Object.fromEntries(names.map((name) => [name, globalThis[`world_${name}`]]));
      await checks(pair, world, globalThis.report, only);
    }, [Object.keys(world), process.env.ONLY]);
  } finally {
    await browser.close();
  }
}

function fail(where, error) {
  console.log(`not ok ${where}: ${error.message.split("\n")[0]}`);
  process.exit(1);
}

setTimeout(() => fail("recipe", new Error(`not done within ${LIMIT_MS / 1_000} s`)), LIMIT_MS).unref();
let where = "recipe";
try {
  if (!process.env.ONLY) guide();
  const { pair } = await import(pathToFileURL(recipe));
  for (window of windows) {
    where = `recipe in Node, window ${window}`;
    await checks(pair, world, (what) => console.log(`ok ${where}: ${what}`), process.env.ONLY);
  }
  where = "recipe in Chromium"; // With the last window.
  if (chromium) await inChromium();
} catch (error) {
  fail(where, error);
}
process.exit(0);
