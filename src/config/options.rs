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
pub(super) const TABLE: [Row; 32] = [
    row(
        LISTENING,
        "listen",
        Field::Addresses(|config| &mut config.listen),
        "Accept connections here: ADDR:PORT, [ADDR6]:PORT, localhost:PORT or\n\
         unix:/PATH. Repeat it for further addresses. Port 0 takes any free port.\n\
         A link-local address takes its interface: [fe80::1%eth0]:PORT.\n\
         A Unix-domain socket's permissions follow the umask, and its clients\n\
         count as 127.0.0.1.",
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
        "Memory for all messages that wait or are half received; one may be longer.\n\
         An eighth of it is kept for those of at most 16KiB.",
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
         answered with 429. Loopback and proxies are exempt here and below.",
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
        "Joins per minute that one address may fail at for want of a secret or\n\
         key; more lock it out, for a minute at first and an hour at last.",
    ),
    row(
        ACCESS,
        "require-secret",
        Field::Switch(|config| &mut config.relay.require_secret),
        "Let nobody join a session without a pairing secret.",
    ),
    row(
        ACCESS,
        "api-keys",
        Field::Path { place: |config| &mut config.api_keys, unset: "none needed", example: "keys" },
        "Names and keys, one pair per line, of which one is needed to begin a\n\
         session. Read again on SIGHUP.",
    ),
    row(
        ACCESS,
        "allow",
        Field::Ranges { place: |config| &mut config.relay.allow, unset: "all addresses" },
        "Serve these addresses and no others. Repeat it for further ones.",
    ),
    row(
        ACCESS,
        "deny",
        Field::Ranges { place: |config| &mut config.relay.deny, unset: "no address" },
        "Answer these addresses with 403, even if allowed. Repeatable.",
    ),
    row(
        ACCESS,
        "address-rules",
        Field::Path { place: |config| &mut config.address_rules, unset: "no file", example: "rules" },
        "Further rules, one per line: allow RANGE, or deny RANGE. Read again on\n\
         SIGHUP.",
    ),
    row(
        ACCESS,
        "trust-proxy",
        Field::Ranges { place: |config| &mut config.relay.trust_proxy, unset: "no address" },
        "Believe these proxies, and no one else, when they say where a client\n\
         comes from (X-Forwarded-For, Forwarded). Repeatable.",
    ),
    row(
        ACCESS,
        "proxy-protocol",
        Field::Switch(|config| &mut config.relay.proxy_protocol),
        "Expect the PROXY protocol, version 1 or 2, on connections from the trusted\n\
         proxies; if there are none, on those from this machine.",
    ),
    row(
        ACCESS,
        "allow-origin",
        Field::Origins { place: |config| &mut config.relay.allow_origin, unset: "any origin" },
        "Let pages of this origin connect, beside those of the relay's own host\n\
         and clients that are no browsers. Repeatable.",
    ),
    row(
        OPERATOR,
        "admin",
        Field::Address { place: |config| &mut config.admin, unset: "no listener" },
        "Answer the operator here: /metrics, /livez, /readyz, /sessions and, at /,\n\
         a status page. An address that others than this machine can reach\n\
         takes --admin-token as well.",
    ),
    row(
        OPERATOR,
        "admin-token",
        Field::Token { place: |config| &mut config.admin_token, unset: "none needed" },
        "What the operator's listener asks for, as a Bearer token or as a password,\n\
         but for the two probes. Better given as a variable: a command line can\n\
         be read by everybody on the machine.",
    ),
    row(
        PROCESS,
        "shutdown-grace",
        Field::Duration(|config| &mut config.shutdown_grace),
        "On SIGTERM or SIGINT, time to deliver what is queued and close every\n\
         client. A second signal ends the relay at once.",
    ),
    row(
        PROCESS,
        "log-format",
        Field::LogFormat(|config| &mut config.log_format),
        "Write log records as lines for people, or as JSON objects, one per line.",
    ),
    Row { short: Some('h'), ..row(PROCESS, "help", Field::Help, "Print this help and exit.") },
    Row { short: Some('V'), ..row(PROCESS, "version", Field::Version, "Print the version and exit.") },
];
