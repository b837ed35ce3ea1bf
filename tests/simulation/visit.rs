//! Who knocks, from where, and what it brings: pairing secrets, API keys, in every way to bring them.

use std::fmt::Write as _;
use std::net::IpAddr;

use apptuner_relay::relay::ClientType;
use data_encoding::BASE64URL_NOPAD;

/// The file of API keys, where they are needed.
pub const KEYS: &str = "alice alice-0123456789abcdef\nbob bob~0123456789+abcdef/==";
/// Sessions from this number on are those that members had issued, in their order.
pub const ISSUED: usize = 1_000;
const KEY_TEXTS: [&str; 2] = ["alice-0123456789abcdef", "bob~0123456789+abcdef/=="];
const WRONG_KEY: &str = "alice-0123456789abcdeF";

/// One client's errand, as a plan has it.
#[derive(Clone, Copy, Debug)]
pub struct Visit {
    pub from: &'static str,
    pub session: usize,
    pub client_type: ClientType,
    pub secret: Option<(Way, Which)>,
    pub key: Option<Key>,
}

/// How a pairing secret is brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Query,
    Bearer,
    Subprotocol,
}

/// Which secret that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    Right,
    /// As long as the right one, and all but its last byte are the same.
    Near,
    Other(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    Bearer,
    Subprotocol,
    /// The wrong one, as a subprotocol.
    Wrong,
}

/// What a request brings, word for word.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    pub query: Option<String>,
    pub subprotocol: Option<String>,
    pub key: Option<String>,
    pub bearer: Option<String>,
}

/// A visit whose session and secret are known by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    pub session: String,
    pub client_type: ClientType,
    pub credentials: Credentials,
}

/// A session that was issued: its ID and its secret.
pub type Issued = (String, String);

impl Visit {
    pub fn address(&self) -> IpAddr {
        self.from.parse().expect("an address")
    }

    /// Puts names to it; `None` while the session is not issued.
    pub fn caller(&self, issued: &[Issued]) -> Option<Caller> {
        let (session, right) = match self.session.checked_sub(ISSUED) {
            Some(index) => issued.get(index).cloned()?,
            None => (format!("s{}", self.session), secret_of(self.session)),
        };
        let mut credentials = Credentials::default();
        if let Some((way, which)) = self.secret {
            let text = match which {
                Which::Right => right,
                Which::Near => near(&right),
                Which::Other(index) => secret_of(100 + index),
            };
            *match way {
                Way::Query => &mut credentials.query,
                Way::Bearer => &mut credentials.bearer,
                Way::Subprotocol => &mut credentials.subprotocol,
            } = Some(text);
        }
        match self.key {
            Some(Key::Bearer) if credentials.bearer.is_none() => {
                credentials.bearer = Some(KEY_TEXTS[1].to_owned());
            }
            Some(Key::Bearer | Key::Subprotocol) => credentials.key = Some(KEY_TEXTS[0].to_owned()),
            Some(Key::Wrong) => credentials.key = Some(WRONG_KEY.to_owned()),
            None => {}
        }
        Some(Caller { session, client_type: self.client_type, credentials })
    }
}

/// The secret by which members know each other in a session; all characters may stand in a Bearer token.
fn secret_of(session: usize) -> String {
    format!("secret/of+session~{session}&{}", "x".repeat(session % 7 * 35))
}

fn near(secret: &str) -> String {
    let last = if secret.ends_with('A') { 'B' } else { 'A' };
    let mut near = secret.to_owned();
    near.pop();
    near.push(last);
    near
}

impl Credentials {
    /// The pairing secret, and whether there is a key of the relay's beside it. A Bearer token is whichever it
    /// can be; two different secrets are never brought.
    pub fn tell_apart(&self, has_keys: bool) -> (Option<&str>, bool) {
        let is_key = |text: &Option<String>| {
            has_keys && text.as_ref().is_some_and(|text| KEY_TEXTS.contains(&text.as_str()))
        };
        let bearer = self.bearer.as_deref().filter(|_| !is_key(&self.bearer));
        let secret = self.query.as_deref().or(self.subprotocol.as_deref()).or(bearer);
        (secret, is_key(&self.key) || is_key(&self.bearer))
    }

    /// The query that it makes, behind what else is in it.
    pub fn query(&self, before: &str) -> String {
        let mut query = before.to_owned();
        if let Some(secret) = &self.query {
            query.push_str(if query.is_empty() { "?secret=" } else { "&secret=" });
            for byte in secret.bytes() {
                // A plus sign stands for itself.
                if byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'_') {
                    query.push(byte.into());
                } else {
                    let _ = write!(query, "%{byte:02x}");
                }
            }
        }
        query
    }

    /// The header lines that it makes, `protocols` being offered behind what is secret.
    pub fn lines(&self, protocols: &[&str]) -> String {
        let secret = [("apptuner.secret.", &self.subprotocol), ("apptuner.key.", &self.key)];
        let offered: Vec<String> = secret
            .into_iter()
            .filter_map(|(prefix, text)| {
                Some(format!("{prefix}{}", BASE64URL_NOPAD.encode(text.as_ref()?.as_bytes())))
            })
            .chain(protocols.iter().map(|&protocol| protocol.to_owned()))
            .collect();
        let mut lines = String::new();
        if !offered.is_empty() {
            let _ = write!(lines, "Sec-WebSocket-Protocol: {}\r\n", offered.join(", "));
        }
        if let Some(token) = &self.bearer {
            let _ = write!(lines, "Authorization: Bearer {token}\r\n");
        }
        lines
    }
}
