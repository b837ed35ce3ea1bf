//! What an option is: a row of the table in `options`, its name, and the text form of its value.

use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::format::format_size;
use super::listen_address::ListenAddress;
use super::naming::{Naming, SettingName};
use super::settings::{Config, LogFormat};
use crate::relay::Origin;
use crate::relay::access::secret::Secret;
use crate::relay::time::format_duration;

/// Gives access to a value in the configuration.
type Place<T> = fn(&mut Config) -> &mut T;

/// The kind of an option's value, and its place in the configuration.
///
/// `min` is the smallest number allowed, or else 1 in the unit of the kind; `max` is the largest. `unset` is the text
/// that the help shows if there is no value.
#[derive(Clone, Copy)]
#[cfg_attr(not(feature = "cli"), expect(dead_code, reason = "only the command line uses some of them"))]
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
    /// In milliseconds, at most [`TIMEOUT_MAX`](super::bounds::TIMEOUT_MAX).
    Duration(Place<Duration>),
    /// The same, or zero, which turns something off.
    DurationOrZero(Place<Duration>),
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
    /// The path of a file. `example` is shown in an error.
    Path {
        place: Place<Option<PathBuf>>,
        unset: &'static str,
        example: &'static str,
    },
    /// An optional address to listen on.
    Address {
        place: Place<Option<ListenAddress>>,
        unset: &'static str,
    },
    /// A secret. Its value is never shown.
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
#[cfg_attr(not(feature = "cli"), expect(dead_code, reason = "only the command line uses some of them"))]
pub(super) struct Row {
    /// The flag without its dashes, and the variable in lower case.
    pub(super) name: &'static str,
    pub(super) short: Option<char>,
    /// Its group in the help.
    pub(super) heading: &'static str,
    pub(super) field: Field,
    /// What it does, in lines of at most 74 characters.
    pub(super) help: &'static str,
}

impl Row {
    /// The name of the setting.
    pub(super) const fn setting(&self, naming: Naming) -> SettingName {
        SettingName::new(self.name, naming)
    }

    /// The value as an operator would write it, or the text for an unset one. `None` if the option has no value.
    pub(super) fn text(&self, config: &Config) -> Option<String> {
        // A `Place` needs a mutable configuration, even to read.
        let config = &mut config.clone();
        let or = |text: Option<String>, unset: &str| Some(text.unwrap_or_else(|| unset.to_owned()));
        match self.field {
            Field::Addresses(place) => joined(place(config)),
            Field::Ranges { place, unset } => or(joined(place(config)), unset),
            Field::Origins { place, unset } => or(joined(place(config)), unset),
            Field::Duration(place) | Field::DurationOrZero(place) => Some(format_duration(*place(config))),
            Field::Size { place, .. } => Some(format_size(*place(config) as u64)),
            Field::Count { place, unset, .. } => or(place(config).map(|count| count.to_string()), unset),
            Field::Rate { place, unset } => or(place(config).map(|rate| rate.to_string()), unset),
            Field::ByteRate { place, unset, .. } => or(place(config).map(format_size), unset),
            Field::Path { place, unset, .. } => {
                or(place(config).as_ref().map(|path| path.display().to_string()), unset)
            }
            Field::Address { place, unset } => or(place(config).as_ref().map(ToString::to_string), unset),
            // Empty, so that no error can show the secret.
            Field::Token { place, unset } => or(place(config).as_ref().map(|_| String::new()), unset),
            Field::LogFormat(place) => Some(place(config).as_str().to_owned()),
            Field::Switch(place) => Some(place(config).to_string()),
            Field::Help | Field::Version => None,
        }
    }
}

/// The items of a list, separated by commas. `None` if the list is empty.
fn joined<T: ToString>(items: &[T]) -> Option<String> {
    let texts: Vec<String> = items.iter().map(ToString::to_string).collect();
    (!texts.is_empty()).then(|| texts.join(","))
}
