// Plants faults in recipe.js, one at a time, and expects recipe.mjs to find each. Only in Node, and with a relay that
// sends nothing again, which would hide some of the faults; 14 minutes.
// Run: node tests/clients/recipe-faults.mjs (Node below 22 needs --experimental-websocket).

import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const here = (name) => fileURLToPath(new URL(name, import.meta.url));
const recipe = readFileSync(here("recipe.js"), "utf8");
const folder = mkdtempSync(join(tmpdir(), "recipe-"));

/** The check that must fail, the original text, and the text that replaces it. */
const FAULTS = [
  ["firstMessages", "never ready", "      ready = true;\n", ""],
  ["lateMobile", "nothing is held", ".forEach(transmit)", ""],
  ["lateMobile", "older bundles are kept", "startsOver ? [] : kept.slice(-999)", "kept.slice(-999)"],
  ["replaced", "another run's ids count", "message.run !== run || ", ""],
  ["vanishesInBundle", "only the last message is sent again", ".forEach(transmit)", ".slice(-1).forEach(transmit)"],
  ["vanishesInBundle", "later messages overtake", "message.id !== last + 1 &&", "message.id <= last &&"],
  ["swallowed", "what was sent is not kept", "transmit(kept.at(-1))", "transmit(kept.pop())"],
  ["relayDies", "messages do not wait for `have`", "[socket, ready] = [undefined, false]", "socket = undefined"],
  ["relayDies", "no reconnect", "timer = setTimeout(connect", "(connect"],
  ["backsOff", "an error without a close is not seen", "mine.onerror =", "mine.onwarning ="],
  ["replaced", "1000 is not final", "[1000, 1002,", "[1002,"],
  ["replaced", "a new run goes on with the old one's ids", "message.run === had.run ? had.id : 0", "had.id"],
  ["deadRelay", "silence is not noticed", "> allowed)", "> Infinity)"],
  ["deadRelay", "no pings", `socket.send('{"type":"ping"}');`, ""],
  ["deadRelay", "answers do not count", "    silent = 0;\n", ""],
  ["deadRelay", "connect opens a second connection", "if (socket) return;", ""],
  ["slowLinks", "what is coming does not count", "coming = message.length", "coming = 0"],
  ["slowLinks", "what was sent does not count", "sent - read + coming", "coming"],
  ["slowLinks", "bundles are not announced", "text.length > 100_000", "false"],
  ["repeats", "repeats are taken", "message.id !== last + 1 &&", "message.id > last + 1 &&"],
  ["repeats", "gaps are taken", "message.id !== last + 1 &&", "message.id <= last &&"],
  ["repeats", "a first message is refused", "message.first && ", "false && "],
  ["backsOff", "the pause does not grow", "pause * 2, pauses[1]", "pause, pauses[1]"],
  ["backsOff", "the pause grows without end", "Math.min(pause * 2, pauses[1])", "pause * 2"],
  ["backsOff", "no jitter", "(0.5 + Math.random() / 2)", "1"],
  ["backsOff", "the pause stays long", "[read, asked, pause] =", "[read, asked] ="],
  ["backsOff", "any connection makes the pause short", "    silent = 0;\n", "    silent = 0, pause = pauses[0];\n"],
  ["finalCloses", "1008 is not final", "1008, ", ""],
  ["finalCloses", "1009 is not final", ", 1009]", "]"],
];

let missed = 0;
for (const [only, what, from, to] of FAULTS) {
  if (recipe.split(from).length !== 2) throw new Error(`${what}: does not stand once in recipe.js: ${from}`);
  const path = join(folder, "recipe.mjs");
  writeFileSync(path, recipe.replace(from, () => to));
  const env = { ...process.env, RECIPE: path, CHROMIUM: "", ONLY: only, WINDOWS: "0s" };
  const run = [...process.execArgv, here("recipe.mjs")];
  const { stdout, stderr } = spawnSync(process.execPath, run, { env, encoding: "utf8" });
  const found = /^not ok (.*)$/m.exec(stdout)?.[1] ?? (stderr && `it throws: ${/^\w*Error.*$/m.exec(stderr)?.[0]}`);
  if (!found) missed++;
  console.log(found ? `ok ${only}, ${what}: ${found}` : `not ok ${only}, ${what}: not found`);
}
console.log(`${FAULTS.length - missed} of ${FAULTS.length} found`);
process.exit(missed ? 1 : 0);
