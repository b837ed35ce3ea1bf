//! A text is UTF-8 for the relay exactly if it is for std. It is JSON exactly if RFC 8259's grammar accepts it, and
//! `serde_json::Value` agrees as far as a `Value` can hold it. The offset of an error is the first byte after which no
//! text could be JSON. The `type` is the one that a `Value` has. All this holds for a text in any pieces.

mod grammar;

use apptuner_relay::relay::internals::json::{
    NotUtf8, TextCheck, TextError, check_text, check_text_and_type,
};
use serde_json::Value;

use grammar::Member;

/// Errors of a `Value` that are not errors of the grammar: too deep nesting, and numbers and escapes that it cannot
/// hold.
const VALUE_MINDS: [&str; 4] = [
    "recursion limit exceeded",
    "number out of range",
    "lone leading surrogate",
    "unexpected end of hex escape",
];

/// Compares all readings of `data`, and of the part of it that is UTF-8.
pub fn check(data: &[u8]) {
    check_whole_and_in_pieces(data);
    let text = data.utf8_chunks().next().map_or("", |chunk| chunk.valid());
    if text.len() < data.len() {
        check_whole_and_in_pieces(text.as_bytes());
    }
    check_utf8(text);
}

fn check_whole_and_in_pieces(data: &[u8]) {
    let checked = check_text(data);
    let typed = check_text_and_type(data);
    let is_utf8 = std::str::from_utf8(data).is_ok();
    assert_eq!(checked != Err(TextError::NotUtf8), is_utf8, "UTF-8 or not: {data:x?}");
    assert_eq!(typed.as_ref().err(), checked.as_ref().err(), "with and without the type: {data:x?}");
    // The bytes of the data, from the end, give the lengths of the pieces.
    let lengths = data.iter().rev().map(|&byte| usize::from(byte) % 96);
    for lengths in
        [&mut lengths.chain([data.len()]) as &mut dyn Iterator<Item = usize>, &mut data.iter().map(|_| 1)]
    {
        let in_pieces = check_pieces(data, lengths);
        let typed = typed.as_ref().map(|found| found.as_deref());
        assert_eq!(in_pieces.as_ref().map(|found| found.as_deref()), typed, "in pieces: {data:x?}");
    }
}

/// The result of the check for data in pieces of these lengths.
fn check_pieces(
    mut data: &[u8],
    lengths: &mut dyn Iterator<Item = usize>,
) -> Result<Option<String>, TextError> {
    let mut check = TextCheck::new(true);
    let mut end = 0;
    let whole = data;
    for length in lengths {
        let (piece, rest) = data.split_at(length.min(data.len()));
        data = rest;
        end += piece.len();
        let hopeless = std::str::from_utf8(&whole[..end]).is_err_and(|error| error.error_len().is_some());
        let pushed = check.push(piece);
        assert_eq!(pushed, if hopeless { Err(NotUtf8) } else { Ok(()) }, "the end of {:x?}", &whole[..end]);
        pushed?;
    }
    check.finish().map(|found| found.map(std::borrow::Cow::into_owned))
}

fn check_utf8(text: &str) {
    let checked = check_text_and_type(text.as_bytes());
    let expected = grammar::read(text.as_bytes());
    match (&checked, &expected) {
        (Ok(_), Ok(_)) => {}
        (Err(TextError::InvalidJson(error)), Err(offset)) => {
            assert_eq!(error.offset, *offset, "{error} in {text:?}");
        }
        (checked, expected) => panic!("{checked:?}, but by the grammar {expected:?}: {text:?}"),
    }
    let value = serde_json::from_str::<Value>(text);
    let (Ok(found), Ok(members)) = (checked, expected) else {
        assert!(value.is_err(), "a value, but not JSON: {text:?}");
        return;
    };
    let is_short = members.iter().all(|member| member.value.len() <= 1024);
    if is_short {
        assert_eq!(found.as_deref(), type_of_members(text, &members).as_deref(), "the type in {text:?}");
    }
    match value {
        Ok(value) => {
            let expected = value.get("type").and_then(Value::as_str);
            if is_short {
                assert_eq!(found.as_deref(), expected, "the type of the value {text:?}");
            } else if let Some(found) = found.as_deref() {
                assert!(expected.is_some_and(|whole| whole.starts_with(found)), "the type in {text:?}");
            }
        }
        Err(error) => {
            let error = error.to_string();
            assert!(VALUE_MINDS.iter().any(|minds| error.contains(minds)), "{error} in {text:?}");
        }
    }
}

/// The value of the last key `type`, if it is a string of valid characters.
fn type_of_members(text: &str, members: &[Member]) -> Option<String> {
    let read = |range: &std::ops::Range<usize>| serde_json::from_str::<String>(&text[range.clone()]).ok();
    let member = members.iter().rev().find(|member| read(&member.key).as_deref() == Some("type"))?;
    read(&member.value)
}
