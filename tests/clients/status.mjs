// The status page in Chromium, with prepared answers and, if a URL is given, with a relay's admin listener.
// Run: NODE_PATH=/dir/node_modules node tests/clients/status.mjs [http://127.0.0.1:9090/status]
// STATUS_URL            the same URL; used instead of the argument, which is ignored unless it is http
// STATUS_AUTHORIZATION  the Authorization header to send to it
// STATUS_SHOTS          folder for screenshots (default: the temporary directory)
// STATUS_PAGE           another page than src/admin/status.html, to see the checks fail
// CHROMIUM              another executable; the package is playwright-core, as for browser.mjs

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";

const LIMIT_MS = 180_000;
const PATIENCE_MS = 5_000;
const SIZE_MAX = 16 * 1024;
const MIB = 1 << 20;
const TITLES = ["Connections", "Sessions", "Messages", "Bytes", "Waiting in memory", "Time in the relay"].concat(
  ["Delivery latency", "Event-loop lag", "Trouble"],
);
const COLUMNS = [
  ..."time interval_ms desktops mobiles other sessions_paired sessions_waiting sessions_empty".split(" "),
  ..."messages_to_mobile messages_to_desktop bytes_to_mobile bytes_to_desktop buffered_bytes".split(" "),
  ..."latency_p50 latency_p90 latency_p99 delivery_p50 delivery_p90 delivery_p99".split(" "),
  ..."lag_p50 lag_p99 lag_max undelivered errors refused".split(" "),
];

const { chromium } = createRequire(import.meta.url)("playwright-core");
const html = readFileSync(process.env.STATUS_PAGE ?? new URL("../../src/admin/status.html", import.meta.url), "utf8");
const shots = process.env.STATUS_SHOTS ?? tmpdir();
const url = process.env.STATUS_URL ?? process.argv.slice(2).find((argument) => argument.startsWith("http"));

// The page's policy, as the relay sends it.
const hash = (tag) => {
  const text = html.match(new RegExp(`<${tag}>([^]*?)</${tag}>`))[1];
  return `'sha256-${createHash("sha256").update(text).digest("base64")}'`;
};
const POLICY =
  `default-src 'none'; script-src ${hash("script")}; style-src ${hash("style")}; connect-src 'self'; img-src data:; ` +
  "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/** A mock of a relay's admin listener behind a proxy's path prefix. The checks set its answers. */
const relay = {
  status: 200, // 0 closes the socket instead
  body: null, // the answer of /history, with all samples
  requests: [],
};
const server = createServer((request, response) => {
  relay.requests.push(request.url);
  const { pathname, searchParams } = new URL(request.url, "http://relay");
  if (pathname === "/some/prefix/") {
    response.writeHead(200, { "Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": POLICY });
    return response.end(html);
  }
  if (pathname !== "/some/prefix/history") return response.writeHead(404).end();
  if (!relay.status) return request.socket.destroy();
  const since = Number(searchParams.get("since"));
  const samples = relay.body.samples.filter((row) => row[relay.body.columns.indexOf("time")] > since);
  response.writeHead(relay.status, { "Content-Type": "application/json" });
  response.end(JSON.stringify({ ...relay.body, samples }));
});
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
const mock = `http://127.0.0.1:${server.address().port}/some/prefix/`;

const NOW = Date.UTC(2026, 0, 15, 14, 32, 10);
const SAMPLE = {
  interval_ms: 5_000, desktops: 12, mobiles: 11, other: 2, sessions_paired: 9, sessions_waiting: 5, sessions_empty: 1,
  messages_to_mobile: 3, messages_to_desktop: 61_725, bytes_to_mobile: 16 * MIB, bytes_to_desktop: 2_560,
  buffered_bytes: 8 * MIB, latency_p50: 64, latency_p90: 512, latency_p99: 2_048,
  delivery_p50: 25_000, delivery_p90: 250_000, delivery_p99: 500_000, lag_p50: 8, lag_p99: 1_024,
  lag_max: 1_500_000, undelivered: 0, errors: 0, refused: 0,
};
/** A row of /history: `SAMPLE`, ended `back` intervals ago, with `changes`. */
const row = (back, changes = {}) => COLUMNS.map((name) => ({ ...SAMPLE, time: NOW - back * 5_000, ...changes })[name]);
const rows = (from, to, changes) => Array.from({ length: from - to + 1 }, (_, i) => row(from - i, changes));
const history = (samples, changes = {}) => ({
  version: "0.1.0", now: NOW + 1_000, started: NOW - 9_999_000, state: "ready", interval_seconds: 5,
  max_connections: 10_000, max_buffered_bytes: 256 * MIB, columns: COLUMNS, samples, ...changes,
});

/** Fifteen busy minutes, for the screenshots. */
function busy() {
  let seed = 7;
  const random = () => (seed = (seed * 16_807) % 2_147_483_647) / 2_147_483_647;
  const bucket = (value) => 2 ** Math.ceil(Math.log2(value));
  return Array.from({ length: 180 }, (_, i) => {
    const wave = 1 + 0.4 * Math.sin(i / 23) + 0.2 * Math.sin(i / 5);
    const burst = i % 37 < 3 ? 1 : 0;
    const pairs = Math.round(140 * wave);
    return row(179 - i, {
      desktops: pairs + Math.round(12 * wave), mobiles: pairs + 3, other: 2 + burst,
      sessions_paired: pairs, sessions_waiting: Math.round(15 * wave), sessions_empty: 6 + (i % 60 > 40 ? 9 : 0),
      messages_to_mobile: Math.round(900 * wave * (0.8 + 0.4 * random())),
      messages_to_desktop: Math.round(5_200 * wave * (0.8 + 0.4 * random())),
      bytes_to_mobile: Math.round(MIB * (2 + 40 * burst + 6 * random())),
      bytes_to_desktop: Math.round(2.6 * MIB * wave),
      buffered_bytes: Math.round(MIB * (1 + 90 * burst * random())),
      latency_p50: 64, latency_p90: bucket(90 + 90 * random()), latency_p99: bucket(300 * (1 + 8 * burst)),
      delivery_p50: 50_000, delivery_p90: 250_000, delivery_p99: burst ? 2_500_000 : 500_000,
      lag_p50: 32, lag_p99: bucket(200 * wave), lag_max: Math.round(700 + 9_000 * burst * random()),
      refused: i % 61 === 0 ? 7 : 0, errors: i % 47 === 9 ? 2 : 0, undelivered: i > 120 && i < 126 ? 3 : 0,
    });
  }).filter((_, i) => i < 80 || i > 92);
}

const check = (condition, message) => {
  if (!condition) throw new Error(message);
};
const equal = (found, expected, what) => {
  const [a, b] = [JSON.stringify(found), JSON.stringify(expected)];
  check(a === b, `${what} is ${a} instead of ${b}`);
};
const eventually = async (attempt) => {
  const end = Date.now() + PATIENCE_MS;
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      if (Date.now() > end) throw error;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
};

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  // From --disable-quic on: Chromium itself sends nothing to other hosts.
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"].concat(
    ["--disable-background-networking", "--disable-component-update", "--disable-sync"],
  ),
});

/** What the page shows, as an operator would read it. */
const read = () => {
  const plain = (text) => text?.replaceAll("\u00a0", " ");
  const text = (selector) => plain(document.querySelector(selector).innerText);
  const cards = [...document.querySelectorAll("main section")].map((section) => {
    const svg = section.querySelector("svg");
    const pairs = [...section.querySelectorAll("dl > div")];
    return {
      title: section.querySelector("h2").firstChild.textContent,
      note: plain(section.querySelector("h2 span").innerText),
      values: Object.fromEntries(pairs.map(({ children: [name, value] }) => [name.innerText, plain(value.innerText)])),
      label: plain(svg.getAttribute("aria-label")),
      spoken: plain(svg.getAttribute("aria-valuetext")),
      texts: [...svg.querySelectorAll("text")].map((text) => plain(text.textContent)),
      lines: [...svg.querySelectorAll("path.line")].map((path) => path.getAttribute("d")),
      marks: svg.querySelectorAll(".mark").length,
      limits: svg.querySelectorAll(".limit").length,
    };
  });
  return {
    state: text("#state"), facts: text("#facts"), updated: text("#updated"), notice: text("#notice"),
    title: document.title, stale: document.body.classList.contains("stale"),
    cards: Object.fromEntries(cards.map((card) => [card.title, card])),
  };
};

/** A new page with a stopped clock, which only `tick` moves. */
async function open(body, { status = 200, scheme = "light", width = 1440, height = 900, from = mock, hasTouch } = {}) {
  Object.assign(relay, { status, body, requests: [] });
  const viewport = { width, height };
  const context = await browser.newContext({ colorScheme: scheme, viewport, hasTouch, timezoneId: "UTC" });
  const page = await context.newPage();
  const complaints = [];
  page.on("console", (message) => {
    // Chromium itself logs a refusal.
    if (!/^Failed to load resource/.test(message.text())) complaints.push(message.text());
  });
  page.on("pageerror", (error) => complaints.push(error.message));
  await page.clock.install({ time: NOW });
  await page.clock.pauseAt(NOW + 1_000);
  await page.goto(from);
  const view = {
    page, complaints,
    read: () => page.evaluate(read),
    points: async () => (await page.evaluate(read)).cards.Connections.lines[0].match(/[ML]/g).length,
    tick: (ms) => page.clock.runFor(ms),
    histories: () => relay.requests.filter((path) => path.includes("/history")),
  };
  await eventually(async () => check(!["", "loading"].includes((await view.read()).state), "nothing was shown"));
  return view;
}

let failed = false;
async function checking(what, attempt) {
  try {
    await attempt();
    console.log(`ok status: ${what}`);
  } catch (error) {
    failed = true;
    console.log(`not ok status: ${what}: ${error.message.split("\n")[0]}`);
  }
  // Otherwise its page would go on polling.
  for (const context of browser.contexts()) await context.close();
}
const subpaths = (path) => path.split("M").length - 1;
const limit = setTimeout(() => browser.close(), LIMIT_MS);

await checking(`the page is smaller than ${SIZE_MAX} bytes`, () => {
  check(Buffer.byteLength(html) < SIZE_MAX, `it has ${Buffer.byteLength(html)}`);
});

await checking("every chart shows the last sample in units that people read", async () => {
  const view = await open(history(rows(179, 0)));
  const { cards, state, facts, title, notice } = await view.read();
  equal([state, title, notice], ["ready", "ready · apptuner-relay", ""], "header");
  equal(facts, "version 0.1.0, up 2 h 46 min", "facts");
  equal(Object.keys(cards), TITLES, "charts");
  const values = TITLES.map((title) => Object.values(cards[title].values));
  equal(values.slice(0, 2), [["12", "11", "2"], ["9", "5", "1"]], "values");
  equal(values.slice(2, 4), [["0.6/s", "12,345/s"], ["3.2 MiB/s", "512 B/s"]], "values");
  equal(values.slice(4, 6), [["8 MiB"], ["64 µs", "512 µs", "2.05 ms"]], "values");
  equal(values[6], ["25 ms", "250 ms", "500 ms"], "values");
  equal(values.slice(7), [["8 µs", "1.02 ms", "1.5 s"], ["0", "0", "0"]], "values");
  equal(TITLES.map((title) => cards[title].note),
    ["1 % of 10,000", "", "", "", "4 % of 256 MiB", "per message", "to confirm", "", "in 15 min"], "notes");
  equal(Object.keys(cards.Messages.values), ["to mobile", "to desktop"], "labels");
});

await checking("axes have round values in units, and times of day", async () => {
  const view = await open(history(rows(179, 0)));
  const { cards } = await view.read();
  const texts = TITLES.map((title) => cards[title].texts);
  for (const text of texts) equal(text.slice(-3), ["14:30", "14:25", "14:20"], "times");
  equal(texts[0].slice(0, -3), ["0", "10", "20", "30"], "connections");
  equal(texts[2].slice(0, -3), ["0", "5,000/s", "10,000/s", "15,000/s"], "messages");
  equal(texts[3].slice(0, -3), ["0", "1 MiB/s", "2 MiB/s", "3 MiB/s", "4 MiB/s"], "bytes");
  equal(texts[4].slice(0, -3), ["0", "2 MiB", "4 MiB", "6 MiB", "8 MiB"], "waiting");
  equal(texts[5].slice(0, -3), ["10 µs", "100 µs", "1 ms", "10 ms"], "latency");
  equal(texts[7].slice(0, -3), ["1 µs", "100 µs", "10 ms", "1 s"], "lag");
  equal(texts[8].slice(0, -3), ["0", "1"], "trouble");
});

await checking("a limit is drawn once the chart comes near it", async () => {
  const view = await open(history(rows(9, 0, { buffered_bytes: 100 * MIB, desktops: 2_000 })));
  const { cards } = await view.read();
  equal([cards["Waiting in memory"].limits, cards.Connections.limits], [1, 0], "limits");
  equal(cards["Waiting in memory"].texts.includes("256 MiB"), true, "label of the limit");
});

await checking("columns are found by name, and an unknown one is let be", async () => {
  const body = history(rows(9, 0));
  body.columns = ["new", ...COLUMNS].reverse();
  body.samples = body.samples.map((values) => [99, ...values].reverse());
  const view = await open(body);
  const { cards } = await view.read();
  equal(Object.values(cards.Connections.values), ["12", "11", "2"], "connections");
  equal(cards["Event-loop lag"].values.max, "1.5 s", "lag");
});

await checking("nothing is drawn where nothing was measured", async () => {
  const quiet = { latency_p50: null, latency_p90: null, latency_p99: null };
  // Two samples missing; then three without a latency, one with, and one without.
  const samples = [...rows(30, 22), ...rows(19, 7), ...rows(6, 4, quiet), row(3), ...rows(2, 0, quiet)];
  const view = await open(history(samples));
  const { cards } = await view.read();
  equal(cards.Connections.lines.map(subpaths), [2, 2, 2], "pieces of connections");
  equal(cards["Time in the relay"].lines.map(subpaths), [3, 3, 3], "pieces of latency");
  equal(Object.values(cards["Time in the relay"].values), ["–", "–", "–"], "latency now");
  const drawn = await view.page.evaluate(() => document.querySelector("main").innerHTML);
  check(!/NaN|Infinity|undefined|null|∞/.test(drawn), "NaN was drawn");
});

await checking("trouble is summed up and each case of it marked", async () => {
  const samples = [...rows(30, 4), row(3, { refused: 7, errors: 1 }), ...rows(2, 1), row(0, { refused: 2 })];
  const view = await open(history(samples));
  const { cards } = await view.read();
  equal(cards.Trouble.values, { refused: "9", errors: "1", undelivered: "0" }, "trouble");
  equal(cards.Trouble.lines.map(subpaths).sort(), [0, 1, 2], "bars");
});

await checking("pointing at a time shows the values of it, in all charts", async () => {
  const view = await open(history([...rows(179, 91), row(90, { desktops: 77, lag_max: 3_000 }), ...rows(89, 0)]));
  const svg = view.page.locator("section svg").first();
  const box = await svg.boundingBox();
  await view.page.mouse.move(box.x + 56 + (box.width - 62) / 2, box.y + 50);
  await view.tick(50);
  let { cards } = await view.read();
  equal([cards.Connections.note, cards.Connections.values.desktops], ["14:24:40", "77"], "reading");
  equal([cards.Trouble.note, cards["Event-loop lag"].values.max], ["14:24:40", "3 ms"], "reading elsewhere");
  await view.page.mouse.move(box.x + 50, box.y - 40);
  await view.tick(50);
  ({ cards } = await view.read());
  equal([cards.Connections.note, cards.Connections.values.desktops], ["1 % of 10,000", "12"], "values afterwards");
});

await checking("a finger's reading stays until a tap elsewhere, and scrolling leaves none", async () => {
  const view = await open(history(rows(179, 0)), { hasTouch: true, height: 300 });
  const box = await view.page.locator("section svg").first().boundingBox();
  const middle = box.x + 56 + (box.width - 62) / 2;
  const note = async () => {
    await view.tick(50);
    return (await view.read()).cards.Connections.note;
  };
  const devtools = await view.page.context().newCDPSession(view.page);
  const swipe = async (...places) => {
    for (const [i, [x, y]] of places.entries()) {
      const touch = { type: i ? "touchMove" : "touchStart", touchPoints: [{ x, y }] };
      await devtools.send("Input.dispatchTouchEvent", touch);
    }
    await devtools.send("Input.dispatchTouchEvent", { type: "touchEnd", touchPoints: [] });
  };
  await swipe([middle - 90, box.y + 50], [middle - 40, box.y + 50], [middle, box.y + 50]);
  equal(await note(), "14:24:40", "reading");
  await view.page.touchscreen.tap(box.x + 50, box.y - 80);
  equal(await note(), "1 % of 10,000", "note after a tap elsewhere");
  await swipe([middle, box.y + 90], [middle, box.y + 50], [middle, box.y + 10]);
  await eventually(async () => check(await view.page.evaluate(() => scrollY > 0), "nothing scrolled"));
  equal(await note(), "1 % of 10,000", "note after scrolling");
});

await checking("keys move the reading, and a screen reader is told of it", async () => {
  const view = await open(history([...rows(179, 3), row(2, { desktops: 77 }), ...rows(1, 0)]));
  await view.page.keyboard.press("Tab");
  for (const key of ["ArrowLeft", "ArrowLeft", "ArrowLeft", "ArrowRight"]) await view.page.keyboard.press(key);
  await view.tick(50);
  let { cards } = await view.read();
  equal(cards.Connections.spoken, "14:32:00: desktops 77, mobiles 11, other 2", "spoken");
  equal(cards.Connections.label, "Connections, 15 minutes: desktops 12 to 77, mobiles 11 to 11, other 2 to 2", "label");
  equal(cards.Sessions.note, "14:32:00", "time");
  await view.page.keyboard.press("Escape");
  await view.tick(50);
  ({ cards } = await view.read());
  equal(cards.Sessions.note, "", "note after Escape");
});

await checking("new samples are asked for every 5 s and added to the old", async () => {
  const view = await open(history(rows(9, 0)));
  equal(view.histories(), ["/some/prefix/history?since=0"], "requests");
  await view.tick(3_000);
  equal((await view.read()).updated, "updated 3 s ago", "age");
  relay.body = history([...rows(9, 0), row(-1, { desktops: 13 })], { now: NOW + 6_000 });
  await view.tick(2_000);
  await eventually(async () => equal((await view.read()).cards.Connections.values.desktops, "13", "desktops"));
  equal(view.histories(), ["/some/prefix/history?since=0", `/some/prefix/history?since=${NOW}`], "requests");
  equal(await view.points(), 11, "points");
});

await checking("what is older than 15 minutes goes", async () => {
  const view = await open(history(rows(179, 0)));
  relay.body = history(rows(-1, -100), { now: NOW + 501_000 });
  await view.tick(5_000);
  await eventually(async () => equal(await view.points(), 180, "points"));
});

await checking("before the first sample the page says when it comes", async () => {
  const view = await open(history([], { started: NOW - 1_000 }));
  const { notice, cards, state } = await view.read();
  equal([state, notice], ["ready", "Collecting; first point in 3 s."], "notice");
  equal(Object.values(cards.Connections.values), ["–", "–", "–"], "values");
  equal(cards.Connections.lines.map(subpaths), [0, 0, 0], "lines");
});

await checking("a relay that cannot be reached is said to be so, and the charts turn grey until it can", async () => {
  const view = await open(history(rows(30, 0)));
  equal((await view.read()).stale, false, "grey at first");
  relay.status = 0;
  await view.tick(5_000);
  await eventually(async () => equal((await view.read()).state, "no answer", "state"));
  const { stale, notice, cards, updated } = await view.read();
  equal([stale, notice], [true, "The relay cannot be reached. Trying again every 5 s."], "notice");
  equal([cards.Connections.values.desktops, updated], ["12", "updated 5 s ago"], "what is left");
  const filter = await view.page.evaluate(() => getComputedStyle(document.querySelector("main")).filter);
  equal(filter, "grayscale(1)", "filter");
  await view.page.screenshot({ path: join(shots, "status-unreachable.png") });
  relay.status = 200;
  await view.tick(5_000);
  await eventually(async () => equal((await view.read()).state, "ready", "state"));
  equal([(await view.read()).stale, (await view.read()).notice], [false, ""], "afterwards");
});

await checking("answers that refuse are told apart", async () => {
  const view = await open(history(rows(9, 0)), { status: 401 });
  for (const [status, text] of [[401, "The relay wants credentials; reload this page to give them."],
    [403, "The relay does not serve this browser."], [502, "The answer is not from a relay."]]) {
    relay.status = status;
    await view.tick(5_000);
    await eventually(async () => equal((await view.read()).state, String(status), "state"));
    equal((await view.read()).notice, `${text} Trying again every 5 s.`, "notice");
  }
  relay.status = 200;
  await view.tick(5_000);
  await eventually(async () => equal((await view.read()).state, "ready", "state"));
});

await checking("draining and full are said", async () => {
  const view = await open(history(rows(9, 0), { state: "draining" }));
  const colour = () => view.page.evaluate(() => getComputedStyle(document.querySelector("#state")).backgroundColor);
  const draining = await view.read();
  equal([draining.state, draining.notice], ["draining", "New clients are refused while the relay drains."], "state");
  const amber = await colour();
  relay.body = history(rows(9, 0), { state: "full" });
  await view.tick(5_000);
  await eventually(async () => equal((await view.read()).state, "full", "state"));
  equal((await view.read()).notice, "New clients are refused until others leave.", "notice");
  check(amber !== (await colour()), "full looks like draining");
});

await checking("a restart parts the lines, is marked, and does not lose what came before", async () => {
  const view = await open(history(rows(9, 0)));
  equal((await view.read()).cards.Connections.marks, 0, "marks");
  const started = NOW + 2_000;
  relay.body = history([], { now: NOW + 6_000, started });
  await view.tick(5_000);
  await eventually(async () => equal((await view.read()).notice, "Collecting; first point in 1 s.", "notice"));
  relay.body = history(rows(-1, -3, { desktops: 1 }), { now: NOW + 16_000, started });
  await view.tick(5_000);
  await eventually(async () => equal((await view.read()).cards.Connections.values.desktops, "1", "desktops"));
  const { cards, notice, facts } = await view.read();
  equal([notice, facts], ["", "version 0.1.0, up 14 s"], "header");
  equal(cards.Connections.lines.map(subpaths), [2, 2, 2], "pieces");
  equal(await view.points(), 13, "points");
  equal(TITLES.map((title) => cards[title].marks), TITLES.map(() => 1), "marks");
});

await checking("a restart with the clock set back begins afresh", async () => {
  const view = await open(history(rows(9, 0)));
  const ago = NOW - 3_600_000;
  relay.body = history([row(720)], { now: ago + 1_000, started: ago - 4_000 });
  await view.tick(5_000);
  await eventually(async () => equal((await view.read()).cards.Connections.values.desktops, "–", "desktops"));
  await view.tick(5_000);
  await eventually(async () => equal((await view.read()).cards.Connections.lines.map(subpaths), [1, 1, 1], "pieces"));
});

await checking("a hidden tab asks nothing, and catches up when shown", async () => {
  const view = await open(history(rows(9, 0)));
  const hide = (hidden) => view.page.evaluate((hidden) => {
    Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
  }, hidden);
  await hide(true);
  await view.tick(60_000);
  await new Promise((resolve) => setTimeout(resolve, 300));
  equal(view.histories().length, 1, "requests");
  relay.body = history(rows(9, -12), { now: NOW + 61_000 });
  await hide(false);
  await eventually(async () => equal(await view.points(), 22, "points"));
  equal(view.histories().length, 2, "requests");
  await view.tick(5_000);
  await eventually(() => equal(view.histories().length, 3, "requests"));
});

await checking("nothing is fetched but the page and its data, and links stay below the prefix", async () => {
  const view = await open(history(rows(9, 0)));
  equal(relay.requests, ["/some/prefix/", "/some/prefix/history?since=0"], "requests");
  // Headless Chromium does not request an icon; with a window it would.
  equal(await view.page.evaluate(() => document.querySelector("link[rel=icon]")?.href), "data:,", "icon");
  equal(await view.page.evaluate(() => [...document.links].map((link) => new URL(link.href).pathname)),
    ["/some/prefix/metrics", "/some/prefix/sessions", "/some/prefix/readyz"], "links");
});

await checking("credentials in the page's address do not keep it from asking", async () => {
  const view = await open(history(rows(9, 0)), { from: mock.replace("//", "//operator:secret@") });
  equal((await view.read()).state, "ready", "state");
});

await checking("what the relay says is text, never markup", async () => {
  const view = await open(history(rows(9, 0), { version: "<img src=x>", state: "<b>ready</b>" }));
  equal((await view.read()).facts.slice(0, 19), "version <img src=x>", "version");
  equal(await view.page.evaluate(() => document.querySelectorAll("img").length), 0, "images");
});

for (const scheme of ["light", "dark"]) {
  await checking(`colours tell apart and can be read (${scheme})`, async () => {
    const view = await open(history(busy()), { scheme });
    const colours = await view.page.evaluate(() => {
      const style = getComputedStyle(document.documentElement);
      const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
      const names = "page card text muted blue orange grey green amber red low mid high".split(" ");
      return Object.fromEntries(names.map((name) => {
        canvas.fillStyle = style.getPropertyValue(`--${name}`);
        canvas.fillRect(0, 0, 1, 1);
        return [name, [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3)];
      }));
    });
    const luminance = (colour) => colour
      .map((part) => (part <= 10 ? part / 3294 : ((part / 255 + 0.055) / 1.055) ** 2.4))
      .reduce((sum, part, i) => sum + part * [0.2126, 0.7152, 0.0722][i], 0);
    const contrast = (a, b) => {
      const [dark, bright] = [luminance(colours[a]), luminance(colours[b])].sort((x, y) => x - y);
      return (bright + 0.05) / (dark + 0.05);
    };
    const reaches = (least, pairs) => pairs.split(", ").map((pair) => pair.split(" on ")).forEach(([a, b]) =>
      check(contrast(a, b) >= least, `${a} on ${b} has a contrast of ${contrast(a, b).toFixed(2)}`));
    reaches(4.5, "text on card, text on page, muted on card, muted on page, blue on page");
    reaches(4.5, "card on green, card on amber, card on red, card on grey");
    reaches(3, "blue on card, orange on card, grey on card, green on card, amber on card, red on card");
    reaches(3, "low on card, mid on card, high on card");
    check((luminance(colours.page) > 0.5) === (scheme === "light"), `the page is not ${scheme}`);
    await view.page.screenshot({ path: join(shots, `status-${scheme}.png`) });
    equal(view.complaints, [], "complaints");
    });
}

await checking("360 px are wide enough, and charts use the room there is", async () => {
  const view = await open(history(busy()), { width: 360, height: 740 });
  const size = () => view.page.evaluate(() => {
    const boxes = [...document.querySelectorAll("header *, section *")].map((box) => box.getBoundingClientRect());
    const { scrollWidth } = document.documentElement;
    return { scrolls: scrollWidth > innerWidth, right: Math.max(...boxes.map(({ right }) => right)) };
  });
  const { scrolls, right } = await size();
  equal([scrolls, right <= 360], [false, true], "fits");
  await view.page.screenshot({ path: join(shots, "status-phone.png"), fullPage: true });
  const ends = async () =>
    Math.max(...(await view.read()).cards.Connections.lines[0].match(/[\d.]+(?= )/g).map(Number));
  const narrow = await ends();
  await view.page.setViewportSize({ width: 620, height: 740 });
  await eventually(async () => check((await ends()) > narrow + 200, "the charts stay narrow"));
});

await checking("neither the policy nor the script has anything to complain about", async () => {
  const view = await open(history(busy()));
  await view.page.mouse.move(700, 300);
  await view.tick(20_000);
  equal(view.complaints, [], "complaints");
  // The policy is in force: Chromium reports violations.
  await view.page.evaluate(() => document.body.setAttribute("style", "color: red"));
  const forbidden = () => view.complaints.some((text) => /Content Security Policy/.test(text));
  await eventually(() => check(forbidden(), "the policy is not in force"));
});

if (url) {
  await checking(`a relay's own numbers are shown (${new URL(url).origin})`, async () => {
    const headers = process.env.STATUS_AUTHORIZATION && { Authorization: process.env.STATUS_AUTHORIZATION };
    const context = await browser.newContext({ extraHTTPHeaders: headers, viewport: { width: 1440, height: 900 } });
    const page = await context.newPage();
    const complaints = [];
    page.on("console", (message) => complaints.push(message.text()));
    page.on("pageerror", (error) => complaints.push(error.message));
    const response = await page.goto(url);
    const policy = response.headers()["content-security-policy"];
    equal(policy, POLICY, "policy");
    const end = Date.now() + 30_000;
    while ((await page.evaluate(read)).cards.Connections.values.desktops === "–") {
      check(Date.now() < end, "no sample came");
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
    // The two requests are made at different times, so one of the page's polls may come between them.
    await eventually(async () => {
      const shown = await page.evaluate(read);
      const answer = await (await fetch(new URL("history?since=0", url), { headers })).json();
      for (const name of COLUMNS) check(answer.columns.includes(name), `/history has no column ${name}`);
      const { length } = answer.columns;
      check(answer.samples.every((values) => values.length === length), "a sample is not as long as the columns");
      const last = Object.fromEntries(answer.columns.map((name, i) => [name, answer.samples.at(-1)[i]]));
      const now = (names) => names.split(" ").map((name) => last[name].toLocaleString("en"));
      equal(Object.values(shown.cards.Connections.values), now("desktops mobiles other"), "connections");
      const sessions = now("sessions_paired sessions_waiting sessions_empty");
      equal(Object.values(shown.cards.Sessions.values), sessions, "sessions");
      const sum = (name) => answer.samples.reduce((sum, values) => sum + values[answer.columns.indexOf(name)], 0);
      equal(shown.cards.Trouble.values.errors, sum("errors").toLocaleString("en"), "errors");
      equal([shown.state, shown.stale], [answer.state, false], "state");
      check(shown.facts.startsWith(`version ${answer.version}, up `), `facts are ${shown.facts}`);
    });
    await page.screenshot({ path: join(shots, "status-relay.png") });
    equal(complaints, [], "complaints");
  });
}

clearTimeout(limit);
await browser.close();
process.exit(failed ? 1 : 0);
