//! The answer to `/sessions`, in JSON.

use std::fmt::Write as _;
use std::io::{Read, Write};

use crate::relay::{ClientType, Relay, SessionReport, SessionState};

/// At most `limit` sessions beginning at the place `from` in the table, and the number of sessions of each kind. `next`
/// in the answer is the `from` of the next page, or null at the end.
pub(super) fn page<S: Read + Write>(relay: &Relay<S>, from: usize, limit: usize) -> String {
    let census = relay.census();
    let (reports, next) = relay.report_sessions(from, limit);
    let states = SessionState::ALL.map(SessionState::as_str).into_iter().zip(census.sessions);
    let clients = ClientType::ALL.map(ClientType::as_str).into_iter().zip(census.clients);
    let mut json = format!(
        r#"{{"sessions":{{{}}},"clients":{{{}}},"page":["#,
        fields(states).as_str(),
        fields(clients).as_str()
    );
    for (index, report) in reports.iter().enumerate() {
        let SessionReport { id_start, age_seconds, has_desktop, has_mobile, traffic, waiting_bytes } = report;
        let comma = if index == 0 { "" } else { "," };
        // A session ID needs no escapes, and writing to a string cannot fail.
        let _ = write!(
            json,
            concat!(
                r#"{comma}{{"id":"{id}","age_seconds":{age},"desktop":{desktop},"mobile":{mobile},"#,
                r#""messages":{messages},"bytes":{bytes},"waiting_bytes":{waiting}}}"#
            ),
            comma = comma,
            id = id_start,
            age = age_seconds,
            desktop = has_desktop,
            mobile = has_mobile,
            messages = traffic.messages,
            bytes = traffic.bytes,
            waiting = waiting_bytes,
        );
    }
    let next = next.map_or("null".to_owned(), |next| next.to_string());
    let _ = writeln!(json, r#"],"next":{next}}}"#);
    json
}

fn fields(counts: impl Iterator<Item = (&'static str, u64)>) -> String {
    let fields: Vec<_> = counts.map(|(name, count)| format!(r#""{name}":{count}"#)).collect();
    fields.join(",")
}
