//! Tests of the configuration as an operator uses it: flags and variables in, a `Config` or one line out.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use super::bounds::{
    BUFFERED_MAX, BYTE_RATE_MAX, CONNECTIONS_MAX, DEFAULT_PORT, MESSAGE_SIZE_MAX, TIMEOUT_MAX,
};
use super::habits::HABITS;
use super::options::TABLE;
use super::table::{Field, Row};
use super::*;
use crate::relay::access::secret::Secret;
use crate::relay::limits::BUFFERED_BYTES_MIN;
use crate::relay::{Origin, Settings};

/// Names and values of variables.
type Variables<'a> = &'a [(&'a str, &'a str)];

/// The result of `args`, separated by spaces, and `env`.
fn read(args: &str, env: Variables<'_>) -> Result<Command, ConfigError> {
    let args = args.split_whitespace().map(OsString::from);
    Config::from_args_and_env(args, env.iter().map(|(name, value)| (name.into(), value.into())))
}

#[track_caller]
fn run(args: &str, env: Variables<'_>) -> Config {
    match read(args, env) {
        Ok(Command::Run(config)) => config,
        other => unreachable!("{args:?} {env:?} gave {other:?}"),
    }
}

#[track_caller]
fn error(args: &str, env: Variables<'_>) -> String {
    match read(args, env) {
        Err(error) => error.to_string(),
        other => unreachable!("{args:?} {env:?} gave {other:?}"),
    }
}

fn variable(row: &Row) -> String {
    format!("APPTUNER_RELAY_{}", row.name.to_uppercase().replace('-', "_"))
}

/// The rows that are settings.
fn settings() -> impl Iterator<Item = &'static Row> {
    TABLE.iter().filter(|row| !matches!(row.field, Field::Help | Field::Version))
}

/// The settings that can be given alone. The files for TLS must be given together.
fn lone_settings() -> impl Iterator<Item = &'static Row> {
    settings().filter(|row| !row.name.starts_with("tls-"))
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn addresses(texts: &[&str]) -> Vec<ListenAddress> {
    texts.iter().map(|text| ListenAddress::parse(text).expect("the test's own address")).collect()
}

/// Sets one field, as the option under test must do.
type Change = fn(&mut Config);

/// Option, value, and the change to the configuration. Has every option, and no value is the default.
const CHANGES: [(&str, &str, Change); 29] = [
    ("listen", "[::1]:9000", |config| config.listen = addresses(&["[::1]:9000"])),
    ("max-connections", "123", |config| config.relay.max_connections = Some(123)),
    ("max-message-size", "64KiB", |config| config.relay.max_message_size = 65_536),
    ("max-buffered", "128MiB", |config| config.relay.max_buffered = 128 << 20),
    ("session-timeout", "1h", |config| config.relay.session_timeout = seconds(3600)),
    ("reconnect-window", "1m30s", |config| config.relay.reconnect_window = seconds(90)),
    ("redelivery-window", "0s", |config| config.relay.redelivery_window = Duration::ZERO),
    ("ping-interval", "15s", |config| config.relay.ping_interval = seconds(15)),
    ("handshake-timeout", "500ms", |config| config.relay.handshake_timeout = Duration::from_millis(500)),
    ("stall-timeout", "2m", |config| config.relay.stall_timeout = seconds(120)),
    ("message-timeout", "1d", |config| config.relay.message_timeout = seconds(86_400)),
    ("shutdown-grace", "3s", |config| config.shutdown_grace = seconds(3)),
    ("max-message-rate", "200", |config| config.relay.max_message_rate = Some(200)),
    ("max-byte-rate", "1MB", |config| config.relay.max_byte_rate = Some(1_000_000)),
    ("log-format", "json", |config| config.log_format = LogFormat::Json),
    ("admin", "127.0.0.1:9787", |config| config.admin = Some(([127, 0, 0, 1], 9787).into())),
    ("admin-token", "0123456789abcdef", |config| config.admin_token = Secret::new(b"0123456789abcdef")),
    ("answer-pings", "true", |config| config.relay.answer_pings = true),
    ("max-connections-per-ip", "20", |config| config.relay.max_connections_per_ip = Some(20)),
    ("max-connection-rate", "5", |config| config.relay.max_connection_rate = Some(5)),
    ("max-failed-joins", "7", |config| config.relay.max_failed_joins = Some(7)),
    ("require-secret", "true", |config| config.relay.require_secret = true),
    ("api-keys", "/etc/keys", |config| config.api_keys = Some("/etc/keys".into())),
    ("allow", "10.0.0.0/8", |config| config.relay.allow = vec!["10.0.0.0/8".parse().unwrap()]),
    ("deny", "10.1.2.3", |config| config.relay.deny = vec!["10.1.2.3/32".parse().unwrap()]),
    ("address-rules", "rules", |config| config.address_rules = Some("rules".into())),
    ("trust-proxy", "fd00::/8", |config| config.relay.trust_proxy = vec!["fd00::/8".parse().unwrap()]),
    ("proxy-protocol", "1", |config| config.relay.proxy_protocol = true),
    ("allow-origin", "null", |config| config.relay.allow_origin = vec![Origin::parse("null").unwrap()]),
];

#[test]
fn defaults_are_those_of_the_contract() {
    let config = run("", &[]);
    assert_eq!(config, Config::default());
    assert_eq!(config.validate(), Ok(()));
    assert_eq!(config.listen, addresses(&["127.0.0.1:8787"]));
    assert_eq!(config.shutdown_grace, seconds(10));
    let relay = Settings {
        max_connections: None,
        max_message_size: 64 << 20,
        max_buffered: 256 << 20,
        session_timeout: seconds(30 * 60),
        reconnect_window: seconds(5 * 60),
        redelivery_window: seconds(30 * 60),
        ping_interval: seconds(30),
        handshake_timeout: seconds(10),
        stall_timeout: seconds(60),
        message_timeout: seconds(5 * 60),
        max_message_rate: None,
        max_byte_rate: None,
        max_connections_per_ip: None,
        max_connection_rate: None,
        max_failed_joins: Some(30),
        require_secret: false,
        allow: Vec::new(),
        deny: Vec::new(),
        trust_proxy: Vec::new(),
        proxy_protocol: false,
        allow_origin: Vec::new(),
        answer_pings: false,
    };
    assert_eq!(config.relay, relay);
    assert_eq!((config.api_keys, config.address_rules), (None, None));
}

#[test]
fn every_option_sets_its_field_and_no_other_by_flag_and_by_variable() {
    let changed: BTreeSet<&str> = CHANGES.iter().map(|(name, ..)| *name).collect();
    assert_eq!(
        changed,
        lone_settings().map(|row| row.name).collect(),
        "every option has its line in CHANGES"
    );
    for (name, value, change) in CHANGES {
        let mut expected = Config::default();
        change(&mut expected);
        assert_ne!(expected, Config::default(), "{name}");
        let variable = format!("APPTUNER_RELAY_{}", name.to_uppercase().replace('-', "_"));
        if !matches!(settings().find(|row| row.name == name), Some(Row { field: Field::Switch(_), .. })) {
            assert_eq!(run(&format!("--{name} {value}"), &[]), expected, "{name}");
        }
        assert_eq!(run(&format!("--{name}={value}"), &[]), expected, "{name}=");
        assert_eq!(run("", &[(&variable, value)]), expected, "{variable}");
        assert_eq!(run("", &[(&variable, "")]), Config::default(), "{variable} empty");
        assert_eq!(run("", &[(&variable, value), (&variable, "later")]), expected, "{variable} twice");
    }
}

#[test]
fn all_options_together_set_all_fields() {
    let mut expected = Config::default();
    let mut args = String::new();
    for (name, value, change) in CHANGES {
        change(&mut expected);
        args.extend([" --", name, "=", value]);
    }
    assert_eq!(run(&args, &[]), expected);
    assert_eq!(expected.validate(), Ok(()));
}

#[test]
fn flag_replaces_its_variable_even_a_wrong_one() {
    for (name, value, change) in CHANGES {
        let mut expected = Config::default();
        change(&mut expected);
        let row = settings().find(|row| row.name == name).expect("in the table");
        let default = row.text(&Config::default()).expect("a setting");
        let args = format!("--{name}={value}");
        assert_eq!(run(&args, &[(&variable(row), "nonsense")]), expected, "{name}");
        if !default.contains(' ') {
            assert_eq!(run(&args, &[(&variable(row), &default)]), expected, "{name}");
            let args = format!("--{name}={default}");
            assert_eq!(run(&args, &[(&variable(row), value)]), Config::default(), "{name}");
        }
    }
}

#[test]
fn switches_take_four_words_behind_an_equals_sign_or_in_a_variable() {
    assert!(run("--answer-pings", &[]).relay.answer_pings);
    for (word, is_on) in [("true", true), ("1", true), ("false", false), ("0", false)] {
        assert_eq!(run(&format!("--answer-pings={word}"), &[]).relay.answer_pings, is_on, "{word}");
        let env = [("APPTUNER_RELAY_ANSWER_PINGS", word)];
        assert_eq!(run("", &env).relay.answer_pings, is_on, "{word}");
        assert!(run("--answer-pings", &env).relay.answer_pings, "{word}");
        assert!(!run("--answer-pings=false", &env).relay.answer_pings, "{word}");
    }
    // The word after a switch is not its value.
    let config = run("--answer-pings --max-connections 5", &[]);
    assert_eq!((config.relay.answer_pings, config.relay.max_connections), (true, Some(5)));
}

#[test]
fn listen_is_repeatable_as_a_flag_and_takes_commas_as_a_variable() {
    const LISTEN: &str = "APPTUNER_RELAY_LISTEN";
    let table: [(&str, Variables<'_>, &[&str]); 16] = [
        ("", &[], &["127.0.0.1:8787"]),
        ("--listen 1.2.3.4:5", &[], &["1.2.3.4:5"]),
        ("--listen 1.2.3.4:5 --ping-interval 1s --listen=[::1]:6", &[], &["1.2.3.4:5", "[::1]:6"]),
        ("--listen localhost:0 --listen 127.0.0.1:0", &[], &["127.0.0.1:0", "127.0.0.1:0"]),
        ("", &[(LISTEN, "1.2.3.4:5,[::1]:6, localhost:7")], &["1.2.3.4:5", "[::1]:6", "127.0.0.1:7"]),
        ("--listen unix:/a --listen 1.2.3.4:5", &[], &["unix:/a", "1.2.3.4:5"]),
        ("", &[(LISTEN, "unix:/a,unix:/b"), ("PORT", "3000")], &["unix:/a", "unix:/b"]),
        ("--listen 9.9.9.9:9", &[(LISTEN, "1.2.3.4:5,[::1]:6")], &["9.9.9.9:9"]),
        // PORT counts only if neither of them is given.
        ("", &[("PORT", "3000")], &["[::]:3000"]),
        ("", &[("PORT", "3000"), ("PORT", "4000")], &["[::]:3000"]),
        ("", &[("PORT", "0")], &["[::]:0"]),
        ("", &[("PORT", "")], &["127.0.0.1:8787"]),
        ("--listen 1.2.3.4:5", &[("PORT", "3000")], &["1.2.3.4:5"]),
        ("--listen 1.2.3.4:5", &[("PORT", "nonsense")], &["1.2.3.4:5"]),
        ("", &[("PORT", "3000"), (LISTEN, "1.2.3.4:5")], &["1.2.3.4:5"]),
        ("", &[("PORT", "3000"), (LISTEN, "")], &["[::]:3000"]),
    ];
    for (args, env, expected) in table {
        assert_eq!(run(args, env).listen, addresses(expected), "{args:?} {env:?}");
    }
}

#[test]
fn help_and_version_win_over_wrong_values_and_what_follows() {
    for (args, expected) in [
        ("--help", Command::Help),
        ("-h", Command::Help),
        ("--version", Command::Version),
        ("-V", Command::Version),
        ("-hV", Command::Help),
        ("--version --help", Command::Version),
        ("--ping-interval 30 --listen nowhere --help --bogus", Command::Help),
    ] {
        assert_eq!(read(args, &[("APPTUNER_RELAY_BOGUS", "x"), ("PORT", "x")]), Ok(expected), "{args}");
    }
    assert_eq!(VERSION, "apptuner-relay 0.1.0");
}

#[test]
fn variables_of_other_programs_are_ignored() {
    for (name, value) in [
        ("PATH", "/bin"),
        ("RUST_LOG", "info"),
        ("APPTUNER_TOKEN", "x"),
        ("APPTUNER_RELAY", "x"),
        ("XAPPTUNER_RELAY_LISTEN", "x"),
        ("apptuner_relay_listen", "x"),
        // An empty variable counts as unset, so it is not a mistake.
        ("APPTUNER_RELAY_BOGUS", ""),
        // The variables that Kubernetes and Docker set for a service called apptuner-relay.
        ("APPTUNER_RELAY_SERVICE_HOST", "10.0.0.1"),
        ("APPTUNER_RELAY_SERVICE_PORT", "8787"),
        ("APPTUNER_RELAY_SERVICE_PORT_HTTP", "8787"),
        ("APPTUNER_RELAY_PORT", "tcp://10.0.0.1:8787"),
        ("APPTUNER_RELAY_PORT_8787_TCP", "tcp://10.0.0.1:8787"),
        ("APPTUNER_RELAY_PORT_8787_TCP_ADDR", "10.0.0.1"),
        ("APPTUNER_RELAY_STAGING_PORT_8787_TCP_PROTO", "tcp"),
        ("APPTUNER_RELAY_STAGING_SERVICE_HOST", "10.0.0.1"),
    ] {
        assert_eq!(run("", &[(name, value)]), Config::default(), "{name}");
    }
}

#[test]
fn failures_of_the_command_line_are_one_line_with_the_remedy() {
    let table = [
        (
            "--sesion-timeout 30m",
            "--sesion-timeout: unknown option; did you mean --session-timeout? See --help",
        ),
        (
            "--sesion-timeout=30m",
            "--sesion-timeout: unknown option; did you mean --session-timeout? See --help",
        ),
        ("--Listen x", "--Listen: unknown option; did you mean --listen? See --help"),
        ("--max-conn 5", "--max-conn: unknown option; did you mean --max-connections? See --help"),
        ("--session 5m", "--session: unknown option; did you mean --session-timeout? See --help"),
        ("--max-clients 5", "--max-clients: unknown option; write --max-connections N. See --help"),
        ("--frobnicate", "--frobnicate: unknown option; see --help"),
        ("--hello", "--hello: unknown option; see --help"),
        ("--li", "--li: unknown option; see --help"),
        ("-listen x", "-listen: unknown option; did you mean --listen? See --help"),
        ("-", "-: unexpected argument; see --help"),
        ("listen 127.0.0.1:80", "listen: unexpected argument; did you mean --listen? See --help"),
        ("-- --help", "--help: unexpected argument; did you mean --help? See --help"),
        ("--answer-pings false", "false: unexpected argument; write --answer-pings=false"),
        ("--answer-pings=maybe", "--answer-pings maybe: a switch takes true, false, 1 or 0"),
        ("--answer-pings=", "--answer-pings '': a switch takes true, false, 1 or 0"),
        ("--help=all", "--help all: takes no value; leave it out"),
        ("--listen", "--listen: needs a value, ADDRESS; write --listen 127.0.0.1:8787"),
        ("--ping-interval", "--ping-interval: needs a value, DURATION; write --ping-interval 30s"),
        ("--max-byte-rate", "--max-byte-rate: needs a value, SIZE; write --max-byte-rate 64MiB"),
        ("--log-format xml", "--log-format xml: not a format; write text or json"),
        ("--allow", "--allow: needs a value, RANGE; write --allow 192.0.2.0/24"),
        (
            "--allow-origin",
            "--allow-origin: needs a value, ORIGIN; write --allow-origin https://app.example.com",
        ),
        ("--admin nowhere", "--admin nowhere: not an address; write ADDR:PORT, such as 127.0.0.1:8787"),
        (
            "--admin 0.0.0.0:9787",
            "--admin 0.0.0.0:9787: others than this machine reach it; set --admin-token, or use 127.0.0.1",
        ),
        ("--admin 127.0.0.1:8787", "--admin 127.0.0.1:8787: clients connect there; use another port"),
        (
            "--admin-token hunter2",
            "--admin-token: not 16 to 256 characters from ! to ~; take the output of: openssl rand -hex 32",
        ),
        (
            "--admin-token 0123456789abcdef --admin-token 0123456789abcdef",
            "--admin-token: given twice; keep one",
        ),
        ("--api-keys", "--api-keys: needs a value, FILE; write --api-keys keys"),
        ("--api-keys=", "--api-keys '': not a path; write that of a file"),
        (
            "--deny 10.0.0.0/8 --deny 10.0.0.1/8",
            "--deny 10.0.0.1/8: has bits set behind its prefix; write 10.0.0.0/8",
        ),
        (
            "--trust-proxy proxy",
            "--trust-proxy proxy: \
             not an address range; write ADDRESS/BITS, such as 192.0.2.0/24 or 2001:db8::/32",
        ),
        (
            "--allow-origin https://app.example.com/",
            "--allow-origin https://app.example.com/: \
             an origin ends before its path; write https://app.example.com",
        ),
        (
            "--allow-origin app.example.com",
            "--allow-origin app.example.com: \
             not an origin; write SCHEME://HOST or SCHEME://HOST:PORT, such as https://app.example.com",
        ),
        ("--max-connections", "--max-connections: needs a value, N; write --max-connections 1000"),
        ("--ping-interval 30s --ping-interval=5s", "--ping-interval 5s: given twice; keep one"),
        ("--answer-pings --answer-pings=false", "--answer-pings false: given twice; keep one"),
        ("--ping-interval 30", "--ping-interval 30: a duration needs a unit; write 30s"),
        (
            "--ping-interval 1.5m",
            "--ping-interval 1.5m: fractions are not understood; use a smaller unit, as in 1m30s",
        ),
        ("--ping-interval=", "--ping-interval '': not a duration; write a number and a unit, such as 30s"),
        (
            "--ping-interval --answer-pings",
            "--ping-interval --answer-pings: not a duration; write a number and a unit, such as 30s",
        ),
        ("--max-byte-rate 64k", "--max-byte-rate 64k: ambiguous unit; write 64KiB"),
        ("--max-connections many", "--max-connections many: not a number; write digits only, such as 1000"),
        (
            "--listen 127.0.0.1:80 --listen web:80",
            "--listen web:80: host names are not looked up; write an IP address, such as 127.0.0.1:80",
        ),
        (
            "--listen 127.0.0.1:80 --listen localhost:80",
            "--listen localhost:80: the same address twice; keep one",
        ),
    ];
    for (args, expected) in table {
        assert_eq!(error(args, &[]), expected, "{args}");
    }
}

#[test]
fn options_of_other_programs_get_a_remedy() {
    let table = [
        (
            "-p 80",
            "-p: unknown option; \
             write --listen 127.0.0.1:8787, or set PORT=8787 for every interface. See --help",
        ),
        (
            "-p80",
            "-p: unknown option; \
             write --listen 127.0.0.1:8787, or set PORT=8787 for every interface. See --help",
        ),
        (
            "--port=80",
            "--port: unknown option; \
             write --listen 127.0.0.1:8787, or set PORT=8787 for every interface. See --help",
        ),
        ("-v", "-v: unknown option; write --version, or set RUST_LOG=info to have more logged. See --help"),
        (
            "--log-level debug",
            "--log-level: unknown option; \
             set what is logged by a variable, as in RUST_LOG=info. See --help",
        ),
        ("-x", "-x: unknown option; see --help"),
        (
            "relay.toml",
            "relay.toml: unexpected argument; \
             there is no file of settings; write options, or set variables. See --help",
        ),
        ("start", "start: unexpected argument; leave it out: the relay runs without it. See --help"),
        ("127.0.0.1:80", "127.0.0.1:80: unexpected argument; write --listen before an address"),
        ("--listen 127.0.0.1 80", "80: unexpected argument; write --listen 127.0.0.1:80"),
        (
            "--listen 127.0.0.1:80,[::1]:80",
            "--listen 127.0.0.1:80,[::1]:80: several in one; write --listen before each, without commas",
        ),
        (
            "--listen ws://127.0.0.1:9000",
            "--listen ws://127.0.0.1:9000: an address has no scheme; write 127.0.0.1:9000",
        ),
        ("--answer-pings yes", "yes: unexpected argument; write --answer-pings=true"),
        (
            "--answer-pings maybe",
            "maybe: unexpected argument; a switch is written --answer-pings=true or --answer-pings=false",
        ),
    ];
    for (args, expected) in table {
        assert_eq!(error(args, &[]), expected, "{args}");
    }
}

#[test]
fn remedies_for_foreign_options_name_only_existing_options() {
    let mut names: BTreeSet<&str> = BTreeSet::new();
    for (name, remedy) in HABITS {
        assert!(names.insert(name), "{name} is there twice");
        assert!(!TABLE.iter().any(|row| row.name == name), "{name}");
        for word in remedy.split(' ').filter_map(|word| word.strip_prefix("--")) {
            let word = word.trim_end_matches(',');
            assert!(TABLE.iter().any(|row| row.name == word), "{name}: --{word}");
        }
    }
}

#[test]
fn failures_in_the_environment_name_the_variable() {
    let table = [
        (
            ("APPTUNER_RELAY_MAX_MESSAGE_SIZE", "12QB"),
            "APPTUNER_RELAY_MAX_MESSAGE_SIZE 12QB: \
             unknown unit; use B, KiB, MiB, GiB, KB, MB or GB, as in 64MiB",
        ),
        (
            ("APPTUNER_RELAY_SESSION_TIMEOUT", "30"),
            "APPTUNER_RELAY_SESSION_TIMEOUT 30: a duration needs a unit; write 30s",
        ),
        (
            ("APPTUNER_RELAY_ANSWER_PINGS", "yes"),
            "APPTUNER_RELAY_ANSWER_PINGS yes: a switch takes true, false, 1 or 0; write true",
        ),
        (
            ("APPTUNER_RELAY_ADMIN", "\"127.0.0.1:9787\""),
            "APPTUNER_RELAY_ADMIN \"127.0.0.1:9787\": the quotes belong to a shell; leave them out",
        ),
        (
            ("APPTUNER_RELAY_PING_INTERVAL", "30s "),
            "APPTUNER_RELAY_PING_INTERVAL 30s : leave out the blanks around it",
        ),
        (("PORT", "0.0.0.0:80"), "PORT 0.0.0.0:80: a port alone; for an address set APPTUNER_RELAY_LISTEN"),
        (
            ("APPTUNER_RELAY_LOG_LEVEL", "info"),
            "APPTUNER_RELAY_LOG_LEVEL: unknown variable; \
             set what is logged by a variable, as in RUST_LOG=info. See --help",
        ),
        (
            ("APPTUNER_RELAY_LISTEN", "127.0.0.1:80,,[::1]:80"),
            "APPTUNER_RELAY_LISTEN '': not an address; write ADDR:PORT, such as 127.0.0.1:8787",
        ),
        (
            ("APPTUNER_RELAY_LISTEN", "127.0.0.1:80, web:80"),
            "APPTUNER_RELAY_LISTEN web:80: host names are not looked up; \
             write an IP address, such as 127.0.0.1:80",
        ),
        (
            ("APPTUNER_RELAY_PING_INTERVAL", "1s,2s"),
            "APPTUNER_RELAY_PING_INTERVAL 1s,2s: not a duration; write a number and a unit, such as 30s",
        ),
        (("PORT", "80a"), "PORT 80a: not a port; write a number from 0 to 65535, such as 8787"),
        (("PORT", "65536"), "PORT 65536: not a port; write a number from 0 to 65535, such as 8787"),
        (
            ("APPTUNER_RELAY_SESION_TIMEOUT", "secret"),
            "APPTUNER_RELAY_SESION_TIMEOUT: unknown variable; \
             did you mean APPTUNER_RELAY_SESSION_TIMEOUT? See --help",
        ),
        (
            ("APPTUNER_RELAY_PORT", "8080"),
            "APPTUNER_RELAY_PORT: unknown variable; did you mean PORT? See --help",
        ),
        (
            ("APPTUNER_RELAY_PORT_NUMBER", "8080"),
            "APPTUNER_RELAY_PORT_NUMBER: unknown variable; the nearest known one is PORT. See --help",
        ),
        (
            ("APPTUNER_RELAY_RUST_LOG", "info"),
            "APPTUNER_RELAY_RUST_LOG: unknown variable; did you mean RUST_LOG? See --help",
        ),
        (
            ("APPTUNER_RELAY_HELP", "1"),
            "APPTUNER_RELAY_HELP: unknown variable; the nearest known one is APPTUNER_RELAY_DENY. See --help",
        ),
        (
            ("APPTUNER_RELAY_", "1"),
            "APPTUNER_RELAY_: unknown variable; the nearest known one is APPTUNER_RELAY_DENY. See --help",
        ),
        (
            ("APPTUNER_RELAY_SECRET_FILE", "x"),
            "APPTUNER_RELAY_SECRET_FILE: unknown variable; \
             the nearest known one is APPTUNER_RELAY_ADDRESS_RULES. See --help",
        ),
    ];
    for (pair, expected) in table {
        assert_eq!(error("", &[pair]), expected);
    }
    // A flag replaces the value of its own variable, but unknown variables are still errors.
    let error = error("--listen 1.2.3.4:5", &[("APPTUNER_RELAY_LISTN", "x")]);
    assert_eq!(
        error,
        "APPTUNER_RELAY_LISTN: unknown variable; did you mean APPTUNER_RELAY_LISTEN? See --help"
    );
}

/// Option, bounds, default.
const BOUNDS: [(&str, &str, &str); 16] = [
    ("max-connections-per-ip", "1 to 10000000", "no limit"),
    ("max-connection-rate", "1 to 4294967295", "no limit"),
    ("max-failed-joins", "1 to 4294967295", "30"),
    ("max-connections", "1 to 10000000", "from the limit on open files"),
    ("max-message-size", "1B to 1GiB", "64MiB"),
    ("max-buffered", "1MiB to 1024GiB", "256MiB"),
    ("max-message-rate", "1 to 4294967295", "no limit"),
    ("max-byte-rate", "1B to 1GiB", "no limit"),
    ("session-timeout", "1ms to 365d", "30m"),
    ("reconnect-window", "1ms to 365d", "5m"),
    ("redelivery-window", "0s to 365d", "30m"),
    ("ping-interval", "1ms to 365d", "30s"),
    ("handshake-timeout", "1ms to 365d", "10s"),
    ("stall-timeout", "1ms to 365d", "1m"),
    ("message-timeout", "1ms to 365d", "5m"),
    ("shutdown-grace", "1ms to 365d", "10s"),
];

/// An error of the command line, as a programmer reads it who builds a configuration in code.
fn in_code(line: &str) -> String {
    let (option, rest) = line.split_once(' ').expect("an option, and what is wrong with it");
    format!("{} {rest}", option.trim_start_matches('-').replace('-', "_"))
}

/// The whole error for a `value` that is out of its bounds.
fn out_of_bounds(name: &str, value: &str) -> String {
    let (_, bounds, default) = BOUNDS.iter().find(|row| row.0 == name).expect("in BOUNDS");
    format!("--{name} {value}: must be {bounds}; leave it out for the default, {default}")
}

#[test]
fn values_out_of_bounds_are_refused_and_values_on_the_bounds_are_accepted() {
    const OVERFLOWING: &str = "99999999999999999999999999";
    let table = [
        ("max-connections", ["1", "10000000"], ["0", "10000001", OVERFLOWING]),
        ("max-connections-per-ip", ["1", "10000000"], ["0", "10000001", OVERFLOWING]),
        ("max-connection-rate", ["1", "4294967295"], ["0", "4294967296", OVERFLOWING]),
        ("max-failed-joins", ["1", "4294967295"], ["0", "4294967296", OVERFLOWING]),
        ("max-message-size", ["1", "224MiB"], ["0", "1073741825", OVERFLOWING]),
        ("max-buffered", ["74MiB", "1024GiB"], ["1023KiB", "1025GiB", OVERFLOWING]),
        ("max-message-rate", ["1", "4294967295"], ["0", "4294967296", OVERFLOWING]),
        ("max-byte-rate", ["1", "1GiB"], ["0KB", "1025MiB", OVERFLOWING]),
        ("session-timeout", ["1ms", "365d"], ["0s", "366d", "99999999999999999999s"]),
        ("reconnect-window", ["1ms", "365d"], ["0", "365d1ms", "99999999999999999999s"]),
        ("redelivery-window", ["0s", "365d"], ["366d", "365d1ms", "99999999999999999999s"]),
        ("ping-interval", ["1ms", "365d"], ["0ms", "9999999h", "99999999999999999999s"]),
        ("handshake-timeout", ["1ms", "365d"], ["0m", "8761h", "99999999999999999999s"]),
        ("stall-timeout", ["1ms", "365d"], ["0h", "366d", "99999999999999999999s"]),
        ("message-timeout", ["1ms", "365d"], ["0d", "400d", "99999999999999999999s"]),
        ("shutdown-grace", ["1ms", "365d"], ["0s", "365d1s", "300000000000d"]),
    ];
    let is_number = |row: &&Row| {
        let placeholder = row.placeholder().map_or("", |(placeholder, _)| placeholder);
        ["DURATION", "SIZE", "N"].contains(&placeholder)
    };
    assert_eq!(table.len(), TABLE.iter().filter(is_number).count(), "every number has its line");
    for (name, within, beyond) in table {
        for value in within {
            assert_eq!(run(&format!("--{name} {value}"), &[]).validate(), Ok(()), "{name} {value}");
        }
        for value in beyond {
            assert_eq!(error(&format!("--{name} {value}"), &[]), out_of_bounds(name, value));
        }
    }
}

#[cfg(feature = "tls")]
#[test]
fn tls_files_are_given_by_flag_or_by_variable() {
    let expected = Config {
        tls: TlsFiles { cert: Some("a.pem".into()), key: Some("b.pem".into()) },
        ..Config::default()
    };
    for (args, env) in [
        ("--tls-cert a.pem --tls-key=b.pem", &[][..]),
        ("--tls-cert a.pem", &[("APPTUNER_RELAY_TLS_KEY", "b.pem")]),
        ("", &[("APPTUNER_RELAY_TLS_KEY", "b.pem"), ("APPTUNER_RELAY_TLS_CERT", "a.pem")]),
        ("--tls-cert a.pem --tls-key b.pem", &[("APPTUNER_RELAY_TLS_CERT", "c.pem")]),
    ] {
        assert_eq!(run(args, env), expected, "{args} {env:?}");
    }
    let alone = "--tls-cert a.pem: is of no use alone; add --tls-key, the file of its private key";
    assert_eq!(error("--tls-cert a.pem", &[]), alone);
    let alone = "--tls-key b.pem: is of no use alone; add --tls-cert, the file of its certificate";
    assert_eq!(error("", &[("APPTUNER_RELAY_TLS_KEY", "b.pem")]), alone);
}

#[cfg(not(feature = "tls"))]
#[test]
fn build_without_tls_says_how_to_build_with_it() {
    for (args, given) in [
        ("--tls-cert a.pem --tls-key b.pem", "--tls-cert a.pem"),
        ("--tls-cert a.pem", "--tls-cert a.pem"),
        ("--tls-key b.pem", "--tls-key b.pem"),
    ] {
        let expected =
            format!("{given}: this build has no TLS; build with: cargo build --release --features tls");
        assert_eq!(error(args, &[]), expected);
    }
}

#[test]
fn file_without_a_name_is_refused() {
    assert_eq!(error("--tls-key=", &[]), "--tls-key '': not a path; write that of a file");
    assert_eq!(error("--tls-cert", &[]), "--tls-cert: needs a value, FILE; write --tls-cert fullchain.pem");
}

#[test]
fn longest_message_may_be_longer_than_the_memory_for_all_messages() {
    let Ok(Command::Run(config)) = read("--max-buffered 1MiB --max-message-size 1GiB", &[]) else {
        panic!("is accepted");
    };
    assert_eq!((config.relay.max_buffered, config.relay.max_message_size), (1 << 20, 1 << 30));
}

#[test]
fn configuration_built_in_code_has_the_same_bounds() {
    /// Option, the value as shown, and the change that sets it.
    const TABLE: [(&str, &str, Change); 19] = [
        ("max-connections", "0", |config| config.relay.max_connections = Some(0)),
        ("max-connections", "10000001", |config| config.relay.max_connections = Some(CONNECTIONS_MAX + 1)),
        ("max-message-size", "0B", |config| config.relay.max_message_size = 0),
        ("max-message-size", "1073741825B", |config| config.relay.max_message_size = MESSAGE_SIZE_MAX + 1),
        ("max-buffered", "1048575B", |config| config.relay.max_buffered = BUFFERED_BYTES_MIN - 1),
        ("max-buffered", "2048GiB", |config| config.relay.max_buffered = 2 * BUFFERED_MAX),
        ("max-message-rate", "0", |config| config.relay.max_message_rate = Some(0)),
        ("max-byte-rate", "0B", |config| config.relay.max_byte_rate = Some(0)),
        ("max-byte-rate", "2GiB", |config| config.relay.max_byte_rate = Some(BYTE_RATE_MAX * 2)),
        ("session-timeout", "0s", |config| config.relay.session_timeout = Duration::ZERO),
        ("reconnect-window", "0s", |config| config.relay.reconnect_window = Duration::ZERO),
        ("ping-interval", "0s", |config| config.relay.ping_interval = Duration::ZERO),
        ("handshake-timeout", "0s", |config| config.relay.handshake_timeout = Duration::ZERO),
        ("stall-timeout", "0s", |config| config.relay.stall_timeout = Duration::ZERO),
        ("message-timeout", "0s", |config| config.relay.message_timeout = Duration::ZERO),
        ("shutdown-grace", "0s", |config| config.shutdown_grace = Duration::ZERO),
        ("shutdown-grace", "999us", |config| config.shutdown_grace = Duration::from_micros(999)),
        ("shutdown-grace", "31536001s", |config| config.shutdown_grace = TIMEOUT_MAX + seconds(1)),
        ("shutdown-grace", "18446744073709551615999999999ns", |config| config.shutdown_grace = Duration::MAX),
    ];
    for (name, value, change) in TABLE {
        let mut config = Config::default();
        change(&mut config);
        let line = config.validate().map_err(|error| error.to_string());
        assert_eq!(line, Err(in_code(&out_of_bounds(name, value))));
    }
}

#[test]
fn configuration_built_in_code_needs_an_address_and_no_address_twice() {
    for (listen, expected) in [
        (addresses(&["127.0.0.1:0", "127.0.0.1:0", "[::]:80", "0.0.0.0:80"]), Ok(())),
        (vec![], Err("listen: no address to listen on; give at least one")),
        (
            addresses(&["127.0.0.1:80", "[::1]:80", "127.0.0.1:80"]),
            Err("listen 127.0.0.1:80,[::1]:80,127.0.0.1:80: the same address twice; keep one"),
        ),
        (
            addresses(&["unix:/a", "unix:/b", "unix:/a"]),
            Err("listen unix:/a,unix:/b,unix:/a: the same address twice; keep one"),
        ),
        (
            vec![ListenAddress::Unix("a".into())],
            Err(
                "listen unix:a: not the path of a socket; write it from / on, as in unix:/run/apptuner-relay.sock",
            ),
        ),
    ] {
        let config = Config { listen, ..Config::default() };
        let result = config.validate().map_err(|error| error.to_string());
        assert_eq!(result, expected.map_err(str::to_owned));
    }
}

#[test]
fn conflicts_between_settings_name_fields_or_options() {
    let open: ListenAddress = ([0, 0, 0, 0], 9787).into();
    let admin = |address: &ListenAddress| Config { admin: Some(address.clone()), ..Config::default() };
    let [cert, key] = [Some("a.pem".into()), None].map(|cert: Option<PathBuf>| {
        let key = cert.is_none().then(|| "b.pem".into());
        Config { tls: TlsFiles { cert, key }, ..Config::default() }
    });
    let [alone_cert, alone_key] = if cfg!(feature = "tls") {
        [
            "tls.cert a.pem: is of no use alone; add tls.key, the file of its private key",
            "tls.key b.pem: is of no use alone; add tls.cert, the file of its certificate",
        ]
    } else {
        [
            "tls.cert a.pem: this build has no TLS; build it with the feature tls",
            "tls.key b.pem: this build has no TLS; build it with the feature tls",
        ]
    };
    for (config, expected) in [
        (
            admin(&open),
            "admin 0.0.0.0:9787: others than this machine reach it; set admin_token, or use 127.0.0.1",
        ),
        (
            admin(&([127, 0, 0, 1], DEFAULT_PORT).into()),
            "admin 127.0.0.1:8787: clients connect there; use another port",
        ),
        (cert, alone_cert),
        (key, alone_key),
    ] {
        assert_eq!(config.validate().map_err(|error| error.to_string()), Err(expected.to_owned()));
    }
}

#[test]
fn at_most_64_addresses_are_accepted() {
    let listen = |count| vec![([127, 0, 0, 1], 0).into(); count];
    assert_eq!(Config { listen: listen(64), ..Config::default() }.validate(), Ok(()));
    let error = Config { listen: listen(65), ..Config::default() }.validate().unwrap_err();
    assert!(error.to_string().contains("65 addresses; at most 64 are possible"), "{error}");
}

#[test]
fn each_timeout_may_be_set_alone_to_its_minimum_and_its_maximum() {
    for row in settings().filter(|row| matches!(row.field, Field::Duration(_))) {
        for value in ["1ms", "365d"] {
            assert_eq!(run(&format!("--{} {value}", row.name), &[]).validate(), Ok(()), "{}", row.name);
        }
    }
}

#[test]
fn every_error_is_one_short_line() {
    let long = "9\n\u{1b}\u{202e}x".repeat(100_000);
    let mut lines = Vec::new();
    for row in settings() {
        lines.push(error_of(&[&format!("--{}={long}", row.name)], &[]));
        lines.push(error_of(&[], &[(&variable(row), &long)]));
        lines.push(error_of(&[&format!("--{}={}", row.name, "9".repeat(100_000))], &[]));
        lines.push(error_of(&[&format!("--{}={}", row.name, "x".repeat(100_000))], &[]));
    }
    lines.push(error_of(&[&format!("--{long}")], &[]));
    lines.push(error_of(&[&format!("-{long}")], &[]));
    lines.push(error_of(&[&format!("--help={long}")], &[]));
    lines.push(error_of(&[&long], &[]));
    lines.push(error_of(&[""], &[]));
    lines.push(error_of(&[], &[("PORT", &long)]));
    lines.push(error_of(&[], &[(&format!("APPTUNER_RELAY_{long}"), "x")]));
    for line in lines {
        assert!(line.chars().count() <= 240, "{line}");
        assert!(!line.contains(|char: char| char.is_control() || char == '\u{202e}'), "{line:?}");
    }
}

fn error_of(args: &[&str], env: Variables<'_>) -> String {
    let args = args.iter().map(OsString::from);
    match Config::from_args_and_env(args, env.iter().map(|(name, value)| (name.into(), value.into()))) {
        Err(error) => error.to_string(),
        Ok(command) => unreachable!("{command:?}"),
    }
}

#[cfg(unix)]
#[test]
fn arguments_that_are_not_utf8_are_refused_and_shown_in_hexadecimal() {
    use std::os::unix::ffi::OsStringExt;
    let os = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
    let table = [
        (vec![os(b"--listen"), os(b"a\xff:80")], None, r"--listen a\xff:80: not UTF-8; write plain text"),
        (vec![os(b"--answer-pings=\xff")], None, r"--answer-pings \xff: not UTF-8; write plain text"),
        (vec![os(b"\xff")], None, r"\xff: unexpected argument; see --help"),
        (vec![os(b"--list\xff")], None, "--list\u{fffd}: unknown option; did you mean --listen? See --help"),
        (vec![], Some((os(b"PORT"), os(b"\xff"))), r"PORT \xff: not UTF-8; write plain text"),
        (
            vec![],
            Some((os(b"APPTUNER_RELAY_LISTEN"), os(b"1.2.3.4:5,\xff"))),
            r"APPTUNER_RELAY_LISTEN 1.2.3.4:5,\xff: not UTF-8; write plain text",
        ),
        (
            vec![],
            Some((os(b"APPTUNER_RELAY_LISTE\xff"), os(b"x"))),
            "APPTUNER_RELAY_LISTE\u{fffd}: unknown variable; did you mean APPTUNER_RELAY_LISTEN? See --help",
        ),
    ];
    for (args, env, expected) in table {
        let result = Config::from_args_and_env(args, env);
        assert_eq!(result.map_err(|error| error.to_string()), Err(expected.to_owned()));
    }
    let env = [(os(b"OTHER\xff"), os(b"\xff"))];
    assert_eq!(Config::from_args_and_env([], env), Ok(Command::Run(Config::default())));
}

#[test]
fn help_fits_80_columns_of_plain_text() {
    let help = help();
    assert!(help.ends_with('\n') && !help.ends_with("\n\n"));
    for line in help.lines() {
        assert!(line.len() <= 80, "{} columns: {line}", line.len());
        assert!(line.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()), "{line:?}");
        assert!(!line.ends_with(' '), "{line:?}");
    }
}

#[test]
fn help_has_a_line_for_every_option_and_its_defaults_set_nothing() {
    let help = help();
    for row in &TABLE {
        let flag = format!("--{}", row.name);
        let lines: Vec<&str> = help
            .lines()
            .filter(|line| line.starts_with("  -"))
            .filter(|line| line.split(['[', ' ', ',']).any(|word| word == flag))
            .collect();
        let [line] = lines[..] else { unreachable!("{flag}: {lines:?}") };
        let default = line.split_once("  (default: ").map(|(_, rest)| rest.trim_end_matches(')'));
        match row.field {
            Field::Help | Field::Version => assert_eq!(default, None, "{line}"),
            Field::Count { unset, .. }
            | Field::Rate { unset, .. }
            | Field::ByteRate { unset, .. }
            | Field::Ranges { unset, .. }
            | Field::Origins { unset, .. }
            | Field::Path { unset, .. }
            | Field::Address { unset, .. }
            | Field::Token { unset, .. }
                if default == Some(unset) => {}
            Field::Addresses(_)
            | Field::Ranges { .. }
            | Field::Origins { .. }
            | Field::Path { .. }
            | Field::Address { .. }
            | Field::Token { .. }
            | Field::Duration(_)
            | Field::DurationOrZero(_)
            | Field::Size { .. }
            | Field::Count { .. }
            | Field::Rate { .. }
            | Field::ByteRate { .. }
            | Field::LogFormat(_)
            | Field::Switch(_) => {
                let default = default.expect("an option has a default");
                assert_eq!(run(&format!("{flag}={default}"), &[]), Config::default(), "{line}");
                assert_eq!(run("", &[(&variable(row), default)]), Config::default(), "{line}");
            }
        }
        assert!(help.contains(&format!("      {}\n", row.help.replace('\n', "\n      "))), "{flag}");
    }
    for line in [
        "  --listen ADDRESS  (default: 127.0.0.1:8787)",
        "  --stall-timeout DURATION  (default: 1m)",
        "  --answer-pings[=true|false]  (default: false)",
        "  --max-connections N  (default: from the limit on open files)",
        "  --max-message-size SIZE  (default: 64MiB)",
        "  --max-byte-rate SIZE  (default: no limit)",
        "  -h, --help",
        "  -V, --version",
    ] {
        assert!(help.lines().any(|other| other == line), "{line}");
    }
    let options = help.lines().filter(|line| line.starts_with("  -")).count();
    assert_eq!(options, TABLE.len(), "no option that is not in the table");
}

#[test]
fn help_shows_each_heading_once_and_an_example_that_works() {
    let help = help();
    for heading in
        ["Listening", "Sessions and timeouts", "Messages", "Limits", "Access", "Operator", "Process"]
    {
        assert_eq!(help.matches(&format!("\n\n{heading}:\n  ")).count(), 1, "{heading}");
    }
    for variable in ["\n  PORT\n", "\n  RUST_LOG\n", "\n  APPTUNER_RELAY_<OPTION>\n", "_SESSION_TIMEOUT=1h."]
    {
        assert!(help.contains(variable), "{variable}");
    }
    let example = help.lines().find_map(|line| line.strip_prefix("  apptuner-relay ")).expect("an example");
    let config = run(example, &[]);
    assert_eq!(config.listen, addresses(&["0.0.0.0:8787"]));
    assert_eq!((config.relay.session_timeout, config.relay.answer_pings), (seconds(3600), true));
}

#[test]
fn table_rows_are_distinct_and_no_variable_looks_like_a_service_link() {
    let names: BTreeSet<&str> = TABLE.iter().map(|row| row.name).collect();
    assert_eq!(names.len(), TABLE.len());
    for row in &TABLE {
        assert!(row.name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'), "{}", row.name);
        for value in ["x", "x://y"] {
            assert_ne!(
                read("", &[(&variable(row), value)]),
                Ok(Command::Run(Config::default())),
                "{}",
                row.name
            );
        }
    }
}
