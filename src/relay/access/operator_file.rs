//! Files that an operator writes: lines of words separated by blanks; `#` begins a comment.

use std::borrow::Cow;

/// What is wrong with a file, and what to do. It never quotes a word of the file, which may be a secret.
pub(crate) type FileProblem = Cow<'static, str>;

/// Parses every line that has a word with `read`. `what` says what the file lacks if there is no such line.
///
/// # Errors
/// The first problem, with the number of its line; or that the file has no such line.
pub(crate) fn read_lines<T>(
    text: &str,
    what: &str,
    mut read: impl FnMut(&[&str]) -> Result<T, FileProblem>,
) -> Result<Vec<T>, FileProblem> {
    let mut entries = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        // No name, key or range contains a `#`, so this cuts only comments.
        let words: Vec<&str> = line.split('#').next().unwrap_or(line).split_ascii_whitespace().collect();
        if !words.is_empty() {
            entries.push(read(&words).map_err(|problem| format!("line {number}: {problem}"))?);
        }
    }
    if entries.is_empty() { Err(format!("holds no {what}").into()) } else { Ok(entries) }
}
