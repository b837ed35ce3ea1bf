//! Writes log records, one per line, as text or as JSON.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fmt::{Arguments, Display};
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use apptuner_relay::LogFormat;
use apptuner_relay::program::{Dropped, LogOutput};
use env_logger::Target;
use env_logger::fmt::Formatter;
use log::{Level, LevelFilter, Record, warn};

/// Target of the lines that this file itself writes.
const PROCESS: &str = "apptuner_relay::process";
/// The filter without `RUST_LOG`: warnings and errors, and the start and stop of the process.
const DEFAULT_FILTER: &str = "warn,apptuner_relay::process=info";
/// The prefix of the targets of all records of this program.
const PROGRAM: &str = "apptuner_relay";

/// Fields that are strings in the JSON log, even if the value looks like a number. Every other field is a number or a
/// truth value if it looks like one. So each field always has the same JSON type.
const TEXT_FIELDS: [&str; 9] =
    ["address", "client", "conn", "error", "key", "path", "peer", "reason", "session"];

/// Starts logging to standard error. Returns the counter of dropped lines. Call once per process.
pub(crate) fn start(format: LogFormat) -> Arc<AtomicU64> {
    let dropped = Arc::new(Dropped::default());
    let total = Arc::clone(&dropped.total);
    // Not read by env_logger itself, which would write its own error for a bad value.
    let value = std::env::var_os("RUST_LOG");
    let Filter { directives, ignored } = Filter::of_variable(value.as_deref());
    let output = LogOutput::new(Arc::clone(&dropped));
    env_logger::Builder::new()
        .parse_filters(&directives)
        .target(Target::Pipe(Box::new(output)))
        .format(move |formatter, record| write_record(formatter, record, format, &dropped))
        .init();
    if let Some(ignored) = ignored {
        warn!(
            target: PROCESS,
            "RUST_LOG: \"{}\" is neither a level nor a part of this program, and is ignored; use off, error, warn, \
             info, debug or {PROGRAM}=LEVEL, without quotes",
            ignored.escape_default()
        );
    }
    total
}

/// The filter that `RUST_LOG` sets.
///
/// Parts that make no sense are ignored with a warning. They do not stop the relay, because the variable is often set
/// for several programs at once.
#[derive(Debug, PartialEq, Eq)]
struct Filter<'v> {
    directives: Cow<'v, str>,
    /// The parts that are ignored.
    ignored: Option<Cow<'v, str>>,
}

impl<'v> Filter<'v> {
    fn of_variable(value: Option<&'v OsStr>) -> Self {
        // An empty variable counts as unset.
        let Some(value) = value.map(OsStr::to_string_lossy).filter(|value| !value.trim().is_empty()) else {
            return Self { directives: DEFAULT_FILTER.into(), ignored: None };
        };
        // After a slash comes a regular expression that lines must match.
        let (list, text) = value.split_once('/').map_or((&*value, None), |(list, text)| (list, Some(text)));
        let list = list.split(',').map(str::trim).filter(|directive| !directive.is_empty());
        let (good, bad): (Vec<_>, Vec<_>) = list.partition(|directive| is_directive(directive));
        // env_logger ignores the whole variable if it has two slashes.
        let is_text_bad = text.is_some_and(|text| text.contains('/'));
        if bad.is_empty() && !is_text_bad && good.iter().any(|directive| affects_us(directive)) {
            return Self { directives: value, ignored: None };
        }
        // The default comes first: if two directives have the same target, the last one counts.
        let directives = [&[DEFAULT_FILTER][..], &good].concat().join(",");
        let ignored = if bad.is_empty() || text.is_some() { value.into_owned() } else { bad.join(",") };
        Self { directives: directives.into(), ignored: Some(ignored.into()) }
    }
}

/// Whether `directive` is a level, the beginning of a target, or both, joined by `=`.
fn is_directive(directive: &str) -> bool {
    let is_name_byte = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':' | b'-');
    let (name, level) = directive.split_once('=').unwrap_or((directive, ""));
    let is_level = level.trim().is_empty() || level.trim().parse::<LevelFilter>().is_ok();
    is_level && name.bytes().all(is_name_byte)
}

/// Whether `directive` affects records of this program.
fn affects_us(directive: &str) -> bool {
    let name = directive.split_once('=').map_or(directive, |(name, _)| name);
    directive.parse::<LevelFilter>().is_ok() || name.starts_with(PROGRAM) || PROGRAM.starts_with(name)
}

/// Writes one record. If lines were dropped since the last report, writes their number first.
fn write_record(
    formatter: &mut Formatter,
    record: &Record<'_>,
    format: LogFormat,
    dropped: &Dropped,
) -> io::Result<()> {
    let write_line = match format {
        LogFormat::Text => write_text,
        LogFormat::Json => write_json,
    };
    let lines = dropped.unreported();
    if lines > 0 {
        let told = format_args!("lines_dropped={lines} Log lines were dropped: standard error took no more");
        write_line(formatter, Level::Warn, PROCESS, told)?;
    }
    write_line(formatter, record.level(), record.target(), *record.args())
}

fn write_text(out: &mut Formatter, level: Level, target: &str, text: Arguments<'_>) -> io::Result<()> {
    let time = out.timestamp_millis();
    writeln!(out, "[{time} {level:<5} {target}] {text}")
}

/// Writes one JSON object. The fields at the beginning of a record, `conn=1.2 session=abc`, become fields of the
/// object.
fn write_json(out: &mut Formatter, level: Level, target: &str, text: Arguments<'_>) -> io::Result<()> {
    let time = out.timestamp_millis();
    let level = level.as_str().to_ascii_lowercase();
    write!(out, r#"{{"time":"{time}","level":"{level}","target":{}"#, json(target))?;
    let text = text.to_string();
    let mut rest = text.as_str();
    while let Some((name, value, behind)) = split_field(rest) {
        let is_bare = !TEXT_FIELDS.contains(&name) && is_bare_in_json(value);
        let value: &dyn Display = if is_bare { &value } else { &json(value) };
        write!(out, r#","{name}":{value}"#)?;
        rest = behind;
    }
    writeln!(out, r#","message":{}}}"#, json(rest))
}

/// The name and value of the field at the beginning of `text`, and the text after it. Values never contain blanks.
fn split_field(text: &str) -> Option<(&str, &str, &str)> {
    let (word, rest) = text.split_once(' ')?;
    let (name, value) = word.split_once('=')?;
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    is_name.then_some((name, value, rest))
}

/// Whether `value` is a truth value or a number in the relay's format: `12`, `0.3`.
fn is_bare_in_json(value: &str) -> bool {
    let (whole, part) = value.split_once('.').unwrap_or((value, "0"));
    let are_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_number = are_digits(whole) && are_digits(part) && (whole == "0" || !whole.starts_with('0'));
    is_number || matches!(value, "true" | "false")
}

fn json(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filter_is_the_variable_or_the_default_with_its_valid_parts() {
        for (value, directives, ignored) in [
            (None, DEFAULT_FILTER, None),
            (Some(" "), DEFAULT_FILTER, None),
            (Some("info"), "info", None),
            (Some("off"), "off", None),
            (Some("info,hyper"), "info,hyper", None),
            (Some("apptuner_relay::messages"), "apptuner_relay::messages", None),
            (Some("info/needle"), "info/needle", None),
            (Some("trac"), "warn,apptuner_relay::process=info,trac", Some("trac")),
            (Some("\"info\""), DEFAULT_FILTER, Some("\"info\"")),
            (Some("hyper=debug"), "warn,apptuner_relay::process=info,hyper=debug", Some("hyper=debug")),
            (Some("error,mio=loud"), "warn,apptuner_relay::process=info,error", Some("mio=loud")),
            (Some("info=debug=off"), DEFAULT_FILTER, Some("info=debug=off")),
            (Some("info/a/b"), "warn,apptuner_relay::process=info,info", Some("info/a/b")),
        ] {
            let filter = Filter::of_variable(value.map(OsStr::new));
            let expected = Filter { directives: directives.into(), ignored: ignored.map(Cow::from) };
            assert_eq!(filter, expected, "{value:?}");
        }
    }

    #[test]
    fn numbers_and_truth_values_are_bare_in_json_and_nothing_else_is() {
        for value in ["0", "12", "0.3", "10.05", "18446744073709551615", "true", "false"] {
            assert!(is_bare_in_json(value), "{value}");
            assert!(serde_json::from_str::<serde_json::Value>(value).is_ok(), "{value}");
        }
        for value in
            ["", "-", "-1", "01", "1.", ".5", "1e5", "1.2.3", "127.0.0.1", "::1", "inf", "null", "12a"]
        {
            assert!(!is_bare_in_json(value), "{value}");
        }
    }
}
