//! All reasons to refuse a connection in HTTP, and the answer to each.

use std::borrow::Cow;

use super::PathFault;
use crate::relay::access::gate::NotAllowed;
use crate::relay::limits::{
    CONTEST_WINDOW, HEAD_BYTES_MAX, HEAD_FIELDS_MAX, RETRY_AFTER_SECONDS, SECRET_BYTES_MAX, SECRET_BYTES_MIN,
};

/// Why a connection is answered with an error (RFC 9110, section 15).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The request is malformed, or not for the relay: 400 (RFC 9110, section 15.5.1).
    BadRequest(BadRequest),
    /// There is no such path: 404 (RFC 9110, section 15.5.5).
    NotFound(PathFault),
    /// Neither GET nor HEAD: 405 (RFC 9110, section 15.5.6).
    MethodNotAllowed,
    /// A WebSocket upgrade with a method other than GET: 405 (RFC 6455, section 4.2.1, item 1).
    UpgradeMethod,
    /// The head was not complete in time: 408 (RFC 9110, section 15.5.9). Set by the caller.
    HeadTimeout,
    /// A session path without an upgrade: 426 (RFC 9110, section 15.5.22).
    ExpectedUpgrade,
    /// A version of the WebSocket protocol other than 13: 426 (RFC 6455, section 4.2.2, item 4).
    WebSocketVersion,
    /// More than [`HEAD_BYTES_MAX`] bytes: 431 (RFC 6585, section 5).
    HeadTooLarge,
    /// More than [`HEAD_FIELDS_MAX`] header fields: 431 (RFC 6585, section 5).
    TooManyFields,
    /// A method other than POST at `/sessions`: 405 (RFC 9110, section 15.5.6).
    IssueMethod,
    /// The page's origin may not connect: 403 (RFC 6455, section 4.2.2, item 4).
    Origin,
    /// The address is not served: 403 (RFC 9110, section 15.5.4). Set by the caller.
    Address,
    /// The address is over a limit: 429 (RFC 6585, section 4). Set by the caller.
    AddressLimit {
        /// `Retry-After`, in seconds.
        retry_after: u64,
    },
    /// The pairing secret is wrong or missing, or there is no session to join: 403. Set by the caller.
    Secret,
    /// The API key is wrong or missing: 401 (RFC 9110, section 15.5.2). Set by the caller.
    ApiKey,
    /// The host's [`Hook`](crate::relay::Hook) does not let the client join: 403. Set by the caller.
    Hook,
    /// Clients replace each other in this place again and again: 429 (RFC 6585, section 4). Set by the caller.
    Contested,
    /// The relay has no room for another connection: 503 (RFC 9110, section 15.6.4). Set by the caller.
    ConnectionLimit,
}

impl From<NotAllowed> for Refusal {
    fn from(reason: NotAllowed) -> Self {
        match reason {
            NotAllowed::Address => Self::Address,
            NotAllowed::Host(denied) => Self::AddressLimit { retry_after: denied.retry_after() },
            NotAllowed::Secret => Self::Secret,
            NotAllowed::ApiKey => Self::ApiKey,
        }
    }
}

/// Why a connection was refused, as the log and the metrics name it (section 9 of the contract).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RefusalReason {
    /// The request was malformed, or not for the relay.
    BadRequest,
    /// There is no such path.
    NotFound,
    /// The path does not have this method.
    Method,
    /// The head was not complete in time.
    HeadTimeout,
    /// The head was too large.
    HeadTooLarge,
    /// A session path without an upgrade, or with another version of the WebSocket protocol.
    NoUpgrade,
    /// The page's origin may not connect.
    Origin,
    /// The address is not served.
    Address,
    /// The address is over a limit, or locked out.
    AddressLimit,
    /// The pairing secret was wrong or missing, there was no session to join, or the host refused the client.
    Secret,
    /// The API key was wrong or missing.
    ApiKey,
    /// Clients replace each other in the place again and again.
    Contested,
    /// The relay had no room for another connection or session.
    ConnectionLimit,
}

impl RefusalReason {
    /// All reasons.
    pub const ALL: [Self; 13] = [
        Self::BadRequest,
        Self::NotFound,
        Self::Method,
        Self::HeadTimeout,
        Self::HeadTooLarge,
        Self::NoUpgrade,
        Self::Origin,
        Self::Address,
        Self::AddressLimit,
        Self::Secret,
        Self::ApiKey,
        Self::Contested,
        Self::ConnectionLimit,
    ];

    /// The name in the log and in the metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::NotFound => "not_found",
            Self::Method => "method",
            Self::HeadTimeout => "head_timeout",
            Self::HeadTooLarge => "head_too_large",
            Self::NoUpgrade => "no_upgrade",
            Self::Origin => "origin",
            Self::Address => "address",
            Self::AddressLimit => "address_limit",
            Self::Secret => "secret",
            Self::ApiKey => "api_key",
            Self::Contested => "contested",
            Self::ConnectionLimit => "connection_limit",
        }
    }
}

impl From<Refusal> for RefusalReason {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::BadRequest(_) => Self::BadRequest,
            Refusal::NotFound(_) => Self::NotFound,
            Refusal::MethodNotAllowed | Refusal::UpgradeMethod | Refusal::IssueMethod => Self::Method,
            Refusal::HeadTimeout => Self::HeadTimeout,
            Refusal::HeadTooLarge | Refusal::TooManyFields => Self::HeadTooLarge,
            Refusal::ExpectedUpgrade | Refusal::WebSocketVersion => Self::NoUpgrade,
            Refusal::Origin => Self::Origin,
            Refusal::Address => Self::Address,
            Refusal::AddressLimit { .. } => Self::AddressLimit,
            Refusal::Secret | Refusal::Hook => Self::Secret,
            Refusal::ApiKey => Self::ApiKey,
            Refusal::Contested => Self::Contested,
            Refusal::ConnectionLimit => Self::ConnectionLimit,
        }
    }
}

/// What is wrong with a request that is answered with 400 (RFC 9110, section 15.5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadRequest {
    /// The first byte is that of TLS (RFC 8446, section 5.1).
    NotHttp,
    /// A CR or LF by itself, or a NUL (RFC 9112, section 2.2).
    LineEnding,
    /// The request line is malformed, or begins with a byte that no method has (RFC 9112, section 3).
    RequestLine,
    /// The version is neither HTTP/1.1 nor HTTP/1.0 (RFC 9112, section 2.3).
    HttpVersion,
    /// A header field is malformed, or folded over several lines (RFC 9112, section 5).
    HeaderField,
    /// `Host` is missing, repeated or malformed (RFC 9112, section 3.2).
    Host,
    /// `Content-Length` is invalid, contradicts itself, or comes with `Transfer-Encoding` (RFC 9112, section 6.3).
    ContentLength,
    /// The target is neither in origin-form nor in absolute-form (RFC 9112, section 3.2).
    Target,
    /// The IPv6 address in `Host` has a zone.
    HostZone,
    /// An upgrade to a path that is not a session path.
    Path(PathFault),
    /// An upgrade with a request body. RFC 6455, section 4.1, has none.
    Body,
    /// `Sec-WebSocket-Key` is missing, repeated or malformed (RFC 6455, section 4.2.1, item 5).
    WebSocketKey,
    /// The first subprotocol offered is not a token (RFC 6455, section 4.2.1, item 8).
    Subprotocol,
    /// The PROXY protocol header that a proxy must send is missing or malformed.
    ProxyHeader,
    /// `Forwarded` or `X-Forwarded-For` is malformed, or they contradict each other (RFC 7239).
    Forwarded,
    /// A secret or key is too short, too long or wrongly encoded, or two of them differ.
    Secret,
}

impl From<BadRequest> for Refusal {
    fn from(fault: BadRequest) -> Self {
        Self::BadRequest(fault)
    }
}

impl From<httparse::Error> for Refusal {
    fn from(error: httparse::Error) -> Self {
        use httparse::Error;
        match error {
            Error::TooManyHeaders => Self::TooManyFields,
            Error::Version => BadRequest::HttpVersion.into(),
            Error::HeaderName | Error::HeaderValue => BadRequest::HeaderField.into(),
            Error::NewLine | Error::Token | Error::Status => BadRequest::RequestLine.into(),
        }
    }
}

/// What one answer has of its own, without what all answers share (RFC 9112, section 4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Reason phrase.
    pub reason: &'static str,
    /// Header lines of this answer only, each with its CR LF.
    pub headers: Cow<'static, str>,
    /// The body: one sentence that says what to do.
    pub sentence: Cow<'static, str>,
}

impl Refusal {
    /// The answer to this refusal (RFC 9110, section 15).
    #[must_use]
    pub fn answer(self) -> Answer {
        match self {
            Self::BadRequest(fault) => answer(400, "Bad Request", "", fault.sentence()),
            Self::NotFound(fault) => answer(
                404,
                "Not Found",
                "",
                format!(
                    "Not found: use /health, /desktop/{{sessionId}} or /mobile/{{sessionId}}; {}",
                    fault.sentence()
                ),
            ),
            Self::MethodNotAllowed => method_not_allowed("Allow: GET, HEAD\r\n", "Use GET or HEAD"),
            Self::UpgradeMethod => method_not_allowed("Allow: GET\r\n", "Use GET for a WebSocket upgrade"),
            Self::HeadTimeout => answer(
                408,
                "Request Timeout",
                "",
                "Send the whole request head without delay after connecting",
            ),
            Self::ExpectedUpgrade => {
                answer(426, "Upgrade Required", "Upgrade: websocket\r\n", "Expected WebSocket upgrade")
            }
            Self::WebSocketVersion => answer(
                426,
                "Upgrade Required",
                "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
                "Send exactly one Sec-WebSocket-Version header, with the value 13",
            ),
            Self::HeadTooLarge => {
                head_too_large(format!("Send a request head of at most {HEAD_BYTES_MAX} bytes"))
            }
            Self::TooManyFields => head_too_large(format!("Send at most {HEAD_FIELDS_MAX} header fields")),
            Self::IssueMethod => method_not_allowed("Allow: POST\r\n", "Use POST to have a session issued"),
            Self::Origin => {
                forbidden("Pages of this origin may not connect: ask the relay's operator for --allow-origin")
            }
            Self::Address => {
                forbidden("This address is not served: ask the relay's operator, or use another network")
            }
            Self::AddressLimit { retry_after } => {
                too_many_requests(retry_after, "Too much comes from this address: try")
            }
            Self::Secret => forbidden(
                "Bring the session's pairing secret: as ?secret=, as a Bearer token or as a subprotocol",
            ),
            Self::Hook => forbidden("The program that runs this relay does not let this client join"),
            Self::ApiKey => answer(
                401,
                "Unauthorized",
                "WWW-Authenticate: Bearer\r\n",
                "Bring an API key of this relay: as a Bearer token or as a subprotocol",
            ),
            Self::Contested => too_many_requests(
                CONTEST_WINDOW.as_secs(),
                "Clients take this place in the session from each other: give each pair its own session ID, or try",
            ),
            Self::ConnectionLimit => answer(
                503,
                "Service Unavailable",
                format!("Retry-After: {RETRY_AFTER_SECONDS}\r\n"),
                format!("This relay is full: try again in {RETRY_AFTER_SECONDS} seconds"),
            ),
        }
    }
}

fn method_not_allowed(allow: &'static str, sentence: &'static str) -> Answer {
    answer(405, "Method Not Allowed", allow, sentence)
}

fn forbidden(sentence: &'static str) -> Answer {
    answer(403, "Forbidden", "", sentence)
}

fn too_many_requests(retry_after: u64, what_to_do: &str) -> Answer {
    answer(
        429,
        "Too Many Requests",
        format!("Retry-After: {retry_after}\r\n"),
        format!("{what_to_do} again in {retry_after} seconds"),
    )
}

fn head_too_large(sentence: String) -> Answer {
    answer(431, "Request Header Fields Too Large", "", sentence)
}

fn answer(
    status: u16,
    reason: &'static str,
    headers: impl Into<Cow<'static, str>>,
    sentence: impl Into<Cow<'static, str>>,
) -> Answer {
    Answer { status, reason, headers: headers.into(), sentence: sentence.into() }
}

impl BadRequest {
    /// The sentence that says what to do, the body of the 400 (RFC 9110, section 15.5.1).
    #[must_use]
    pub fn sentence(self) -> Cow<'static, str> {
        // A sentence below names these two numbers.
        const _: () = assert!(SECRET_BYTES_MIN == 16 && SECRET_BYTES_MAX == 256);
        let sentence = match self {
            Self::Path(fault) => {
                return format!(
                    "Invalid path. Use /desktop/{{sessionId}} or /mobile/{{sessionId}}; {}",
                    fault.sentence()
                )
                .into();
            }
            Self::NotHttp => "Begin with an HTTP/1.1 request line: this port speaks no TLS",
            Self::LineEnding => "End each line with CR LF, and send no other CR, LF or NUL",
            Self::RequestLine => "Send a request line of the form: GET /path HTTP/1.1",
            Self::HttpVersion => "Use HTTP/1.1, with single spaces in the request line",
            Self::HeaderField => "Send each header field on one line of the form: Name: value",
            Self::Host => "Send exactly one Host header, of the form: name or name:port",
            Self::ContentLength => {
                "Send at most one Content-Length, in decimal, and no Transfer-Encoding beside it"
            }
            Self::HostZone => {
                "Send Host without the zone of the IPv6 address: [fe80::1]:8787, not [fe80::1%eth0]:8787"
            }
            Self::Target => "Send a request target that begins with / or http://host/",
            Self::Body => "Send the WebSocket upgrade without a request body",
            Self::WebSocketKey => "Send exactly one Sec-WebSocket-Key header, with 16 random bytes in base64",
            Self::ProxyHeader => "Begin the connection with a PROXY protocol header, version 1 or 2",
            Self::Forwarded => {
                "Have the proxy set one of Forwarded and X-Forwarded-For, to addresses, and remove the other"
            }
            Self::Secret => "Bring one secret of 16 to 256 bytes, in base64url where it is a subprotocol",
            Self::Subprotocol => "Offer subprotocols in Sec-WebSocket-Protocol as HTTP tokens",
        };
        sentence.into()
    }
}
