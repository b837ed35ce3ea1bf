//! Options of other programs that users may try, and what to write here instead.

const LISTEN: &str = "write --listen 127.0.0.1:8787, or set PORT=8787 for every interface";
const LOG: &str = "set what is logged by a variable, as in RUST_LOG=info";
const TLS: &str = "write --tls-cert FILE and --tls-key FILE";
const SETTINGS: &str = "there is no file of settings; write options, or set variables";

/// Names without dashes, and the remedy for each. The relay has no option of these names.
pub(super) const HABITS: [(&str, &str); 45] = [
    ("a", LISTEN),
    ("addr", LISTEN),
    ("address", LISTEN),
    ("b", LISTEN),
    ("bind", LISTEN),
    ("H", LISTEN),
    ("host", LISTEN),
    ("hostname", LISTEN),
    ("interface", LISTEN),
    ("ip", LISTEN),
    ("l", LISTEN),
    ("p", LISTEN),
    ("P", LISTEN),
    ("port", LISTEN),
    ("d", LOG),
    ("debug", LOG),
    ("log", "set what is logged by a variable, as in RUST_LOG=info, and its form with --log-format"),
    ("log-level", LOG),
    ("loglevel", LOG),
    ("q", LOG),
    ("quiet", LOG),
    ("trace", LOG),
    ("v", "write --version, or set RUST_LOG=info to have more logged"),
    ("verbose", LOG),
    ("vv", LOG),
    ("json", "write --log-format json"),
    ("log-json", "write --log-format json"),
    ("cert", TLS),
    ("certificate", TLS),
    ("key", TLS),
    ("ssl", TLS),
    ("tls", TLS),
    ("c", SETTINGS),
    ("conf", SETTINGS),
    ("config", SETTINGS),
    ("f", SETTINGS),
    ("max-clients", "write --max-connections N"),
    ("metrics", "write --admin 127.0.0.1:9787"),
    ("token", "write --admin-token TOKEN"),
    ("healthcheck", "write: apptuner-relay health"),
    ("health", "write it first, as in: apptuner-relay health"),
    ("daemon", "leave it out, and have a supervisor such as systemd run the relay"),
    ("run", "leave it out: the relay runs without it"),
    ("serve", "leave it out: the relay runs without it"),
    ("start", "leave it out: the relay runs without it"),
];

/// What to write instead of `name`, if other programs have such an option.
pub(super) fn remedy(name: &str) -> Option<&'static str> {
    HABITS.into_iter().find(|(habit, _)| *habit == name).map(|(_, remedy)| remedy)
}
