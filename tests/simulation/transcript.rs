//! Fingerprints of what happened: of everything, and of what members saw.
//!
//! The IDs and secrets that the relay draws follow from its seed. In a fingerprint each is replaced by a blank of the
//! same length, and an issued session by its number.

use apptuner_relay::relay::{ConnectionId, Tick};

use crate::journal::Event;
use crate::visit::Issued;

/// The relay writes everything that it has drawn within this many bytes from the start of a connection.
const START_BYTES: usize = 1_024;
/// Length of a drawn ID or secret.
const DRAWN_BYTES: usize = 22;

#[derive(Debug, Default)]
pub struct Transcript {
    all: Fingerprint,
    /// The fingerprint of the ends of members' sessions.
    deletions: Fingerprint,
    wires: Vec<Wire>,
    /// The number of members with a fingerprint.
    member_count: usize,
    /// What members saw, if it is kept.
    log: Option<Vec<String>>,
}

#[derive(Debug)]
struct Wire {
    conn: String,
    /// Its number among members, if what it sees belongs only to them.
    member: Option<usize>,
    /// It may be sent a drawn ID or secret.
    is_issued: bool,
    start: Vec<u8>,
    /// The fingerprint of what it saw. Members cannot tell which of them is served first in a turn.
    seen: Fingerprint,
}

/// FNV-1a by words of eight bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Fingerprint(u64);

impl Fingerprint {
    fn add(&mut self, bytes: &[u8]) {
        let mut hash = self.0 ^ 0xCBF2_9CE4_8422_2325;
        let mut mix = |word: u64| hash = (hash ^ word).wrapping_mul(0x0100_0000_01B3).rotate_left(29);
        let (words, rest) = bytes.as_chunks();
        for &word in words {
            mix(u64::from_le_bytes(word));
        }
        for &byte in rest {
            mix(u64::from(byte));
        }
        self.0 = hash;
    }

    fn add_number(&mut self, number: u64) {
        self.add(&number.to_le_bytes());
    }
}

impl Transcript {
    pub fn new(is_verbose: bool) -> Self {
        Self { log: is_verbose.then(Vec::new), ..Self::default() }
    }

    /// What members saw, if it was kept.
    pub fn take_log(&mut self) -> Vec<String> {
        self.log.take().unwrap_or_default()
    }

    /// Adds the next wire.
    pub fn connect(&mut self, conn: ConnectionId, is_member: bool, is_issued: bool) {
        let member = is_member.then_some(self.member_count);
        self.member_count += usize::from(is_member);
        self.wires.push(Wire {
            conn: conn.to_string(),
            member,
            is_issued,
            start: Vec::new(),
            seen: Fingerprint::default(),
        });
    }

    /// Adds an event. `issued` are the members' sessions known so far.
    pub fn add(&mut self, event: &Event, tick: Tick, issued: &[Issued]) {
        let Some(wire) = self.wire_of(event) else {
            let (Event::Deleted { session, .. } | Event::GivenUp { session, .. }) = event else { return };
            let is_members = session.len() < DRAWN_BYTES || issued.iter().any(|(id, _)| id == session);
            let text = blank(without_ids(format!("{} {event:?}", tick.0).into_bytes(), issued));
            self.all.add(&text);
            if is_members {
                self.deletions.add(&text);
            }
            return;
        };
        if let (Some(member), Some(log)) = (self.wires[wire].member, &mut self.log) {
            let what = match event {
                Event::Wrote { bytes, .. } => format!("wrote {} bytes", bytes.len()),
                _ => essence(event),
            };
            log.push(format!("{:>9} member {member}: {what}", tick.0));
        }
        self.all.add_number(wire as u64);
        self.add_to(wire, &tick.0.to_le_bytes());
        if let Event::Wrote { bytes, .. } = event {
            let start = &mut self.wires[wire].start;
            let (kept, rest) = bytes.split_at(bytes.len().min(START_BYTES - start.len()));
            start.extend_from_slice(kept);
            self.add_to(wire, &(bytes.len() as u64).to_le_bytes());
            self.add_to(wire, rest);
        } else {
            let text = essence(event);
            let text = blank(without_ids(text.into_bytes(), issued));
            self.add_to(wire, &text);
        }
    }

    /// Adds what the host does with a connection.
    pub fn add_effect(&mut self, id: ConnectionId, what: &str, tick: Tick) {
        let conn = id.to_string();
        if let Some(wire) = self.wires.iter().rposition(|wire| wire.conn == conn) {
            self.all.add_number(wire as u64);
            self.add_to(wire, &tick.0.to_le_bytes());
            self.add_to(wire, what.as_bytes());
        }
    }

    fn add_to(&mut self, wire: usize, bytes: &[u8]) {
        let mut print = Fingerprint::default();
        print.add(bytes);
        self.all.add_number(print.0);
        self.wires[wire].seen.add_number(print.0);
    }

    fn wire_of(&self, event: &Event) -> Option<usize> {
        match event {
            Event::Read { wire, .. }
            | Event::ReadBlocked { wire }
            | Event::ReadEnded { wire }
            | Event::ReadFailed { wire }
            | Event::Wrote { wire, .. }
            | Event::WriteBlocked { wire }
            | Event::WriteFailed { wire } => Some(*wire),
            Event::Joined { conn, .. }
            | Event::Left { conn, .. }
            | Event::Drained { conn, .. }
            | Event::Released { conn, .. }
            | Event::CutShort { conn, .. }
            | Event::Replaced { conn, .. }
            | Event::Confirmed { conn, .. }
            | Event::Unasked { conn, .. }
            | Event::Freed { conn, .. }
            | Event::Kept { conn, .. }
            | Event::Ended { conn, .. }
            | Event::Told { conn, .. }
            | Event::Issued { conn, .. } => self.wires.iter().rposition(|wire| wire.conn == *conn),
            Event::Deleted { .. } | Event::GivenUp { .. } => None,
        }
    }

    /// The fingerprints of everything, and of what members saw.
    pub fn finish(mut self, issued: &[Issued]) -> (u64, u64) {
        let mut members = self.deletions;
        for mut wire in self.wires {
            let mut start = wire.start;
            if wire.is_issued {
                start = blank(without_ids(start, issued));
                // A part of a drawn text may be at its end.
                let whole = start.len().saturating_sub(DRAWN_BYTES);
                start.truncate(whole);
            }
            self.all.add(&start);
            wire.seen.add(&start);
            if wire.member.is_some() {
                members.add_number(wire.seen.0);
            }
        }
        (self.all.0, members.0)
    }
}

/// An event without the name of its connection, which depends on the other connections.
fn essence(event: &Event) -> String {
    match event {
        Event::Read { bytes, is_full, .. } => format!("read {bytes} {is_full}"),
        Event::ReadBlocked { .. } => "read blocked".to_owned(),
        Event::ReadEnded { .. } => "read ended".to_owned(),
        Event::ReadFailed { .. } => "read failed".to_owned(),
        Event::WriteBlocked { .. } => "write blocked".to_owned(),
        Event::WriteFailed { .. } => "write failed".to_owned(),
        Event::Joined { client_type, session, .. } => format!("{client_type:?} joined {session}"),
        Event::Left { client_type, session, code, .. } => format!("{client_type:?} left {session}: {code}"),
        Event::Drained { client_type, session, .. } => format!("{client_type:?} closed in {session}"),
        Event::Released { bytes, .. } => format!("released {bytes}"),
        Event::CutShort { is_begun, .. } => format!("cut short {is_begun}"),
        Event::Replaced { messages, .. } => format!("replaced {messages}"),
        Event::Confirmed { messages, .. } => format!("confirmed {messages}"),
        Event::Unasked { messages, .. } => format!("no longer asked {messages}"),
        Event::Freed { messages, .. } => format!("freed {messages}"),
        Event::Kept { bytes, .. } => format!("kept {bytes}"),
        Event::Ended { kept, undelivered, .. } => format!("ended {kept} {undelivered}"),
        Event::Told { code, .. } => format!("told {code}"),
        Event::Issued { .. } => "issued".to_owned(),
        Event::Wrote { .. } | Event::Deleted { .. } | Event::GivenUp { .. } => unreachable!("told elsewhere"),
    }
}

/// Replaces the ID of each member's session by its number.
fn without_ids(mut bytes: Vec<u8>, issued: &[Issued]) -> Vec<u8> {
    for (number, (id, _)) in issued.iter().enumerate() {
        replace(&mut bytes, id, &format!("{number:#>DRAWN_BYTES$}"));
    }
    bytes
}

/// Replaces all other drawn texts by blanks: 22 characters of base64url between other characters.
fn blank(mut bytes: Vec<u8>) -> Vec<u8> {
    let is_drawn = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let mut start = 0;
    while start < bytes.len() {
        let length = bytes[start..].iter().take_while(|byte| is_drawn(byte)).count();
        if length == DRAWN_BYTES {
            bytes[start..start + length].fill(b'?');
        }
        start += length + 1;
    }
    bytes
}

fn replace(bytes: &mut [u8], from: &str, to: &str) {
    let mut start = 0;
    while let Some(at) = bytes[start..].windows(from.len()).position(|window| window == from.as_bytes()) {
        bytes[start + at..start + at + from.len()].copy_from_slice(to.as_bytes());
        start += at + from.len();
    }
}
