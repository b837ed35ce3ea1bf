//! Checks in one pass that a text is UTF-8 and JSON (RFC 8259), and finds its `type`. The text may arrive in pieces.
//! Nothing is built, and no nesting is too deep.
//!
//! | state | what may follow |
//! | --- | --- |
//! | `Value` | a value: at the start, after `:`, after `,` in an array |
//! | `FirstItem`, `FirstKey` | the first item of an array or object, or its end |
//! | `Key`, `Colon` | a key, a colon |
//! | `AfterValue` | `,` or the end of the container; only white space if there is no container |
//! | `String`, `Escape`, `Digits`, `Char` | the rest of a string, escape or character |
//! | `Number`, `Word` | the rest of a number, or of `true`, `false`, `null` |
//! | `Refused` | any UTF-8: the text is not JSON, but bytes that are not UTF-8 would be a worse fault |
//! | `NotUtf8` | nothing |
//!
//! The states inside strings, numbers and words decide byte by byte, wherever a piece ends. The fast code in
//! `values`, `scan` and `block` only skips what is certainly right, and leaves everything else to these states.

mod block;
mod capture;
mod nesting;
mod scan;
mod values;

use std::borrow::Cow;
use std::fmt;

use capture::Capture;
use nesting::{Container, Nesting};
use scan::{CutChar, Stop, is_short_escape, skip_digits, skip_space, skip_string};
use values::ValueProgress;

/// A text that is not UTF-8, and cannot become UTF-8 with more bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotUtf8;

/// Where a text stops being JSON, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidJson {
    /// Zero-based offset of the first byte that no JSON text has after the bytes before it. The length of the text if
    /// it ends too soon.
    pub offset: usize,
    reason: &'static str,
}

impl fmt::Display for InvalidJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Invalid JSON at byte {}: {}", self.offset, self.reason)
    }
}

/// Why a text is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextError {
    /// It is not UTF-8. Whether it is JSON otherwise is not reported.
    NotUtf8,
    /// It is UTF-8, but not JSON.
    InvalidJson(InvalidJson),
}

impl From<NotUtf8> for TextError {
    fn from(_: NotUtf8) -> Self {
        Self::NotUtf8
    }
}

/// Checks a whole text.
///
/// # Errors
/// Why it is not UTF-8 or not JSON.
pub fn check_text(bytes: &[u8]) -> Result<(), TextError> {
    let mut check = TextCheck::new(false);
    check.advance(bytes)?;
    check.verdict()
}

/// Checks a whole text, and returns its top-level `type`: see [`TextCheck::finish`].
///
/// # Errors
/// Why it is not UTF-8 or not JSON.
pub fn check_text_and_type(bytes: &[u8]) -> Result<Option<Cow<'_, str>>, TextError> {
    let mut check = TextCheck::new(true);
    check.advance(bytes)?;
    check.verdict()?;
    Ok(check.capture.into_type(bytes))
}

/// The check of a text that arrives in pieces: [`push`](Self::push) each of them, then
/// [`finish`](Self::finish).
#[derive(Debug, Default)]
pub struct TextCheck {
    state: JsonState,
    nesting: Nesting,
    /// Whether the string that `state` is in is a key.
    is_in_key: bool,
    /// The start of a character that the last piece cut off. Used in `Char` and `Refused`.
    cut_char: CutChar,
    /// Set only in `Refused`.
    invalid: Option<InvalidJson>,
    /// Length of all earlier pieces, in bytes.
    bytes_before: usize,
    capture: Capture,
}

/// The state after the text so far: see the table above.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum JsonState {
    #[default]
    Value,
    FirstItem,
    FirstKey,
    Key,
    Colon,
    AfterValue,
    String,
    Escape,
    /// How many of the four digits of a `\u` escape are missing.
    Digits(u8),
    Char,
    Number(Part),
    /// The missing rest of the word.
    Word(&'static [u8]),
    Refused,
    NotUtf8,
}

/// The part of a number that its last byte is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Minus,
    /// A leading zero. No digit may follow it.
    Zero,
    Integer,
    Point,
    Fraction,
    /// The letter `e` or `E`.
    Exponent,
    Sign,
    Power,
}

impl TextCheck {
    /// Begins a text. `wants_type` says whether to find its `type`. Allocates nothing.
    #[must_use]
    pub fn new(wants_type: bool) -> Self {
        Self { capture: Capture::new(wants_type), ..Self::default() }
    }

    /// Checks the next bytes of the text. That it is not JSON is reported only at the end: until then it may still
    /// turn out not to be UTF-8, which is a worse fault.
    ///
    /// # Errors
    /// [`NotUtf8`] once no further bytes can make the text UTF-8. A character that the piece cuts off is no error
    /// yet.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), NotUtf8> {
        self.advance(bytes)?;
        // In a string, the capture may need the end of this piece.
        let is_in_string = matches!(
            self.state,
            JsonState::String | JsonState::Escape | JsonState::Digits(_) | JsonState::Char
        );
        self.capture.keep(bytes, is_in_string);
        Ok(())
    }

    /// Why the text is not JSON, as soon as that is certain. It may still turn out not to be UTF-8.
    #[must_use]
    pub const fn invalid_json(&self) -> Option<InvalidJson> {
        self.invalid
    }

    /// Whether no character is cut off, so that the text could end here.
    #[must_use]
    pub const fn is_whole_utf8(&self) -> bool {
        self.cut_char.is_empty() && !matches!(self.state, JsonState::NotUtf8)
    }

    /// Ends the text, and returns its `type` if that was wanted: the string value of the last key `type` of the
    /// outermost object. `None` if the value is not a string, or has an escape that stands for no character, such as
    /// `\ud800`. Of a very long value only the start is returned.
    ///
    /// # Errors
    /// Why the text is not UTF-8 or not JSON.
    pub fn finish(self) -> Result<Option<Cow<'static, str>>, TextError> {
        self.verdict()?;
        Ok(self.capture.into_type(&[]).map(|found| Cow::Owned(found.into_owned())))
    }

    /// Bytes of heap memory in use. Constant time.
    #[must_use]
    pub const fn heap_bytes(&self) -> usize {
        self.nesting.heap_bytes() + self.capture.heap_bytes()
    }
}

impl TextCheck {
    fn advance(&mut self, bytes: &[u8]) -> Result<(), NotUtf8> {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            // Each function sets the next state and returns the index from which it goes on.
            at = match self.state {
                JsonState::Value | JsonState::AfterValue => self.values(bytes, at),
                JsonState::FirstItem => self.first_item(bytes, at, byte),
                JsonState::FirstKey | JsonState::Key => self.begin_key(bytes, at, byte),
                JsonState::Colon => self.colon(bytes, at, byte),
                JsonState::String => self.string(bytes, at),
                JsonState::Escape => self.escape(at, byte),
                JsonState::Digits(missing) => self.digit(at, byte, missing),
                JsonState::Char => self.char(at, byte)?,
                JsonState::Number(part) => self
                    .number(bytes, at, part)
                    .map_or_else(|at| at, |at| self.go_on(at, JsonState::AfterValue)),
                JsonState::Word(missing) => self.word(bytes, at, missing),
                JsonState::Refused => self.refused(bytes, at)?,
                JsonState::NotUtf8 => return Err(NotUtf8),
            };
        }
        self.bytes_before += bytes.len();
        Ok(())
    }

    fn first_item(&mut self, bytes: &[u8], at: usize, byte: u8) -> usize {
        match byte {
            b' ' | b'\n' | b'\r' | b'\t' => skip_space(bytes, at),
            b']' => {
                let at = self.close(at + 1);
                self.go_on(at, JsonState::AfterValue)
            }
            _ => self.go_on(at, JsonState::Value),
        }
    }

    fn begin_key(&mut self, bytes: &[u8], at: usize, byte: u8) -> usize {
        match byte {
            b'"' => {
                self.is_in_key = true;
                self.capture.begin_string(at + 1, true, &self.nesting);
                self.go_on(at + 1, JsonState::String)
            }
            b' ' | b'\n' | b'\r' | b'\t' => skip_space(bytes, at),
            b'}' if self.state == JsonState::FirstKey => {
                let at = self.close(at + 1);
                self.go_on(at, JsonState::AfterValue)
            }
            b'}' => self.refuse(at, "trailing comma"),
            _ => self.refuse(at, "key must be a string"),
        }
    }

    fn colon(&mut self, bytes: &[u8], at: usize, byte: u8) -> usize {
        match byte {
            b':' => self.go_on(at + 1, JsonState::Value),
            b' ' | b'\n' | b'\r' | b'\t' => skip_space(bytes, at),
            _ => self.refuse(at, "expected `:`"),
        }
    }

    fn string(&mut self, bytes: &[u8], at: usize) -> usize {
        match skip_string(bytes, at) {
            Stop::Quote(at) => self.end_string(bytes, at),
            Stop::Unsure(at) => self.rest_of_string(bytes, at),
        }
    }

    fn end_string(&mut self, bytes: &[u8], at: usize) -> usize {
        self.capture.end_string(bytes, at);
        self.go_on(at + 1, if self.is_in_key { JsonState::Colon } else { JsonState::AfterValue })
    }

    /// Continues in a string up to the first byte that is not a plain ASCII character. Decides what [`skip_string`]
    /// left open.
    #[inline(never)]
    fn rest_of_string(&mut self, bytes: &[u8], at: usize) -> usize {
        let rest = bytes.get(at..).unwrap_or_default();
        let plain =
            rest.iter().take_while(|byte| matches!(byte, b' '..=b'!' | b'#'..=b'[' | b']'..=0x7F)).count();
        let at = at + plain;
        match rest.get(plain) {
            None => self.go_on(at, JsonState::String),
            Some(b'"') => self.end_string(bytes, at),
            Some(b'\\') => self.go_on(at + 1, JsonState::Escape),
            Some(0x80..) => self.go_on(at, JsonState::Char),
            Some(_) => self.refuse(at, "control character (\\u0000-\\u001F) found while parsing a string"),
        }
    }

    fn escape(&mut self, at: usize, byte: u8) -> usize {
        match byte {
            b'u' => self.go_on(at + 1, JsonState::Digits(4)),
            byte if is_short_escape(byte) => self.go_on(at + 1, JsonState::String),
            _ => self.refuse(at, "invalid escape"),
        }
    }

    fn digit(&mut self, at: usize, byte: u8, missing: u8) -> usize {
        match (byte.is_ascii_hexdigit(), missing) {
            (false, _) => self.refuse(at, "invalid escape"),
            (true, ..=1) => self.go_on(at + 1, JsonState::String),
            (true, _) => self.go_on(at + 1, JsonState::Digits(missing - 1)),
        }
    }

    fn char(&mut self, at: usize, byte: u8) -> Result<usize, NotUtf8> {
        let pushed = self.cut_char.push(byte);
        self.unless_not_utf8(pushed)?;
        Ok(self.go_on(at + 1, if self.cut_char.is_empty() { JsonState::String } else { JsonState::Char }))
    }

    #[inline(never)]
    fn number(&mut self, bytes: &[u8], mut at: usize, mut part: Part) -> ValueProgress {
        while let Some(&byte) = bytes.get(at) {
            part = match (part, byte) {
                (Part::Minus, b'0') => Part::Zero,
                (Part::Minus | Part::Integer, b'0'..=b'9') => Part::Integer,
                (Part::Point | Part::Fraction, b'0'..=b'9') => Part::Fraction,
                (Part::Exponent | Part::Sign | Part::Power, b'0'..=b'9') => Part::Power,
                (Part::Zero | Part::Integer, b'.') => Part::Point,
                (Part::Zero | Part::Integer | Part::Fraction, b'e' | b'E') => Part::Exponent,
                (Part::Exponent, b'+' | b'-') => Part::Sign,
                (Part::Zero, b'0'..=b'9') | (Part::Minus | Part::Point | Part::Exponent | Part::Sign, _) => {
                    return Err(self.refuse(at, "invalid number"));
                }
                // The number ends before this byte, which the caller checks.
                (Part::Zero | Part::Integer | Part::Fraction | Part::Power, _) => return Ok(at),
            };
            at += 1;
            if matches!(part, Part::Integer | Part::Fraction | Part::Power) {
                // More digits do not change the part.
                at = skip_digits(bytes, at);
            }
        }
        Err(self.go_on(at, JsonState::Number(part)))
    }

    fn word(&mut self, bytes: &[u8], at: usize, missing: &'static [u8]) -> usize {
        let rest = bytes.get(at..).unwrap_or_default();
        let common = rest.iter().zip(missing).take_while(|(byte, wanted)| byte == wanted).count();
        match missing.get(common..) {
            None | Some([]) => self.go_on(at + common, JsonState::AfterValue),
            Some(missing) if common == rest.len() => self.go_on(at + common, JsonState::Word(missing)),
            Some(_) => self.refuse(at + common, "expected ident"),
        }
    }

    #[inline]
    fn close(&mut self, at: usize) -> usize {
        self.nesting.close();
        at
    }

    #[inline]
    const fn go_on(&mut self, at: usize, state: JsonState) -> usize {
        self.state = state;
        at
    }

    /// Refuses the text: the byte at `at` is wrong, and begins a character. Frees what is no longer needed.
    #[cold]
    fn refuse(&mut self, at: usize, reason: &'static str) -> usize {
        self.nesting = Nesting::default();
        self.capture = Capture::new(false);
        self.invalid = Some(InvalidJson { offset: self.bytes_before + at, reason });
        self.go_on(at, JsonState::Refused)
    }

    fn refused(&mut self, bytes: &[u8], at: usize) -> Result<usize, NotUtf8> {
        // From here on only UTF-8 is checked.
        let pushed = self.cut_char.push_all(bytes.get(at..).unwrap_or_default());
        self.unless_not_utf8(pushed)?;
        Ok(bytes.len())
    }

    /// Passes the result on. Remembers if the text is not UTF-8.
    fn unless_not_utf8(&mut self, pushed: Result<(), NotUtf8>) -> Result<(), NotUtf8> {
        pushed.inspect_err(|NotUtf8| self.state = JsonState::NotUtf8)
    }

    fn verdict(&self) -> Result<(), TextError> {
        let reason = match self.state {
            JsonState::NotUtf8 => return Err(TextError::NotUtf8),
            // A text that ends inside a character is not UTF-8, whatever else is wrong with it.
            _ if !self.cut_char.is_empty() => return Err(TextError::NotUtf8),
            JsonState::Refused => {
                return self.invalid.map_or(Ok(()), |invalid| Err(TextError::InvalidJson(invalid)));
            }
            JsonState::AfterValue
            | JsonState::Number(Part::Zero | Part::Integer | Part::Fraction | Part::Power) => {
                match self.nesting.innermost() {
                    None => return Ok(()),
                    Some(Container::Array) => "EOF while parsing a list",
                    Some(Container::Object) => "EOF while parsing an object",
                }
            }
            // A text that ends in the middle of something.
            JsonState::FirstItem => "EOF while parsing a list",
            JsonState::FirstKey | JsonState::Key | JsonState::Colon => "EOF while parsing an object",
            JsonState::String | JsonState::Escape | JsonState::Digits(_) | JsonState::Char => {
                "EOF while parsing a string"
            }
            JsonState::Value | JsonState::Number(_) | JsonState::Word(_) => "EOF while parsing a value",
        };
        Err(TextError::InvalidJson(InvalidJson { offset: self.bytes_before, reason }))
    }
}

#[cfg(test)]
mod tests;
