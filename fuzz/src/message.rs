//! A text is JSON to the relay exactly if it is to RFC 8259's grammar, and so to `serde_json::Value`
//! as far as a `Value` can hold it; the byte it blames is the first behind which no text could be
//! JSON any more; and the `type` it reads is the one that a `Value` has.

mod grammar;

use apptuner_relay::relay::message::{check_json, check_json_and_type};
use serde_json::Value;

use grammar::Member;

/// What a `Value` minds and the grammar does not: nesting, numbers and escapes beyond what it holds.
const VALUE_MINDS: [&str; 4] = [
    "recursion limit exceeded",
    "number out of range",
    "lone leading surrogate",
    "unexpected end of hex escape",
];

/// Compares all readings of `data`, as far as it is UTF-8.
pub fn check(data: &[u8]) {
    let text = data.utf8_chunks().next().map_or("", |chunk| chunk.valid());
    let checked = check_json(text);
    let typed = check_json_and_type(text);
    let expected = grammar::read(text.as_bytes());
    match (&checked, &expected) {
        (Ok(()), Ok(_)) => {}
        (Err(error), Err(offset)) => assert_eq!(error.offset, *offset, "{error} in {text:?}"),
        (checked, expected) => panic!("{checked:?}, but by the grammar {expected:?}: {text:?}"),
    }
    assert_eq!(typed.as_ref().err(), checked.as_ref().err(), "with and without the type: {text:?}");
    let value = serde_json::from_str::<Value>(text);
    let (Ok(found), Ok(members)) = (typed, expected) else {
        assert!(value.is_err(), "a value, but not JSON: {text:?}");
        return;
    };
    assert_eq!(found.as_deref(), type_of_members(text, &members).as_deref(), "the type in {text:?}");
    match value {
        Ok(value) => {
            let expected = value.get("type").and_then(Value::as_str);
            assert_eq!(found.as_deref(), expected, "the type of the value {text:?}");
        }
        Err(error) => {
            let error = error.to_string();
            assert!(VALUE_MINDS.iter().any(|minds| error.contains(minds)), "{error} in {text:?}");
        }
    }
}

/// The last `type` that is a string, read with a `Value` for each key and each `type` alone. None at
/// all if one of those cannot be held.
fn type_of_members(text: &str, members: &[Member]) -> Option<String> {
    let mut found = None;
    for Member { key, value } in members {
        let key: String = serde_json::from_str(&text[key.clone()]).ok()?;
        if key != "type" {
            continue;
        }
        let value = &text[value.clone()];
        found = match value.as_bytes().first() {
            Some(b'"') => Some(serde_json::from_str::<String>(value).ok()?),
            // However deep it is, what it holds does not matter.
            Some(b'[' | b'{') => None,
            _ => {
                serde_json::from_str::<Value>(value).ok()?;
                None
            }
        };
    }
    found
}
