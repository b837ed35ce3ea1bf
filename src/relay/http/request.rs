//! The parsed request head, for listeners that answer other requests than the public one.

use std::str;

use httparse::Status;

use super::fields::only_value;
use super::target::path_and_query;
use super::{BadRequest, HEAD_FIELDS_MAX, Refusal, check_host};

/// A request head (RFC 9112, section 3), as far as such a listener needs it. A body is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'h> {
    /// The method. Its case matters.
    pub method: &'h str,
    /// The path, not decoded or normalised.
    pub path: &'h str,
    /// The query without its question mark. Empty if there is none.
    pub query: &'h str,
    /// The value of `Host`. It may be `None` only in HTTP/1.0.
    pub host: Option<&'h str>,
    /// The value of `Authorization`, if there is exactly one such field.
    pub authorization: Option<&'h [u8]>,
}

impl<'h> Request<'h> {
    /// Parses a complete head by the same rules as that of an upgrade.
    ///
    /// # Errors
    /// Why the head is refused.
    pub fn parse(head: &'h [u8]) -> Result<Self, Refusal> {
        let mut fields = [httparse::EMPTY_HEADER; HEAD_FIELDS_MAX];
        let mut request = httparse::Request::new(&mut fields);
        // The reader has found the end of the head; httparse must find the same one.
        if request.parse(head)? != Status::Complete(head.len()) {
            return Err(BadRequest::RequestLine.into());
        }
        let (Some(method), Some(target), Some(minor_version)) =
            (request.method, request.path, request.version)
        else {
            return Err(BadRequest::RequestLine.into());
        };
        check_host(request.headers, minor_version)?;
        let (path, query) = path_and_query(target).ok_or(BadRequest::Target)?;
        let host = only_value(request.headers, "host").and_then(|host| str::from_utf8(host).ok());
        Ok(Self { method, path, query, host, authorization: only_value(request.headers, "authorization") })
    }
}
