//! The journal of a run, in order: what the relay did with its streams, and what it logged about sessions.

use std::cell::{Cell, RefCell};
use std::sync::Once;

use apptuner_relay::relay::ClientType;
use log::{Level, LevelFilter, Log, Metadata, Record};

/// One thing that the relay did. A connection is named by the index of its wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// `is_full`: the read filled its buffer, so there may be more.
    Read {
        wire: usize,
        bytes: usize,
        is_full: bool,
    },
    ReadBlocked {
        wire: usize,
    },
    ReadEnded {
        wire: usize,
    },
    ReadFailed {
        wire: usize,
    },
    Wrote {
        wire: usize,
        bytes: Vec<u8>,
    },
    WriteBlocked {
        wire: usize,
    },
    WriteFailed {
        wire: usize,
    },
    /// Logged: a client connected to a session.
    Joined {
        conn: String,
        client_type: ClientType,
        session: String,
    },
    /// Logged: a client is disconnected, with this close code.
    Left {
        conn: String,
        client_type: ClientType,
        session: String,
        code: u16,
    },
    /// Logged: a client is closed because the relay shuts down.
    Drained {
        conn: String,
        client_type: ClientType,
        session: String,
    },
    /// Logged: from now on a client's message, of which this much has arrived, is given to its peer.
    Released {
        conn: String,
        bytes: usize,
    },
    /// Logged: a message that will never be whole is taken from its receiver, which may have a part of it.
    CutShort {
        conn: String,
        is_begun: bool,
    },
    /// Logged: a client was replaced, and this many messages in its queue move to the new connection.
    Replaced {
        conn: String,
        messages: u64,
    },
    /// Logged: a pong has confirmed this many messages.
    Confirmed {
        conn: String,
        messages: u64,
    },
    /// Logged: a client is no longer asked to confirm, and this many messages count as delivered.
    Unasked {
        conn: String,
        messages: u64,
    },
    /// Logged: so many of the oldest messages that a client has not confirmed are no longer kept, because memory is
    /// short. None: the start of the message that is being written.
    Freed {
        conn: String,
        messages: u64,
    },
    /// Logged: a client's message, of which this much has arrived, is kept for a peer that is away.
    Kept {
        conn: String,
        bytes: usize,
    },
    /// Logged: so many messages for a client are given up.
    GivenUp {
        session: String,
        client_type: ClientType,
        messages: u64,
    },
    /// Logged: the end of a client, with how many messages are kept for its return, and how many are given up.
    Ended {
        conn: String,
        kept: u64,
        undelivered: u64,
    },
    /// Logged: a client is sent an error about its message, with this code.
    Told {
        conn: String,
        code: String,
    },
    /// Logged: a session was issued.
    Issued {
        conn: String,
        session: String,
    },
    /// Logged: a session is deleted, `inactive` or `empty`.
    Deleted {
        session: String,
        reason: String,
    },
}

thread_local! {
    static EVENTS: RefCell<Vec<Event>> = const { RefCell::new(Vec::new()) };
    static LOGS_MESSAGES: Cell<bool> = const { Cell::new(false) };
}

pub fn note(event: Event) {
    EVENTS.with_borrow_mut(|events| events.push(event));
}

/// Takes the events of this thread's relay since the last call.
pub fn take() -> Vec<Event> {
    EVENTS.with_borrow_mut(std::mem::take)
}

/// Begins an empty journal. Whether each message is logged affects how the relay reads it.
pub fn begin(logs_messages: bool) {
    static LOGGER: Once = Once::new();
    LOGGER.call_once(|| {
        log::set_logger(&Lines).expect("this is the only logger of the process");
        log::set_max_level(LevelFilter::Debug);
    });
    LOGS_MESSAGES.set(logs_messages);
    take();
}

struct Lines;

impl Log for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        match metadata.target() {
            "apptuner_relay::messages" => LOGS_MESSAGES.get(),
            "apptuner_relay::sessions" => true,
            _ => metadata.level() <= Level::Info,
        }
    }

    fn log(&self, record: &Record<'_>) {
        if record.target() == "apptuner_relay::messages" || !self.enabled(record.metadata()) {
            return;
        }
        let line = record.args().to_string();
        let event = if record.level() == Level::Debug { parse_debug(&line) } else { parse(&line) };
        if let Some(event) = event {
            note(event);
        }
    }

    fn flush(&self) {}
}

fn field_of(line: &str, name: &str) -> Option<String> {
    line.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('=')).map(str::to_owned)
}

/// Parses a line of level `debug` by its ending.
fn parse_debug(line: &str) -> Option<Event> {
    let messages = field_of(line, "messages").and_then(|messages| messages.parse().ok());
    if line.ends_with(" Given up") {
        let (session, client_type) = (field_of(line, "session")?, client_type_of(line)?);
        return Some(Event::GivenUp { session, client_type, messages: messages? });
    }
    let conn = field_of(line, "conn")?;
    if line.ends_with(" Message released") {
        return Some(Event::Released { conn, bytes: field_of(line, "bytes")?.parse().ok()? });
    }
    if line.ends_with(" Message kept") {
        return Some(Event::Kept { conn, bytes: field_of(line, "bytes")?.parse().ok()? });
    }
    if line.ends_with(" Confirmed") {
        return Some(Event::Confirmed { conn, messages: messages? });
    }
    if line.ends_with(" No longer asked to confirm") {
        return Some(Event::Unasked { conn, messages: messages? });
    }
    if line.ends_with(" Not kept: memory is short") {
        return Some(Event::Freed { conn, messages: messages? });
    }
    if line.ends_with(" Message cut short") {
        return Some(Event::CutShort { conn, is_begun: field_of(line, "cut")? == "Begun" });
    }
    if line.ends_with(" Replaced") {
        return Some(Event::Replaced { conn, messages: messages? });
    }
    line.contains(" Client told: ").then_some(Event::Told { conn, code: field_of(line, "error")? })
}

/// The field `client` of a line.
fn client_type_of(line: &str) -> Option<ClientType> {
    match field_of(line, "client")?.as_str() {
        "desktop" => Some(ClientType::Desktop),
        "mobile" => Some(ClientType::Mobile),
        _ => None,
    }
}

/// Parses a line by the ending that the contract defines.
fn parse(line: &str) -> Option<Event> {
    let field = |name: &str| field_of(line, name);
    let session = field("session")?;
    if line.contains(" reason=shutting_down ") {
        return Some(Event::Drained { conn: field("conn")?, client_type: client_type_of(line)?, session });
    }
    if line.ends_with(" Connection ended") {
        client_type_of(line)?;
        let count = |name: &str| field(name)?.parse().ok();
        let (kept, undelivered) = (count("kept")?, count("undelivered")?);
        return Some(Event::Ended { conn: field("conn")?, kept, undelivered });
    }
    let client_type = if line.contains(" Desktop ") { ClientType::Desktop } else { ClientType::Mobile };
    if line.ends_with(&format!(" connected to session {session}")) {
        return Some(Event::Joined { conn: field("conn")?, client_type, session });
    }
    if let Some((_, code)) = line.split_once(&format!(" disconnected from session {session}: ")) {
        return Some(Event::Left { conn: field("conn")?, client_type, session, code: code.parse().ok()? });
    }
    if line.ends_with(&format!(" Session {session} issued")) {
        return Some(Event::Issued { conn: field("conn")?, session });
    }
    let (_, reason) = line.split_once(&format!(" Session {session} deleted: "))?;
    Some(Event::Deleted { session, reason: reason.split(' ').next()?.to_owned() })
}
