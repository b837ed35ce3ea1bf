//! What an option is: a row of the table in `options`, and what follows from it.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::error::{ConfigError, Problem};
use super::options::TABLE;
use super::{Config, LISTENERS_MAX, ListenAddress, LogFormat, TIMEOUT_MAX, TlsFiles, units};
use crate::relay::Origin;
use crate::relay::access::secret::Secret;
use crate::relay::address::parse_range;
use crate::relay::limits::{SECRET_BYTES_MAX, SECRET_BYTES_MIN};
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
    Addresses(Place<Vec<ListenAddress>>),
    Ranges {
        place: Place<Vec<IpNet>>,
        unset: &'static str,
    },
    Origins {
        place: Place<Vec<Origin>>,
        unset: &'static str,
    },
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
    /// Where one may listen besides.
    Address {
        place: Place<Option<ListenAddress>>,
        unset: &'static str,
    },
    /// A secret, which is never shown.
    Token {
        place: Place<Option<Secret>>,
        unset: &'static str,
    },
    LogFormat(Place<LogFormat>),
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

    /// What is wrong with a value, which is not shown if it is a secret.
    pub(super) fn error(
        &self,
        setting: impl AsRef<OsStr>,
        value: impl AsRef<OsStr>,
        problem: impl Into<Problem>,
    ) -> ConfigError {
        if matches!(self.field, Field::Token { .. }) {
            ConfigError::setting(setting, problem)
        } else {
            ConfigError::value(setting, value, problem)
        }
    }

    /// Whether the option may be given more than once, its values adding up.
    pub(super) fn is_list(&self) -> bool {
        matches!(self.field, Field::Addresses(_) | Field::Ranges { .. } | Field::Origins { .. })
    }

    /// What stands for the value in the help, and a value to serve as an example.
    pub(super) fn placeholder(&self) -> Option<(&'static str, &'static str)> {
        match self.field {
            Field::Addresses(_) => Some(("ADDRESS", "127.0.0.1:8787")),
            Field::Address { .. } => Some(("ADDRESS", "127.0.0.1:9787")),
            Field::Token { .. } => Some(("TOKEN", "\"$(openssl rand -hex 32)\"")),
            Field::Ranges { .. } => Some(("RANGE", "192.0.2.0/24")),
            Field::Origins { .. } => Some(("ORIGIN", "https://app.example.com")),
            Field::Duration(_) => Some(("DURATION", "30s")),
            Field::Size { .. } | Field::ByteRate { .. } => Some(("SIZE", "64MiB")),
            Field::Count { .. } | Field::Rate { .. } => Some(("N", "1000")),
            Field::Path { example, .. } => Some(("FILE", example)),
            Field::LogFormat(_) => Some(("text|json", "json")),
            Field::Switch(_) | Field::Help | Field::Version => None,
        }
    }

    /// Sets the value that `text` spells. Those of a list add up: the caller empties it first.
    pub(super) fn set(&self, config: &mut Config, text: &str) -> Result<(), Problem> {
        match self.field {
            Field::Addresses(place) => {
                let address = ListenAddress::parse(text)?;
                check_new_address(place(config), &address)?;
                place(config).push(address);
            }
            Field::Ranges { place, .. } => place(config).push(parse_range(text)?),
            Field::Origins { place, .. } => place(config).push(Origin::parse(text)?),
            Field::Path { place, .. } => *place(config) = Some(units::parse_path(text)?),
            Field::Address { place, .. } => *place(config) = Some(ListenAddress::parse(text)?),
            Field::Token { place, .. } => *place(config) = Some(parse_token(text)?),
            Field::Duration(place) => {
                *place(config) = Duration::from_millis(self.bounded(units::parse_millis(text)?)?);
            }
            Field::Size { place, .. } => *place(config) = self.bounded(units::parse_size(text)?)?,
            Field::Count { place, .. } => *place(config) = Some(self.bounded(units::parse_count(text)?)?),
            Field::Rate { place, .. } => *place(config) = Some(self.bounded(units::parse_count(text)?)?),
            Field::ByteRate { place, .. } => *place(config) = Some(self.bounded(units::parse_size(text)?)?),
            Field::LogFormat(place) => *place(config) = units::parse_log_format(text)?,
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
            Field::Addresses(place) => joined(place(config)),
            Field::Ranges { place, unset } => or(joined(place(config)), unset),
            Field::Origins { place, unset } => or(joined(place(config)), unset),
            Field::Duration(place) => Some(format_duration(*place(config))),
            Field::Size { place, .. } => Some(units::format_size(*place(config) as u64)),
            Field::Count { place, unset, .. } => or(place(config).map(|count| count.to_string()), unset),
            Field::Rate { place, unset } => or(place(config).map(|rate| rate.to_string()), unset),
            Field::ByteRate { place, unset, .. } => or(place(config).map(units::format_size), unset),
            Field::Path { place, unset, .. } => {
                or(place(config).as_ref().map(|path| path.display().to_string()), unset)
            }
            Field::Address { place, unset } => or(place(config).as_ref().map(ToString::to_string), unset),
            Field::Token { place, unset } => or(place(config).as_ref().map(|_| String::new()), unset),
            Field::LogFormat(place) => Some(units::format_log_format(*place(config)).to_owned()),
            Field::Switch(place) => Some(place(config).to_string()),
            Field::Help | Field::Version => None,
        }
    }

    /// Checks the value that is set; [`set`](Self::set) lets none in that would fail here.
    fn check(&self, config: &mut Config) -> Result<(), Problem> {
        let number = match self.field {
            Field::Addresses(place) => return check_addresses(place(config)),
            Field::Address { place, .. } => {
                return place(config).as_ref().map_or(Ok(()), ListenAddress::check);
            }
            Field::Duration(place) => Some(millis(*place(config))),
            Field::Size { place, .. } => Some(*place(config) as u64),
            Field::Count { place, .. } => place(config).map(|count| count as u64),
            Field::Rate { place, .. } => place(config).map(u64::from),
            Field::ByteRate { place, .. } => *place(config),
            Field::Ranges { .. }
            | Field::Origins { .. }
            | Field::Path { .. }
            | Field::Token { .. }
            | Field::LogFormat(_) => return Ok(()),
            Field::Switch(_) | Field::Help | Field::Version => None,
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
            Field::Addresses(_) | Field::Ranges { .. } | Field::Origins { .. } | Field::Path { .. } => {
                (u64::MAX, |_| String::new())
            }
            Field::Address { .. } | Field::Token { .. } => (u64::MAX, |_| String::new()),
            Field::LogFormat(_) | Field::Switch(_) | Field::Help | Field::Version => {
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

fn parse_token(text: &str) -> Result<Secret, Problem> {
    const _: () = assert!(SECRET_BYTES_MIN == 16 && SECRET_BYTES_MAX == 256);
    // A header field cannot carry others as they are.
    let is_graphic = text.bytes().all(|byte| byte.is_ascii_graphic());
    let token = Secret::new(text.as_bytes()).filter(|_| is_graphic);
    token.ok_or_else(|| {
        "not 16 to 256 characters from ! to ~; take the output of: openssl rand -hex 32".into()
    })
}

/// The items of a list, with commas between them; `None` if there are none.
fn joined<T: ToString>(items: &[T]) -> Option<String> {
    let texts: Vec<String> = items.iter().map(ToString::to_string).collect();
    (!texts.is_empty()).then(|| texts.join(","))
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
    check_admin(config)?;
    check_tls(&config.tls)
}

/// Whoever reaches the operator's listener sees how much goes through the relay.
fn check_admin(config: &Config) -> Result<(), ConfigError> {
    let Some(admin) = &config.admin else { return Ok(()) };
    let problem = if !admin.is_of_this_machine() && config.admin_token.is_none() {
        "others than this machine reach it; set --admin-token, or use 127.0.0.1"
    } else if !admin.is_repeatable() && config.listen.contains(admin) {
        "clients connect there; use another port"
    } else {
        return Ok(());
    };
    Err(ConfigError::value("--admin", admin.to_string(), problem))
}

pub(super) fn check_tls(files: &TlsFiles) -> Result<(), ConfigError> {
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

fn check_addresses(addresses: &[ListenAddress]) -> Result<(), Problem> {
    if addresses.is_empty() {
        return Err("no address to listen on; give at least one".into());
    }
    if addresses.len() > LISTENERS_MAX {
        return Err(format!("{} addresses; at most {LISTENERS_MAX} are possible", addresses.len()).into());
    }
    for (index, address) in addresses.iter().enumerate() {
        address.check()?;
        check_new_address(addresses.get(..index).unwrap_or_default(), address)?;
    }
    Ok(())
}

fn check_new_address(before: &[ListenAddress], address: &ListenAddress) -> Result<(), Problem> {
    if !address.is_repeatable() && before.contains(address) {
        return Err("the same address twice; keep one".into());
    }
    Ok(())
}

/// Whole milliseconds: what is left of the shortest durations is 0, which is out of bounds.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
