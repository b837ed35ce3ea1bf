//! The HTTP request with which every connection begins, and all answers in HTTP. One request per connection.
//!
//! [`HeadReader`] takes the bytes of the request head as they arrive, and examines each byte once. A complete head is
//! parsed once, into a [`Verdict`]; bytes that cannot become a request are refused earlier. The writers below write
//! the answers.
//!
//! httparse accepts more than the relay may: any number of empty lines before the request line, and a LF without a
//! CR. Neither reaches it, because the reader skips one empty line (RFC 9112, section 2.2) and refuses the rest.
//! httparse does not check `Host`, `Content-Length` and the form of the target; this module does.
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
/// Keeps at most [`HEAD_BYTES_MAX`] bytes, and allocates only if the head arrives in several pieces.
#[derive(Debug, Default)]
pub struct HeadReader {
    kept: Option<Box<PartialHead>>,
}

/// The part of a head that has arrived, if it arrives in several pieces.
#[derive(Debug, Default)]
struct PartialHead {
    head: Vec<u8>,
    position: Position,
    /// Whether `head` is a PROXY protocol header, which comes before the request head.
    is_proxy_header: bool,
}

/// The rules for a head, apart from the standards.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeadRules<'a> {
    /// The trusted proxies, if the connection comes from one of them and may name its client in header fields.
    pub proxies: Option<&'a Networks>,
    /// The origins whose pages may connect. If empty, all may.
    pub origins: &'a [Origin],
}

/// The result of a piece of the head.
#[derive(Debug, PartialEq, Eq)]
pub enum HeadProgress {
    /// All bytes belonged to the head, which is not complete.
    NeedMore,
    /// The PROXY protocol header is complete. The request head begins after it.
    Proxied {
        /// How many of the bytes of the last push belonged to it.
        consumed: usize,
        /// The client that the proxy names. `None` if the proxy speaks for itself.
        client: Option<ClientAddress>,
    },
    /// The head is complete, or refused before its end.
    Done {
        /// How many of the bytes of the last push were examined. After an upgrade, the rest belongs to the WebSocket;
        /// after anything else, it must be discarded.
        consumed: usize,
        /// The client that a proxy names in the head. `None` if no field names one.
        client: Option<ClientAddress>,
        /// The origin whose pages may read the answer, as it was sent; see [`AnswerForm::origin`].
        origin: Option<Box<str>>,
        /// What the request asks for, or why it is refused.
        verdict: Verdict,
    },
}

impl HeadReader {
    /// A reader that expects a PROXY protocol header before the head.
    #[must_use]
    pub fn behind_proxy_header() -> Self {
        Self { kept: Some(Box::new(PartialHead { is_proxy_header: true, ..PartialHead::default() })) }
    }

    /// Bytes of memory in use.
    #[must_use]
    pub fn kept_bytes(&self) -> usize {
        self.kept.as_ref().map_or(0, |kept| kept.head.capacity())
    }

    /// Takes the next bytes of the connection (RFC 9112, section 2.2). Linear in their number, however they are cut.
    ///
    /// After [`HeadProgress::Done`] the reader is as new.
    pub fn push(&mut self, bytes: &[u8], rules: HeadRules<'_>) -> HeadProgress {
        self.push_and_note(bytes, rules, &mut None)
    }

    /// As [`push`](Self::push). Also stores the path of a refused request, if it can be parsed.
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
            // From the bytes, because a refused head may not parse.
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

    /// Takes the next bytes. Once the head is complete or refused, calls `judge` with it, and returns how many of the
    /// bytes belonged to it, and the result. For listeners that answer other requests than the public one. A head
    /// that is not refused is complete; it begins with the request line.
    pub fn push_for<T>(
        &mut self,
        bytes: &[u8],
        judge: impl FnOnce(&[u8], Result<(), Refusal>) -> T,
    ) -> Option<(usize, T)> {
        let (kept_bytes, mut position) =
            self.kept.as_ref().map_or_else(Default::default, |kept| (kept.head.len(), kept.position));
        // The scan goes on where the last piece ended, so that each byte is examined once.
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
        // The one empty line that is allowed before the request line.
        let head = head.strip_prefix(b"\r\n").unwrap_or(head);
        Some((consumed, judge(head, outcome)))
    }
}

/// Finds the end of the head, or the first byte that spoils it. Returns how many bytes that took; `None` if the head
/// goes on. It may have at most `room` more bytes.
fn scan(bytes: &[u8], room: usize, position: &mut Position) -> Option<(usize, Result<(), Refusal>)> {
    for (consumed, &byte) in (1..).zip(bytes) {
        // One byte more than fits proves that the head is too large.
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
    /// Takes the next bytes of a PROXY protocol header. Parses again from its start each time: it is short.
    fn push_proxy_header(&mut self, bytes: &[u8]) -> HeadProgress {
        let before = self.head.len();
        // The parser never needs more than this to decide.
        let room = PROXY_HEADER_BYTES_MAX - before;
        self.keep(bytes.get(..room).unwrap_or(bytes));
        match proxy_header::parse(&self.head) {
            ProxyHeader::NeedMore => HeadProgress::NeedMore,
            ProxyHeader::Whole { bytes, client } => {
                // The bytes after the header stay with the caller.
                HeadProgress::Proxied { consumed: bytes - before, client }
            }
            ProxyHeader::Malformed => {
                let verdict = Verdict::Refuse { refusal: BadRequest::ProxyHeader.into(), head_only: false };
                HeadProgress::Done { consumed: bytes.len(), client: None, origin: None, verdict }
            }
        }
    }

    /// Keeps a part of the head. The memory doubles as needed, up to the limit.
    fn keep(&mut self, part: &[u8]) {
        let length = self.head.len() + part.len();
        if length > self.head.capacity() {
            // `reserve_exact`, because a `Vec` that grows by itself could pass the limit.
            let capacity = length.next_power_of_two().min(HEAD_BYTES_MAX);
            self.head.reserve_exact(capacity - self.head.len());
        }
        self.head.extend_from_slice(part);
    }
}

/// The first byte of TLS: the type of a handshake record (RFC 8446, section 5.1).
const TLS_HANDSHAKE: u8 = 22;
/// The query parameter of a client that asks to be told what was delivered.
const RECEIPTS: &str = "receipts=1";

/// The position of the next byte in the head. The head ends with the CR LF that follows a CR LF, except for one
/// before the request line.
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
    /// The position after `byte`; `None` if the byte ends the head.
    ///
    /// # Errors
    /// Why the byte is not allowed here.
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
    /// A request for `/health`: [`write_health`].
    Health {
        /// The method was HEAD: the answer has no body (RFC 9110, section 9.3.2).
        head_only: bool,
    },
    /// A CORS preflight from an origin that may connect: [`write_preflight`].
    Preflight {
        /// The methods of the path, as a list.
        methods: &'static str,
    },
    /// A request that is right, but has no content to answer with: [`write_nothing`].
    Nothing,
    /// Anything else: [`write_refusal`].
    Refuse {
        /// Why.
        refusal: Refusal,
        /// The method was HEAD: the answer has no body (RFC 9110, section 9.3.2).
        head_only: bool,
    },
}

impl Verdict {
    /// Whether the answer has no body because the method was HEAD.
    #[must_use]
    pub const fn is_head_only(&self) -> bool {
        matches!(self, Self::Health { head_only: true } | Self::Refuse { head_only: true, .. })
    }

    /// Whether it is answered even if the relay is full or the address is not served: a health request, or a
    /// preflight, which a browser may send before one.
    pub(super) const fn is_for_everybody(&self) -> bool {
        matches!(self, Self::Health { .. } | Self::Preflight { .. })
    }
}

/// An opening handshake that has passed all checks of RFC 6455, section 4.2.1.
#[derive(Debug, PartialEq, Eq)]
pub struct Upgrade {
    /// The side of the session, from the path.
    pub client_type: ClientType,
    /// The ID of the session to join, from the path.
    pub session_id: SessionId,
    /// The client's credentials.
    pub credentials: Credentials,
    /// It asks to be told which of its messages have been delivered: `?receipts=1`.
    pub wants_receipts: bool,
    accept_key: String,
    subprotocol: Option<String>,
}

impl Upgrade {
    /// The requested path.
    pub(super) fn path(&self) -> String {
        format!("/{}/{}", self.client_type.as_str(), self.session_id)
    }

    /// The value of `Sec-WebSocket-Accept` (RFC 6455, section 4.2.2, item 5.4).
    #[must_use]
    pub fn accept_key(&self) -> &str {
        &self.accept_key
    }

    /// The first offered subprotocol that contains no secret; it is an HTTP token (RFC 6455, section 4.2.2, item
    /// 5.5).
    #[must_use]
    pub fn subprotocol(&self) -> Option<&str> {
        self.subprotocol.as_deref()
    }
}

/// The client and the origin that a head names. Needed even if the request is refused.
#[derive(Debug, Default)]
struct NamedInHead {
    client: Option<ClientAddress>,
    origin: Option<Box<str>>,
}

/// Decides on a complete head. If it has several faults, the order of the checks decides which one is reported. Fills
/// in `named` as soon as the values are known.
fn decide(
    head: &[u8],
    head_only: bool,
    rules: HeadRules<'_>,
    named: &mut NamedInHead,
) -> Result<Verdict, Refusal> {
    let mut fields = [httparse::EMPTY_HEADER; HEAD_FIELDS_MAX];
    let mut request = httparse::Request::new(&mut fields);
    // The reader has found the end. If httparse found another one, the head could be read in two ways.
    if request.parse(head)? != Status::Complete(head.len()) {
        return Err(BadRequest::RequestLine.into());
    }
    let (Some(method), Some(target), Some(minor_version)) = (request.method, request.path, request.version)
    else {
        return Err(BadRequest::RequestLine.into());
    };
    let fields = &*request.headers;
    let target = Target::parse(target);
    // Found first, so that a page can also read the answer to a faulty request.
    let shared_methods = target.as_ref().and_then(Target::shared_methods);
    if shared_methods.is_some() {
        named.origin = cors::reader(fields, rules.origins);
    }
    if let Some(proxies) = rules.proxies {
        // Before the other checks, so that a refused request counts against its client rather than the proxy.
        named.client = forwarded::client(fields, proxies)?;
    }
    check_host(fields, minor_version)?;
    let has_body = has_body(fields)?;
    // Before the method is checked: `OPTIONS` is not allowed for anything else.
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
            // The query of `/sessions` has no meaning.
            Ok(Verdict::Issue(credentials::find("", fields)?))
        }
        Target::Session(..) if has_body => Err(BadRequest::Body.into()),
        Target::Session(client_type, session_id, query) => {
            cors::check_origin(fields, rules.origins)?;
            let credentials = credentials::find(query, fields)?;
            let upgrade = accept(client_type, session_id, credentials, fields)?;
            let wants_receipts = query.split('&').any(|pair| pair == RECEIPTS);
            Ok(Verdict::Upgrade(Upgrade { wants_receipts, ..upgrade }))
        }
    }
}

/// Checks that there is exactly one `Host` (RFC 9112, section 3.2). Only HTTP/1.0 may omit it.
fn check_host(fields: &[Header<'_>], minor_version: u8) -> Result<(), BadRequest> {
    let mut hosts = values(fields, "host");
    match (hosts.next(), hosts.next()) {
        (Some(host), None) if is_host_and_port(host) => Ok(()),
        (Some(host), None) if is_host_with_zone(host) => Err(BadRequest::HostZone),
        (None, None) if minor_version == 0 => Ok(()),
        (Some(_) | None, _) => Err(BadRequest::Host),
    }
}

/// Whether a body follows the head (RFC 9112, section 6.3).
///
/// # Errors
/// If two programs could disagree on the length of the body; accepting that allows request smuggling.
fn has_body(fields: &[Header<'_>]) -> Result<bool, BadRequest> {
    let mut length = None;
    for element in values(fields, "content-length").flat_map(split_list) {
        let announced = decimal(element).ok_or(BadRequest::ContentLength)?;
        // The same length several times is allowed.
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

/// Whether the request asks for a WebSocket (RFC 6455, section 4.2.1, items 3 and 4). HTTP/1.0 has no upgrade (RFC
/// 9110, section 7.8).
fn wants_upgrade(fields: &[Header<'_>], minor_version: u8) -> bool {
    let lists = |name, token: &str| {
        elements(fields, name).any(|element| element.eq_ignore_ascii_case(token.as_bytes()))
    };
    minor_version == 1 && lists("upgrade", "websocket") && lists("connection", "upgrade")
}

/// Checks the method (RFC 9110, section 9.1). The case of a method matters, and unknown methods are refused.
fn check_method(method: &str, target: Option<&Target<'_>>, wants_upgrade: bool) -> Result<(), Refusal> {
    match (method, target) {
        ("POST", Some(Target::Sessions)) => Ok(()),
        // `decide` answers it with a 400 that explains the path.
        ("GET", Some(Target::Sessions)) if wants_upgrade => Ok(()),
        (_, Some(Target::Sessions)) => Err(Refusal::IssueMethod),
        ("GET", _) | ("HEAD", Some(Target::Health)) => Ok(()),
        ("HEAD", _) if wants_upgrade => Err(Refusal::UpgradeMethod),
        ("HEAD", _) => Ok(()),
        (_, Some(Target::Session(..))) => Err(Refusal::UpgradeMethod),
        (_, Some(Target::Health | Target::Icon | Target::Other(_)) | None) => Err(Refusal::MethodNotAllowed),
    }
}

/// Checks the rest of RFC 6455, section 4.2.1: version, key and subprotocol. Extensions are ignored.
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
    let accept_key = derive_accept_key(key);
    Ok(Upgrade { client_type, session_id, credentials, wants_receipts: false, accept_key, subprotocol })
}

/// Whether the key is 16 bytes in base64 (RFC 6455, section 4.1, item 7; RFC 4648, section 4).
fn is_websocket_key(key: &[u8]) -> bool {
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    key.strip_suffix(b"==").is_some_and(|digits| digits.len() == 22 && digits.iter().all(is_digit))
}
