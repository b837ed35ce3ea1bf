//! The HTTP answers that the relay may give.

/// The statuses that the relay uses.
const STATUSES: [&str; 15] =
    ["101", "200", "201", "204", "400", "401", "403", "404", "405", "408", "421", "426", "429", "431", "503"];

/// An answer, perhaps incomplete.
pub enum Answer<'a> {
    /// Its head is not complete.
    InHead,
    /// A 101, and the bytes after it.
    SwitchingProtocols(&'a [u8]),
    /// Any other answer, with its status.
    Other(&'a str),
}

/// Parses all that the relay has written. With `is_whole` nothing may be missing at the end.
pub fn read(bytes: &[u8], is_whole: bool) -> Answer<'_> {
    let Some(head_end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        assert!(!is_whole || bytes.is_empty(), "the answer ends in its head: {}", bytes.escape_ascii());
        return Answer::InHead;
    };
    let (head, rest) = bytes.split_at(head_end + 4);
    let head = std::str::from_utf8(head).expect("heads are ASCII");
    let mut lines = head.trim_end_matches("\r\n").split("\r\n");
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")).expect("a status line");
    let (status, _) = status.split_once(' ').expect("a reason phrase");
    assert!(STATUSES.contains(&status), "{head}");
    let fields: Vec<(&str, &str)> =
        lines.map(|line| line.split_once(": ").expect("a header field")).collect();
    for (name, value) in &fields {
        let is_printable = value.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        assert!(!name.is_empty() && !value.is_empty() && is_printable, "{name}: {value}");
    }
    if status == "101" {
        return Answer::SwitchingProtocols(rest);
    }
    check_body(status, &fields, rest, is_whole);
    Answer::Other(status)
}

fn check_body(status: &str, fields: &[(&str, &str)], body: &[u8], is_whole: bool) {
    let only_field = |name| {
        let mut values = fields.iter().filter(|(known, _)| *known == name).map(|(_, value)| *value);
        values.next().filter(|_| values.next().is_none())
    };
    let connection = if status == "426" { "upgrade, close" } else { "close" };
    assert_eq!(only_field("Connection"), Some(connection));
    if status == "204" {
        assert_eq!((only_field("Content-Length"), body), (None, &[][..]));
        return;
    }
    let length: usize =
        only_field("Content-Length").and_then(|length| length.parse().ok()).expect("a length");
    assert!(body.len() <= length, "no more than announced");
    assert!(!is_whole || body.len() == length || body.is_empty(), "the whole body, or none for HEAD");
}
