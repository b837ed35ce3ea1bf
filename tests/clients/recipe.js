/**
 * One end of a pairing, the desktop's or the mobile's. The file runs unchanged in browsers, Node 22 and React Native.
 * `url` is `wss://HOST/desktop/ID` or `wss://HOST/mobile/ID`. The relay runs with `--answer-pings`, and both ends use
 * this file.
 *
 * `send(value)` brings a JSON value to the peer's `onMessage`, once and in order, whatever breaks in between.
 * `send(value, true)` starts over: what was sent before, such as an older bundle, is not sent again.
 * `onEnd(code, reason)` is called when there will be no other try; `connect()` tries again, `close()` ends it.
 */
export function pair(url, { onMessage, onEnd, patience = 30_000, slowest = 30, pauses = [500, 30_000] }) {
  const peer = url.includes("/desktop/") ? "mobile" : "desktop";
  const run = Math.random().toString(36).slice(2); // Ids count from 1 in each run of the app.
  let kept = [], id = 0, ready = false; // Messages that the peer may lack. It is ready once it has said what it has.
  let had = { run: "", id: 0 }, coming = 0; // The last message taken, and the length of one that is on its way.
  let socket, timer, silent, sent, read, asked, pause = pauses[0];

  function connect() {
    if (socket) return;
    clearTimeout(timer);
    [silent, sent, read, asked] = [0, 0, 0, undefined];
    const mine = (socket = new WebSocket(url));
    mine.onopen = () => mine === socket || mine.close(); // It may open although it was given up.
    mine.onmessage = ({ data }) => mine === socket && take(JSON.parse(data));
    mine.onclose = ({ code, reason }) => mine === socket && end(code, reason);
    // Node 22 reports a failed connect as an error alone; elsewhere a close follows.
    mine.onerror = () => mine === socket && mine.readyState === 0 && end(1006, "No connection");
    timer = setInterval(watch, patience / 3);
  }

  function end(code, reason) {
    const old = socket;
    [socket, ready] = [undefined, false];
    clearInterval(timer);
    old?.close(); // Its events, which may take a minute, mean nothing any more.
    if ([1000, 1002, 1007, 1008, 1009].includes(code)) return onEnd(code, reason);
    timer = setTimeout(connect, pause * (0.5 + Math.random() / 2));
    pause = Math.min(pause * 2, pauses[1]);
  }

  // A ping waits behind what was sent, and its pong behind what is coming. So a silent relay gets more time while a
  // bundle is on its way: one millisecond for `slowest` characters. A dead one is then noticed later.
  function watch() {
    const isOpen = socket.readyState === 1;
    const allowed = patience + (isOpen ? (sent - read + coming) / slowest : 0);
    if (++silent * (patience / 3) > allowed) end(1006, "The relay is silent");
    else if (isOpen && asked === undefined) {
      asked = sent;
      socket.send('{"type":"ping"}');
    }
  }

  function take(message) {
    silent = 0;
    if (message.type === "pong") [read, asked, pause] = [asked, undefined, pauses[0]];
    else if (message.type === `${peer}_disconnected`) [ready, coming] = [false, 0];
    else if (message.type === `${peer}_connected`) {
      ready = false;
      socket.send(JSON.stringify({ type: "have", ...had }));
    } else if (message.type === "have" && !ready) {
      ready = true;
      kept.filter((one) => message.run !== run || one.id > message.id).forEach(transmit);
    } else if (message.type === "coming") coming = message.length;
    else if (message.type === "data") receive(message);
  }

  function receive(message) {
    const last = message.run === had.run ? had.id : 0;
    coming = 0;
    // Repeats are dropped, and so is what came before something that was lost: `have` brings both again, in order.
    if (message.id !== last + 1 && !(message.first && message.id > last)) return;
    had = { run: message.run, id: message.id };
    onMessage(message.value);
  }

  function transmit(message) {
    const text = JSON.stringify(message);
    sent += text.length;
    if (text.length > 100_000) socket.send(`{"type":"coming","length":${text.length}}`);
    socket.send(text);
  }

  function send(value, startsOver = false) {
    kept = startsOver ? [] : kept.slice(-999);
    kept.push({ type: "data", run, id: ++id, value });
    kept[0].first = true; // Nothing older will come.
    if (ready) transmit(kept.at(-1));
  }

  connect();
  return { send, connect, close: () => end(1000, "Closed by the app") };
}
