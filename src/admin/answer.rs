//! The answers that are neither a page nor a table.

use std::borrow::Cow;

use crate::relay::Service;
use crate::relay::http::{Answer, write_answer, write_page};

/// RFC 9111, section 5.2.2.5: whatever is asked for is of this moment. And nothing is taken for what it is not.
const OF_THIS_MOMENT: &str = "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n";

fn answer(status: u16, reason: &'static str, headers: &'static str, sentence: &'static str) -> Answer {
    Answer { status, reason, headers: Cow::Borrowed(headers), sentence: Cow::Borrowed(sentence) }
}

/// No token, or a wrong one: 401 (RFC 9110, section 15.5.2). Browsers ask for a password then.
pub(super) fn unauthorized() -> Answer {
    let challenge = "WWW-Authenticate: Basic realm=\"apptuner-relay\"\r\nCache-Control: no-store\r\n";
    answer(
        401,
        "Unauthorized",
        challenge,
        "Bring the admin token: as a Bearer token, or as the password of Basic",
    )
}

/// No such page: 404 (RFC 9110, section 15.5.5).
pub(super) fn not_found() -> Answer {
    answer(
        404,
        "Not Found",
        OF_THIS_MOMENT,
        "Not found: use /, /metrics, /livez, /readyz, /sessions or /history",
    )
}

/// A name that may be pointed here by somebody else: 421 (RFC 9110, section 15.5.20).
pub(super) fn other_host() -> Answer {
    let sentence = "Ask by an IP address or as localhost, or have the operator set --admin-token";
    answer(421, "Misdirected Request", OF_THIS_MOMENT, sentence)
}

/// 400 (RFC 9110, section 15.5.1).
pub(super) fn bad_query() -> Answer {
    answer(
        400,
        "Bad Request",
        OF_THIS_MOMENT,
        "Give from, limit and since as whole numbers, limit from 1 to 500",
    )
}

pub(super) fn write_live(head_only: bool, out: &mut Vec<u8>) {
    write_answer(&answer(200, "OK", OF_THIS_MOMENT, "ok\n"), head_only, out);
}

pub(super) fn write_ready(service: Service, head_only: bool, out: &mut Vec<u8>) {
    let answer = match service {
        Service::Ready => answer(200, "OK", OF_THIS_MOMENT, "ready\n"),
        Service::Full => answer(503, "Service Unavailable", OF_THIS_MOMENT, "full\n"),
        Service::Draining => answer(503, "Service Unavailable", OF_THIS_MOMENT, "draining\n"),
    };
    write_answer(&answer, head_only, out);
}

pub(super) fn write_metrics(text: &str, head_only: bool, out: &mut Vec<u8>) {
    let headers = format!("Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n{OF_THIS_MOMENT}");
    write_page(&headers, text, head_only, out);
}

pub(super) fn write_json(json: &str, head_only: bool, out: &mut Vec<u8>) {
    write_page(&format!("Content-Type: application/json\r\n{OF_THIS_MOMENT}"), json, head_only, out);
}
