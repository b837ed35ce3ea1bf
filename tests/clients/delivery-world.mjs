// What the trials of delivery.mjs are made of: relays, networks, phones and a desktop.

import { execFileSync, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { EventEmitter, once } from "node:events";
import { chmodSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const require = createRequire(import.meta.url);
export const WebSocket = require("ws");
const program = process.argv[2];
const phones = (name) => fileURLToPath(new URL(`phones/${name}`, import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "delivery-"));
process.on("exit", (code) => code || rmSync(folder, { recursive: true, force: true }));
const run = (command) => execFileSync("sh", ["-ec", command], { stdio: ["ignore", "ignore", "inherit"] });

/** Starts a relay for all networks. Its log is in a file, whose name an error tells. */
export async function startRelay(port, options) {
  const log = join(folder, `relay-${port}.log`);
  const extra = (process.env.RELAY_OPTIONS ?? "").split(" ").filter(Boolean);
  const all = ["--listen", `0.0.0.0:${port}`, "--answer-pings", ...options, ...extra];
  const relay = spawn(program, all, { stdio: ["ignore", "ignore", openSync(log, "w")] });
  relay.on("exit", (code) => {
    console.log(`not ok relay: it ended with ${code}; see ${log}`);
    process.exit(1);
  });
  const answers = () => fetch(`http://127.0.0.1:${port}/health`).then(() => true, () => false);
  while (!(await answers())) await sleepUntilNextTry();
}

const sleepUntilNextTry = () => new Promise((resolve) => setTimeout(resolve, 10));

/** Resolves as soon as `holds()` does, which is asked again at each `event`. */
export async function until(emitter, event, holds, what, limitMs) {
  if (holds()) return;
  let limit, ask;
  await new Promise((resolve, reject) => {
    limit = setTimeout(() => reject(new Error(`not within ${limitMs / 1_000} s: ${what()}`)), limitMs);
    ask = () => holds() && resolve();
    emitter.on(event, ask);
  }).finally(() => (clearTimeout(limit), emitter.off(event, ask)));
}

/** A network namespace for one phone at a time, joined to this one by a veth pair whose rate is like a radio's. */
export class Network {
  static #count = 0;

  static async open() {
    const network = new Network();
    const number = ++Network.#count;
    network.host = `10.77.${number}.1`;
    network.device = `relay${number}`;
    const hold = ["--net", "sh", "-c", "echo; exec sleep infinity"]; // The line says that the namespace is there.
    network.holder = spawn("unshare", hold, { stdio: ["ignore", "pipe", "inherit"] });
    await once(network.holder.stdout, "data");
    network.enter = ["nsenter", `--net=/proc/${network.holder.pid}/ns/net`];
    run(`
      ip link add ${network.device} type veth peer name phone netns ${network.holder.pid}
      ip addr add ${network.host}/24 dev ${network.device}
      ip link set ${network.device} up
      tc qdisc add dev ${network.device} root tbf rate 32mbit burst 64kb latency 400ms
      ${network.enter.join(" ")} sh -ec '
        ip link set lo up
        ip addr add 10.77.${number}.2/24 dev phone
        ip link set phone up'
    `);
    return network;
  }

  /** Takes the network down (nothing is told to either side) or up again. */
  set(state) {
    run(`ip link set ${this.device} ${state}`);
  }

  /** Resolves once the phone's side has been sent so many more bytes. */
  async carries(count, limitMs) {
    const begun = performance.now();
    const end = this.#carried() + count;
    // The kernel has no event for this.
    while (this.#carried() < end) {
      if (performance.now() - begun > limitMs) throw new Error(`the network carries less than ${count} bytes`);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }

  #carried() {
    const counters = readFileSync("/proc/net/dev", "utf8").split(`${this.device}:`)[1];
    return Number(counters.trim().split(/\s+/)[8]); // Bytes sent.
  }
}

/** A phone that is a process of its own. Emits `line` for each line that it writes. */
export class ProcessPhone extends EventEmitter {
  static #commands = {
    node: [process.execPath, phones("node.mjs")],
    python: [process.env.PYTHON, phones("python.py")],
    // Starts faster without the second compiler, and with two cores in use by other phones.
    okhttp: ["java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "Phone"],
  };

  constructor(client, network, url, mode = []) {
    super();
    this.lines = [];
    this.command = [...network.enter, ...ProcessPhone.#commands[client], url, ...mode];
  }

  async start() {
    const [name, ...options] = this.command;
    this.process = spawn(name, options, { stdio: ["ignore", "pipe", "inherit"] });
    this.hasEnded = false;
    this.ended = once(this.process, "close").then(() => {
      this.hasEnded = true;
      this.emit("end");
    });
    createInterface(this.process.stdout).on("line", (line) => {
      this.lines.push(line);
      this.emit("line", line);
    });
  }

  async kill() {
    this.process.kill("SIGKILL");
    await this.ended;
  }

  /** Ends it by SIGKILL and starts it again. */
  async restart() {
    await this.kill();
    await this.start();
  }

  async stop() {
    await this.kill();
    return this.lines;
  }
}

/** A phone that is a page in Chromium. Emits `line` for each line that it writes. */
export class PagePhone extends EventEmitter {
  /** One browser for all pages of a network, because it starts slowly. */
  static async browser(network) {
    const { chromium } = require("playwright-core");
    const executablePath = join(folder, `chromium-${network.device}`);
    const command = [...network.enter, process.env.CHROMIUM ?? "/usr/bin/chromium"].join(" ");
    writeFileSync(executablePath, `#!/bin/sh\nexec ${command} "$@"\n`);
    chmodSync(executablePath, 0o755);
    return chromium.launch({
      executablePath,
      // From --disable-quic on: no traffic of Chromium's own to other hosts.
      args: ["--no-sandbox", "--disable-gpu"].concat(
        ["--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update"],
        ["--disable-sync"],
      ),
    });
  }

  constructor(browser, url) {
    super();
    this.lines = [];
    this.browser = browser;
    this.url = url;
  }

  async start() {
    this.page = await this.browser.newPage(); // With a storage of its own.
    // The consent that a user gives to a page that connects to a relay in a private network.
    await this.page.context().grantPermissions(["local-network-access"], { origin: "http://localhost" });
    await this.page.exposeFunction("report", (line) => {
      this.lines.push(line);
      this.emit("line", line);
    });
    const body = readFileSync(phones("page.html"));
    // On `localhost` a page may use WebCrypto. It does not come through the network, so it loads while that is down.
    await this.page.route("http://localhost/", (route) => route.fulfill({ contentType: "text/html", body }));
    await this.page.goto(`http://localhost/#${this.url}`);
  }

  /** Loads the page again. */
  async restart() {
    await this.page.reload();
  }

  async stop() {
    const lines = await this.page.evaluate(() => Array.from(localStorage, (_, i) => localStorage.getItem(i)));
    await this.page.close();
    return lines;
  }
}

/** A desktop that numbers its messages and counts what the relay tells of them. Emits `told` whenever it is told. */
export class Desktop extends EventEmitter {
  /** The length and SHA-256 of each message sent. The index is its id. */
  sent = [undefined];
  delivered = 0;
  undelivered = 0;
  mobiles = 0;
  departures = 0;
  /** Errors that promise nothing about their message. */
  refused = [];

  static async join(port, session) {
    const desktop = new Desktop();
    desktop.socket = new WebSocket(`ws://127.0.0.1:${port}/desktop/${session}?receipts=1`);
    desktop.socket.on("message", (data) => desktop.#take(JSON.parse(data)));
    desktop.socket.on("close", (code, reason) => desktop.refused.push(`closed with ${code} ${reason}`));
    await once(desktop.socket, "open");
    return desktop;
  }

  #take(message) {
    if (message.type === "delivered") this.delivered += message.count;
    else if (message.type === "mobile_connected") this.mobiles++;
    else if (message.type === "mobile_disconnected") this.departures++;
    else if (message.code === "undelivered") this.undelivered += message.count;
    else if (message.type === "error" && message.kept !== true) this.refused.push(JSON.stringify(message));
    this.emit("told");
  }

  /** Sends a JSON object with the next id, which it returns. */
  send(text) {
    const id = this.sent.length;
    const data = Buffer.from(text.replace("{", `{"id":${id},`));
    const sha256 = text.length > 1 << 20 ? createHash("sha256").update(data).digest("hex") : "-";
    this.sent.push({ bytes: String(data.length), sha256 });
    this.socket.send(data, { binary: false });
    return id;
  }

  log() {
    const filler = "1, ".repeat(this.sent.length % 40);
    return this.send(`{"type":"console_log","level":"log","args":["ü 🚀", [${filler}0]]}`);
  }

  /** Resolves as soon as `holds(this)` does. */
  until(holds, limitMs) {
    const told = () => `${holds}, with ${this.delivered} delivered, ${this.undelivered} not, ${this.refused}`;
    return until(this, "told", () => holds(this), told, limitMs);
  }

  leave() {
    this.socket.removeAllListeners("close");
    this.socket.terminate();
  }
}
