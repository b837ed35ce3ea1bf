// End-to-end encryption for two apps that a relay pairs: AES-256-GCM, for browsers and Node 20 or newer alike.
// The key is in the fragment of the pairing link, which the desktop shows and no browser sends anywhere.

const { subtle } = crypto;
const random = (count) => crypto.getRandomValues(new Uint8Array(count));
const utf8 = (text) => new TextEncoder().encode(text);

export function pairingLink(page) {
  return `${page}#session=${base64url(random(16))}&secret=${base64url(random(16))}&key=${base64url(random(32))}`;
}

/** One app's end of the pairing, made once in a run of the app: it outlives the connections. */
export async function channel(link, me) {
  const { session, secret, key } = Object.fromEntries(new URLSearchParams(new URL(link).hash.slice(1)));
  const peer = me === "desktop" ? "mobile" : "desktop";
  const shared = await subtle.importKey("raw", bytesOf(key), "HKDF", false, ["deriveKey"]);
  const derive = (from, use) => {
    const hkdf = { name: "HKDF", hash: "SHA-256", salt: utf8(session), info: utf8(`sealed 1 from ${from}`) };
    return subtle.deriveKey(hkdf, shared, { name: "AES-GCM", length: 256 }, false, [use]);
  };
  const [sealing, opening] = [await derive(me, "encrypt"), await derive(peer, "decrypt")];
  const mine = base64url(random(16));
  const begun = new Set(); // The epochs of the peer that were opened.
  const [sealInTurn, openInTurn] = [turns(), turns()];
  let theirs, iv, n, epoch, last;
  return {
    session,
    secret,
    /** To be sent whenever the peer has come. */
    challenge: JSON.stringify({ type: "challenge", challenge: mine }),
    /** Takes the peer's challenge and begins an epoch; says whether the peer runs anew, and knows nothing yet. */
    answer({ challenge }) {
      const isNew = challenge !== theirs;
      [theirs, iv, n] = [challenge, base64url(random(8)), 0];
      return isNew;
    },
    /** Makes a JSON value the text of a message for that run of the peer. */
    seal: (value) => sealInTurn(async () => {
      if (!iv || n >= 2 ** 32) throw new Error("a challenge of the peer must come first");
      const envelope = { type: "sealed", n: n++, iv };
      const data = await subtle.encrypt(gcm(me, theirs, envelope), sealing, utf8(JSON.stringify(value)));
      return JSON.stringify({ ...envelope, data: base64url(new Uint8Array(data)) });
    }),
    /** The value in an envelope; refuses what is forged, for another run, or has come before or too late. */
    open: (envelope) => openInTurn(async () => {
      const isNext = envelope.iv === epoch ? envelope.n > last : !begun.has(envelope.iv);
      if (!isNext) throw new Error("sealed message came before, or too late");
      const value = await subtle.decrypt(gcm(peer, mine, envelope), opening, bytesOf(envelope.data));
      [epoch, last] = [envelope.iv, envelope.n];
      begun.add(epoch);
      return JSON.parse(new TextDecoder().decode(value));
    }),
  };
}

/**
 * The nonce is the epoch's random 8 bytes and the count within it. The rest of the envelope counts as text, for
 * base64 can spell the same bytes in several ways and a count over 2³² would wrap.
 */
function gcm(from, challenge, { iv, n }) {
  const nonce = new Uint8Array(12);
  nonce.set(bytesOf(iv));
  new DataView(nonce.buffer).setUint32(8, n);
  return { name: "AES-GCM", iv: nonce, additionalData: utf8(JSON.stringify([from, challenge, iv, n])) };
}

/** Begins each job when the one before has ended: a large message keeps its place before a small one. */
function turns(last = Promise.resolve()) {
  return (job) => (last = last.then(job, job));
}

const DIGITS = utf8("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_");
const VALUES = new Uint8Array(128);
DIGITS.forEach((digit, value) => (VALUES[digit] = value));

// By hand, for with `btoa` it took five times as long to seal 50 MB. Writes behind an array's end do nothing.
function base64url(bytes) {
  const text = new Uint8Array(Math.ceil((bytes.length * 4) / 3));
  for (let from = 0, to = 0; from < bytes.length; from += 3) {
    const three = (bytes[from] << 16) | (bytes[from + 1] << 8) | bytes[from + 2];
    text[to++] = DIGITS[three >> 18];
    text[to++] = DIGITS[(three >> 12) & 63];
    text[to++] = DIGITS[(three >> 6) & 63];
    text[to++] = DIGITS[three & 63];
  }
  return new TextDecoder().decode(text);
}

function bytesOf(text) {
  const bytes = new Uint8Array(Math.floor((text.length * 3) / 4));
  const value = (at) => VALUES[text.charCodeAt(at)];
  for (let from = 0, to = 0; from < text.length; from += 4) {
    const three = (value(from) << 18) | (value(from + 1) << 12) | (value(from + 2) << 6) | value(from + 3);
    bytes[to++] = three >> 16;
    bytes[to++] = three >> 8;
    bytes[to++] = three;
  }
  return bytes;
}
