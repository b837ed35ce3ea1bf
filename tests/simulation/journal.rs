//! What happened, in the order in which it happened: what the relay did with its streams, and the
//! lines that it logs about the life of sessions.

use std::cell::{Cell, RefCell};
use std::sync::Once;

use apptuner_relay::relay::ids::ClientType;
use log::{LevelFilter, Log, Metadata, Record};

/// One thing that the relay did. Connections go by the index of their wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Read {
        wire: usize,
        bytes: usize,
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
    /// Logged: it is disconnected, with this close code.
    Left {
        conn: String,
        client_type: ClientType,
        session: String,
        code: u16,
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

/// Takes what this thread's relay did since the last call.
pub fn take() -> Vec<Event> {
    EVENTS.with_borrow_mut(std::mem::take)
}

/// Begins an empty journal. Whether each message is logged changes how the relay reads it.
pub fn begin(logs_messages: bool) {
    static LOGGER: Once = Once::new();
    LOGGER.call_once(|| {
        log::set_logger(&Lines).expect("nobody else logs in this process");
        log::set_max_level(LevelFilter::Info);
    });
    LOGS_MESSAGES.set(logs_messages);
    take();
}

struct Lines;

impl Log for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() != "apptuner_relay::messages" || LOGS_MESSAGES.get()
    }

    fn log(&self, record: &Record<'_>) {
        if record.target() != "apptuner_relay::messages"
            && let Some(event) = parse(&record.args().to_string())
        {
            note(event);
        }
    }

    fn flush(&self) {}
}

/// Reads a line by the ending that the contract gives it.
fn parse(line: &str) -> Option<Event> {
    let field = |name: &str| {
        let value = line.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        value.map(str::to_owned)
    };
    let session = field("session")?;
    let client_type = if line.contains(" Desktop ") { ClientType::Desktop } else { ClientType::Mobile };
    if line.ends_with(&format!(" connected to session {session}")) {
        return Some(Event::Joined { conn: field("conn")?, client_type, session });
    }
    if let Some((_, code)) = line.split_once(&format!(" disconnected from session {session}: ")) {
        return Some(Event::Left { conn: field("conn")?, client_type, session, code: code.parse().ok()? });
    }
    let (_, reason) = line.split_once(&format!(" Session {session} deleted: "))?;
    Some(Event::Deleted { session, reason: reason.split(' ').next()?.to_owned() })
}
