//! A slow parser of request heads, as strict as the contract's first section. It reads the whole head several times,
//! and finds all of its faults.

use std::net::{IpAddr, Ipv6Addr};

use apptuner_relay::relay::internals::http::{BadRequest, PathFault, Refusal};
use apptuner_relay::relay::internals::limits::{HEAD_BYTES_MAX, HEAD_FIELDS_MAX};

use super::super::origins;
use super::brought::Brought;
use super::{Rules, forwarded};

/// The result of the strict parser.
#[derive(Debug, PartialEq, Eq)]
pub enum Reading {
    Upgrade {
        client_type: &'static str,
        session_id: String,
        key: String,
        subprotocol: Option<String>,
        brought: Brought,
        wants_receipts: bool,
    },
    Issue(Brought),
    Health,
    /// The methods of the path.
    Preflight(&'static str),
    Nothing,
    /// Any of these may be the reason to refuse it: the contract does not say which comes first.
    Faults(Vec<Refusal>),
}

/// What a head contains, and its reading.
#[derive(Debug, PartialEq, Eq)]
pub struct Found {
    /// The client that a proxy names.
    pub client: Option<IpAddr>,
    /// The origin whose pages may read the answer.
    pub origin: Option<String>,
    pub reading: Reading,
}

impl Found {
    const fn faults(faults: Vec<Refusal>) -> Self {
        Self { client: None, origin: None, reading: Reading::Faults(faults) }
    }
}

/// The length of the head, up to its end or its first fault, and what it contains. `None` if it is incomplete.
pub fn read(bytes: &[u8], rules: &Rules) -> Option<(usize, Found)> {
    for end in 1..=bytes.len() {
        let head = &bytes[..end];
        let spoilt = |refusal: Refusal| Some((end, Found::faults(vec![refusal])));
        if head.len() > HEAD_BYTES_MAX {
            return spoilt(Refusal::HeadTooLarge);
        }
        // One empty line before the request is ignored.
        let behind = head.strip_prefix(b"\r\n");
        let request = behind.unwrap_or(head);
        match request.first() {
            Some(0x16) if behind.is_none() => return spoilt(BadRequest::NotHttp.into()),
            Some(b'\n' | 0) => return spoilt(BadRequest::LineEnding.into()),
            Some(b'\r') if behind.is_none() => {}
            Some(first) if !is_token(&[*first]) => return spoilt(BadRequest::RequestLine.into()),
            Some(_) | None => {}
        }
        let is_well_ended = match head {
            [.., b'\r', last] => *last == b'\n',
            [.., last] => !matches!(last, b'\n' | 0),
            [] => true,
        };
        if !is_well_ended {
            return spoilt(BadRequest::LineEnding.into());
        }
        if head.ends_with(b"\r\n\r\n") {
            return Some((end, read_head(&request[..request.len() - 4], rules)));
        }
    }
    None
}

/// `head` is complete, without the two line ends after it.
fn read_head(head: &[u8], rules: &Rules) -> Found {
    let mut lines = lines(head);
    let request_line = lines.remove(0);
    let parts: Vec<&[u8]> = request_line.split(|&byte| byte == b' ').collect();
    let [method, target, version] = parts[..] else {
        let faults = vec![BadRequest::RequestLine.into(), BadRequest::HttpVersion.into()];
        return Found::faults(faults);
    };
    let mut faults: Vec<Refusal> = Vec::new();
    let target = std::str::from_utf8(target).unwrap_or_default();
    let is_target = !target.is_empty() && target.bytes().all(|byte| byte > b' ' && byte != 0x7F);
    if !is_token(method) || !is_target {
        faults.push(BadRequest::RequestLine.into());
    }
    if version != b"HTTP/1.0" && version != b"HTTP/1.1" {
        faults.push(BadRequest::HttpVersion.into());
        // The bytes may not even be a version.
        faults.push(BadRequest::RequestLine.into());
    }
    if lines.len() > HEAD_FIELDS_MAX {
        faults.push(Refusal::TooManyFields);
    }
    let fields: Vec<Option<Field>> = lines.into_iter().map(Field::read).collect();
    if fields.contains(&None) {
        faults.push(BadRequest::HeaderField.into());
    }
    if !faults.is_empty() {
        return Found::faults(faults);
    }
    let fields = fields.into_iter().flatten().collect();
    let request = Request { method, target, is_http_1_1: version == b"HTTP/1.1", fields };
    let lists = ["x-forwarded-for", "forwarded"].map(|name| request.values(name));
    let client = rules.proxies.as_ref().map_or(Ok(None), |proxies| forwarded::client(lists, proxies));
    let reading = request.read(rules, client.is_err());
    Found { client: client.unwrap_or_default(), origin: request.reader(rules), reading }
}

fn lines(head: &[u8]) -> Vec<&[u8]> {
    let mut lines = Vec::new();
    let mut rest = head;
    while let Some(end) = rest.windows(2).position(|window| window == b"\r\n") {
        lines.push(&rest[..end]);
        rest = &rest[end + 2..];
    }
    lines.push(rest);
    lines
}

#[derive(Debug, PartialEq, Eq)]
struct Field {
    /// In lower case.
    name: String,
    /// Without white space around it.
    value: Vec<u8>,
}

impl Field {
    fn read(line: &[u8]) -> Option<Self> {
        let colon = line.iter().position(|&byte| byte == b':')?;
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        let is_value = value.iter().all(|&byte| byte == b'\t' || (byte >= b' ' && byte != 0x7F));
        if !is_token(name) || !is_value {
            return None;
        }
        Some(Self { name: String::from_utf8_lossy(name).to_lowercase(), value: strip(value).to_vec() })
    }
}

struct Request<'a> {
    method: &'a [u8],
    target: &'a str,
    is_http_1_1: bool,
    fields: Vec<Field>,
}

impl Request<'_> {
    fn read(&self, rules: &Rules, is_wrongly_forwarded: bool) -> Reading {
        let mut faults = Vec::new();
        let mut fault_if = |is_fault: bool, fault: Refusal| {
            if is_fault {
                faults.push(fault);
            }
        };
        let (path, query) = self.path_and_query().unzip();
        let session = path.and_then(session_of);
        let (is_health, is_issue) = (path == Some("/health"), path == Some("/sessions"));
        let is_icon = path == Some("/favicon.ico");
        let is_upgrade = self.is_http_1_1
            && self.elements("upgrade").iter().any(|element| element.eq_ignore_ascii_case(b"websocket"))
            && self.elements("connection").iter().any(|element| element.eq_ignore_ascii_case(b"upgrade"));
        let (is_get, is_head) = (self.method == b"GET", self.method == b"HEAD");
        let is_post = self.method == b"POST";

        fault_if(is_wrongly_forwarded, BadRequest::Forwarded.into());
        let host_fault = if self.has_zone() { BadRequest::HostZone } else { BadRequest::Host };
        fault_if(!self.is_host_right(), host_fault.into());
        fault_if(!self.is_length_right(), BadRequest::ContentLength.into());
        fault_if(path.is_none(), BadRequest::Target.into());
        let has = |name| !self.values(name).is_empty();
        if self.method == b"OPTIONS"
            && (is_health || is_issue)
            && has("origin")
            && has("access-control-request-method")
        {
            fault_if(self.reader(rules).is_none(), Refusal::Origin);
            let methods = if is_issue { "POST" } else { "GET, HEAD" };
            return if faults.is_empty() { Reading::Preflight(methods) } else { Reading::Faults(faults) };
        }
        if is_issue {
            let is_method_right = is_post || (is_get && is_upgrade);
            fault_if(!is_method_right, Refusal::IssueMethod);
            fault_if(is_upgrade, BadRequest::Path(PathFault::Sessions).into());
        } else {
            fault_if(!is_get && !is_head && session.is_none(), Refusal::MethodNotAllowed);
            fault_if(!is_get && !is_head && session.is_some(), Refusal::UpgradeMethod);
            fault_if(is_head && is_upgrade && !is_health, Refusal::UpgradeMethod);
        }
        if let Some(path) = path.filter(|_| !is_health && !is_issue) {
            let fault = path_fault(path);
            fault_if(!is_upgrade && session.is_some(), Refusal::ExpectedUpgrade);
            fault_if(!is_upgrade && session.is_none() && !is_icon, Refusal::NotFound(fault));
            fault_if(is_upgrade && session.is_none(), BadRequest::Path(fault).into());
        }
        let is_for_a_session =
            if is_issue { is_post && !is_upgrade } else { is_upgrade && session.is_some() };
        let brought = self.brought(query.filter(|_| !is_issue));
        if is_for_a_session {
            fault_if(!self.is_origin_right(rules), Refusal::Origin);
            fault_if(brought.is_none(), BadRequest::Secret.into());
            fault_if(!is_issue && self.has_body(), BadRequest::Body.into());
        }
        if is_for_a_session && !is_issue {
            fault_if(self.values("sec-websocket-version") != [&b"13"[..]], Refusal::WebSocketVersion);
            fault_if(self.key().is_none(), BadRequest::WebSocketKey.into());
            let is_offer_wrong = self.echoed().is_some_and(|protocol| !is_token(protocol));
            fault_if(is_offer_wrong, BadRequest::Subprotocol.into());
        }
        if !faults.is_empty() {
            return Reading::Faults(faults);
        }
        let brought = brought.filter(|_| is_for_a_session);
        match (session, brought) {
            (Some((client_type, session_id)), Some(brought)) => Reading::Upgrade {
                client_type,
                session_id: session_id.to_owned(),
                key: self.key().map(text).expect("no key is a fault"),
                subprotocol: self.echoed().map(text),
                brought,
                // Nothing else of the query is looked at, and nothing is decoded.
                wants_receipts: format!("&{}&", query.unwrap_or_default()).contains("&receipts=1&"),
            },
            (_, Some(brought)) => Reading::Issue(brought),
            (_, None) if is_icon => Reading::Nothing,
            (_, None) => Reading::Health,
        }
    }

    /// The key, if there is exactly one.
    fn key(&self) -> Option<&[u8]> {
        match self.values("sec-websocket-key")[..] {
            [key] if is_key(key) => Some(key),
            _ => None,
        }
    }

    /// The first subprotocol that carries no secret.
    fn echoed(&self) -> Option<&[u8]> {
        let mut offered = self.elements("sec-websocket-protocol");
        offered.retain(|offered| {
            !offered.starts_with(b"apptuner.secret.") && !offered.starts_with(b"apptuner.key.")
        });
        offered.first().copied()
    }

    /// `None` if any of it is wrong, or several differ.
    fn brought(&self, query: Option<&str>) -> Option<Brought> {
        let protocols = self.elements("sec-websocket-protocol");
        Brought::read(query.unwrap_or_default(), &self.values("authorization"), &protocols)
    }

    fn is_origin_right(&self, rules: &Rules) -> bool {
        rules.origins.is_empty() || self.values("origin").is_empty() || self.origin(rules).is_some()
    }

    /// The origin whose pages may read the answer. Only some paths allow that.
    fn reader(&self, rules: &Rules) -> Option<String> {
        let (path, _) = self.path_and_query()?;
        self.origin(rules).filter(|_| path == "/health" || path == "/sessions")
    }

    /// The origin, if there is exactly one and its pages may connect.
    fn origin(&self, rules: &Rules) -> Option<String> {
        let [value] = self.values("origin")[..] else { return None };
        let written = std::str::from_utf8(value).ok()?;
        let origin = origins::read(written)?;
        let is_listed = rules.origins.iter().any(|listed| origins::read(listed).as_ref() == Some(&origin));
        let hosts = self.values("host");
        let is_own = hosts.len() == 1 && origins::is_at(&origin, &text(hosts[0]));
        (rules.origins.is_empty() || is_listed || is_own).then(|| written.to_owned())
    }

    /// Whether the host, if there is exactly one, is right without the text from its first `%` to the bracket.
    fn has_zone(&self) -> bool {
        let [host] = self.values("host")[..] else { return false };
        let host = text(host);
        let (Some(start), true) = (host.find('%'), host.starts_with('[')) else { return false };
        let Some(length) = host[start..].find(']') else { return false };
        is_host(&[&host[..start], &host[start + length..]].concat())
    }

    fn values(&self, name: &str) -> Vec<&[u8]> {
        self.fields.iter().filter(|field| field.name == name).map(|field| &field.value[..]).collect()
    }

    /// All list elements except empty ones.
    fn elements(&self, name: &str) -> Vec<&[u8]> {
        self.list(name).into_iter().filter(|element| !element.is_empty()).collect()
    }

    fn list(&self, name: &str) -> Vec<&[u8]> {
        self.values(name).into_iter().flat_map(|value| value.split(|&byte| byte == b',')).map(strip).collect()
    }

    /// `None` if the target has neither of the two forms.
    fn path_and_query(&self) -> Option<(&str, &str)> {
        let path_and_query = if self.target.starts_with('/') {
            self.target
        } else {
            let (scheme, rest) = self.target.split_once("://")?;
            let authority = rest.split(['/', '?']).next()?;
            let is_known = ["http", "https", "ws", "wss"].contains(&scheme.to_lowercase().as_str());
            if !is_known || !is_host(authority) {
                return None;
            }
            &rest[authority.len()..]
        };
        let question = path_and_query.find('?').unwrap_or(path_and_query.len());
        let (path, query) = path_and_query.split_at(question);
        Some((path, query.strip_prefix('?').unwrap_or_default()))
    }

    fn is_host_right(&self) -> bool {
        match self.values("host")[..] {
            [] => !self.is_http_1_1,
            [host] => std::str::from_utf8(host).is_ok_and(is_host),
            _ => false,
        }
    }

    fn is_length_right(&self) -> bool {
        let lengths = self.list("content-length");
        let is_encoded = !self.values("transfer-encoding").is_empty();
        let numbers: Vec<Option<u64>> = lengths.iter().map(|length| number(length)).collect();
        let is_same = numbers.iter().all(|number| number.is_some() && number == &numbers[0]);
        is_same && (lengths.is_empty() || !is_encoded)
    }

    fn has_body(&self) -> bool {
        let announces = |length: &[u8]| length.iter().any(|digit| *digit != b'0');
        !self.values("transfer-encoding").is_empty() || self.list("content-length").into_iter().any(announces)
    }
}

/// The client type and the session ID.
fn session_of(path: &str) -> Option<(&'static str, &str)> {
    ["desktop", "mobile"].into_iter().find_map(|client_type| {
        let id = path.strip_prefix('/')?.strip_prefix(client_type)?.strip_prefix('/')?;
        let is_allowed = |character: char| character.is_ascii_alphanumeric() || "_-".contains(character);
        (matches!(id.len(), 1..=128) && id.chars().all(is_allowed)).then_some((client_type, id))
    })
}

/// The fault of a path that is not a session's, by its segments.
fn path_fault(path: &str) -> PathFault {
    let segments: Vec<&str> = path.split('/').collect();
    let is_side = |segment: &&str| matches!(*segment, "desktop" | "mobile");
    if !segments.get(1).is_some_and(is_side) {
        let lower = segments.get(1).map(|segment| segment.to_ascii_lowercase());
        return if lower.is_some_and(|segment| is_side(&segment.as_str())) {
            PathFault::Case
        } else if segments.iter().skip(2).any(is_side) {
            PathFault::Prefix
        } else {
            PathFault::Unknown
        };
    }
    let id = segments.get(2).copied().unwrap_or_default();
    let wrong = id.bytes().find(|byte| !byte.is_ascii_alphanumeric() && !b"-_".contains(byte));
    match (id, wrong) {
        ("", _) => PathFault::NoSessionId,
        (_, Some(byte)) => PathFault::Character { byte },
        _ if segments.len() > 3 => PathFault::AfterSessionId,
        _ => PathFault::TooLong { bytes: u16::try_from(id.len()).expect("a head is short") },
    }
}

/// Whether it is a host, with or without a port.
fn is_host(authority: &str) -> bool {
    let end = if authority.starts_with('[') {
        authority.find(']').map_or(0, |end| end + 1)
    } else {
        authority.find(':').unwrap_or(authority.len())
    };
    let (host, port) = authority.split_at(end);
    let is_host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => is_name(host),
    };
    let is_port = match port.strip_prefix(':') {
        Some("") => true,
        Some(digits) => number(digits.as_bytes()).is_some_and(|port| port <= 65_535),
        None => port.is_empty(),
    };
    is_host && is_port
}

fn is_name(host: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._~!$&'()*+,;=".contains(c);
    let mut parts = host.split('%');
    let is_start = parts.next().is_some_and(|start| start.chars().all(is_plain));
    let is_escape = |part: &str| {
        let (digits, rest) = part.split_at_checked(2).unwrap_or((part, ""));
        digits.len() == 2 && digits.chars().all(|c| c.is_ascii_hexdigit()) && rest.chars().all(is_plain)
    };
    !host.is_empty() && is_start && parts.all(is_escape)
}

/// Parses a number that has only digits and fits.
fn number(digits: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(digits).ok()?;
    let is_digits = !digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit());
    if is_digits { digits.parse().ok() } else { None }
}

/// Whether it is 16 bytes in base64.
fn is_key(value: &[u8]) -> bool {
    let is_digit = |byte: u8| byte.is_ascii_alphanumeric() || b"+/".contains(&byte);
    value.len() == 24 && value.ends_with(b"==") && value[..22].iter().all(|&byte| is_digit(byte))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn is_token(bytes: &[u8]) -> bool {
    let is_allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !bytes.is_empty() && bytes.iter().all(is_allowed)
}

/// Without spaces and tabs around it.
fn strip(value: &[u8]) -> &[u8] {
    let is_white = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = value.iter().take_while(|byte| is_white(byte)).count();
    let end = value.iter().rev().take_while(|byte| is_white(byte)).count();
    if start == value.len() { &[] } else { &value[start..value.len() - end] }
}
