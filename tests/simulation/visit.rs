//! Who connects, from where, and with what: pairing secrets and API keys in all allowed forms.

use std::fmt::Write as _;
use std::net::IpAddr;

use apptuner_relay::relay::ClientType;
use data_encoding::BASE64URL_NOPAD;

/// The file of API keys, if they are needed.
pub const KEYS: &str = "alice alice-0123456789abcdef\nbob bob~0123456789+abcdef/==";
/// Sessions from this number on were issued to members, in this order.
pub const ISSUED: usize = 1_000;
const KEY_TEXTS: [&str; 2] = ["alice-0123456789abcdef", "bob~0123456789+abcdef/=="];
const WRONG_KEY: &str = "alice-0123456789abcdeF";

/// One client's request in a plan.
#[derive(Clone, Copy, Debug)]
pub struct Visit {
    pub from: &'static str,
    pub session: usize,
    pub client_type: ClientType,
    pub secret: Option<(Way, Which)>,
    pub key: Option<Key>,
}

/// How a pairing secret is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Query,
    Bearer,
    Subprotocol,
}

/// Which secret is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    Right,
    /// As long as the right one, and equal except for its last byte.
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

/// The credentials in a request, literally.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    pub query: Option<String>,
    pub subprotocol: Option<String>,
    pub key: Option<String>,
    pub bearer: Option<String>,
}

/// A visit with the real session ID and secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    pub session: String,
    pub client_type: ClientType,
    pub credentials: Credentials,
}

/// An issued session: its ID and its secret.
pub type Issued = (String, String);

impl Visit {
    pub fn address(&self) -> IpAddr {
        self.from.parse().expect("an address")
    }

    /// Fills in the ID and the secret. `None` if the session is not issued yet.
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

/// The secret of a session's members. All its characters are allowed in a Bearer token.
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
    /// The pairing secret, and whether a valid API key is sent as well. A Bearer token counts as either of them. Two
    /// different secrets are never sent.
    pub fn tell_apart(&self, has_keys: bool) -> (Option<&str>, bool) {
        let is_key = |text: &Option<String>| {
            has_keys && text.as_ref().is_some_and(|text| KEY_TEXTS.contains(&text.as_str()))
        };
        let bearer = self.bearer.as_deref().filter(|_| !is_key(&self.bearer));
        let secret = self.query.as_deref().or(self.subprotocol.as_deref()).or(bearer);
        (secret, is_key(&self.key) || is_key(&self.bearer))
    }

    /// Its query, appended to what the query has already.
    pub fn query(&self, before: &str) -> String {
        let mut query = before.to_owned();
        if let Some(secret) = &self.query {
            query.push_str(if query.is_empty() { "?secret=" } else { "&secret=" });
            for byte in secret.bytes() {
                // A plus sign is literal.
                if byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'_') {
                    query.push(byte.into());
                } else {
                    let _ = write!(query, "%{byte:02x}");
                }
            }
        }
        query
    }

    /// Its header lines. `protocols` are offered after the secret ones.
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
