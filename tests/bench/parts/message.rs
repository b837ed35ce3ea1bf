//! The cost of one message or one new connection: frame header, JSON check, outbox, request head.

use std::collections::VecDeque;
use std::hint::black_box;
use std::io::{self, IoSlice, Read, Write};
use std::time::Duration;

use apptuner_relay::relay::internals::frame::{Opcode, parse_header};
use apptuner_relay::relay::internals::http::{HeadProgress, HeadReader, HeadRules, Verdict};
use apptuner_relay::relay::internals::json::check_text;
use apptuner_relay::relay::internals::limits::KEPT_BYTES_MAX;
use apptuner_relay::relay::internals::memory::{Chunk, Chunks};
use apptuner_relay::relay::internals::outbox::{Outbox, Pool};
use apptuner_relay::relay::internals::transit::Transits;
use apptuner_relay::relay::{Effect, Now, Readiness, Relay, Settings, Tick};

use crate::frame::{PING, PONG, TEXT, UNCHANGED, frame_header as header_of, frame_under};
use crate::text::message_text;
use crate::{Kind, Operations, Part};

pub(crate) const PARTS: &[Part] = &[
    // One size for each form of the length.
    Part { name: "frame-header", sizes: &[125, 1024, 65_536], kind: Kind::Count, prepare: frame_header },
    Part { name: "json-check", sizes: &[128, 1024, 65_536], kind: Kind::Bytes, prepare: json_check },
    // A client library sends about five fields, a browser about fifteen.
    Part { name: "request-head", sizes: &[5, 15, 100], kind: Kind::Count, prepare: request_head },
    // Messages of 128 bytes that wait when the socket is written to.
    Part { name: "outbox", sizes: &[1, 8, 256], kind: Kind::Count, prepare: outbox },
    // Chunks in use; one is freed and another allocated. 4096 chunks are 256 MiB, in eight regions.
    Part { name: "chunks", sizes: &[1, 128, 4096], kind: Kind::Count, prepare: chunks },
    // A long message that is read in pieces of this many bytes, each of which is sent at once.
    Part { name: "cursor", sizes: &[256, 16_384, 65_536], kind: Kind::Bytes, prepare: cursor },
    // Messages of 128 bytes that arrive in one turn.
    Part { name: "relay", sizes: &[1, 8, 256], kind: Kind::Count, prepare: relay_unconfirmed },
    // The same, when the receiver confirms them.
    Part { name: "relay-confirmed", sizes: &[1, 8, 256], kind: Kind::Count, prepare: relay_confirmed },
];

/// The relay's JSON check. Only this function calls it.
fn is_json(text: &str) -> bool {
    check_text(text.as_bytes()).is_ok()
}

fn frame_header(payload_bytes: usize) -> Operations {
    let header = header_of(TEXT, payload_bytes as u64);
    let is_whole = |header: &[u8]| matches!(parse_header(header, false), Ok(Some(_)));
    assert!(is_whole(&header), "the header is a client's");
    Box::new(move |count| {
        for _ in 0..count {
            black_box(is_whole(black_box(&header)));
        }
    })
}

fn json_check(bytes: usize) -> Operations {
    let text = message_text(bytes);
    assert!(is_json(&text) && text.len() == bytes, "the text is JSON of that size");
    Box::new(move |count| {
        for _ in 0..count {
            black_box(is_json(black_box(&text)));
        }
    })
}

fn request_head(fields: usize) -> Operations {
    let mut head = String::from(
        "GET /desktop/abc123 HTTP/1.1\r\nHost: relay.example.com\r\nUpgrade: websocket\r\n\
         Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
    );
    // Five fields are there already.
    for _ in 5..fields {
        head += "X-Some-Field: Mozilla/5.0 (X11; Linux x86_64; rv:128.0)\r\n";
    }
    head += "\r\n";
    let is_upgrade = |head: &[u8]| {
        let progress = HeadReader::default().push(head, HeadRules::default());
        matches!(progress, HeadProgress::Done { verdict: Verdict::Upgrade(_), .. })
    };
    assert!(is_upgrade(head.as_bytes()), "the head is an upgrade's");
    Box::new(move |count| {
        for _ in 0..count {
            black_box(is_upgrade(black_box(head.as_bytes())));
        }
    })
}

/// A socket that takes all bytes and drops them.
struct Sink;

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(black_box(bytes).len())
    }

    fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        Ok(black_box(pieces).iter().map(|piece| piece.len()).sum())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Queues messages, and writes them when `waiting` are queued. One operation is one message.
fn outbox(waiting: usize) -> Operations {
    let (mut outbox, mut pool) = (Outbox::default(), Pool::default());
    let payload = message_text(128).into_bytes();
    let mut queued = 0;
    Box::new(move |count| {
        for _ in 0..count {
            outbox.push_small(&mut pool, Opcode::Text, black_box(&payload));
            queued += 1;
            if queued >= waiting {
                queued = 0;
                let end = outbox.write_to(&mut Sink, &mut pool, None, usize::MAX);
                assert!(end.is_ok() && outbox.is_empty(), "a sink takes everything");
            }
        }
    })
}

/// With `in_use` chunks in use, frees one after the other and allocates a new one.
fn chunks(in_use: usize) -> Operations {
    let mut chunks = Chunks::default();
    let mut taken: VecDeque<Chunk> = (0..in_use).map(|_| chunks.take()).collect();
    Box::new(move |count| {
        for _ in 0..count {
            if let Some(chunk) = taken.pop_front() {
                chunks.give(chunk);
                taken.push_back(black_box(chunks.take()));
            }
        }
        assert_eq!(chunks.used(), in_use, "as many as before");
    })
}

/// Reads `read_bytes` into a message that is already long, and passes them on.
fn cursor(read_bytes: usize) -> Operations {
    let mut transits = Transits::default();
    let key = transits.begin(Opcode::Binary);
    let mut cursor = transits.release(key);
    let mut read_and_write = move || {
        let mut left = read_bytes;
        while left > 0
            && let Some(place) = transits.free_mut(key, left)
        {
            let count = black_box(place).len();
            transits.extend(key, count);
            left -= count;
        }
        transits.take_news(key);
        let mut written = 0;
        loop {
            let transit = transits.get(key);
            cursor.plan(transit);
            if cursor.planned_bytes() == 0 {
                break;
            }
            cursor.gather(transit, 0, |bytes| black_box(bytes).is_empty());
            written += cursor.advance(transit, usize::MAX).1;
            cursor.release(&mut transits);
        }
        assert_eq!(written, read_bytes, "all of it is handed on");
    };
    // Only a long message is passed on before its end.
    for _ in 0..=KEPT_BYTES_MAX / read_bytes {
        read_and_write();
    }
    Box::new(move |count| {
        for _ in 0..count {
            read_and_write();
        }
    })
}

/// A client in memory that takes everything. The tests' own stream would add its cost to the relay's.
#[derive(Default)]
struct Wire {
    to_relay: Vec<u8>,
    taken: usize,
    /// The frame that answers the last ping.
    pong: Option<Vec<u8>>,
}

impl Wire {
    /// Takes what the relay writes at once: the relay gives a ping as a part of its own.
    fn take(&mut self, bytes: &[u8]) -> usize {
        if let [PING, _, payload @ ..] = black_box(bytes) {
            self.pong = Some(frame_under(UNCHANGED, PONG, payload));
        }
        bytes.len()
    }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = self.to_relay.get(self.taken..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        if let (Some(place), Some(bytes)) = (buffer.get_mut(..count), rest.get(..count)) {
            place.copy_from_slice(bytes);
        }
        self.taken += count;
        if count == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(count) }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(self.take(bytes))
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        Ok(slices.iter().map(|slice| self.take(slice)).sum())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn relay_unconfirmed(per_turn: usize) -> Operations {
    relay(per_turn, Settings { redelivery_window: Duration::ZERO, ..Settings::default() })
}

fn relay_confirmed(per_turn: usize) -> Operations {
    relay(per_turn, Settings::default())
}

/// Forwards messages from a desktop to a mobile, `per_turn` in each turn, without system calls.
fn relay(per_turn: usize, settings: Settings) -> Operations {
    let mut now = Now { tick: Tick(1), ..Now::default() };
    let mut relay = Relay::new(settings, [1, 2], now);
    let mut join = |client_type: &str| {
        let request = format!(
            "GET /{client_type}/a HTTP/1.1\r\nHost: relay\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        let wire = Wire { to_relay: request.into_bytes(), ..Wire::default() };
        let id = relay.handle_accept(wire, ([127, 0, 0, 1], 1).into(), now);
        relay.handle_readiness(id, Readiness::READABLE);
        relay.handle_turn(now);
        id
    };
    let (desktop, mobile) = (join("desktop"), join("mobile"));
    let payload = message_text(128).into_bytes();
    let frame = frame_under(UNCHANGED, TEXT, &payload);
    if let Some(wire) = relay.stream(desktop) {
        wire.to_relay = frame.repeat(per_turn);
    }
    Box::new(move |count| {
        for _ in 0..count / per_turn as u64 {
            if let Some(wire) = relay.stream(desktop) {
                wire.taken = 0;
            }
            // No time passes for timers.
            now.micros += 20;
            relay.handle_readiness(desktop, Readiness::READABLE);
            relay.handle_turn(now);
            relay.handle_turn_end(now.micros + 10);
            assert!(!matches!(relay.poll_effect(), Some(Effect::Close { .. })), "no connection ends");
            if let Some(wire) = relay.stream(mobile)
                && let Some(pong) = wire.pong.take()
            {
                (wire.to_relay, wire.taken) = (pong, 0);
                relay.handle_readiness(mobile, Readiness::READABLE);
            }
        }
        assert!(count == 0 || relay.counters().bytes_accepted.iter().sum::<u64>() > 0, "they are carried");
    })
}
