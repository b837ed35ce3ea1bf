// A proxy in front of the relay. It records what clients write, and can attack them as a malicious relay could.

export class Recorder {
  /** What clients wrote: request heads as texts, and messages as `{ from, data }`. */
  heads = [];
  messages = [];
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
      client.on("message", async (data, binary) => {
        this.messages.push({ from, data });
        await opened;
        upstream.send(data, { binary });
      });
      upstream.on("message", (data) => {
        for (const text of this.twist(from, data.toString())) client.send(text);
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
    const own = this.messages.filter((message) => message.from === from).map(({ data }) => data.toString());
    return own.filter((text) => JSON.parse(text).type === "sealed");
  }
}
