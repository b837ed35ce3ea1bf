//! The table of options: one row each, in the order of the help. Defaults are not here: they are in `settings`, and in
//! `relay::settings` for the engine.

use super::bounds::{BUFFERED_MAX, BYTE_RATE_MAX, CONNECTIONS_MAX, MESSAGE_SIZE_MAX};
use super::table::{Field, Row};
use crate::relay::limits::BUFFERED_BYTES_MIN;

const LISTENING: &str = "Listening";
const SESSIONS: &str = "Sessions and timeouts";
const MESSAGES: &str = "Messages";
const LIMITS: &str = "Limits";
const ACCESS: &str = "Access";
const OPERATOR: &str = "Operator";
const PROCESS: &str = "Process";

/// A row for an option without a short form.
const fn row(heading: &'static str, name: &'static str, field: Field, help: &'static str) -> Row {
    Row { name, short: None, heading, field, help }
}

/// Every option.
pub(super) const TABLE: [Row; 33] = [
    row(
        LISTENING,
        "listen",
        Field::Addresses(|config| &mut config.listen),
        "Accept connections at this address: ADDR:PORT, [ADDR6]:PORT,\n\
         localhost:PORT or unix:/PATH. Repeatable. Port 0 takes any free port.\n\
         A link-local address needs its interface: [fe80::1%eth0]:PORT.\n\
         The umask sets a Unix-domain socket's permissions; its clients count as\n\
         127.0.0.1.",
    ),
    row(
        LISTENING,
        "tls-cert",
        Field::Path { place: |config| &mut config.tls.cert, unset: "no TLS", example: "fullchain.pem" },
        "Speak TLS at every address, with the certificate in this PEM file.\n\
         Read again on SIGHUP. Needs a build with --features tls.",
    ),
    row(
        LISTENING,
        "tls-key",
        Field::Path { place: |config| &mut config.tls.key, unset: "no TLS", example: "privkey.pem" },
        "PEM file of the certificate's private key. Read again on SIGHUP.",
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
        "Keep a session for this long after both of its clients have left.",
    ),
    row(
        SESSIONS,
        "redelivery-window",
        Field::DurationOrZero(|config| &mut config.relay.redelivery_window),
        "Send again what a client did not confirm, if it is back within this time.\n\
         0s counts a message as delivered once it is written.",
    ),
    row(
        SESSIONS,
        "ping-interval",
        Field::Duration(|config| &mut config.relay.ping_interval),
        "Ping a client that is silent for this long; close it after twice as long.",
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
         for it, or that sends no byte for this long inside a message.",
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
        "Memory for all messages that wait or are half received. One message may\n\
         be longer. An eighth is reserved for messages of at most 16KiB.",
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
        LIMITS,
        "max-connections-per-ip",
        Field::Count {
            place: |config| &mut config.relay.max_connections_per_ip,
            max: CONNECTIONS_MAX,
            unset: "no limit",
        },
        "Connections at once from one IPv4 address or one IPv6 /64; one more is\n\
         answered with 429. Loopback and trusted proxies are exempt from this\n\
         limit and the next two.",
    ),
    row(
        LIMITS,
        "max-connection-rate",
        Field::Rate { place: |config| &mut config.relay.max_connection_rate, unset: "no limit" },
        "New connections per second from one address; more are answered with 429.",
    ),
    row(
        LIMITS,
        "max-failed-joins",
        Field::Rate { place: |config| &mut config.relay.max_failed_joins, unset: "no limit" },
        "Joins per minute that one address may fail because a secret or key is\n\
         missing or wrong. More lock the address out: for one minute at first,\n\
         for up to one hour if it goes on.",
    ),
    row(
        ACCESS,
        "require-secret",
        Field::Switch(|config| &mut config.relay.require_secret),
        "Refuse clients that join without a pairing secret.",
    ),
    row(
        ACCESS,
        "api-keys",
        Field::Path { place: |config| &mut config.api_keys, unset: "none needed", example: "keys" },
        "File of names and keys, one pair per line. Only a client with one of the\n\
         keys can begin a session. Read again on SIGHUP.",
    ),
    row(
        ACCESS,
        "allow",
        Field::Ranges { place: |config| &mut config.relay.allow, unset: "all addresses" },
        "Serve only these addresses. Repeatable.",
    ),
    row(
        ACCESS,
        "deny",
        Field::Ranges { place: |config| &mut config.relay.deny, unset: "no address" },
        "Answer these addresses with 403, even if --allow names them. Repeatable.",
    ),
    row(
        ACCESS,
        "address-rules",
        Field::Path { place: |config| &mut config.address_rules, unset: "no file", example: "rules" },
        "File of further rules, one per line: allow RANGE or deny RANGE. Read\n\
         again on SIGHUP.",
    ),
    row(
        ACCESS,
        "trust-proxy",
        Field::Ranges { place: |config| &mut config.relay.trust_proxy, unset: "no address" },
        "Take a client's address from X-Forwarded-For or Forwarded if it connects\n\
         through one of these proxies. Repeatable.",
    ),
    row(
        ACCESS,
        "proxy-protocol",
        Field::Switch(|config| &mut config.relay.proxy_protocol),
        "Expect the PROXY protocol, version 1 or 2, on connections from trusted\n\
         proxies; without --trust-proxy, on connections from this machine.",
    ),
    row(
        ACCESS,
        "allow-origin",
        Field::Origins { place: |config| &mut config.relay.allow_origin, unset: "any origin" },
        "Accept web pages of this origin. Pages of the relay's own host and\n\
         clients that are not browsers are always accepted. Repeatable.",
    ),
    row(
        OPERATOR,
        "admin",
        Field::Address { place: |config| &mut config.admin, unset: "no listener" },
        "Serve the operator at this address: /metrics, /livez, /readyz, /sessions\n\
         and, at /, a status page. An address that other machines can reach\n\
         needs --admin-token as well.",
    ),
    row(
        OPERATOR,
        "admin-token",
        Field::Token { place: |config| &mut config.admin_token, unset: "none needed" },
        "Token for the operator's listener, sent as a Bearer token or as a\n\
         password. The two probes need none. Set it by a variable: other users\n\
         of the machine can read a command line.",
    ),
    row(
        PROCESS,
        "shutdown-grace",
        Field::Duration(|config| &mut config.shutdown_grace),
        "Time after SIGTERM or SIGINT to deliver queued messages and close every\n\
         client. A second signal ends the relay at once.",
    ),
    row(
        PROCESS,
        "log-format",
        Field::LogFormat(|config| &mut config.log_format),
        "Write log records as plain text or as JSON objects, one per line.",
    ),
    Row { short: Some('h'), ..row(PROCESS, "help", Field::Help, "Print this help and exit.") },
    Row { short: Some('V'), ..row(PROCESS, "version", Field::Version, "Print the version and exit.") },
];
