//! From arguments and variables to a [`Command`].

use std::ffi::{OsStr, OsString};
use std::net::{Ipv6Addr, SocketAddr};

use lexopt::{Arg, Parser};

use super::error::{ConfigError, Problem};
use super::health_url::{HealthCheck, HealthUrl};
use super::listen_address::ListenAddress;
use super::naming::Naming;
use super::options::TABLE;
use super::settings::Config;
use super::socket_address::parse_address;
use super::table::{Field, Row};
use super::values::VARIABLE_PREFIX;
use super::{habits, units, validate};

/// The variable that hosting platforms set to the port to listen on.
const PORT: &str = "PORT";
/// Variables that the relay reads although they lack its prefix.
const FOREIGN_VARIABLES: [&str; 2] = [PORT, "RUST_LOG"];

/// The first argument of a health check.
const HEALTH: &str = "health";

const NOT_UTF8: &str = "not UTF-8; write plain text";

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "there is one of them, at the start")]
pub enum Command {
    /// Run the relay with this valid configuration.
    Run(Config),
    /// Ask a relay whether it is healthy, and exit with the result.
    Health(HealthCheck),
    /// Print [`help()`](crate::program::help) and stop.
    Help,
    /// Print [`VERSION`](crate::program::VERSION) and stop.
    Version,
}

impl Config {
    /// Reads the arguments, without the program's name, and the environment.
    ///
    /// If a flag is given, the value of its variable is ignored. After `--help` or `--version` nothing more is read,
    /// and values before them are not checked.
    ///
    /// # Errors
    /// The first option, variable or value that is wrong.
    #[doc(hidden)]
    pub fn from_args_and_env(
        args: impl IntoIterator<Item = OsString>,
        env: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Command, ConfigError> {
        command(args, env)
    }
}

/// The values given for one row.
struct Given {
    row: &'static Row,
    /// The name of the flag or the variable.
    source: String,
    /// One value, or several if the row is a list.
    values: Vec<OsString>,
}

/// See [`Config::from_args_and_env`].
fn command(
    args: impl IntoIterator<Item = OsString>,
    env: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Command, ConfigError> {
    let args: Vec<OsString> = args.into_iter().collect();
    let (is_health_check, args) = match args.split_first() {
        Some((first, rest)) if first == HEALTH => (true, rest),
        _ => (false, args.as_slice()),
    };
    let mut parser = Parser::from_args(args);
    let url = if is_health_check { read_url(&mut parser)? } else { None };
    let mut given = match read_flags(parser)? {
        Flags::Given(given) => given,
        Flags::Command(command) => return Ok(command),
    };
    let port = read_variables(&mut given, env)?;

    let mut config = Config::default();
    // `PORT` counts only without an address to listen on.
    if let Some(port) =
        port.filter(|_| !given.iter().any(|given| matches!(given.row.field, Field::Addresses(_))))
    {
        config.listen = vec![SocketAddr::from((Ipv6Addr::UNSPECIFIED, parse_platform_port(&port)?)).into()];
    }
    for given in &given {
        given.apply(&mut config)?;
    }
    if is_health_check {
        let check = HealthCheck::new(url, &config);
        // Other settings may be incomplete: the check uses only those of the listener.
        if check.url.is_tls {
            validate::check_tls(&config.tls, Naming::Option)?;
        }
        return Ok(Command::Health(check));
    }
    validate::check_together(&config, Naming::Option)?;
    debug_assert_eq!(config.validate(), Ok(()), "every value was checked as it was set");
    Ok(Command::Run(config))
}

/// The URL of a health check, if one is given.
fn read_url(parser: &mut Parser) -> Result<Option<HealthUrl>, ConfigError> {
    // Read raw: `read_flags` refuses every argument without a dash.
    let Some(mut arguments) = parser.try_raw_args() else { return Ok(None) };
    let Some(url) = arguments.next_if(|argument| !argument.as_encoded_bytes().starts_with(b"-")) else {
        return Ok(None);
    };
    let parsed = url.to_str().ok_or(NOT_UTF8.into()).and_then(HealthUrl::parse);
    parsed.map(Some).map_err(|problem| ConfigError::value(HEALTH, &url, problem))
}

/// The result of reading the command line.
#[expect(clippy::large_enum_variant, reason = "there is one of them, at the start")]
enum Flags {
    Given(Vec<Given>),
    /// `--help` or `--version`.
    Command(Command),
}

/// Reads the command line up to its end, or to `--help` or `--version`. Does not check values.
fn read_flags(mut parser: Parser) -> Result<Flags, ConfigError> {
    let mut given: Vec<Given> = Vec::new();
    while let Some(row) = next_row(&mut parser, &given)? {
        let value = match row.field {
            Field::Help => return Ok(Flags::Command(Command::Help)),
            Field::Version => return Ok(Flags::Command(Command::Version)),
            // A switch takes a value only behind `=`.
            Field::Switch(_) => parser.optional_value().unwrap_or_else(|| "true".into()),
            Field::Addresses(_)
            | Field::Ranges { .. }
            | Field::Origins { .. }
            | Field::LogFormat(_)
            | Field::Duration(_)
            | Field::DurationOrZero(_)
            | Field::Size { .. }
            | Field::Count { .. }
            | Field::Rate { .. }
            | Field::ByteRate { .. }
            | Field::Path { .. }
            | Field::Address { .. }
            | Field::Token { .. } => parser.value().map_err(|_| value_is_missing(row))?,
        };
        match given.iter_mut().find(|given| given.row.name == row.name) {
            None => given.push(Given { row, source: row.flag(), values: vec![value] }),
            Some(before) if row.is_list() => before.values.push(value),
            Some(_) => {
                return Err(row.error(row.flag(), value, "given twice; keep one"));
            }
        }
    }
    Ok(Flags::Given(given))
}

/// The row of the next option; `None` at the end of the command line.
fn next_row(parser: &mut Parser, given: &[Given]) -> Result<Option<&'static Row>, ConfigError> {
    let arg = match parser.next() {
        Ok(Some(arg)) => arg,
        Ok(None) => return Ok(None),
        // A value that an option does not take. lexopt's other kind of error cannot occur here: `--help` and
        // `--version` take their values out, and all other options have values.
        Err(error) => return Err(ConfigError::setting(error.to_string(), "see --help")),
    };
    match arg {
        Arg::Long(name) => {
            let Some(row) = TABLE.iter().find(|row| row.name == name) else {
                return Err(unknown(OsStr::new(&format!("--{name}")), "unknown option"));
            };
            // `--help=x` is a mistake, although `--help` wins over other mistakes.
            if matches!(row.field, Field::Help | Field::Version)
                && let Some(value) = parser.optional_value()
            {
                return Err(ConfigError::value(row.flag(), value, "takes no value; leave it out"));
            }
            Ok(Some(row))
        }
        Arg::Short(short) => {
            if let Some(row) = TABLE.iter().find(|row| row.short == Some(short)) {
                return Ok(Some(row));
            }
            // The parser reads `-listen` as `-l` with the value `isten`, but it is a mistyped `--listen`. `-p80` is
            // not.
            let rest = parser.optional_value().unwrap_or_default();
            let rest = rest.to_string_lossy();
            let is_value = rest.starts_with(|char: char| !char.is_ascii_alphabetic());
            let option = if is_value { format!("-{short}") } else { format!("-{short}{rest}") };
            Err(unknown(OsStr::new(&option), "unknown option"))
        }
        Arg::Value(value) => Err(unexpected_argument(&value, given.last())),
    }
}

fn value_is_missing(row: &Row) -> ConfigError {
    let (placeholder, example) = row.placeholder().unwrap_or_default();
    let flag = row.flag();
    ConfigError::setting(&flag, format!("needs a value, {placeholder}; write {flag} {example}"))
}

fn unexpected_argument(argument: &OsStr, before: Option<&Given>) -> ConfigError {
    const SETTINGS_FILES: [&str; 6] = [".toml", ".yaml", ".yml", ".json", ".conf", ".ini"];
    let text = argument.to_string_lossy();
    let problem = |remedy: &str| ConfigError::setting(argument, format!("unexpected argument; {remedy}"));
    // `--answer-pings false`: a value of the switch before it, unless the word is a known mistake by itself.
    if let Some(Given { row, .. }) = before
        && matches!(row.field, Field::Switch(_))
        && habits::remedy(&text).is_none()
    {
        let flag = row.flag();
        return match units::meant_switch(&text) {
            Some(is_on) => problem(&format!("write {flag}={is_on}")),
            None => problem(&format!("a switch is written {flag}=true or {flag}=false")),
        };
    }
    // `--listen 127.0.0.1 80`: the port of the address before it.
    if let Some(Given { row, values, .. }) = before
        && matches!(row.field, Field::Addresses(_) | Field::Address { .. })
        && let (Ok(port), Some(host)) = (units::parse_port(&text), values.last())
        && let Ok(address) = parse_address(&format!("{}:{port}", host.to_string_lossy()))
    {
        return problem(&format!("write {} {address}", row.flag()));
    }
    // An address or port without an option.
    if ListenAddress::parse(&text).is_ok() || units::parse_port(&text).is_ok() {
        return problem("write --listen before an address");
    }
    if SETTINGS_FILES.iter().any(|ending| text.ends_with(ending)) {
        return problem("there is no file of settings; write options, or set variables. See --help");
    }
    unknown(argument, "unexpected argument")
}

fn unknown(argument: &OsStr, what: &str) -> ConfigError {
    let argument_text = argument.to_string_lossy();
    let name = argument_text.trim_start_matches('-');
    let nearest = nearest(name, TABLE.iter().map(|row| row.name));
    let problem = match (habits::remedy(name), nearest) {
        (Some(remedy), _) => format!("{what}; {remedy}. See --help"),
        (None, Some((nearest, true))) => format!("{what}; did you mean --{nearest}? See --help"),
        (None, _) => format!("{what}; see --help"),
    };
    ConfigError::setting(argument, problem)
}

/// Adds the variables' values for rows without a flag. Returns the value of `PORT`.
///
/// An empty variable counts as unset. Of two with the same name the first counts, as with `getenv`.
fn read_variables(
    given: &mut Vec<Given>,
    env: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Option<OsString>, ConfigError> {
    let mut port = None;
    for (name, value) in env {
        let name = name.to_string_lossy();
        if value.is_empty() {
            continue;
        }
        if name == PORT {
            port.get_or_insert(value);
            continue;
        }
        // Variables of other programs may have any value.
        if !name.starts_with(VARIABLE_PREFIX) || is_service_link(&name, &value) {
            continue;
        }
        let Some(row) = TABLE.iter().find(|row| row.variable().is_some_and(|variable| variable == name))
        else {
            return Err(unknown_variable(&name));
        };
        if !given.iter().any(|given| given.row.name == row.name) {
            given.push(Given { row, source: name.into_owned(), values: split_list(row, value) });
        }
    }
    Ok(port)
}

/// The items between the commas, if `row` is a list.
fn split_list(row: &Row, value: OsString) -> Vec<OsString> {
    match value.to_str() {
        Some(text) if row.is_list() => text.split(',').map(|item| item.trim_matches(' ').into()).collect(),
        _ => vec![value],
    }
}

/// Whether Kubernetes or Docker has set this variable to tell containers the address of a service. The relay must start
/// although a service is called `apptuner-relay`.
fn is_service_link(name: &str, value: &OsStr) -> bool {
    let is_url = value.to_str().is_some_and(|value| value.contains("://"));
    let names_a_port = |rest: &str| rest.starts_with(|char: char| char.is_ascii_digit());
    name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.ends_with("_PORT") && is_url
        || name.split("_PORT_").skip(1).any(names_a_port)
}

/// The error for an unknown variable. It does not show the value, which may be a secret of another program.
fn unknown_variable(name: &str) -> ConfigError {
    let tail = name.strip_prefix(VARIABLE_PREFIX).unwrap_or(name);
    let known: Vec<String> = TABLE.iter().filter_map(Row::variable).collect();
    let candidates = known.iter().map(|name| name.strip_prefix(VARIABLE_PREFIX).unwrap_or(name));
    let Some((nearest, is_near)) = nearest(tail, candidates.chain(FOREIGN_VARIABLES)) else {
        return ConfigError::setting(name, "unknown variable; see --help");
    };
    // A small mistake in a known name is more likely than an option of another program.
    let habit = habits::remedy(&tail.to_ascii_lowercase().replace('_', "-"));
    if let Some(remedy) = habit.filter(|_| !is_near) {
        return ConfigError::setting(name, format!("unknown variable; {remedy}. See --help"));
    }
    let prefix = if FOREIGN_VARIABLES.contains(&nearest) { "" } else { VARIABLE_PREFIX };
    let hint = if is_near {
        format!("did you mean {prefix}{nearest}?")
    } else {
        format!("the nearest known one is {prefix}{nearest}.")
    };
    ConfigError::setting(name, format!("unknown variable; {hint} See --help"))
}

fn parse_platform_port(value: &OsStr) -> Result<u16, ConfigError> {
    let text = value.to_str().ok_or_else(|| ConfigError::value(PORT, value, NOT_UTF8))?;
    units::parse_port(text).map_err(|problem| {
        if ListenAddress::parse(text).is_ok() {
            return ConfigError::value(PORT, value, "a port alone; for an address set APPTUNER_RELAY_LISTEN");
        }
        ConfigError::value(PORT, value, around(text).unwrap_or(problem))
    })
}

impl Given {
    /// Replaces the value in `config` by the given ones.
    fn apply(&self, config: &mut Config) -> Result<(), ConfigError> {
        // Of all lists, only this one is not empty by default.
        if let Field::Addresses(place) = self.row.field {
            place(config).clear();
        }
        for value in &self.values {
            let text = value.to_str().ok_or_else(|| self.row.error(&self.source, value, NOT_UTF8))?;
            self.row.set(config, text).map_err(|problem| {
                let problem = around(text).or_else(|| self.several(text)).unwrap_or(problem);
                self.row.error(&self.source, value, problem)
            })?;
        }
        Ok(())
    }

    /// The problem if one value holds several items with commas, where each item needs an option of its own.
    fn several(&self, text: &str) -> Option<Problem> {
        let flag = self.row.flag();
        let is_several = self.row.is_list() && self.source == flag && text.contains(',');
        is_several.then(|| format!("several in one; write {flag} before each, without commas").into())
    }
}

/// The problem with a refused value, if quotes or blanks surround it that a shell would have removed.
fn around(text: &str) -> Option<Problem> {
    let is_quoted = |quote| text.len() > 1 && text.starts_with(quote) && text.ends_with(quote);
    if is_quoted('"') || is_quoted('\'') {
        Some("the quotes belong to a shell; leave them out".into())
    } else if text.trim() != text && !text.trim().is_empty() {
        Some("leave out the blanks around it".into())
    } else {
        None
    }
}

/// The candidate that begins with `name`, or else the one with the fewest edits from it. Also whether it is probably
/// the one that was meant: it begins with `name`, or at most a third of the letters differ.
fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<(&'a str, bool)> {
    /// Longer than any name. Comparing more of a longer text would only cost time.
    const CHARS_MAX: usize = 64;
    /// Shorter beginnings match too many names.
    const BEGINNING_MIN: usize = 3;
    let name: String = name.chars().take(CHARS_MAX).collect();
    let is_beginning = |candidate: &str| name.len() >= BEGINNING_MIN && candidate.starts_with(&name);
    let (is_other, edits, nearest) = candidates
        .map(|candidate| (!is_beginning(candidate), edits_between(&name, candidate), candidate))
        .min()?;
    Some((nearest, !is_other || edits * 3 <= name.len().max(nearest.len())))
}

/// The number of letters to insert, delete or replace to turn one text into the other (Levenshtein distance).
fn edits_between(a: &str, b: &str) -> usize {
    // The row above the current one in the table of distances; only two rows are kept.
    let mut above: Vec<usize> = (0..=b.chars().count()).collect();
    for (row, letter) in a.chars().enumerate() {
        // The neighbours of the current cell: above left, and to the left.
        let mut diagonal = row;
        let mut left = row + 1;
        let mut current = vec![left];
        for (other, edits_above) in b.chars().zip(above.iter().copied().skip(1)) {
            left = (diagonal + usize::from(letter != other)).min(edits_above + 1).min(left + 1);
            diagonal = edits_above;
            current.push(left);
        }
        above = current;
    }
    above.last().copied().unwrap_or_default()
}
