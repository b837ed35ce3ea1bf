//! Checks every line that the relay logs.

use std::cell::{Cell, RefCell};
use std::sync::Once;

use log::{LevelFilter, Log, Metadata, Record};

/// The target of the line for each message.
const MESSAGES: &str = "apptuner_relay::messages";
/// Longest line in characters: several names, cut to 64 each, and words.
const LINE_CHARS_MAX: usize = 500;

thread_local! {
    static IS_READING_MESSAGES: Cell<bool> = const { Cell::new(false) };
    static SECRETS: RefCell<Vec<&'static str>> = const { RefCell::new(Vec::new()) };
}

struct LogReader;

impl Log for LogReader {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() != MESSAGES || IS_READING_MESSAGES.get()
    }

    fn log(&self, record: &Record<'_>) {
        if record.target().starts_with("apptuner_relay") && self.enabled(record.metadata()) {
            let line = record.args().to_string();
            assert!(line.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{line:?} can forge a line");
            // A message may have a type that equals a secret.
            if record.target() != MESSAGES {
                SECRETS.with_borrow(|secrets| {
                    let is_secret = |secret: &&str| line.contains(*secret);
                    assert!(!secrets.iter().any(is_secret), "{line} shows a secret");
                });
            }
            assert!(line.len() <= LINE_CHARS_MAX, "{line} is too long");
        }
    }

    fn flush(&self) {}
}

/// Checks all lines from now on, and the lines for messages only if `is_reading_messages`. Only those may contain one
/// of the secrets.
pub fn start(is_reading_messages: bool, secrets: &[&'static str]) {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        // Another test of the same process may have installed its own logger.
        if log::set_logger(&LogReader).is_ok() {
            log::set_max_level(LevelFilter::Debug);
        }
    });
    IS_READING_MESSAGES.set(is_reading_messages);
    SECRETS.set(secrets.to_vec());
}
