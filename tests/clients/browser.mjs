// Chromium's own WebSocket as both clients. Run: NODE_PATH=/dir/node_modules node tests/clients/browser.mjs ws://127.0.0.1:8787
// (`npm install playwright-core` in /dir, `apt-get install chromium`; CHROMIUM names another executable).

import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";

const LIMIT_MS = 180_000;
const base = process.argv[2] ?? "ws://127.0.0.1:8787";
const { chromium } = createRequire(import.meta.url)("playwright-core");

// A page of its own origin, so that the relay sees the Origin header a web app would send.
const script = readFileSync(new URL("scenario.mjs", import.meta.url));
const pages = createServer((request, response) => {
  const isScript = request.url === "/scenario.mjs";
  response.setHeader("Content-Type", isScript ? "text/javascript" : "text/html; charset=utf-8");
  response.end(isScript ? script : "<!doctype html><title>clients</title>");
});
await new Promise((resolve) => pages.listen(0, "127.0.0.1", resolve));

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  // From --disable-quic on: no traffic of Chromium's own to other hosts.
  args: ["--no-sandbox", "--disable-gpu"].concat(
    ["--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
  ),
});
let failure;
const limit = setTimeout(() => browser.close(), LIMIT_MS);
try {
  const page = await browser.newPage({ ignoreHTTPSErrors: true });
  await page.exposeFunction("report", (what) => console.log(`ok browser: ${what}`));
  await page.goto(`http://127.0.0.1:${pages.address().port}/`);
  await page.evaluate(async (base) => (await import("/scenario.mjs")).scenario(base, globalThis.report), base);
} catch (error) {
  failure = error;
  console.log(`not ok browser: ${error.message.split("\n")[0]}`);
}
clearTimeout(limit);
await browser.close();
process.exit(failure ? 1 : 0);
