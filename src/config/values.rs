//! Parses the text of a value and sets it in the configuration.

use std::ffi::OsStr;
use std::time::Duration;

use super::error::{ConfigError, Problem};
use super::listen_address::ListenAddress;
use super::naming::Naming;
use super::settings::{Config, LogFormat};
use super::table::{Field, Row};
use super::units;
use super::validate::{bounded, check_new_address};
use crate::relay::Origin;
use crate::relay::access::secret::Secret;
use crate::relay::address::parse_range;
use crate::relay::limits::{SECRET_BYTES_MAX, SECRET_BYTES_MIN};

/// The prefix of every variable.
pub(super) const VARIABLE_PREFIX: &str = "APPTUNER_RELAY_";

impl Row {
    /// The flag: `--session-timeout`.
    pub(super) fn flag(&self) -> String {
        self.setting(Naming::Option).to_string()
    }

    /// The variable: `APPTUNER_RELAY_SESSION_TIMEOUT`. `None` for options that are only flags.
    pub(super) fn variable(&self) -> Option<String> {
        if matches!(self.field, Field::Help | Field::Version) {
            return None;
        }
        Some(format!("{VARIABLE_PREFIX}{}", self.name.replace('-', "_").to_ascii_uppercase()))
    }

    /// Whether the option may be given several times, each with one item of a list.
    pub(super) fn is_list(&self) -> bool {
        matches!(self.field, Field::Addresses(_) | Field::Ranges { .. } | Field::Origins { .. })
    }

    /// The error for a value. The value is not shown if it is a secret.
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

    /// The word for the value in the help, and an example of a value.
    pub(super) fn placeholder(&self) -> Option<(&'static str, &'static str)> {
        match self.field {
            Field::Addresses(_) => Some(("ADDRESS", "127.0.0.1:8787")),
            Field::Address { .. } => Some(("ADDRESS", "127.0.0.1:9787")),
            Field::Token { .. } => Some(("TOKEN", "\"$(openssl rand -hex 32)\"")),
            Field::Ranges { .. } => Some(("RANGE", "192.0.2.0/24")),
            Field::Origins { .. } => Some(("ORIGIN", "https://app.example.com")),
            Field::Duration(_) | Field::DurationOrZero(_) => Some(("DURATION", "30s")),
            Field::Size { .. } | Field::ByteRate { .. } => Some(("SIZE", "64MiB")),
            Field::Count { .. } | Field::Rate { .. } => Some(("N", "1000")),
            Field::Path { example, .. } => Some(("FILE", example)),
            Field::LogFormat(_) => Some(("text|json", "json")),
            Field::Switch(_) | Field::Help | Field::Version => None,
        }
    }

    /// Parses `text` and sets the value if it is within its bounds. In a list, adds it: the caller empties the list
    /// first.
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
            Field::Duration(place) | Field::DurationOrZero(place) => {
                *place(config) = Duration::from_millis(bounded(self, units::parse_millis(text)?)?);
            }
            Field::Size { place, .. } => *place(config) = bounded(self, units::parse_size(text)?)?,
            Field::Count { place, .. } => *place(config) = Some(bounded(self, units::parse_count(text)?)?),
            Field::Rate { place, .. } => *place(config) = Some(bounded(self, units::parse_count(text)?)?),
            Field::ByteRate { place, .. } => *place(config) = Some(bounded(self, units::parse_size(text)?)?),
            Field::LogFormat(place) => *place(config) = parse_log_format(text)?,
            Field::Switch(place) => *place(config) = units::parse_switch(text)?,
            Field::Help | Field::Version => {}
        }
        Ok(())
    }
}

fn parse_log_format(text: &str) -> Result<LogFormat, Problem> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("not a format; write text or json".into()),
    }
}

fn parse_token(text: &str) -> Result<Secret, Problem> {
    const _: () = assert!(SECRET_BYTES_MIN == 16 && SECRET_BYTES_MAX == 256);
    // The token is sent in a header field, which cannot carry other characters unescaped.
    let is_graphic = text.bytes().all(|byte| byte.is_ascii_graphic());
    let token = Secret::new(text.as_bytes()).filter(|_| is_graphic);
    token.ok_or_else(|| {
        "not 16 to 256 characters from ! to ~; take the output of: openssl rand -hex 32".into()
    })
}
