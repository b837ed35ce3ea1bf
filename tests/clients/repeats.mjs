/** The sender's part: numbers its messages. `run` tells this start of the app from its earlier ones. */
export function numbering(run = crypto.randomUUID()) {
  let number = 0;
  return (message) => JSON.stringify({ ...message, run, number: ++number });
}

/**
 * The receiver's part: comes back after it has lost its connection, and calls `onMessage` once for each message. The
 * relay keeps the order, so the last number of each run is enough. Store `last` where it survives a crash if what
 * `onMessage` does survives one.
 */
export function receive(url, onMessage, last = new Map()) {
  const socket = new WebSocket(url);
  socket.onmessage = ({ data }) => {
    const message = JSON.parse(data);
    if (message.run === undefined) return onMessage(message); // A system message, which is never repeated.
    if (message.number <= last.get(message.run)) return;
    onMessage(message);
    last.set(message.run, message.number); // Behind the call: if that crashes, the message comes again.
  };
  socket.onclose = ({ code }) => {
    if (code !== 1000) setTimeout(receive, 500, url, onMessage, last); // 1000: replaced, or the session is over.
  };
}
