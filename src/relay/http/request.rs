//! What a request head says, for whoever answers other requests than a relay's.

use std::str;

use httparse::Status;

use super::fields::only_value;
use super::target::path_and_query;
use super::{BadRequest, HEAD_FIELDS_MAX, Refusal, check_host};

/// The head of a request (RFC 9112, section 3), as far as it is understood. A body, if one follows, is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'h> {
    /// The method, compared with case.
    pub method: &'h str,
    /// The path. Nothing is decoded or normalised.
    pub path: &'h str,
    /// The query without its question mark; empty if there is none.
    pub query: &'h str,
    /// `Host`; `None` in HTTP/1.0 alone.
    pub host: Option<&'h str>,
    /// `Authorization`, if there is exactly one.
    pub authorization: Option<&'h [u8]>,
}

impl<'h> Request<'h> {
    /// Understands a complete head, by the same rules as that of an upgrade.
    pub fn parse(head: &'h [u8]) -> Result<Self, Refusal> {
        let mut fields = [httparse::EMPTY_HEADER; HEAD_FIELDS_MAX];
        let mut request = httparse::Request::new(&mut fields);
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
