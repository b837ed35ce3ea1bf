// A proxy in front of the relay. It records what both write, and can attack clients as a malicious relay could.

export class Recorder {
  /** What clients wrote: request heads as texts, and messages as `{ from, data }`. */
  heads = [];
  messages = [];
  /** What the relay wrote to the newest connection of each client type. */
  arrived = { desktop: [], mobile: [] };
  /** Turns a message to a client into a list of texts that are sent instead. The list may be empty. */
  twist = (_to, text) => [text];
  clients = {};

  constructor({ WebSocket, WebSocketServer }, relay) {
    this.server = new WebSocketServer({ host: "127.0.0.1", port: 0, perMessageDeflate: false, maxPayload: 0 });
    this.server.on("connection", (client, request) => {
      this.heads.push(`${request.method} ${request.url} ${request.rawHeaders.join(" ")}`);
      const from = request.url.split("/")[1];
      const upstream = new WebSocket(relay + request.url, { perMessageDeflate: false, maxPayload: 0 });
      const opened = new Promise((resolve) => upstream.once("open", resolve));
      this.clients[from] = client;
      const arrived = (this.arrived[from] = []);
      client.on("message", async (data, binary) => {
        this.messages.push({ from, data });
        await opened;
        upstream.send(data, { binary });
      });
      upstream.on("message", (data) => {
        const text = data.toString();
        arrived.push(text);
        for (const twisted of this.twist(from, text)) client.send(twisted);
      });
      for (const [one, other] of [[client, upstream], [upstream, client]]) {
        one.on("error", () => other.terminate());
        one.on("close", (code, reason) => (code < 1004 ? other.close(code, reason) : other.terminate()));
      }
    });
    this.listening = new Promise((resolve) => this.server.once("listening", resolve));
  }

  get url() {
    return `ws://127.0.0.1:${this.server.address().port}`;
  }

  /** The envelopes that this client type has sealed. */
  sealed(from) {
    return this.messages.filter((message) => message.from === from).map(({ data }) => data.toString()).filter(isSealed);
  }

  /**
   * How many of the envelopes that arrived at the newest connection of this client type came again: they are the last
   * ones that its peer had sealed by then, of which it has sealed `later` more since.
   */
  repeats(to, later) {
    const sealed = this.sealed(to === "mobile" ? "desktop" : "mobile");
    const arrived = this.arrived[to].filter(isSealed);
    const expected = sealed.slice(sealed.length - arrived.length);
    if (arrived.some((text, i) => text !== expected[i])) throw new Error(`other messages to the ${to} than its peer's last`);
    return arrived.length - later;
  }
}

const isSealed = (text) => JSON.parse(text).type === "sealed";
