//! The text of `--help`, in 80 columns.

use super::options::TABLE;
use super::settings::Config;
use super::table::{Field, Row};

/// The line that `--version` prints.
pub const VERSION: &str = concat!("apptuner-relay ", env!("CARGO_PKG_VERSION"));

const OPENING: &str = "
A WebSocket relay: pairs a desktop app with a mobile app by a session ID and
carries messages between the two.

Usage: apptuner-relay [OPTION]...
       apptuner-relay health [URL] [OPTION]...

The second asks a running relay whether it is healthy and exits with 0 or 1, for
containers without a shell. Without a URL it asks for /health where the options
and variables of this call would listen, and as they say: within TLS, and behind
a header of the PROXY protocol.

A DURATION is a number with a unit (500ms, 90s, 30m, 2h, 1d) or several of them
(1m30s). A SIZE is a number of bytes (500, 500B), of binary units (64KiB, 64MiB,
1GiB) or of decimal ones (64KB, 64MB, 1GB).
";

const CLOSING: &str = "
Environment:
  APPTUNER_RELAY_<OPTION>
      Every option above that sets something can be a variable instead: its
      name in capitals, with underscores for dashes, as in
      APPTUNER_RELAY_SESSION_TIMEOUT=1h. The option wins over the variable. An
      empty variable is an unset one, and an unknown APPTUNER_RELAY_ one is an
      error. Switches take true, false, 1 or 0; APPTUNER_RELAY_LISTEN takes
      several addresses with commas between them.
  PORT
      Set by hosting platforms: listen on all interfaces at this port ([::],
      IPv4 included), unless --listen or its variable is given.
  RUST_LOG
      What is logged, to standard error. Unset or empty: warnings, and the
      relay's own start and stop. RUST_LOG=info adds sessions and one line per
      message; no message's content and no secret is ever logged.

Exit codes:
  0  a clean stop, after SIGTERM or SIGINT
  1  any other failure, or a second signal
  2  bad usage or configuration: one line names the setting and the remedy

Example:
  apptuner-relay --listen 0.0.0.0:8787 --session-timeout 1h --answer-pings

Clients connect to ws://ADDR:PORT/desktop/ID and ws://ADDR:PORT/mobile/ID;
GET /health tells whether the relay is up.
";

/// The text that `--help` prints, its last newline included.
#[must_use]
pub fn help() -> String {
    let defaults = Config::default();
    let mut text = format!("{VERSION}\n{OPENING}");
    let mut heading = "";
    for row in &TABLE {
        if row.heading != heading {
            heading = row.heading;
            text.extend(["\n", heading, ":\n"]);
        }
        text.push_str(&signature(row));
        if let Some(default) = row.text(&defaults) {
            text.extend(["  (default: ", default.as_str(), ")"]);
        }
        text.push('\n');
        for line in row.help.lines() {
            text.extend(["      ", line, "\n"]);
        }
    }
    text.push_str(CLOSING);
    text
}

/// The option as it is written: `  --max-connections N`.
fn signature(row: &Row) -> String {
    let short = row.short.map(|short| format!("-{short}, ")).unwrap_or_default();
    let value = match (row.field, row.placeholder()) {
        (Field::Switch(_), _) => "[=true|false]".to_owned(),
        (_, Some((placeholder, _))) => format!(" {placeholder}"),
        (_, None) => String::new(),
    };
    format!("  {short}--{}{value}", row.name)
}
