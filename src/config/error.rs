//! Errors in a configuration. Each is one line.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fmt;

use crate::relay::limits::LOGGED_CHARS_MAX;

/// What is wrong with a value, and the remedy. Quotes at most a few characters of the value.
pub(super) type Problem = Cow<'static, str>;

/// A setting with which the relay cannot start.
///
/// Its text is one line: the setting, the value, what is wrong, and the remedy. There is only one kind of error,
/// because every caller does the same with it: show it and stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The name of the field, option or variable, escaped.
    setting: String,
    /// The value as given, escaped. `None` if the value is a secret or not the problem.
    value: Option<String>,
    problem: Problem,
}

impl ConfigError {
    /// An error that does not show a value.
    pub(super) fn setting(setting: impl AsRef<OsStr>, problem: impl Into<Problem>) -> Self {
        Self { setting: shown(setting.as_ref()), value: None, problem: problem.into() }
    }

    /// An error that shows the value.
    pub(super) fn value(
        setting: impl AsRef<OsStr>,
        value: impl AsRef<OsStr>,
        problem: impl Into<Problem>,
    ) -> Self {
        Self { value: Some(shown(value.as_ref())), ..Self::setting(setting, problem) }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.setting)?;
        if let Some(value) = &self.value {
            write!(f, " {value}")?;
        }
        write!(f, ": {}", self.problem)
    }
}

impl std::error::Error for ConfigError {}

/// `text`, escaped and cut to 64 characters. The last is `…` if the text was longer. Quotes are not escaped. An empty
/// text is shown as `''`.
fn shown(text: &OsStr) -> String {
    if text.is_empty() {
        return "''".to_owned();
    }
    let mut shown = String::new();
    let mut chars_left = LOGGED_CHARS_MAX;
    let mut pieces = escaped(text).peekable();
    while let Some(piece) = pieces.next() {
        let chars = piece.chars().count();
        // Keep room for the `…` unless this is the last piece.
        let reserve = usize::from(pieces.peek().is_some());
        if chars + reserve > chars_left {
            shown.push('…');
            break;
        }
        shown.push_str(&piece);
        chars_left -= chars;
    }
    shown
}

/// One piece for each character, and one for each byte that is not UTF-8.
fn escaped(text: &OsStr) -> impl Iterator<Item = String> {
    text.as_encoded_bytes().utf8_chunks().flat_map(|chunk| {
        // Quotes are common in values and do no harm in a line.
        let valid = chunk.valid().chars().map(|char| match char {
            '\'' | '"' => char.to_string(),
            _ => char.escape_debug().to_string(),
        });
        valid.chain(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_text_is_one_line_of_at_most_64_characters() {
        let (x62, x63, x64) = ("x".repeat(62), "x".repeat(63), "x".repeat(64));
        let table = [
            (String::new(), "''".to_owned()),
            ("it's \"ä\"".to_owned(), "it's \"ä\"".to_owned()),
            ("a\r\n\t\u{1b}[31m\\".to_owned(), r"a\r\n\t\u{1b}[31m\\".to_owned()),
            ("\u{202e}\u{2028}".to_owned(), r"\u{202e}\u{2028}".to_owned()),
            (x64.clone(), x64.clone()),
            (format!("{x64}x"), format!("{x63}…")),
            (format!("{x62}\n"), format!("{x62}\\n")),
            (format!("{x63}\n"), format!("{x63}…")),
            (format!("{x62}\nx"), format!("{x62}…")),
            ("\n".repeat(1_000_000), r"\n".repeat(31) + "…"),
        ];
        for (text, expected) in table {
            assert_eq!(shown(OsStr::new(&text)), expected, "{text:?}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn bytes_that_are_not_utf8_are_shown_as_numbers() {
        use std::os::unix::ffi::OsStrExt;
        assert_eq!(shown(OsStr::from_bytes(b"a\xff\xe2\x82z")), r"a\xff\xe2\x82z");
    }
}
