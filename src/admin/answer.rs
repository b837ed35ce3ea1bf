//! The answers of the operator's listener, except the status page.

use std::borrow::Cow;

use crate::relay::Service;
use crate::relay::http::{Answer, write_answer, write_page};

/// Answers must not be stored (RFC 9111, section 5.2.2.5), because they show the state at one moment. Browsers must not
/// guess another content type.
const NO_STORE: &str = "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n";

fn answer(status: u16, reason: &'static str, headers: &'static str, sentence: &'static str) -> Answer {
    Answer { status, reason, headers: Cow::Borrowed(headers), sentence: Cow::Borrowed(sentence) }
}

/// 401: the token is missing or wrong (RFC 9110, section 15.5.2). The challenge makes browsers ask for a password.
pub(super) fn unauthorized() -> Answer {
    let challenge = "WWW-Authenticate: Basic realm=\"apptuner-relay\"\r\nCache-Control: no-store\r\n";
    answer(
        401,
        "Unauthorized",
        challenge,
        "Send the admin token: as a Bearer token, or as the password of Basic authentication",
    )
}

/// 404: no such page (RFC 9110, section 15.5.5).
pub(super) fn not_found() -> Answer {
    answer(404, "Not Found", NO_STORE, "Not found: use /, /metrics, /livez, /readyz, /sessions or /history")
}

/// 421: a host name that a stranger could point to this machine (RFC 9110, section 15.5.20).
pub(super) fn other_host() -> Answer {
    let sentence = "Use an IP address or localhost in the URL, or have the operator set --admin-token";
    answer(421, "Misdirected Request", NO_STORE, sentence)
}

/// 400: a parameter in the query is wrong (RFC 9110, section 15.5.1).
pub(super) fn bad_query() -> Answer {
    answer(400, "Bad Request", NO_STORE, "from, limit and since must be whole numbers, limit from 1 to 500")
}

pub(super) fn write_live(head_only: bool, out: &mut Vec<u8>) {
    write_answer(&answer(200, "OK", NO_STORE, "ok\n"), head_only, out);
}

pub(super) fn write_ready(service: Service, head_only: bool, out: &mut Vec<u8>) {
    let answer = match service {
        Service::Ready => answer(200, "OK", NO_STORE, "ready\n"),
        Service::Full => answer(503, "Service Unavailable", NO_STORE, "full\n"),
        Service::Draining => answer(503, "Service Unavailable", NO_STORE, "draining\n"),
    };
    write_answer(&answer, head_only, out);
}

pub(super) fn write_metrics(text: &str, head_only: bool, out: &mut Vec<u8>) {
    let headers = format!("Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n{NO_STORE}");
    write_page(&headers, text, head_only, out);
}

pub(super) fn write_json(json: &str, head_only: bool, out: &mut Vec<u8>) {
    write_page(&format!("Content-Type: application/json\r\n{NO_STORE}"), json, head_only, out);
}
