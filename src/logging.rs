//! How log records are written: one per line, as text or as JSON.

use std::io::{self, Write};

use apptuner_relay::config::LogFormat;
use env_logger::fmt::Formatter;
use log::Record;

/// Without `RUST_LOG`: what an operator can mend, and the start and stop of the process.
const DEFAULT_FILTER: &str = "warn,apptuner_relay::process=info";

/// From here on what is logged goes to standard error.
pub(crate) fn start(format: LogFormat) {
    // An empty variable is an unset one.
    let filter = std::env::var("RUST_LOG").ok().filter(|filter| !filter.is_empty());
    let mut builder = env_logger::Builder::new();
    builder.parse_filters(filter.as_deref().unwrap_or(DEFAULT_FILTER)).format_timestamp_millis();
    if format == LogFormat::Json {
        builder.format(write_json);
    }
    builder.init();
}

/// One JSON object. The fields that a record begins with, `conn=1.2 session=abc`, become its own.
fn write_json(formatter: &mut Formatter, record: &Record<'_>) -> io::Result<()> {
    let time = formatter.timestamp_millis();
    let level = record.level().as_str().to_ascii_lowercase();
    write!(formatter, r#"{{"time":"{time}","level":"{level}","target":{}"#, json(record.target()))?;
    let text = record.args().to_string();
    let mut rest = text.as_str();
    while let Some((name, value, behind)) = split_field(rest) {
        write!(formatter, r#","{name}":{}"#, json(value))?;
        rest = behind;
    }
    writeln!(formatter, r#","message":{}}}"#, json(rest))
}

/// The field that `text` begins with, and what follows.
fn split_field(text: &str) -> Option<(&str, &str, &str)> {
    let (word, rest) = text.split_once(' ')?;
    let (name, value) = word.split_once('=')?;
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    is_name.then_some((name, value, rest))
}

fn json(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}
