//! A client's bytes, however they are cut, bring exactly the messages and the refusal that
//! tungstenite finds in them when it reads them whole, but for the places where the relay is meant
//! to be stricter or sooner; those are all listed in `reference`.

mod reference;

use std::io::{self, Read};

use apptuner_relay::relay::budget::Budget;
use apptuner_relay::relay::inbound::{Inbound, Incoming, Receiver, Rules};
use apptuner_relay::relay::message::CloseReason;
use apptuner_relay::relay::payload::SpareBlocks;
use apptuner_relay::relay::time::Tick;

use super::choices::Choices;
use super::frames::{LengthForm, client_frame, monotonous_frame};
use reference::Reference;

/// Largest messages allowed: within a control frame's length, within a small frame's, and beyond.
const SIZES_MAX: [usize; 6] = [100, 1_000, 16_384, 20_000, 70_000, 1 << 20];
/// Lengths around the bounds of the length's forms and of the relay's buffers.
const LENGTHS: [usize; 16] = [
    0, 1, 124, 125, 126, 127, 1_000, 16_384, 16_385, 16_399, 20_000, 65_535, 65_536, 70_001, 131_072, 270_000,
];
/// Bytes of all the long payloads of one input.
const LONG_BYTES_MAX: usize = 1 << 20;

/// What a client's bytes amounted to, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Event {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong,
    /// The code, 1005 if there was none, and the reason.
    Close(u16, Vec<u8>),
    /// The close code of the refusal.
    Refused(u16),
}

/// How the bytes come.
#[derive(Debug)]
struct Plan {
    size_max: usize,
    /// Bytes of each read, over and over; at 0 it blocks.
    steps: Vec<usize>,
    /// Data is thrown away once so many bytes have been read, as it is behind the relay's own close.
    discard_from: Option<usize>,
    bytes: Vec<u8>,
}

/// Compares both readings of the bytes in `data`.
pub fn check(data: &[u8]) {
    let plan = plan(data);
    let (events, discarded_from, is_unfinished) = read_in_pieces(&plan);
    let mut reference = Reference::new(plan.size_max);
    reference.read(&plan.bytes, discarded_from);
    assert_eq!(events, reference.events, "this reader's events, and the reference's");
    if let Some(expected) = reference.is_unfinished() {
        assert_eq!(is_unfinished, expected, "something is unfinished exactly between two messages");
    }
}

fn plan(data: &[u8]) -> Plan {
    let mut choices = Choices::new(data);
    let is_raw = choices.flag();
    let size_max = choices.pick(SIZES_MAX);
    let discard_from = choices.flag().then(|| choices.word().into());
    let step_count = choices.below(8);
    let mut steps: Vec<usize> = choices.bytes(step_count).iter().map(|&byte| step(byte)).collect();
    if steps.iter().all(|&step| step == 0) {
        steps.push(usize::MAX);
    }
    let bytes = if is_raw { choices.rest().to_vec() } else { frames(&mut choices) };
    Plan { size_max, steps, discard_from, bytes }
}

fn step(byte: u8) -> usize {
    match byte {
        0..200 => byte.into(),
        200..210 => 4_096,
        210..220 => 16_384,
        220..230 => 65_536,
        _ => usize::MAX,
    }
}

/// Frames from a list of operations: most of them correct, some with a byte changed.
fn frames(choices: &mut Choices<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut long_bytes = LONG_BYTES_MAX;
    while !choices.is_empty() {
        let kind = choices.byte();
        let (first, mask) = (choices.byte(), [kind, choices.byte(), 0, 255]);
        let form = match kind >> 4 {
            0 => LengthForm::Two,
            1 => LengthForm::Eight,
            _ => LengthForm::Shortest,
        };
        let mut frame = match kind % 8 {
            0 => {
                let content = choices.byte();
                let length = choices.pick(LENGTHS).min(long_bytes);
                long_bytes -= length;
                monotonous_frame(first, mask, form, content, length)
            }
            1 => {
                let pieces = ["€", "ä", "𝄞", "\u{7FF}", "\u{FFFF}", "\u{10FFFF}", "x", "\0"];
                let text = choices.pick(pieces).repeat(choices.below(4) + 1);
                client_frame(first, mask, form, text.as_bytes())
            }
            2 => {
                let payload = [&choices.word().to_be_bytes()[..], choices.string()].concat();
                client_frame(0x88, mask, form, &payload)
            }
            3 => choices.string().to_vec(),
            _ => client_frame(first, mask, form, choices.string()),
        };
        if kind >> 4 == 2 {
            let at = choices.below(frame.len());
            if let Some(byte) = frame.get_mut(at) {
                *byte ^= 1 << choices.below(8);
            }
        }
        bytes.append(&mut frame);
    }
    bytes
}

/// A stream that gives its bytes in pieces and blocks in between.
struct Pieces<'a> {
    bytes: &'a [u8],
    steps: std::iter::Cycle<std::slice::Iter<'a, usize>>,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let step = self.steps.next().copied().unwrap_or(usize::MAX);
        if step == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = step.min(buffer.len()).min(self.bytes.len());
        self.bytes.read(&mut buffer[..count])
    }
}

/// Reads as a connection does. Returns what came out, after how many bytes data began to be thrown
/// away because the plan says so, and whether a part of something is kept in the end.
fn read_in_pieces(plan: &Plan) -> (Vec<Event>, Option<usize>, bool) {
    let mut receiver = Receiver::default();
    let mut inbound = Inbound::default();
    let mut stream = Pieces { bytes: &plan.bytes, steps: plan.steps.iter().cycle() };
    let mut events = Vec::new();
    let mut discarded_from = None;
    let mut rules = Rules { size_max: plan.size_max, wants_type: false, discard: false };
    loop {
        let read_bytes = plan.bytes.len() - stream.bytes.len();
        if discarded_from.is_none() && plan.discard_from.is_some_and(|from| read_bytes >= from) {
            discarded_from = Some(read_bytes);
            rules.discard = true;
        }
        match inbound.read_from(&mut stream, &mut receiver, usize::MAX) {
            Ok((0, _)) => return (events, discarded_from, inbound.unfinished_since().is_some()),
            Ok(_) => {}
            Err(_) => continue,
        }
        loop {
            match inbound.next(&mut receiver, rules) {
                Ok(Some(Incoming::Announced(ask))) => {
                    // Now and then room comes only after the bytes have been kept for a while.
                    if ask.order % 2 == 0 {
                        inbound.keep_rest(&mut receiver, Tick(1));
                    }
                    let room = budget(plan.size_max).try_reserve(ask).expect("nobody else is there");
                    inbound.give_room(room, &mut SpareBlocks::default()).expect("there is memory");
                    if inbound.is_resumable() {
                        inbound.resume(&mut receiver);
                    }
                }
                Ok(Some(incoming)) => {
                    events.push(event(incoming, &receiver));
                    if let Some(Event::Close(..)) = events.last() {
                        return (events, discarded_from, false);
                    }
                }
                Ok(None) => break,
                Err(refused) => {
                    events.push(Event::Refused(refused.reason.code()));
                    if !refused.is_framing_intact {
                        return (events, discarded_from, false);
                    }
                    rules.discard = true;
                }
            }
        }
        inbound.keep_rest(&mut receiver, Tick(1));
        assert!(receiver.bytes().is_empty(), "the buffer is free for the next connection");
    }
}

/// An account of its own for each grant: what is granted here never runs out.
fn budget(size_max: usize) -> Budget {
    Budget::new(8 << 20, size_max)
}

fn event(incoming: Incoming, receiver: &Receiver) -> Event {
    match incoming {
        Incoming::Text(content, _) => {
            Event::Text(String::from_utf8(content.to_vec(receiver)).expect("texts are UTF-8"))
        }
        Incoming::Binary(content) => Event::Binary(content.to_vec(receiver)),
        Incoming::Ping(payload) => Event::Ping(payload.to_vec()),
        Incoming::Pong => Event::Pong,
        Incoming::Close { code, answer: CloseReason::Echo(answer, reason) } => {
            assert_eq!(answer, if code == 1005 { 1000 } else { code }, "a close is answered with its code");
            Event::Close(code, reason)
        }
        other @ (Incoming::Close { .. } | Incoming::Announced(_)) => panic!("{other:?}"),
    }
}
