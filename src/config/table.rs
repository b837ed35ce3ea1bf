//! The table of options: one row each. Its order is the order of the help.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::error::{ConfigError, Problem};
use super::{
    BUFFERED_MAX, BYTE_RATE_MAX, CONNECTIONS_MAX, Config, LISTENERS_MAX, MESSAGE_SIZE_MAX, TIMEOUT_MAX,
    TlsFiles, units,
};
use crate::relay::limits::{BUFFERED_BYTES_MIN, SMALL_SHARE, message_bytes_max};
use crate::relay::time::format_duration;

/// What every variable's name begins with.
pub(super) const VARIABLE_PREFIX: &str = "APPTUNER_RELAY_";

/// Where in the configuration a value lives.
type Place<T> = fn(&mut Config) -> &mut T;

/// What kind of value an option takes, and where it goes.
///
/// The smallest number allowed is `min`, or 1 in the unit of the kind, and `max` the largest. `unset` says
/// what happens without a value.
#[derive(Clone, Copy)]
pub(super) enum Field {
    Addresses(Place<Vec<SocketAddr>>),
    /// In milliseconds, at most [`TIMEOUT_MAX`].
    Duration(Place<Duration>),
    /// In bytes.
    Size {
        place: Place<usize>,
        min: usize,
        max: usize,
    },
    Count {
        place: Place<Option<usize>>,
        max: usize,
        unset: &'static str,
    },
    /// Per second.
    Rate {
        place: Place<Option<u32>>,
        unset: &'static str,
    },
    /// In bytes per second.
    ByteRate {
        place: Place<Option<u64>>,
        max: u64,
        unset: &'static str,
    },
    /// A file's; `example` is one such.
    Path {
        place: Place<Option<PathBuf>>,
        unset: &'static str,
        example: &'static str,
    },
    Switch(Place<bool>),
    Help,
    Version,
}

/// One option.
pub(super) struct Row {
    /// The flag without its dashes, and the variable in lower case.
    pub(super) name: &'static str,
    pub(super) short: Option<char>,
    /// The group of the help that it stands in.
    pub(super) heading: &'static str,
    pub(super) field: Field,
    /// What it does, in lines of at most 74 characters.
    pub(super) help: &'static str,
}

const LISTENING: &str = "Listening";
const SESSIONS: &str = "Sessions and timeouts";
const MESSAGES: &str = "Messages";
const LIMITS: &str = "Limits";
const PROCESS: &str = "Process";

/// A row for an option without a short form.
const fn row(heading: &'static str, name: &'static str, field: Field, help: &'static str) -> Row {
    Row { name, short: None, heading, field, help }
}

/// Every option.
pub(super) const TABLE: [Row; 18] = [
    row(
        LISTENING,
        "listen",
        Field::Addresses(|config| &mut config.listen),
        "Accept connections here: ADDR:PORT, [ADDR6]:PORT or localhost:PORT.\n\
         Repeat it for further addresses. Port 0 takes any free port.",
    ),
    row(
        LISTENING,
        "tls-cert",
        Field::Path { place: |config| &mut config.tls.cert, unset: "no TLS", example: "fullchain.pem" },
        "Speak TLS at every address, with the certificate in this PEM file, and\n\
         read it again on SIGHUP. Takes a build with --features tls.",
    ),
    row(
        LISTENING,
        "tls-key",
        Field::Path { place: |config| &mut config.tls.key, unset: "no TLS", example: "privkey.pem" },
        "The certificate's private key, a PEM file as well.",
    ),
    row(
        SESSIONS,
        "session-timeout",
        Field::Duration(|config| &mut config.relay.session_timeout),
        "End a session that saw no application message and no join for this long.",
    ),
    row(
        SESSIONS,
        "reconnect-window",
        Field::Duration(|config| &mut config.relay.reconnect_window),
        "Keep a session for this long after both of its clients are gone.",
    ),
    row(
        SESSIONS,
        "ping-interval",
        Field::Duration(|config| &mut config.relay.ping_interval),
        "Ping a client that is silent for this long; end it after twice as long.",
    ),
    row(
        SESSIONS,
        "handshake-timeout",
        Field::Duration(|config| &mut config.relay.handshake_timeout),
        "Time for a request head to arrive, counted from the connection's start.",
    ),
    row(
        SESSIONS,
        "stall-timeout",
        Field::Duration(|config| &mut config.relay.stall_timeout),
        "Cut off a client that takes no byte for this long while messages wait\n\
         for it, or that stands still for this long inside a message of its own.",
    ),
    row(
        SESSIONS,
        "message-timeout",
        Field::Duration(|config| &mut config.relay.message_timeout),
        "Time for a message to arrive whole, counted from its first byte.",
    ),
    row(
        MESSAGES,
        "answer-pings",
        Field::Switch(|config| &mut config.relay.answer_pings),
        "Answer messages of type \"ping\" with a \"pong\" instead of forwarding them.",
    ),
    row(
        LIMITS,
        "max-connections",
        Field::Count {
            place: |config| &mut config.relay.max_connections,
            max: CONNECTIONS_MAX,
            unset: "from the limit on open files",
        },
        "Connections served at once; one more is answered with 503.",
    ),
    row(
        LIMITS,
        "max-message-size",
        Field::Size { place: |config| &mut config.relay.max_message_size, min: 1, max: MESSAGE_SIZE_MAX },
        "Largest message; a larger one ends its client's connection with 1009.",
    ),
    row(
        LIMITS,
        "max-buffered",
        Field::Size {
            place: |config| &mut config.relay.max_buffered,
            min: BUFFERED_BYTES_MIN,
            max: BUFFERED_MAX,
        },
        "Memory for all messages that wait or are half received. An eighth of it\n\
         is kept for those of at most 16KiB; a larger one is read when it fits.",
    ),
    row(
        LIMITS,
        "max-message-rate",
        Field::Rate { place: |config| &mut config.relay.max_message_rate, unset: "no limit" },
        "Messages per second read from one client; more are delayed, not dropped.",
    ),
    row(
        LIMITS,
        "max-byte-rate",
        Field::ByteRate {
            place: |config| &mut config.relay.max_byte_rate,
            max: BYTE_RATE_MAX,
            unset: "no limit",
        },
        "Bytes per second read from one client; more are delayed, not dropped.",
    ),
    row(
        PROCESS,
        "shutdown-grace",
        Field::Duration(|config| &mut config.shutdown_grace),
        "On SIGTERM or SIGINT, time to deliver what is queued and close every\n\
         client. A second signal ends the relay at once.",
    ),
    Row { short: Some('h'), ..row(PROCESS, "help", Field::Help, "Print this help and exit.") },
    Row { short: Some('V'), ..row(PROCESS, "version", Field::Version, "Print the version and exit.") },
];

impl Row {
    /// The flag: `--session-timeout`.
    pub(super) fn flag(&self) -> String {
        format!("--{}", self.name)
    }

    /// The variable: `APPTUNER_RELAY_SESSION_TIMEOUT`. `None` for what only a flag can ask for.
    pub(super) fn variable(&self) -> Option<String> {
        if matches!(self.field, Field::Help | Field::Version) {
            return None;
        }
        Some(format!("{VARIABLE_PREFIX}{}", self.name.replace('-', "_").to_ascii_uppercase()))
    }

    /// Whether the option may be given more than once, its values adding up.
    pub(super) fn is_list(&self) -> bool {
        matches!(self.field, Field::Addresses(_))
    }

    /// What stands for the value in the help, and a value to serve as an example.
    pub(super) fn placeholder(&self) -> Option<(&'static str, &'static str)> {
        match self.field {
            Field::Addresses(_) => Some(("ADDR:PORT", "127.0.0.1:8787")),
            Field::Duration(_) => Some(("DURATION", "30s")),
            Field::Size { .. } | Field::ByteRate { .. } => Some(("SIZE", "64MiB")),
            Field::Count { .. } | Field::Rate { .. } => Some(("N", "1000")),
            Field::Path { example, .. } => Some(("FILE", example)),
            Field::Switch(_) | Field::Help | Field::Version => None,
        }
    }

    /// Sets the value that `text` spells. Addresses add up: the caller empties the list first.
    pub(super) fn set(&self, config: &mut Config, text: &str) -> Result<(), Problem> {
        match self.field {
            Field::Addresses(place) => {
                let address = units::parse_address(text)?;
                check_new_address(place(config), address)?;
                place(config).push(address);
            }
            Field::Duration(place) => {
                *place(config) = Duration::from_millis(self.bounded(units::parse_millis(text)?)?);
            }
            Field::Size { place, .. } => *place(config) = self.bounded(units::parse_size(text)?)?,
            Field::Count { place, .. } => *place(config) = Some(self.bounded(units::parse_count(text)?)?),
            Field::Rate { place, .. } => *place(config) = Some(self.bounded(units::parse_count(text)?)?),
            Field::ByteRate { place, .. } => *place(config) = Some(self.bounded(units::parse_size(text)?)?),
            Field::Path { .. } if text.is_empty() => return Err("no file; write its path".into()),
            Field::Path { place, .. } => *place(config) = Some(PathBuf::from(text)),
            Field::Switch(place) => *place(config) = units::parse_switch(text)?,
            Field::Help | Field::Version => {}
        }
        Ok(())
    }

    /// The value as one would write it, or what happens without one; `None` if the option has no value.
    pub(super) fn text(&self, config: &Config) -> Option<String> {
        let config = &mut config.clone();
        let or = |text: Option<String>, unset: &str| Some(text.unwrap_or_else(|| unset.to_owned()));
        match self.field {
            Field::Addresses(place) => {
                let addresses: Vec<String> = place(config).iter().map(SocketAddr::to_string).collect();
                Some(addresses.join(","))
            }
            Field::Duration(place) => Some(format_duration(*place(config))),
            Field::Size { place, .. } => Some(units::format_size(*place(config) as u64)),
            Field::Count { place, unset, .. } => or(place(config).map(|count| count.to_string()), unset),
            Field::Rate { place, unset } => or(place(config).map(|rate| rate.to_string()), unset),
            Field::ByteRate { place, unset, .. } => or(place(config).map(units::format_size), unset),
            Field::Path { place, unset, .. } => {
                or(place(config).as_ref().map(|path| path.display().to_string()), unset)
            }
            Field::Switch(place) => Some(place(config).to_string()),
            Field::Help | Field::Version => None,
        }
    }

    /// Checks the value that is set; [`set`](Self::set) lets none in that would fail here.
    fn check(&self, config: &mut Config) -> Result<(), Problem> {
        let number = match self.field {
            Field::Addresses(place) => return check_addresses(place(config)),
            Field::Duration(place) => Some(millis(*place(config))),
            Field::Size { place, .. } => Some(*place(config) as u64),
            Field::Count { place, .. } => place(config).map(|count| count as u64),
            Field::Rate { place, .. } => place(config).map(u64::from),
            Field::ByteRate { place, .. } => *place(config),
            Field::Path { .. } | Field::Switch(_) | Field::Help | Field::Version => None,
        };
        number.map_or(Ok(()), |number| self.bounded::<u64>(number).map(drop))
    }

    /// `number`, if it lies within the bounds.
    fn bounded<T: TryFrom<u64>>(&self, number: u64) -> Result<T, Problem> {
        let min = if let Field::Size { min, .. } = self.field { min as u64 } else { 1 };
        let (max, format): (u64, fn(u64) -> String) = match self.field {
            Field::Duration(_) => {
                (millis(TIMEOUT_MAX), |millis| format_duration(Duration::from_millis(millis)))
            }
            Field::Size { max, .. } => (max as u64, units::format_size),
            Field::ByteRate { max, .. } => (max, units::format_size),
            Field::Count { max, .. } => (max as u64, |count| count.to_string()),
            Field::Rate { .. } => (u64::from(u32::MAX), |rate| rate.to_string()),
            Field::Addresses(_) | Field::Path { .. } | Field::Switch(_) | Field::Help | Field::Version => {
                (u64::MAX, |_| String::new())
            }
        };
        let value = T::try_from(number).ok().filter(|_| (min..=max).contains(&number));
        value.ok_or_else(|| {
            let default = self.text(&Config::default()).unwrap_or_default();
            format!("must be {} to {}; leave it out for the default, {default}", format(min), format(max))
                .into()
        })
    }
}

/// Checks all of `config`, row by row.
pub(super) fn check_all(config: &Config) -> Result<(), ConfigError> {
    let scratch = &mut config.clone();
    for row in &TABLE {
        row.check(scratch).map_err(|problem| match row.text(config) {
            Some(value) if !value.is_empty() => ConfigError::value(row.flag(), value, problem),
            _ => ConfigError::setting(row.flag(), problem),
        })?;
    }
    check_together(config)
}

/// Checks what settings must agree on.
pub(super) fn check_together(config: &Config) -> Result<(), ConfigError> {
    check_room(config)?;
    check_tls(&config.tls)
}

fn check_tls(files: &TlsFiles) -> Result<(), ConfigError> {
    let (given, path, missing) = match (&files.cert, &files.key) {
        (None, None) => return Ok(()),
        (Some(cert), None) => ("--tls-cert", cert, Some("--tls-key, the file of its private key")),
        (None, Some(key)) => ("--tls-key", key, Some("--tls-cert, the file of its certificate")),
        (Some(cert), Some(_)) => ("--tls-cert", cert, None),
    };
    if !cfg!(feature = "tls") {
        let problem = "this build has no TLS; build with: cargo build --release --features tls";
        return Err(ConfigError::value(given, path, problem));
    }
    match missing {
        Some(missing) => Err(ConfigError::value(given, path, format!("is of no use alone; add {missing}"))),
        None => Ok(()),
    }
}

/// A message that never finds room would be waited for in vain.
fn check_room(config: &Config) -> Result<(), ConfigError> {
    let (size, buffered) = (config.relay.max_message_size, config.relay.max_buffered);
    let size_max = message_bytes_max(buffered);
    if size <= size_max {
        return Ok(());
    }
    let enough =
        (size / (SMALL_SHARE - 1) + 1).saturating_mul(SMALL_SHARE).next_multiple_of(BUFFERED_BYTES_MIN);
    let [size, buffered, size_max, enough] =
        [size, buffered, size_max, enough].map(|bytes| units::format_size(bytes as u64));
    let problem = format!(
        "--max-buffered {buffered} never has room for that; lower it to {size_max} or raise --max-buffered to {enough}"
    );
    Err(ConfigError::value("--max-message-size", size, problem))
}

fn check_addresses(addresses: &[SocketAddr]) -> Result<(), Problem> {
    if addresses.is_empty() {
        return Err("no address to listen on; give at least one".into());
    }
    if addresses.len() > LISTENERS_MAX {
        return Err(format!("{} addresses; at most {LISTENERS_MAX} are possible", addresses.len()).into());
    }
    let mut before = Vec::new();
    for address in addresses {
        check_new_address(&before, *address)?;
        before.push(*address);
    }
    Ok(())
}

fn check_new_address(before: &[SocketAddr], address: SocketAddr) -> Result<(), Problem> {
    if address.port() != 0 && before.contains(&address) {
        return Err("the same address twice; keep one".into());
    }
    Ok(())
}

/// Whole milliseconds: what is left of the shortest durations is 0, which is out of bounds.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
