//! Writes the answers in HTTP.

use super::{Answer, Refusal, Upgrade};

/// `Connection` of every answer except a 101.
const CLOSE: &str = "close";

/// What the form of an answer depends on, whatever its content is. The default is for answers to a request that was
/// not read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AnswerForm<'a> {
    /// The method was HEAD: the answer has no body (RFC 9110, section 9.3.2).
    pub head_only: bool,
    /// The origin whose pages may read the answer. Set only for `/health` and `/sessions`.
    pub origin: Option<&'a str>,
    /// The requested path, if the request was parsed that far. Only for the log.
    pub path: Option<&'a str>,
}

/// Writes the 101 that accepts `upgrade` (RFC 6455, section 4.2.2, item 5).
pub fn write_switching_protocols(upgrade: &Upgrade, out: &mut Vec<u8>) {
    out.extend_from_slice(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n",
    );
    for (name, value) in [
        ("Sec-WebSocket-Accept", Some(upgrade.accept_key())),
        ("Sec-WebSocket-Protocol", upgrade.subprotocol()),
    ] {
        if let Some(value) = value {
            out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes the answer to a refused request (RFC 9110, section 15).
pub fn write_refusal(refusal: Refusal, form: AnswerForm<'_>, out: &mut Vec<u8>) {
    write_sentence(&refusal.answer(), form, out);
}

/// Writes a 200 with the JSON `body` (RFC 9110, section 15.3.1; RFC 9111, section 5.2.2.5).
pub fn write_health(body: &str, form: AnswerForm<'_>, out: &mut Vec<u8>) {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nCache-Control: no-store\r\n";
    write_closing_answer(head, CLOSE, body, form, out);
}

/// Writes a 201 with the JSON `body`, which contains a secret (RFC 9110, section 15.3.2).
pub fn write_issued(body: &str, form: AnswerForm<'_>, out: &mut Vec<u8>) {
    let head = "HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nCache-Control: no-store\r\n";
    write_closing_answer(head, CLOSE, body, form, out);
}

/// Writes the 204 that tells a browser which requests pages of this origin may send (the Fetch standard, section
/// 3.3).
pub fn write_preflight(methods: &str, origin: Option<&str>, out: &mut Vec<u8>) {
    let headers = format!(
        "Access-Control-Allow-Methods: {methods}\r\nAccess-Control-Allow-Headers: Authorization, Content-Type\r\n\
         Access-Control-Max-Age: 86400\r\n"
    );
    write_no_content(&headers, origin, out);
}

/// Writes a 204: there is no content, and the request was right (RFC 9110, section 15.3.5).
pub fn write_nothing(out: &mut Vec<u8>) {
    write_no_content("", None, out);
}

/// A 204 has neither a body nor a length (RFC 9110, section 8.6).
fn write_no_content(headers: &str, origin: Option<&str>, out: &mut Vec<u8>) {
    let cors = cors_lines(origin);
    let head = format!("HTTP/1.1 204 No Content\r\n{headers}{cors}Connection: {CLOSE}\r\n\r\n");
    out.extend_from_slice(head.as_bytes());
}

/// Writes a 200 with `body` and these header lines, each with its CR LF. With `head_only`, without the body.
pub fn write_page(headers: &str, body: &str, head_only: bool, out: &mut Vec<u8>) {
    let form = AnswerForm { head_only, ..AnswerForm::default() };
    write_closing_answer(&format!("HTTP/1.1 200 OK\r\n{headers}"), CLOSE, body, form, out);
}

/// Writes an answer whose body is a sentence, for requests to other listeners than the public one. See also
/// [`write_refusal`].
pub fn write_answer(answer: &Answer, head_only: bool, out: &mut Vec<u8>) {
    write_sentence(answer, AnswerForm { head_only, ..AnswerForm::default() }, out);
}

fn write_sentence(answer: &Answer, form: AnswerForm<'_>, out: &mut Vec<u8>) {
    let Answer { status, reason, headers, sentence } = answer;
    let head = format!("HTTP/1.1 {status} {reason}\r\n{headers}Content-Type: text/plain; charset=utf-8\r\n");
    // A message with `Upgrade` must name it in `Connection`, too (RFC 9110, section 7.8).
    // Only the 426 answers have an `Upgrade` field.
    let connection = if *status == 426 { "upgrade, close" } else { CLOSE };
    write_closing_answer(&head, connection, sentence, form, out);
}

/// Writes an answer other than a 101: `head`, the rest of its head, and its body (RFC 9112, sections 6.2 and 9.6).
fn write_closing_answer(head: &str, connection: &str, body: &str, form: AnswerForm<'_>, out: &mut Vec<u8>) {
    let AnswerForm { head_only, origin, .. } = form;
    let (cors, length) = (cors_lines(origin), body.len());
    out.extend_from_slice(head.as_bytes());
    let end = format!("{cors}Content-Length: {length}\r\nConnection: {connection}\r\n\r\n");
    out.extend_from_slice(end.as_bytes());
    if !head_only {
        out.extend_from_slice(body.as_bytes());
    }
}

fn cors_lines(origin: Option<&str>) -> String {
    origin.map_or_else(String::new, |origin| {
        format!("Access-Control-Allow-Origin: {origin}\r\nVary: Origin\r\n")
    })
}
