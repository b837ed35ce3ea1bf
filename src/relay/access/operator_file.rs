//! The lines of a file that an operator writes: words with blanks between them, `#` before a comment.

use std::borrow::Cow;

/// What is wrong with a file, and the remedy. Never quotes what may be a secret.
pub(crate) type FileProblem = Cow<'static, str>;

/// Reads every line that holds anything, of which there must be at least one, with `read`.
pub(crate) fn read_all<T>(
    text: &str,
    what: &str,
    mut read: impl FnMut(&[&str]) -> Result<T, FileProblem>,
) -> Result<Vec<T>, FileProblem> {
    let mut records = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let words: Vec<&str> = line.split('#').next().unwrap_or(line).split_ascii_whitespace().collect();
        if !words.is_empty() {
            records.push(read(&words).map_err(|problem| format!("line {number}: {problem}"))?);
        }
    }
    if records.is_empty() { Err(format!("holds no {what}").into()) } else { Ok(records) }
}
