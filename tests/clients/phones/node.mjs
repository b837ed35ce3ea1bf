// A phone with Node's `ws` package. Writes a line for each message and comes back whenever it has lost its connection.
// Run: NODE_PATH=/dir/node_modules node phones/node.mjs ws://host:port/mobile/SESSION [crash]
// With `crash` it kills itself as soon as it has a whole bundle.

import { createHash } from "node:crypto";
import { writeSync } from "node:fs";
import { createRequire } from "node:module";

const [url, mode] = process.argv.slice(2);
const WebSocket = createRequire(import.meta.url)("ws");
const RETRY_MS = 500, CONNECT_MS = 3_000, PING_MS = 2_000, SILENT_PINGS = 3;

function connect() {
  const socket = new WebSocket(url, { handshakeTimeout: CONNECT_MS, maxPayload: 0 });
  let unanswered = 0;
  // A cut network ends no connection by itself.
  const watch = setInterval(() => {
    if (socket.readyState !== WebSocket.OPEN) return;
    if (unanswered++ === SILENT_PINGS) socket.terminate();
    else socket.ping();
  }, PING_MS);
  socket.on("pong", () => (unanswered = 0));
  socket.on("message", take);
  socket.on("error", () => {}); // A close follows.
  socket.on("close", () => (clearInterval(watch), setTimeout(connect, RETRY_MS)));
}

function take(data) {
  unlessSystem(data, (id, isBundle) => {
    const digest = isBundle ? createHash("sha256").update(data).digest("hex") : "-";
    write(`${id} ${data.length} ${digest}`);
    if (isBundle && mode === "crash") process.kill(process.pid, "SIGKILL");
  });
}

function unlessSystem(data, use) {
  const { id, type } = JSON.parse(data);
  if (id === undefined) write(`system ${type}`);
  else use(id, type === "bundle_update");
}

// Synchronous, so that a line written is a line that survives SIGKILL.
function write(line) {
  writeSync(1, `${line}\n`);
}

connect();
