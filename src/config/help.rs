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

The second form asks a running relay whether it is healthy and exits with 0 or
1, for containers without a shell. Without a URL it asks for /health at the
address that the same options and variables would listen on. It uses TLS and
the PROXY protocol if they say so.

A DURATION is a number with a unit (500ms, 90s, 30m, 2h, 1d), or several of them
(1m30s). A SIZE is a number of bytes (500, 500B), binary units (64KiB, 64MiB,
1GiB) or decimal units (64KB, 64MB, 1GB).
";

const CLOSING: &str = "
Environment:
  APPTUNER_RELAY_<OPTION>
      Every option above except --help and --version can be a variable
      instead: its name in capitals, with underscores for dashes, such as
      APPTUNER_RELAY_SESSION_TIMEOUT=1h. If both are given, the option is
      used. An empty variable counts as unset. An unknown variable that
      begins with APPTUNER_RELAY_ is an error. Switches take true, false, 1
      or 0. Repeatable options take several values, separated by commas.
  PORT
      Set by hosting platforms: listen at this port on all interfaces ([::],
      IPv4 included). Ignored if --listen or its variable is given.
  RUST_LOG
      What to log to standard error. Unset or empty: warnings, and the start
      and stop of the relay. RUST_LOG=info adds sessions and one line per
      message. Message contents and secrets are never logged.

Exit codes:
  0  a clean stop, after SIGTERM or SIGINT
  1  any other failure, or a second signal
  2  bad usage or configuration: one line names the setting and the remedy

Example:
  apptuner-relay --listen 0.0.0.0:8787 --session-timeout 1h --answer-pings

Clients connect to ws://ADDR:PORT/desktop/ID and ws://ADDR:PORT/mobile/ID;
GET /health tells whether the relay is up.
";

/// The text that `--help` prints, including the last newline.
#[must_use]
pub fn help() -> String {
    let defaults = Config::default();
    let mut text = format!("{VERSION}\n{OPENING}");
    let mut heading = "";
    for row in &TABLE {
        // Rows of one heading stand together in the table.
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

/// The option as it is written on the command line: `  --max-connections N`.
fn signature(row: &Row) -> String {
    let short = row.short.map(|short| format!("-{short}, ")).unwrap_or_default();
    let value = match (row.field, row.placeholder()) {
        (Field::Switch(_), _) => "[=true|false]".to_owned(),
        (_, Some((placeholder, _))) => format!(" {placeholder}"),
        (_, None) => String::new(),
    };
    format!("  {short}--{}{value}", row.name)
}
