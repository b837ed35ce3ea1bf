//! The messages of all benchmarks: JSON that looks like the source code that such relays carry.

/// A message of exactly `bytes` bytes, or of the minimum length if that is more.
pub(crate) fn message_text(bytes: usize) -> String {
    const START: &str = r#"{"n":1000000000,"d":""#;
    const LINE: &str = r#"let café = open(\"x\", [1, 2, 3]);\n"#;
    const END: &str = r#""}"#;
    let body_bytes = bytes.saturating_sub(START.len() + END.len());
    let (lines, rest) = (body_bytes / LINE.len(), body_bytes % LINE.len());
    [START, &LINE.repeat(lines), &"x".repeat(rest), END].concat()
}
