//! Fast check of values, and of what is between them, that are wholly in the current piece.

use super::nesting::Container;
use super::scan::{Stop, skip_digits, skip_space, skip_string};
use super::{JsonState, Part, TextCheck};

/// How far a fast function came. `Ok`: the index after what it has checked. `Err`: the index from which the state
/// machine must go on byte by byte; `state` is set.
pub(super) type ValueProgress = Result<usize, usize>;

/// The fast functions. Together they are one loop, which sets `state` only where the loop ends.
#[expect(clippy::inline_always, reason = "called in several places each, and a fifth slower by calls")]
impl TextCheck {
    /// Checks values, and what is between them, as far as they are wholly in the piece.
    pub(super) fn values(&mut self, bytes: &[u8], mut at: usize) -> usize {
        let mut is_after_value = self.state == JsonState::AfterValue;
        loop {
            let value = if is_after_value { Ok(at) } else { self.value(bytes, at) };
            is_after_value = false;
            match value.and_then(|at| self.after_value(bytes, at)) {
                Ok(next) => at = next,
                Err(at) => return at,
            }
        }
    }

    /// Checks a value without items, after the containers that it is in, if any: up to the first simple value or
    /// empty container.
    #[inline(always)]
    fn value(&mut self, bytes: &[u8], mut at: usize) -> ValueProgress {
        loop {
            at = skip_space(bytes, at);
            let Some(&byte) = bytes.get(at) else { return Err(self.go_on(at, JsonState::Value)) };
            at += 1;
            match byte {
                b'"' => return self.whole_string(bytes, at, false),
                b'0'..=b'9' => return self.whole_number(bytes, at - 1),
                b'-' => return self.number(bytes, at, Part::Minus),
                b'{' => {
                    self.nesting.open(Container::Object);
                    at = skip_space(bytes, at);
                    match bytes.get(at) {
                        Some(b'"') => at = self.key(bytes, at + 1)?,
                        Some(b'}') => return Ok(self.close(at + 1)),
                        _ => return Err(self.go_on(at, JsonState::FirstKey)),
                    }
                }
                b'[' => {
                    self.nesting.open(Container::Array);
                    at = skip_space(bytes, at);
                    match bytes.get(at) {
                        Some(b']') => return Ok(self.close(at + 1)),
                        // The loop goes on with the first item.
                        Some(_) => {}
                        None => return Err(self.go_on(at, JsonState::FirstItem)),
                    }
                }
                b't' => return self.whole_word(bytes, at, b"rue"),
                b'f' => return self.whole_word(bytes, at, b"alse"),
                b'n' => return self.whole_word(bytes, at, b"ull"),
                // In an array, `Value` is the state only after a comma: an empty array ended above.
                b']' if self.nesting.innermost() == Some(Container::Array) => {
                    return Err(self.refuse(at - 1, "trailing comma"));
                }
                _ => return Err(self.refuse(at - 1, "expected value")),
            }
        }
    }

    /// Checks what follows a value, up to the start of the next one.
    #[inline(always)]
    fn after_value(&mut self, bytes: &[u8], mut at: usize) -> ValueProgress {
        loop {
            at = skip_space(bytes, at);
            let Some(&byte) = bytes.get(at) else { return Err(self.go_on(at, JsonState::AfterValue)) };
            at = match (byte, self.nesting.innermost()) {
                (b',', Some(Container::Array)) => return Ok(at + 1),
                (b',', Some(Container::Object)) => {
                    at = skip_space(bytes, at + 1);
                    if bytes.get(at) == Some(&b'"') {
                        return self.key(bytes, at + 1);
                    }
                    return Err(self.go_on(at, JsonState::Key));
                }
                // A container that ends is itself a value, so the loop goes on after it.
                (b'}', Some(Container::Object)) | (b']', Some(Container::Array)) => self.close(at + 1),
                (_, Some(Container::Object)) => return Err(self.refuse(at, "expected `,` or `}`")),
                (_, Some(Container::Array)) => return Err(self.refuse(at, "expected `,` or `]`")),
                (_, None) => return Err(self.refuse(at, "trailing characters")),
            };
        }
    }

    /// Checks a key after its opening quote, and its colon.
    #[inline(always)]
    fn key(&mut self, bytes: &[u8], at: usize) -> ValueProgress {
        let at = skip_space(bytes, self.whole_string(bytes, at, true)?);
        if bytes.get(at) == Some(&b':') { Ok(at + 1) } else { Err(self.go_on(at, JsonState::Colon)) }
    }

    #[inline(always)]
    fn whole_string(&mut self, bytes: &[u8], at: usize, is_key: bool) -> ValueProgress {
        self.capture.begin_string(at, is_key, &self.nesting);
        match skip_string(bytes, at) {
            Stop::Quote(at) => {
                self.capture.end_string(bytes, at);
                Ok(at + 1)
            }
            // Wrong, cut off or undecided: the state machine goes on byte by byte.
            Stop::Unsure(at) => {
                self.is_in_key = is_key;
                Err(self.go_on(at, JsonState::String))
            }
        }
    }

    /// Checks a number from its first digit on.
    #[inline(always)]
    fn whole_number(&mut self, bytes: &[u8], at: usize) -> ValueProgress {
        let end = skip_digits(bytes, at);
        let is_zero_first = bytes.get(at) == Some(&b'0');
        // An integer ends here. A fraction, an exponent, a wrong leading zero and a cut number are left to `number`.
        match bytes.get(end) {
            None | Some(b'.' | b'e' | b'E') => {}
            Some(_) if is_zero_first && end > at + 1 => {}
            Some(_) => return Ok(end),
        }
        self.number(bytes, at + 1, if is_zero_first { Part::Zero } else { Part::Integer })
    }

    #[inline(always)]
    fn whole_word(&mut self, bytes: &[u8], at: usize, missing: &'static [u8]) -> ValueProgress {
        let is_whole = bytes.get(at..).is_some_and(|rest| rest.starts_with(missing));
        if is_whole { Ok(at + missing.len()) } else { Err(self.word(bytes, at, missing)) }
    }
}
