//! Checks a configuration, built in code or read from the command line.

use std::time::Duration;

use super::bounds::{LISTENERS_MAX, TIMEOUT_MAX};
use super::error::{ConfigError, Problem};
use super::format::format_size;
use super::listen_address::ListenAddress;
use super::naming::{Naming, SettingName};
use super::options::TABLE;
use super::settings::{Config, TlsFiles};
use super::table::{Field, Row};
use crate::relay::time::format_duration;

impl Config {
    /// Checks every setting against its bounds.
    ///
    /// | setting | bounds |
    /// | --- | --- |
    /// | every duration | 1 ms to 365 days; `redelivery_window` may be 0 |
    /// | `listen` | 1 to 64 addresses; only one with port 0 may be repeated |
    /// | `max_connections`, `max_connections_per_ip` | 1 to 10,000,000 |
    /// | `max_message_size` | 1 byte to 1 GiB |
    /// | `max_buffered` | 1 MiB to 1 TiB, or to 1 GiB on systems of 32 bits |
    /// | `max_byte_rate` | 1 byte to 1 GiB, per second |
    /// | other limits | at least 1 |
    ///
    /// An `admin` address that other machines can reach needs an `admin_token`. The two files for TLS must be given
    /// together.
    ///
    /// Timeouts are not compared with each other: the shorter one acts first, and an operator who shortens one need not
    /// change the others.
    ///
    /// # Errors
    /// The first setting that is out of its bounds.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.validate_for(Naming::Field)
    }

    /// As [`validate`](Self::validate), with settings named by `naming`.
    pub(crate) fn validate_for(&self, naming: Naming) -> Result<(), ConfigError> {
        // A `Place` needs a mutable configuration, even to read.
        let scratch = &mut self.clone();
        for row in &TABLE {
            check(row, scratch).map_err(|problem| match row.text(self) {
                Some(value) if !value.is_empty() => {
                    ConfigError::value(row.setting(naming).to_string(), value, problem)
                }
                _ => ConfigError::setting(row.setting(naming).to_string(), problem),
            })?;
        }
        check_together(self, naming)
    }
}

/// Checks the value of one row. Every value that the command line accepts passes.
fn check(row: &Row, config: &mut Config) -> Result<(), Problem> {
    let number = match row.field {
        Field::Addresses(place) => return check_addresses(place(config)),
        Field::Address { place, .. } => {
            return place(config).as_ref().map_or(Ok(()), ListenAddress::check);
        }
        Field::Duration(place) | Field::DurationOrZero(place) => Some(millis(*place(config))),
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
    number.map_or(Ok(()), |number| bounded::<u64>(row, number).map(drop))
}

/// Returns `number` as a `T` if it is within the bounds of `row`.
pub(super) fn bounded<T: TryFrom<u64>>(row: &Row, number: u64) -> Result<T, Problem> {
    // Kinds without numbers never come here; their bounds have no meaning.
    let min = if let Field::Size { min, .. } = row.field {
        min as u64
    } else {
        u64::from(!matches!(row.field, Field::DurationOrZero(_)))
    };
    let (max, format): (u64, fn(u64) -> String) = match row.field {
        Field::Duration(_) | Field::DurationOrZero(_) => {
            (millis(TIMEOUT_MAX), |millis| format_duration(Duration::from_millis(millis)))
        }
        Field::Size { max, .. } => (max as u64, format_size),
        Field::ByteRate { max, .. } => (max, format_size),
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
        let default = row.text(&Config::default()).unwrap_or_default();
        format!("must be {} to {}; leave it out for the default, {default}", format(min), format(max)).into()
    })
}

/// Checks settings that depend on each other.
pub(super) fn check_together(config: &Config, naming: Naming) -> Result<(), ConfigError> {
    check_admin(config, naming)?;
    check_tls(&config.tls, naming)
}

/// Checks that the operator's pages, which show the relay's traffic, are not open to other machines.
fn check_admin(config: &Config, naming: Naming) -> Result<(), ConfigError> {
    let Some(admin) = &config.admin else { return Ok(()) };
    let setting = |option| SettingName::new(option, naming).to_string();
    let problem: Problem = if !admin.is_of_this_machine() && config.admin_token.is_none() {
        format!("others than this machine reach it; set {}, or use 127.0.0.1", setting("admin-token")).into()
    } else if !admin.is_repeatable() && config.listen.contains(admin) {
        "clients connect there; use another port".into()
    } else {
        return Ok(());
    };
    Err(ConfigError::value(setting("admin"), admin.to_string(), problem))
}

/// Checks that both files for TLS are given or none, and that the build has TLS.
pub(super) fn check_tls(files: &TlsFiles, naming: Naming) -> Result<(), ConfigError> {
    let [cert, key] = ["tls-cert", "tls-key"].map(|option| SettingName::new(option, naming).to_string());
    // The setting to blame, its value, and the one that is missing.
    let (given, path, missing) = match (&files.cert, &files.key) {
        (None, None) => return Ok(()),
        (Some(path), None) => (cert, path, Some(format!("{key}, the file of its private key"))),
        (None, Some(path)) => (key, path, Some(format!("{cert}, the file of its certificate"))),
        (Some(path), Some(_)) => (cert, path, None),
    };
    // First, because a second file would not help.
    if !cfg!(feature = "tls") {
        let remedy = match naming {
            Naming::Field => "build it with the feature tls",
            #[cfg(feature = "cli")]
            Naming::Option => "build with: cargo build --release --features tls",
        };
        return Err(ConfigError::value(given, path, format!("this build has no TLS; {remedy}")));
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

/// Checks that `address` may follow the addresses `before` it.
pub(super) fn check_new_address(before: &[ListenAddress], address: &ListenAddress) -> Result<(), Problem> {
    if !address.is_repeatable() && before.contains(address) {
        return Err("the same address twice; keep one".into());
    }
    Ok(())
}

/// Whole milliseconds, rounded down. Shorter durations become 0, which is out of bounds.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
