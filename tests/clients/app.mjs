// The part of an app on top of encrypted.mjs that handles the connection. encryption.mjs runs it in Node and in
// Chromium.

import { channel } from "./encrypted.mjs";

export class App {
  /** @param base the relay, `ws://host:port`; @param me "desktop" or "mobile" */
  static async start(base, link, me) {
    const app = new App();
    Object.assign(app, { base, me, peer: me === "desktop" ? "mobile" : "desktop", channel: await channel(link, me) });
    await app.connect();
    return app;
  }

  inbox = [];
  refused = [];
  peerRuns = 0;

  /** Connects, for the first time or again, and waits for the relay's `connected`. */
  connect(base = this.base) {
    const socket = (this.socket = new WebSocket(`${base}/${this.me}/${this.channel.session}`));
    this.peerIsReady = new Promise((resolve) => (this.ready = resolve));
    return new Promise((connected) => {
      socket.onmessage = async ({ data }) => {
        const message = JSON.parse(data);
        if (message.type === "connected") connected();
        else if (message.type === `${this.peer}_connected`) socket.send(this.channel.challenge);
        else if (message.type === "challenge") this.meet(message);
        else if (message.type === "sealed") {
          const opened = this.channel.open(message);
          await opened.then((value) => this.inbox.push(value), (error) => this.refused.push(error.message));
          this.wake?.();
        }
      };
    });
  }

  meet(challenge) {
    // A restarted peer knows nothing, and cannot open messages that were sent to its previous run.
    if (this.channel.answer(challenge)) this.peerRuns++;
    this.ready();
  }

  async send(value) {
    await this.peerIsReady;
    const text = await this.channel.seal(value);
    this.socket.send(text);
  }

  async next() {
    while (this.inbox.length === 0) await new Promise((resolve) => (this.wake = resolve));
    return this.inbox.shift();
  }

  async refusals(count) {
    while (this.refused.length < count) await new Promise((resolve) => (this.wake = resolve));
    return this.refused.splice(0);
  }
}
