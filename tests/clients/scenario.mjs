// One pairing from the first message to the last, for any WebSocket with the browser's interface.
// node.mjs runs it with the `ws` package, browser.mjs in Chromium.

const MIB = 1 << 20;
const LOGS = 10_000;

/** Runs every check against the relay at `base` (`ws://host:port`), reporting each; throws at the first failure. */
export async function scenario(base, report) {
  const session = `clients-${Date.now()}-${Math.floor(Math.random() * 1e9)}`;
  const had = { desktop: [], mobile: [] };
  const join = (clientType, protocols) => Client.join(base, clientType, session, protocols, had[clientType]);
  /** Joins while the peer is there. What the relay sends again comes behind both notices. */
  const rejoin = async (clientType, protocols) => {
    const client = await join(clientType, protocols);
    await client.expect({ type: `${clientType === "desktop" ? "mobile" : "desktop"}_connected` });
    equal(client.repeats, 0, "repeats before the notices");
    return client;
  };

  let desktop = await join("desktop");
  desktop.socket.send('{"type":"hello"}');
  await desktop.expect({ type: "error", code: "peer_not_connected", error: "Mobile device not connected" });
  let mobile = await join("mobile");
  await mobile.expect({ type: "desktop_connected" });
  await desktop.expect({ type: "mobile_connected" });
  report("both sides are told of each other");

  for (const mib of [5, 50]) {
    const sent = bundle(mib * MIB);
    const begun = performance.now();
    desktop.socket.send(sent);
    const received = await mobile.next();
    const took = Math.round(performance.now() - begun);
    equal(await sha256(received), await sha256(sent), "SHA-256");
    check(received === sent, "the bundle differs although its SHA-256 agrees");
    report(`bundle_update of ${mib} MiB arrives unchanged (${took} ms, SHA-256 ${(await sha256(sent)).slice(0, 12)})`);
  }

  desktop.socket.send('{"a":1,}');
  const refusal = await desktop.expect({ type: "error", code: "invalid_json" });
  check(refusal.error.startsWith("Invalid JSON at byte 7: "), `unexpected sentence: ${refusal.error}`);
  report("invalid JSON is refused with its place");

  // The close comes right after 4,000 logs. All of them must arrive before the notice.
  await mobile.send(range(0, 4_000).map(log));
  mobile.socket.close(1000, "to the background");
  for (const i of range(0, 4_000)) equal(await desktop.next(), log(i), `console_log ${i}`);
  await desktop.expect({ type: "mobile_disconnected" });
  equal(await mobile.closed, { code: 1000, wasClean: true }, "close of the mobile", ["code", "wasClean"]);
  mobile = await rejoin("mobile");
  await desktop.expect({ type: "mobile_connected" });
  report("mobile closes behind 4,000 console_log messages and comes back");

  // A second desktop joins while logs are in transit. It gets all that the first has not had, and before that the last of
  // what the first had, as far as the relay does not know that it had it. `Client` checks what comes again.
  let count = 4_000;
  const take = (text) => equal(text, log(count), `console_log ${count++}`);
  const sending = mobile.send(range(4_000, 9_000).map(log));
  take(await desktop.next());
  const first = desktop;
  desktop = await rejoin("desktop");
  equal(await first.closed, { code: 1000, reason: "New desktop connection", wasClean: true }, "close of the first desktop");
  first.rest().forEach(take);
  const byFirst = count - 4_000;
  await mobile.expect({ type: "desktop_connected" });
  await Promise.all([sending, taken(9_000)]);
  await Promise.all([mobile.send(range(9_000, LOGS).map(log)), taken(LOGS)]);
  async function taken(end) {
    while (count < end) take(await desktop.next());
  }
  desktop.socket.send('{"type":"end"}');
  equal(await mobile.next(), '{"type":"end"}', "the mobile's next message after desktop_connected");
  const shares = `${byFirst} logs to the first, ${6_000 - byFirst} to the second behind ${desktop.repeats} repeats`;
  report(`desktop is replaced: ${shares}, none lost, no desktop_disconnected`);

  const old = mobile;
  mobile = await rejoin("mobile", ["a", "b"]);
  equal(mobile.socket.protocol, "a", "subprotocol");
  equal(mobile.socket.extensions, "", "extensions");
  await desktop.expect({ type: "mobile_connected" });
  equal(await old.closed, { code: 1000, reason: "New mobile connection", wasClean: true }, "close of the first mobile");
  report("mobile is replaced, the first subprotocol offered is echoed");

  mobile.socket.close(4001, "own code");
  equal(await mobile.closed, { code: 4001, wasClean: true }, "close of the mobile", ["code", "wasClean"]);
  await desktop.expect({ type: "mobile_disconnected" });
  report("an application's close code comes back, clean");

  // A client that announces the whole length is refused at once. With fragments, it first learns that there is no peer; or
  // its mobile has received a part, and is closed without the rest of the message.
  const tooLong = JSON.stringify("x".repeat(64 * MIB));
  desktop.socket.send(tooLong);
  let refused = JSON.parse(await desktop.next());
  const inFragments = refused.code === "peer_not_connected";
  if (inFragments) refused = JSON.parse(await desktop.next());
  // What the mobile had not confirmed when it closed was kept, and had to make room for the long message.
  if (inFragments && refused.code === "undelivered") refused = JSON.parse(await desktop.next());
  equal(refused, { type: "error", code: "message_too_large" }, "error", ["type", "code"]);
  equal(await desktop.closed, { code: 1009 }, "close of the desktop", ["code"]);
  [desktop, mobile] = [await join("desktop"), await rejoin("mobile")];
  await desktop.expect({ type: "mobile_connected" });
  desktop.socket.send(tooLong);
  await desktop.expect({ type: "error", code: "message_too_large" });
  equal(await desktop.closed, { code: 1009 }, "close of the desktop", ["code"]);
  if (inFragments) {
    equal(await mobile.closed, { code: 1011, reason: "Message cut short", wasClean: true }, "close of the mobile");
    equal(mobile.rest().length, 0, "messages to the mobile");
  } else {
    await mobile.expect({ type: "desktop_disconnected" });
  }
  const asSent = inFragments ? "in fragments, of which the mobile had some" : "announced whole";
  report(`a message over 64 MiB (${asSent}) is refused and closed with 1009 (wasClean ${(await desktop.closed).wasClean})`);

  const lost = new Client(`${base}/tablet/${session}`);
  equal(await lost.closed, { code: 1006, wasClean: false }, "close on a wrong path", ["code", "wasClean"]);
  report("a wrong path fails the connection");

  await claimed(base, `claimed-${session}`, report);
}

/** A session with a secret. Strangers can neither see nor disturb it. */
async function claimed(base, session, report) {
  const subprotocol = (secret) => `apptuner.secret.${btoa(secret).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "")}`;
  const secret = "correct-horse-battery-staple";
  const desktop = new Client(`${base}/desktop/${session}?secret=${secret}`);
  await desktop.expect({ type: "connected", clientType: "desktop", sessionId: session });
  for (const [query, protocols] of [["", []], ["?secret=correct-horse-battery-stapel", []], ["", ["apptuner", subprotocol("x".repeat(28))]]]) {
    for (const clientType of ["desktop", "mobile"]) {
      const stranger = new Client(`${base}/${clientType}/${session}${query}`, protocols);
      equal(await stranger.closed, { code: 1006, wasClean: false }, "close of a stranger", ["code", "wasClean"]);
    }
  }
  const mobile = await Client.join(base, "mobile", session, ["apptuner", subprotocol(secret)]);
  equal(mobile.socket.protocol, "apptuner", "subprotocol");
  await mobile.expect({ type: "desktop_connected" });
  await desktop.expect({ type: "mobile_connected" });
  mobile.socket.send('{"type":"ack"}');
  equal(await desktop.next(), '{"type":"ack"}', "the desktop's next message after mobile_connected");
  report("a claimed session takes its secret, by query and by subprotocol, and six strangers disturb nobody");
}

/** The relay's own messages, which it never repeats. */
const SYSTEM = /^(connected|(desktop|mobile)_(connected|disconnected)|error|pong|delivered)$/;

/**
 * A WebSocket that keeps received messages in order until they are taken. Give `had`, a list, to all connections of a
 * side: it gets the application messages of all of them, each once. A connection may begin with a repetition of the last
 * of them, from any of them on, complete and in order. These repeats are checked, counted and not given out. Messages that
 * were sent before the last of them must differ from each other.
 */
export class Client {
  repeats = 0;

  constructor(url, protocols, had = []) {
    this.had = had;
    this.inbox = [];
    this.wake = () => {};
    this.socket = new WebSocket(url, protocols ?? []);
    this.socket.onerror = () => {};
    this.socket.onmessage = ({ data }) => (this.inbox.push(data), this.wake());
    this.closed = new Promise((resolve) => {
      this.socket.onclose = ({ code, reason, wasClean }) => {
        this.end = { code, reason, wasClean };
        resolve(this.end);
        this.wake();
      };
    });
  }

  static async join(base, clientType, sessionId, protocols, had) {
    const client = new Client(`${base}/${clientType}/${sessionId}`, protocols, had);
    await client.expect({ type: "connected", clientType, sessionId });
    return client;
  }

  async next() {
    for (;;) {
      while (this.inbox.length === 0) {
        if (this.end) throw new Error(`connection ended with ${JSON.stringify(this.end)}`);
        await new Promise((resolve) => (this.wake = resolve));
      }
      const data = this.inbox.shift();
      if (this.isNew(data)) return data;
    }
  }

  /** Takes all that has arrived. */
  rest() {
    return this.inbox.splice(0).filter((data) => this.isNew(data));
  }

  isNew(data) {
    if (data.length < 1_000 && SYSTEM.test(JSON.parse(data)?.type)) return true;
    // The first application message of the connection shows from where on the relay repeats.
    this.at ??= this.had.includes(data) ? this.had.lastIndexOf(data) : this.had.length;
    const isNew = this.at === this.had.length;
    if (isNew) this.had.push(data);
    else check(data === this.had[this.at], `repeat ${this.repeats++} is not what came before: ${String(data).slice(0, 200)}`);
    this.at++;
    return isNew;
  }

  /** Takes the next message and checks that it has these fields, and a timestamp in milliseconds. */
  async expect(fields) {
    const text = await this.next();
    const message = JSON.parse(text);
    for (const [name, value] of Object.entries(fields)) {
      if (message[name] !== value) throw new Error(`expected ${JSON.stringify(fields)}, got ${text.slice(0, 200)}`);
    }
    check(Math.abs(message.timestamp - Date.now()) < 60_000, `no current timestamp in ${text.slice(0, 200)}`);
    return message;
  }

  /** Sends in small bursts, with at most 64 KiB waiting in this process. */
  async send(texts) {
    for (const [i, text] of texts.entries()) {
      this.socket.send(text);
      while (this.socket.bufferedAmount > 64 * 1024 || i % 500 === 499) {
        await new Promise((resolve) => setTimeout(resolve));
        if (this.socket.bufferedAmount <= 64 * 1024) break;
        if (this.end) throw new Error(`connection ended with ${JSON.stringify(this.end)}`);
      }
    }
  }
}

/** A `bundle_update` of exactly `bytes` bytes. A JSON library that parsed it would write it differently. */
export function bundle(bytes) {
  const head =
    '{ "type":"bundle_update",\t"n":[1.50e+02, -0, 12345678901234567890], "type" : "bundle_update",' +
    ' "\\/\\u00fc":"\\ud83d\\ude80", "code":"';
  const tail = '" }\r\n ';
  const parts = [head];
  let left = bytes - utf8(head).length - tail.length;
  for (let id = 0; ; id++) {
    const part = JSON.stringify(
      `__d(function (g, r, m) {\n\t// module ${id}: größer, 日本語, 👩‍💻 🚀\n` +
        `\tm.exports = { id: ${id}, path: "C:\\\\src\\\\mod-${id}.js", re: /^["'\\s]+$/, text: \`a\r\nb\u2028\0\` };\n}, ${id});\n`,
    ).slice(1, -1);
    const size = utf8(part).length;
    if (size > left) break;
    parts.push(part);
    left -= size;
  }
  return parts.join("") + "x".repeat(left) + tail;
}

const log = (i) =>
  `{"type":"console_log","n":${i},"level":"${["log", "warn", "error"][i % 3]}",` +
  `"args":["count ${i}: \\"quoted\\", ü, 🚀",  {"list":[${"1, ".repeat(i % 40)}0]}]}`;
const range = (from, to) => Array.from({ length: to - from }, (_, i) => from + i);
const utf8 = (text) => new TextEncoder().encode(text);
const sha256 = async (text) =>
  Array.from(new Uint8Array(await crypto.subtle.digest("SHA-256", utf8(text))), (b) => b.toString(16).padStart(2, "0")).join("");

export function check(condition, otherwise) {
  if (!condition) throw new Error(otherwise);
}

/** Compares strings, or the named fields of two objects. */
export function equal(got, expected, what, fields = Object.keys(expected)) {
  if (typeof expected === "object") {
    for (const name of fields) equal(got[name], expected[name], `${what}, ${name}`);
  } else if (got !== expected) {
    throw new Error(`${what}: expected ${String(expected).slice(0, 200)}, got ${String(got).slice(0, 200)}`);
  }
}
