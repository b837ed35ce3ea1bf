//! The HTTP request that opens every connection, and all that is ever answered in HTTP.
//!
//! [`HeadReader`] takes the bytes of the request head as they come and looks at each of them once.
//! When the head is complete it is parsed once, into a [`Verdict`]; what is certainly no request is
//! refused sooner. The writers below put the answers into bytes. One request per connection.
//!
//! httparse is more lenient than we may be. It skips any number of empty lines before the request line and
//! takes a bare LF for CR LF; neither reaches it: the reader skips one empty line (RFC 9112, section 2.2) and
//! refuses the rest. It leaves `Host`, `Content-Length` and the form of the target to us.

use std::str;

use httparse::{Header, Status};
use tungstenite::handshake::derive_accept_key;

use crate::relay::access::credentials::Credentials;
use crate::relay::address::{ClientAddress, Networks};
use crate::relay::ids::{ClientType, SessionId};
use crate::relay::limits::{HEAD_BYTES_MAX, HEAD_FIELDS_MAX, PROXY_HEADER_BYTES_MAX};
use crate::relay::origin::Origin;
use proxy_header::ProxyHeader;

pub use answer::{
    AnswerForm, write_answer, write_health, write_issued, write_nothing, write_page, write_preflight,
    write_refusal, write_switching_protocols,
};
use fields::{decimal, elements, is_token_byte, only_value, split_list, token, values};
pub use path_fault::PathFault;
pub use refusal::{Answer, BadRequest, Refusal, RefusalReason};
pub use request::Request;
use target::{Target, is_host_and_port, is_host_with_zone};

mod answer;
mod cors;
mod credentials;
mod fields;
mod forwarded;
mod path_fault;
pub mod proxy_header;
mod refusal;
mod request;
mod target;
#[cfg(test)]
mod tests;

/// Collects a request head (RFC 9112, section 2.1) from pieces of any size.
///
/// Holds at most [`HEAD_BYTES_MAX`] bytes, and allocates only if the head comes in several pieces.
#[derive(Debug, Default)]
pub struct HeadReader {
    kept: Option<Box<PartialHead>>,
}

/// A head that came in several pieces, as far as it has come.
#[derive(Debug, Default)]
struct PartialHead {
    head: Vec<u8>,
    position: Position,
    /// A proxy's header comes first, and is what is kept.
    is_proxy_header: bool,
}

/// What a head is judged by, beside the standards.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeadRules<'a> {
    /// The proxies that are believed, if the connection comes from one of them.
    pub proxies: Option<&'a Networks>,
    /// The origins whose pages may connect; if there are none, all may.
    pub origins: &'a [Origin],
}

/// What a piece of the head led to.
#[derive(Debug, PartialEq, Eq)]
pub enum HeadProgress {
    /// All bytes belonged to the head, and it goes on.
    NeedMore,
    /// The header of a proxy is over; the head begins behind it.
    Proxied {
        /// How many of the bytes pushed last belonged to it.
        consumed: usize,
        /// The client that the proxy speaks for; `None` if it speaks for itself.
        client: Option<ClientAddress>,
    },
    /// The head is over, or refused before its end.
    Done {
        /// How many of the bytes pushed last were looked at. Behind an upgrade, the rest is the
        /// WebSocket's; behind anything else it is to be thrown away.
        consumed: usize,
        /// The client that a proxy names in the head; `None` if none does.
        client: Option<ClientAddress>,
        /// The origin whose pages may read the answer, as the client wrote it; see [`AnswerForm::origin`].
        origin: Option<Box<str>>,
        /// What is to be done about it.
        verdict: Verdict,
    },
}

impl HeadReader {
    /// Expects a proxy's header before the head.
    #[must_use]
    pub fn behind_proxy_header() -> Self {
        Self { kept: Some(Box::new(PartialHead { is_proxy_header: true, ..PartialHead::default() })) }
    }

    /// Bytes of memory held for what has come.
    #[must_use]
    pub fn kept_bytes(&self) -> usize {
        self.kept.as_ref().map_or(0, |kept| kept.head.capacity())
    }

    /// Takes the next bytes of the connection (RFC 9112, section 2.2). Linear in their number,
    /// however they are cut.
    ///
    /// Once this has returned [`HeadProgress::Done`] the reader is as new.
    pub fn push(&mut self, bytes: &[u8], rules: HeadRules<'_>) -> HeadProgress {
        self.push_and_note(bytes, rules, &mut None)
    }

    /// As [`push`](Self::push), and notes the path of a request that is refused, as far as it is understood.
    pub(super) fn push_and_note(
        &mut self,
        bytes: &[u8],
        rules: HeadRules<'_>,
        refused_path: &mut Option<String>,
    ) -> HeadProgress {
        if let Some(kept) = self.kept.as_mut().filter(|kept| kept.is_proxy_header) {
            let progress = kept.push_proxy_header(bytes);
            if progress != HeadProgress::NeedMore {
                self.kept = None;
            }
            return progress;
        }
        let mut named = NamedInHead::default();
        let done = self.push_for(bytes, |head, outcome| {
            let head_only = head.starts_with(b"HEAD ");
            outcome.and_then(|()| decide(head, head_only, rules, &mut named)).unwrap_or_else(|refusal| {
                *refused_path = Request::parse(head).ok().map(|request| request.path.to_owned());
                Verdict::Refuse { refusal, head_only }
            })
        });
        let NamedInHead { client, origin } = named;
        done.map_or(HeadProgress::NeedMore, |(consumed, verdict)| HeadProgress::Done {
            consumed,
            client,
            origin,
            verdict,
        })
    }

    /// Takes the next bytes and, once the head is over, has somebody `judge` it who answers other requests than a
    /// relay's; returns how many of the bytes belonged to it, and the judgement. The head, which begins with the
    /// request line, is whole unless it is refused already.
    pub fn push_for<T>(
        &mut self,
        bytes: &[u8],
        judge: impl FnOnce(&[u8], Result<(), Refusal>) -> T,
    ) -> Option<(usize, T)> {
        let (kept_bytes, mut position) =
            self.kept.as_ref().map_or_else(Default::default, |kept| (kept.head.len(), kept.position));
        let Some((consumed, outcome)) = scan(bytes, HEAD_BYTES_MAX - kept_bytes, &mut position) else {
            let kept = self.kept.get_or_insert_default();
            kept.position = position;
            kept.keep(bytes);
            return None;
        };
        let taken = bytes.get(..consumed).unwrap_or(bytes);
        let mut head = self.kept.take().map(|kept| kept.head).unwrap_or_default();
        let head = if head.is_empty() {
            taken
        } else {
            head.extend_from_slice(taken);
            head.as_slice()
        };
        let head = head.strip_prefix(b"\r\n").unwrap_or(head);
        Some((consumed, judge(head, outcome)))
    }
}

/// Finds the end of the head, or the first byte that spoils it, and returns how many bytes that took; `None` if
/// the head goes on. There is `room` for so many.
fn scan(bytes: &[u8], room: usize, position: &mut Position) -> Option<(usize, Result<(), Refusal>)> {
    for (consumed, &byte) in (1..).zip(bytes) {
        if consumed > room {
            return Some((consumed, Err(Refusal::HeadTooLarge)));
        }
        match position.after(byte) {
            Ok(Some(next)) => *position = next,
            Ok(None) => return Some((consumed, Ok(()))),
            Err(fault) => return Some((consumed, Err(fault.into()))),
        }
    }
    None
}

impl PartialHead {
    /// Takes the next bytes of a connection that begins with a proxy's header, of which few are kept.
    fn push_proxy_header(&mut self, bytes: &[u8]) -> HeadProgress {
        let before = self.head.len();
        let room = PROXY_HEADER_BYTES_MAX - before;
        self.keep(bytes.get(..room).unwrap_or(bytes));
        match proxy_header::parse(&self.head) {
            ProxyHeader::NeedMore => HeadProgress::NeedMore,
            ProxyHeader::Whole { bytes, client } => {
                HeadProgress::Proxied { consumed: bytes - before, client }
            }
            ProxyHeader::Malformed => {
                let verdict = Verdict::Refuse { refusal: BadRequest::ProxyHeader.into(), head_only: false };
                HeadProgress::Done { consumed: bytes.len(), client: None, origin: None, verdict }
            }
        }
    }

    /// Keeps a part of the head, in memory that doubles up to the bound and never passes it.
    fn keep(&mut self, part: &[u8]) {
        let length = self.head.len() + part.len();
        if length > self.head.capacity() {
            let capacity = length.next_power_of_two().min(HEAD_BYTES_MAX);
            self.head.reserve_exact(capacity - self.head.len());
        }
        self.head.extend_from_slice(part);
    }
}

/// What a client begins TLS with: the type of a handshake record (RFC 8446, section 5.1).
const TLS_HANDSHAKE: u8 = 22;

/// Where in the head the next byte stands. The head ends with the CR LF that follows a CR LF, one before the
/// request line left out.
#[derive(Clone, Copy, Debug, Default)]
enum Position {
    #[default]
    Start,
    AfterLeadingCr,
    AfterLeadingLine,
    InLine,
    AfterCr,
    LineStart,
    AfterFinalCr,
}

impl Position {
    /// The position behind `byte`; `None` if it ends the head.
    fn after(self, byte: u8) -> Result<Option<Self>, BadRequest> {
        match (self, byte) {
            (Self::Start | Self::AfterLeadingLine, _) if is_token_byte(byte) => Ok(Some(Self::InLine)),
            (Self::Start, TLS_HANDSHAKE) => Err(BadRequest::NotHttp),
            (Self::Start, b'\r') => Ok(Some(Self::AfterLeadingCr)),
            (Self::AfterLeadingCr, b'\n') => Ok(Some(Self::AfterLeadingLine)),
            (Self::AfterCr, b'\n') => Ok(Some(Self::LineStart)),
            (Self::AfterFinalCr, b'\n') => Ok(None),
            (Self::AfterCr | Self::AfterFinalCr | Self::AfterLeadingCr, _) | (_, b'\n' | 0) => {
                Err(BadRequest::LineEnding)
            }
            (Self::Start | Self::AfterLeadingLine, _) => Err(BadRequest::RequestLine),
            (Self::InLine, b'\r') => Ok(Some(Self::AfterCr)),
            (Self::LineStart, b'\r') => Ok(Some(Self::AfterFinalCr)),
            (Self::InLine | Self::LineStart, _) => Ok(Some(Self::InLine)),
        }
    }
}

/// What a request head asks for, or why it is refused.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A WebSocket handshake to accept: [`write_switching_protocols`].
    Upgrade(Upgrade),
    /// A request for a new session: [`write_issued`].
    Issue(Credentials),
    /// A question for the relay's health: [`write_health`].
    Health {
        /// The method was HEAD: the answer goes out without its body (RFC 9110, section 9.3.2).
        head_only: bool,
    },
    /// A browser asks what a page may send: [`write_preflight`]. The origin is one that may.
    Preflight {
        /// The methods that the path takes, as a list.
        methods: &'static str,
    },
    /// There is nothing to answer with, and nothing wrong with asking: [`write_nothing`].
    Nothing,
    /// Anything else: [`write_refusal`].
    Refuse {
        /// Why.
        refusal: Refusal,
        /// The method was HEAD: the answer goes out without its body (RFC 9110, section 9.3.2).
        head_only: bool,
    },
}

impl Verdict {
    /// Whether the answer goes out without its body.
    #[must_use]
    pub const fn is_head_only(&self) -> bool {
        matches!(self, Self::Health { head_only: true } | Self::Refuse { head_only: true, .. })
    }

    /// Whether it is answered although there is no room, or the address is not served: what the relay's health
    /// takes. A browser may ask before its page can.
    pub(super) const fn is_for_everybody(&self) -> bool {
        matches!(self, Self::Health { .. } | Self::Preflight { .. })
    }
}

/// An opening handshake that passed every check of RFC 6455, section 4.2.1.
#[derive(Debug, PartialEq, Eq)]
pub struct Upgrade {
    /// Which side of the session the client is, from the path.
    pub client_type: ClientType,
    /// The session it joins, from the path.
    pub session_id: SessionId,
    /// What it brings to prove that it may.
    pub credentials: Credentials,
    accept_key: String,
    subprotocol: Option<String>,
}

impl Upgrade {
    /// The path that was asked for.
    pub(super) fn path(&self) -> String {
        format!("/{}/{}", self.client_type.as_str(), self.session_id)
    }

    /// `Sec-WebSocket-Accept` (RFC 6455, section 4.2.2, item 5.4).
    #[must_use]
    pub fn accept_key(&self) -> &str {
        &self.accept_key
    }

    /// The first subprotocol offered that carries no secret, an HTTP token (RFC 6455, section 4.2.2, item 5.5).
    #[must_use]
    pub fn subprotocol(&self) -> Option<&str> {
        self.subprotocol.as_deref()
    }
}

/// Who is named in a head that may be refused all the same.
#[derive(Debug, Default)]
struct NamedInHead {
    client: Option<ClientAddress>,
    origin: Option<Box<str>>,
}

/// Judges a complete head. The order of the checks decides which of several faults is reported. Notes who is
/// named as soon as that is known.
fn decide(
    head: &[u8],
    head_only: bool,
    rules: HeadRules<'_>,
    named: &mut NamedInHead,
) -> Result<Verdict, Refusal> {
    let mut fields = [httparse::EMPTY_HEADER; HEAD_FIELDS_MAX];
    let mut request = httparse::Request::new(&mut fields);
    // We found the end; should httparse ever see another, the head has two readings.
    if request.parse(head)? != Status::Complete(head.len()) {
        return Err(BadRequest::RequestLine.into());
    }
    let (Some(method), Some(target), Some(minor_version)) = (request.method, request.path, request.version)
    else {
        return Err(BadRequest::RequestLine.into());
    };
    let fields = &*request.headers;
    let target = Target::parse(target);
    let shared_methods = target.as_ref().and_then(Target::shared_methods);
    if shared_methods.is_some() {
        named.origin = cors::reader(fields, rules.origins);
    }
    if let Some(proxies) = rules.proxies {
        named.client = forwarded::client(fields, proxies)?;
    }
    check_host(fields, minor_version)?;
    let has_body = has_body(fields)?;
    if let Some(methods) = shared_methods.filter(|_| cors::is_preflight(method, fields)) {
        return named.origin.as_ref().map(|_| Verdict::Preflight { methods }).ok_or(Refusal::Origin);
    }
    let wants_upgrade = wants_upgrade(fields, minor_version);
    check_method(method, target.as_ref(), wants_upgrade)?;
    match target.ok_or(BadRequest::Target)? {
        Target::Health => Ok(Verdict::Health { head_only }),
        Target::Icon if !wants_upgrade => Ok(Verdict::Nothing),
        Target::Session(..) if !wants_upgrade => Err(Refusal::ExpectedUpgrade),
        Target::Other(fault) if !wants_upgrade => Err(Refusal::NotFound(fault)),
        Target::Other(fault) => Err(BadRequest::Path(fault).into()),
        Target::Icon => Err(BadRequest::Path(PathFault::Unknown).into()),
        Target::Sessions if wants_upgrade => Err(BadRequest::Path(PathFault::Sessions).into()),
        Target::Sessions => {
            cors::check_origin(fields, rules.origins)?;
            Ok(Verdict::Issue(credentials::find("", fields)?))
        }
        Target::Session(..) if has_body => Err(BadRequest::Body.into()),
        Target::Session(client_type, session_id, query) => {
            cors::check_origin(fields, rules.origins)?;
            let credentials = credentials::find(query, fields)?;
            accept(client_type, session_id, credentials, fields).map(Verdict::Upgrade)
        }
    }
}

/// RFC 9112, section 3.2: exactly one `Host`; only HTTP/1.0 may do without.
fn check_host(fields: &[Header<'_>], minor_version: u8) -> Result<(), BadRequest> {
    let mut hosts = values(fields, "host");
    match (hosts.next(), hosts.next()) {
        (Some(host), None) if is_host_and_port(host) => Ok(()),
        (Some(host), None) if is_host_with_zone(host) => Err(BadRequest::HostZone),
        (None, None) if minor_version == 0 => Ok(()),
        (Some(_) | None, _) => Err(BadRequest::Host),
    }
}

/// Whether a body follows the head, by RFC 9112, section 6.3, which has us refuse whatever two
/// readers could understand differently.
fn has_body(fields: &[Header<'_>]) -> Result<bool, BadRequest> {
    let mut length = None;
    for element in values(fields, "content-length").flat_map(split_list) {
        let announced = decimal(element).ok_or(BadRequest::ContentLength)?;
        if length.is_some_and(|length| length != announced) {
            return Err(BadRequest::ContentLength);
        }
        length = Some(announced);
    }
    let is_encoded = values(fields, "transfer-encoding").next().is_some();
    if is_encoded && length.is_some() {
        return Err(BadRequest::ContentLength);
    }
    Ok(is_encoded || length.is_some_and(|length| length > 0))
}

/// RFC 6455, section 4.2.1, items 3 and 4. HTTP/1.0 has no upgrade (RFC 9110, section 7.8).
fn wants_upgrade(fields: &[Header<'_>], minor_version: u8) -> bool {
    let lists = |name, token: &str| {
        elements(fields, name).any(|element| element.eq_ignore_ascii_case(token.as_bytes()))
    };
    minor_version == 1 && lists("upgrade", "websocket") && lists("connection", "upgrade")
}

/// RFC 9110, section 9.1: methods are compared with case, and those unknown are refused.
fn check_method(method: &str, target: Option<&Target<'_>>, wants_upgrade: bool) -> Result<(), Refusal> {
    match (method, target) {
        ("POST", Some(Target::Sessions)) => Ok(()),
        ("GET", Some(Target::Sessions)) if wants_upgrade => Ok(()),
        (_, Some(Target::Sessions)) => Err(Refusal::IssueMethod),
        ("GET", _) | ("HEAD", Some(Target::Health)) => Ok(()),
        ("HEAD", _) if wants_upgrade => Err(Refusal::UpgradeMethod),
        ("HEAD", _) => Ok(()),
        (_, Some(Target::Session(..))) => Err(Refusal::UpgradeMethod),
        (_, Some(Target::Health | Target::Icon | Target::Other(_)) | None) => Err(Refusal::MethodNotAllowed),
    }
}

/// The rest of RFC 6455, section 4.2.1: version, key and subprotocol. Extensions are ignored.
fn accept(
    client_type: ClientType,
    session_id: SessionId,
    credentials: Credentials,
    fields: &[Header<'_>],
) -> Result<Upgrade, Refusal> {
    if only_value(fields, "sec-websocket-version") != Some(b"13") {
        return Err(Refusal::WebSocketVersion);
    }
    let key = only_value(fields, "sec-websocket-key")
        .filter(|key| is_websocket_key(key))
        .ok_or(BadRequest::WebSocketKey)?;
    let subprotocol = elements(fields, "sec-websocket-protocol")
        .find(|offered| !credentials::is_secret(offered))
        .map(|offered| token(offered).ok_or(BadRequest::Subprotocol))
        .transpose()?;
    Ok(Upgrade { client_type, session_id, credentials, accept_key: derive_accept_key(key), subprotocol })
}

/// 16 bytes in base64 (RFC 6455, section 4.1, item 7; RFC 4648, section 4).
fn is_websocket_key(key: &[u8]) -> bool {
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    key.strip_suffix(b"==").is_some_and(|digits| digits.len() == 22 && digits.iter().all(is_digit))
}
