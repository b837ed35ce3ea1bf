//! Finds the `type` of the outermost object during the check.

use std::borrow::Cow;
use std::ops::Range;
use std::str::Chars;

use super::nesting::Nesting;

/// Length of the longest spelling of the key, in bytes: each of its letters as an escape.
const KEY_BYTES_MAX: usize = 4 * r"\u0074".len();

/// Most bytes of a value that are kept, as it is spelled in the text. The log shows less.
const VALUE_BYTES_MAX: usize = 1024;

/// The `type` that was found so far.
#[derive(Debug, Default)]
pub(super) enum Found {
    #[default]
    Nothing,
    /// In the current piece, without escapes.
    Here(Range<usize>),
    Kept(String),
}

/// What the current string may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Reading {
    #[default]
    Nothing,
    Key,
    Value,
}

#[derive(Debug, Default)]
pub(super) struct Capture {
    is_wanted: bool,
    /// Whether the last key of the outermost object was `type`.
    is_after_type: bool,
    reading: Reading,
    /// Where the current string, or the rest of it, begins in the current piece.
    start: usize,
    /// The part of the current string in earlier pieces, up to one byte more than can be used.
    earlier: Vec<u8>,
    found: Found,
}

impl Capture {
    pub(super) fn new(is_wanted: bool) -> Self {
        Self { is_wanted, ..Self::default() }
    }

    /// A string begins at `start`, after its opening quote.
    #[inline]
    pub(super) fn begin_string(&mut self, start: usize, is_key: bool, nesting: &Nesting) {
        // At depth 1 the string is a key or a value of the outermost container.
        if self.is_wanted && nesting.depth() == 1 {
            self.reading = match (is_key, self.is_after_type) {
                (true, _) => Reading::Key,
                (false, true) => Reading::Value,
                (false, false) => Reading::Nothing,
            };
            self.start = start;
        }
    }

    /// The current string ends before `end`, the index of its closing quote in `piece`.
    #[inline]
    pub(super) fn end_string(&mut self, piece: &[u8], end: usize) {
        if self.reading != Reading::Nothing {
            self.take_string(piece, end);
        }
    }

    fn take_string(&mut self, piece: &[u8], end: usize) {
        let here = self.start..end;
        let is_here = self.earlier.is_empty();
        if !is_here {
            self.keep_earlier(piece.get(here.clone()).unwrap_or_default());
        }
        let spelled = if is_here { piece.get(here.clone()).unwrap_or_default() } else { &self.earlier };
        match self.reading {
            Reading::Nothing => {}
            Reading::Key => {
                self.is_after_type = is_type(spelled);
                // The last `type` counts, so a value of an earlier one is forgotten.
                if self.is_after_type {
                    self.found = Found::Nothing;
                }
            }
            Reading::Value => {
                let spelled = start_of_value(spelled);
                self.found = if spelled.contains(&b'\\') {
                    decode(spelled).map_or(Found::Nothing, Found::Kept)
                } else if is_here {
                    Found::Here(here.start..here.start + spelled.len())
                } else {
                    Found::Kept(String::from_utf8_lossy(spelled).into_owned())
                };
            }
        }
        self.reading = Reading::Nothing;
        self.earlier = Vec::new();
    }

    /// Copies what is still needed of `piece`, because the caller discards it.
    pub(super) fn keep(&mut self, piece: &[u8], is_in_string: bool) {
        if let Found::Here(range) = &self.found {
            let spelled = piece.get(range.clone()).unwrap_or_default();
            self.found = Found::Kept(String::from_utf8_lossy(spelled).into_owned());
        }
        if is_in_string && self.reading != Reading::Nothing {
            self.keep_earlier(piece.get(self.start..).unwrap_or_default());
            // In the next piece the string continues at the first byte.
            self.start = 0;
        }
    }

    fn keep_earlier(&mut self, more: &[u8]) {
        // One byte more than the longest, so that a longer string differs from the longest.
        let bytes_max = if self.reading == Reading::Key { KEY_BYTES_MAX } else { VALUE_BYTES_MAX };
        let room = (bytes_max + 1).saturating_sub(self.earlier.len());
        self.earlier.extend_from_slice(more.get(..room).unwrap_or(more));
    }

    /// The `type`. `piece` is the last piece of the text.
    pub(super) fn into_type(self, piece: &[u8]) -> Option<Cow<'_, str>> {
        match self.found {
            Found::Nothing => None,
            Found::Here(range) => piece.get(range).map(String::from_utf8_lossy),
            Found::Kept(found) => Some(Cow::Owned(found)),
        }
    }

    pub(super) const fn heap_bytes(&self) -> usize {
        let found = match &self.found {
            Found::Nothing | Found::Here(_) => 0,
            Found::Kept(found) => found.capacity(),
        };
        self.earlier.capacity() + found
    }
}

fn is_type(spelled: &[u8]) -> bool {
    // Most keys have no escapes and need no decoding.
    spelled == b"type"
        || (spelled.len() <= KEY_BYTES_MAX
            && spelled.contains(&b'\\')
            && decode(spelled).is_some_and(|key| key == "type"))
}

/// The decoded content of a string. `None` if one of its escapes stands for no character.
fn decode(spelled: &[u8]) -> Option<String> {
    let mut rest = str::from_utf8(spelled).ok()?.chars();
    let mut decoded = String::with_capacity(spelled.len());
    while let Some(char) = rest.next() {
        decoded.push(if char == '\\' { escaped(&mut rest)? } else { char });
    }
    Some(decoded)
}

/// The character of an escape after its backslash (RFC 8259, section 7).
fn escaped(rest: &mut Chars<'_>) -> Option<char> {
    Some(match rest.next()? {
        'b' => '\u{8}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'u' => {
            let unit = utf16_unit(rest)?;
            // A high surrogate forms one character with a low one, which must follow as an escape.
            let second = if matches!(unit, 0xD800..=0xDBFF) && rest.as_str().starts_with("\\u") {
                rest.nth(1);
                utf16_unit(rest)
            } else {
                None
            };
            char::decode_utf16([unit].into_iter().chain(second)).next()?.ok()?
        }
        itself => itself,
    })
}

fn utf16_unit(rest: &mut Chars<'_>) -> Option<u16> {
    let digits = rest.as_str().get(..4)?;
    rest.nth(3);
    u16::from_str_radix(digits, 16).ok()
}

/// The start of a value that may be too long to keep. It does not end inside a character, an escape, or a pair of
/// escapes for one character.
fn start_of_value(spelled: &[u8]) -> &[u8] {
    let Some(start) = spelled.get(..VALUE_BYTES_MAX).filter(|start| start.len() < spelled.len()) else {
        return spelled;
    };
    let (mut at, mut cut) = (0, 0);
    while let Some(rest) = start.get(at..).filter(|rest| !rest.is_empty()) {
        at += match rest {
            [b'\\', b'u', ..] => 6,
            [b'\\', ..] => 2,
            [byte, ..] if *byte < 0x80 => 1,
            [byte, ..] if *byte < 0xE0 => 2,
            [byte, ..] if *byte < 0xF0 => 3,
            _ => 4,
        };
        let is_high_surrogate =
            matches!(rest, [b'\\', b'u', b'd' | b'D', b'8' | b'9' | b'a' | b'b' | b'A' | b'B', ..]);
        if at <= start.len() && !is_high_surrogate {
            cut = at;
        }
    }
    start.get(..cut).unwrap_or_default()
}
