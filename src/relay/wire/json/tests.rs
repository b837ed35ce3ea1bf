use super::*;
use crate::relay::tests::random::Random;

/// The result for a text that arrives in these pieces.
fn check_pieces<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
    wants_type: bool,
) -> Result<Option<String>, TextError> {
    let mut check = TextCheck::new(wants_type);
    for piece in pieces {
        check.push(piece)?;
    }
    check.finish().map(|found| found.map(Cow::into_owned))
}

/// The result for a text. It must be the same if the text arrives whole, byte by byte, and cut in two anywhere.
fn check_every_way(text: &[u8]) -> Result<Option<String>, TextError> {
    let whole = check_text_and_type(text).map(|found| found.map(Cow::into_owned));
    let shown = String::from_utf8_lossy(text);
    assert_eq!(check_text(text), whole.as_ref().map(|_| ()).map_err(|error| *error), "{shown}");
    assert_eq!(check_pieces([text], true), whole, "in one piece: {shown}");
    assert_eq!(check_pieces(text.chunks(1), true), whole, "byte by byte: {shown}");
    assert_eq!(check_pieces([text], false), whole.clone().map(|_| None), "without the type: {shown}");
    for cut in 0..=text.len() {
        let (first, second) = text.split_at(cut);
        assert_eq!(check_pieces([first, second], true), whole, "cut at {cut}: {shown}");
    }
    whole
}

/// The offset of the byte at which a text stops being JSON.
fn offset_of<T>(checked: &Result<T, TextError>) -> Result<(), usize> {
    match checked {
        Ok(_) => Ok(()),
        Err(TextError::InvalidJson(error)) => Err(error.offset),
        Err(TextError::NotUtf8) => panic!("the text is UTF-8"),
    }
}

#[test]
fn any_json_value_passes_and_its_last_type_counts() {
    let rows = [
        ("{}", None),
        (r#"{"type":"bundle_update","n":1}"#, Some("bundle_update")),
        (r#" { "n" : 1 , "type" : "x" } "#, Some("x")),
        (r#"{"type":"a","type":"b"}"#, Some("b")),
        (r#"{"type":5,"type":"b"}"#, Some("b")),
        (r#"{"type":"a","type":null}"#, None),
        (r#"{"type":"a","type":{"b":[1]}}"#, None),
        (r#"{"type":["a"]}"#, None),
        (r#"{"type":true}"#, None),
        (r#"{"type":-1.5e3}"#, None),
        (r#"{"type":-5}"#, None),
        (r#"{"ty\u0070e":"esc\u0061ped"}"#, Some("escaped")),
        (r#"{"nested":{"type":"inner"}}"#, None),
        (r#"["type","x"]"#, None),
        ("\"type\"", None),
        ("null", None),
        ("1e999", None),
        (r#"{"type":"x","n":1e999}"#, Some("x")),
        (r#"{"\ud800":1,"type":"known"}"#, Some("known")),
        (r#"{"type":"known","\ud800":1}"#, Some("known")),
        (r#"{"type":"known","type":"\ud800"}"#, None),
        (r#"{"type" : "\ud83d\ude00é日😀"}"#, Some("😀é日😀")),
        (r#"{"\u0074\u0079\u0070\u0065":"x"}"#, Some("x")),
        (r#"{"\u0074\u0079\u0070\u0065\u0065":"x"}"#, None),
        (r#"{"\"type":"x","typ":"y","types":"z"}"#, None),
        (r#"{"type":1,"x":"y"}"#, None),
        (r#"{"type":"x","a":{"type":"y"},"b":[{"type":"z"}]}"#, Some("x")),
        (r#"{"type":[],"a":"y"}"#, None),
        (r#"[{"type":"x"}]"#, None),
        (r#"{"type":""}"#, Some("")),
        ("[[],{},[{}],\"\",0,-0,0.0,1E+2,false]", None),
        (r#"{"type":"\ud800"}"#, None),
        (r#"{"n":"\ud800","type":"x"}"#, Some("x")),
    ];
    for (text, expected) in rows {
        assert_eq!(check_every_way(text.as_bytes()), Ok(expected.map(str::to_owned)), "{text}");
    }
}

#[test]
fn text_that_is_not_json_is_refused_at_its_first_wrong_byte() {
    let rows = [
        ("", 0),
        ("   ", 3),
        ("tru", 3),
        ("trux", 3),
        ("hello", 0),
        ("nope", 1),
        ("truefalse", 4),
        ("[truer]", 5),
        ("[1}", 2),
        (r#"{"a":1]"#, 6),
        ("{,}", 1),
        ("[,]", 1),
        ("{]", 1),
        ("[}", 1),
        (r#"{"a":}"#, 5),
        (r#"{"a":é}"#, 5),
        ("é", 0),
        ("1é", 1),
        ("tré", 2),
        (r#""\é""#, 2),
        (r#""\u00é""#, 5),
        ("é\u{1}", 0),
        ("]", 0),
        ("}", 0),
        ("\u{feff}{}", 0),
        (r#"{"a":1,}"#, 7),
        (r#"{"a":1} x"#, 8),
        (r#"{"a":1"#, 6),
        (r#"{"a" 1}"#, 5),
        ("{a:1}", 1),
        ("[1,\n2,\nx]", 7),
        ("[1,]", 3),
        ("[1 2]", 3),
        ("01", 1),
        ("-x", 1),
        ("1.x", 2),
        ("-", 1),
        ("--", 1),
        ("1.", 2),
        ("[1e+", 4),
        ("[1e+]", 4),
        ("+1", 0),
        ("\"a\nb\"", 2),
        ("\"a\u{1}b\"", 2),
        (r#""\x""#, 2),
        (r#""\u12g4""#, 5),
        (r#""\ug123""#, 3),
        (r#""\u12\x""#, 5),
        (r#""\\u12\x""#, 7),
        (r#""\u0s"#, 4),
        (r#""\u"x"#, 3),
        (r#""\u12" "#, 5),
        (r#""\u12"#, 5),
        (r#""\\us"#, 5),
        (r#""\u\u\"#, 3),
        ("{\n\"a\": \"\n\"}", 8),
        (r#""abc"#, 4),
        ("{} {}", 3),
        ("[\n\n\n}", 4),
    ];
    for (text, offset) in rows {
        let Err(TextError::InvalidJson(error)) = check_every_way(text.as_bytes()) else { panic!("{text:?}") };
        assert_eq!(error.offset, offset, "{text:?}: {error}");
        assert!(error.to_string().starts_with(&format!("Invalid JSON at byte {offset}: ")), "{error}");
        // More text does not repair it.
        let more = [text.as_bytes(), " 日本\"x".as_bytes()].concat();
        let Err(TextError::InvalidJson(error)) = check_every_way(&more) else { panic!("{text:?}") };
        assert!(error.offset >= offset, "{text:?}: {error}");
        // Bytes that are not UTF-8 are the worse fault, even if they come last.
        for worse in [&b"\xFF"[..], b"\xE6\x97", b"\xED\xA0\x80"] {
            let worse = [&more, worse].concat();
            assert_eq!(check_every_way(&worse), Err(TextError::NotUtf8), "{text:?}");
        }
    }
}

#[test]
fn reasons_say_what_is_wrong() {
    let rows = [
        ("", "EOF while parsing a value"),
        ("[", "EOF while parsing a list"),
        ("[1", "EOF while parsing a list"),
        ("{", "EOF while parsing an object"),
        (r#"{"a""#, "EOF while parsing an object"),
        (r#"{"a":"#, "EOF while parsing a value"),
        ("\"a", "EOF while parsing a string"),
        ("-", "EOF while parsing a value"),
        ("x", "expected value"),
        ("nul!", "expected ident"),
        ("01", "invalid number"),
        ("1.e", "invalid number"),
        ("1 1", "trailing characters"),
        ("[1,]", "trailing comma"),
        (r#"{"a":1,}"#, "trailing comma"),
        ("{a", "key must be a string"),
        (r#"{"a" "b"}"#, "expected `:`"),
        ("[1 1]", "expected `,` or `]`"),
        (r#"{"a":1 1}"#, "expected `,` or `}`"),
        (r#""\x""#, "invalid escape"),
        (r#""\u000g""#, "invalid escape"),
        ("\"\n\"", "control character (\\u0000-\\u001F) found while parsing a string"),
    ];
    for (text, reason) in rows {
        let Err(TextError::InvalidJson(error)) = check_every_way(text.as_bytes()) else { panic!("{text:?}") };
        assert_eq!(error.reason, reason, "{text:?}");
    }
}

/// A slow JSON parser: the offset after the value at `at`, or else that of the first byte that no JSON text has after
/// the bytes before it.
fn end_of_value(text: &[u8], at: usize) -> Result<usize, usize> {
    let at = end_of_space(text, at);
    match text.get(at) {
        Some(b'{') => end_of_items(text, at + 1, b'}', |at| {
            let colon = end_of_space(text, end_of_string(text, at)?);
            end_of_value(text, end_of_literal(text, colon, b":")?)
        }),
        Some(b'[') => end_of_items(text, at + 1, b']', |at| end_of_value(text, at)),
        Some(b'"') => end_of_string(text, at),
        Some(b't') => end_of_literal(text, at, b"true"),
        Some(b'f') => end_of_literal(text, at, b"false"),
        Some(b'n') => end_of_literal(text, at, b"null"),
        _ => end_of_number(text, at),
    }
}

fn end_of_space(text: &[u8], at: usize) -> usize {
    at + text[at..].iter().take_while(|byte| b" \t\r\n".contains(byte)).count()
}

fn end_of_literal(text: &[u8], at: usize, literal: &[u8]) -> Result<usize, usize> {
    let common = text[at..].iter().zip(literal).take_while(|(byte, wanted)| byte == wanted).count();
    if common == literal.len() { Ok(at + common) } else { Err(at + common) }
}

fn end_of_items(
    text: &[u8],
    at: usize,
    close: u8,
    end_of_item: impl Fn(usize) -> Result<usize, usize>,
) -> Result<usize, usize> {
    let mut at = end_of_space(text, at);
    if text.get(at) == Some(&close) {
        return Ok(at + 1);
    }
    loop {
        at = end_of_space(text, end_of_item(end_of_space(text, at))?);
        match text.get(at) {
            Some(b',') => at += 1,
            Some(byte) if *byte == close => return Ok(at + 1),
            _ => return Err(at),
        }
    }
}

fn end_of_string(text: &[u8], at: usize) -> Result<usize, usize> {
    let mut at = end_of_literal(text, at, b"\"")?;
    loop {
        at = match (text.get(at), text.get(at + 1)) {
            (Some(b'"'), _) => return Ok(at + 1),
            (Some(b'\\'), Some(b'u')) => (at + 2..at + 6).try_fold(at + 2, |_, at| {
                let is_digit = text.get(at).is_some_and(u8::is_ascii_hexdigit);
                if is_digit { Ok(at + 1) } else { Err(at) }
            })?,
            (Some(b'\\'), Some(escaped)) if b"\"\\/bfnrt".contains(escaped) => at + 2,
            (Some(b'\\'), _) => return Err(at + 1),
            (Some(0x20..), _) => at + 1,
            (Some(_) | None, _) => return Err(at),
        }
    }
}

fn end_of_number(text: &[u8], at: usize) -> Result<usize, usize> {
    let digits = |at: usize| match text[at..].iter().take_while(|byte| byte.is_ascii_digit()).count() {
        0 => Err(at),
        count => Ok(at + count),
    };
    let mut at = at + usize::from(text.get(at) == Some(&b'-'));
    at = if text.get(at) == Some(&b'0') { at + 1 } else { digits(at)? };
    if text.get(at) == Some(&b'.') {
        at = digits(at + 1)?;
    }
    if matches!(text.get(at), Some(b'e' | b'E')) {
        at = digits(at + 1 + usize::from(matches!(text.get(at + 1), Some(b'+' | b'-'))))?;
    }
    Ok(at)
}

#[test]
fn a_text_is_refused_at_the_byte_where_a_slow_parser_stops() {
    const PIECES: [&str; 44] = [
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\"a\"",
        "\"type\":",
        "\"type\":\"x\"",
        "\"b\":1",
        " ",
        "\n",
        "\t",
        "\r\n",
        "\\",
        "\\u",
        "\\u12",
        "\\u00e9",
        "\\ud800",
        "\\n",
        "\\x",
        "\\\"",
        "\\\\",
        "true",
        "tru",
        "false",
        "null",
        "0",
        "-",
        "12",
        "1.5",
        ".",
        "e",
        "E+",
        "-0.1e-7",
        "1e999",
        "u",
        "é",
        "\u{2028}",
        "\u{feff}",
        "\u{1}",
        "\u{7f}",
        "g",
    ];
    const WHOLE: [&str; 4] = [
        r#"{"type":"bundle","n":[1,-2.5e+3,true,null],"s":"\u00e9\\\"\n/é"}"#,
        "[\r\n {\"a\" : {} , \"b\" : [ ] } ,\n \"\\ud83d\\ude00\" ]\n",
        r#""\\\u0041\\u12""#,
        "-10.25E-7",
    ];
    for seed in 0..60_000 {
        let mut chance = Random(seed);
        let mut text = WHOLE.get(chance.below(12)).copied().unwrap_or_default().to_owned();
        for _ in 0..=chance.below(if text.is_empty() { 8 } else { 2 }) {
            let mut places = text.char_indices().map(|(at, _)| at).chain([text.len()]);
            let at = places.nth(chance.below(text.chars().count() + 1)).expect("a place in the text");
            match chance.below(4) {
                0 => text.truncate(at),
                1 if at < text.len() => drop(text.remove(at)),
                _ => text.insert_str(at, PIECES[chance.below(PIECES.len())]),
            }
        }
        let bytes = text.as_bytes();
        let end = end_of_value(bytes, 0).map(|end| end_of_space(bytes, end));
        let expected = end.and_then(|end| if end == bytes.len() { Ok(()) } else { Err(end) });
        assert_eq!(offset_of(&check_text(bytes)), expected, "seed {seed}: {text:?}");
        let cut = chance.below(bytes.len() + 1);
        let in_pieces = check_pieces([&bytes[..cut], &bytes[cut..]], false);
        assert_eq!(offset_of(&in_pieces), expected, "seed {seed}: {text:?} cut at {cut}");
    }
}

/// Whether `serde_json` accepts a text. `None` if it rejects what the grammar allows: a surrogate without its
/// partner, or a number out of range.
fn is_json_to_serde(text: &str) -> Option<bool> {
    let Err(error) = serde_json::from_str::<serde_json::Value>(text) else { return Some(true) };
    let reason = error.to_string();
    let minds_more = ["surrogate", "unexpected end of hex escape", "out of range"];
    (!minds_more.iter().any(|minds| reason.contains(minds))).then_some(false)
}

/// A text of some hundred bytes whose strings have every kind of content.
fn text_with_long_strings(chance: &mut Random) -> String {
    const UNITS: [&str; 20] = [
        "let x",
        "abcdefghijklmnopqrstuvwxyz012345",
        " ",
        r"\n",
        r#"\""#,
        r"\\",
        r"\t",
        r"\/",
        r"\b\f\r",
        r"\u00e9",
        r"\uD83D\uDE00",
        "é",
        "߿",
        "ࠀ",
        "日本",
        "\u{d7ff}\u{e000}",
        "\u{ffff}",
        "😀",
        "\u{10ffff}",
        "\u{7f}",
    ];
    let mut text = "[".to_owned();
    for _ in 0..=chance.below(3) {
        text.push('"');
        for _ in 0..chance.below(60) {
            text.push_str(UNITS[chance.below(UNITS.len())]);
        }
        text.push_str(["\",", "\" , ", "\",\n        "][chance.below(3)]);
    }
    text + "12345678901234567890]"
}

#[test]
fn long_strings_get_the_same_verdict_as_from_std_and_serde_json() {
    let mut verdicts = [0; 3];
    for seed in 0..20_000 {
        let mut chance = Random(seed);
        let mut bytes = text_with_long_strings(&mut chance).into_bytes();
        for _ in 0..chance.below(3) {
            let at = chance.below(bytes.len());
            match chance.below(4) {
                0 => bytes[at] = u8::try_from(chance.below(256)).expect("a byte"),
                1 => bytes[at] ^= 1 << chance.below(8),
                2 => drop(bytes.remove(at)),
                _ => bytes.insert(at, b"\"\\\x1F\x80\xC1\xE0\xED\xF0\xF4\xF5u"[chance.below(11)]),
            }
        }
        let checked = check_text(&bytes);
        let verdict = match checked {
            Err(TextError::NotUtf8) => 0,
            Ok(()) => 1,
            Err(TextError::InvalidJson(_)) => 2,
        };
        verdicts[verdict] += 1;
        let expected = match std::str::from_utf8(&bytes) {
            Err(_) => Some(0),
            Ok(text) => is_json_to_serde(text).map(|is_json| if is_json { 1 } else { 2 }),
        };
        let shown = String::from_utf8_lossy(&bytes);
        assert!(expected.is_none_or(|expected| verdict == expected), "seed {seed}: {checked:?}: {shown}");
        let pieces = bytes.chunks(1 + chance.below(90));
        assert_eq!(check_pieces(pieces, false).map(|_| ()), checked, "seed {seed}");
        if let Ok(text) = std::str::from_utf8(&bytes) {
            let end = end_of_value(text.as_bytes(), 0).map(|end| end_of_space(text.as_bytes(), end));
            let expected = end.and_then(|end| if end == bytes.len() { Ok(()) } else { Err(end) });
            assert_eq!(offset_of(&checked), expected, "seed {seed}: {text:?}");
        }
    }
    assert!(verdicts.iter().all(|&count| count > 2_000), "each verdict occurs: {verdicts:?}");
}

/// Checks that `bytes` in the middle of a string are UTF-8 for the check exactly if they are for the standard
/// library.
fn check_in_string(bytes: &[u8], paddings: &[usize]) {
    for &padding in paddings {
        let text = [b"\"", &vec![b'x'; padding][..], bytes, &[b'y'; 100], b"\""].concat();
        let is_utf8 = std::str::from_utf8(&text).is_ok();
        let checked = check_text(&text);
        assert_eq!(checked != Err(TextError::NotUtf8), is_utf8, "{bytes:x?} after {padding}");
        let is_json =
            bytes.iter().all(|byte| *byte >= 0x20) && !bytes.contains(&b'"') && !bytes.contains(&b'\\');
        if is_utf8 && is_json {
            assert_eq!(checked, Ok(()), "{bytes:x?} after {padding}");
        }
    }
}

#[test]
fn characters_in_a_string_are_utf8_exactly_if_std_accepts_them() {
    let edges: Vec<u8> = [
        0x00, 0x20, 0x22, 0x41, 0x5C, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC1, 0xC2, 0xDF, 0xE0,
    ]
    .into_iter()
    .chain([0xE1, 0xEC, 0xED, 0xEE, 0xEF, 0xF0, 0xF1, 0xF3, 0xF4, 0xF5, 0xF8, 0xFF])
    .collect();
    for first in 0..=255 {
        check_in_string(&[first], &[0, 30, 31, 32, 63]);
        for second in 0..=255 {
            check_in_string(&[first, second], &[0, 31]);
            if first >= 0xE0 || edges.contains(&first) && edges.contains(&second) {
                for &third in &edges {
                    check_in_string(&[first, second, third], &[0, 30]);
                }
            }
        }
    }
    for first in 0xE0..=0xEF {
        for second in 0x80..=0xBF {
            for third in 0..=255 {
                check_in_string(&[first, second, third], &[40]);
            }
        }
    }
    for first in 0xF0..=0xF5 {
        for &second in &edges {
            for &third in &edges {
                for &fourth in &edges {
                    check_in_string(&[first, second, third, fourth], &[1, 29]);
                }
            }
        }
    }
}

#[test]
fn parts_of_strings_get_the_same_verdict_wherever_blocks_begin() {
    const PARTS: [&[u8]; 37] = [
        b"\xC3\xA9",
        b"\xC3",
        b"\xA9",
        b"\xC1\xBF",
        b"\xE6\x97\xA5",
        b"\xE6\x97",
        b"\xE6",
        b"\xE6\x97\xA5\xA5",
        b"\xE0\x9F\xBF",
        b"\xE0\xA0\x80",
        b"\xED\x9F\xBF",
        b"\xED\xA0\x80",
        b"\xF0\x9F\x98\x80",
        b"\xF0\x9F\x98",
        b"\xF0\x9F",
        b"\xF0",
        b"\xF0\x8F\xBF\xBF",
        b"\xF4\x90\x80\x80",
        b"\\n",
        b"\\x",
        b"\\\\",
        b"\\\\\\",
        b"\\\\\\\\",
        b"\\\\\\\\\\",
        b"\\\\x",
        b"\\\\\\\"",
        b"\\\\\"",
        b"\\\\\\\\\"",
        b"\\\\\\\\\\\\\\\\\"",
        b"\\\\\\\\\\\\\\\\\\\"",
        b"\\\"",
        b"\"",
        b"\x1F",
        b"\x7F",
        b"\\u00e9\\\\\\u00E9",
        b"\\\xC3\xA9",
        b"\xC3\\n",
    ];
    // With each of these, blocks are checked in another way.
    for around in ["x", "xxxé", "日xx", r"\\xx", r"\u00e9x"] {
        for (part, padding) in PARTS.into_iter().flat_map(|part| (0..200).map(move |padding| (part, padding)))
        {
            let filler = around.repeat(200);
            let before = &filler.as_bytes()[..padding - padding % around.len()];
            let shift = &b"xxxxxxx"[..padding % around.len()];
            let text = [b"\"", shift, before, part, filler.as_bytes(), b"\""].concat();
            let expected = match end_of_value(&text, 0) {
                _ if std::str::from_utf8(&text).is_err() => Err(None),
                Ok(end) if end == text.len() => Ok(()),
                Ok(offset) | Err(offset) => Err(Some(offset)),
            };
            let checked = check_text(&text).map_err(|error| match error {
                TextError::InvalidJson(error) => Some(error.offset),
                TextError::NotUtf8 => None,
            });
            assert_eq!(checked, expected, "{part:x?} after {padding} of {around}");
        }
    }
}

#[test]
fn bytes_are_refused_as_soon_as_they_cannot_become_utf8() {
    let starts: [&[u8]; 4] = [b"\"", b"\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", b"nope ", b""];
    for seed in 0..20_000 {
        let mut chance = Random(seed);
        let mut bytes = starts[chance.below(4)].to_vec();
        for _ in 0..chance.below(6) {
            let odd = b"\x7F\x80\x8F\x90\x9F\xA0\xBF\xC1\xC2\xDF\xE0\xE1\xED\xEF\xF0\xF1\xF4\xF5";
            bytes.push(odd[chance.below(odd.len())]);
        }
        let mut check = TextCheck::new(false);
        for end in 1..=bytes.len() {
            let is_hopeless =
                std::str::from_utf8(&bytes[..end]).is_err_and(|error| error.error_len().is_some());
            assert_eq!(check.push(&bytes[end - 1..end]).is_err(), is_hopeless, "{:x?}", &bytes[..end]);
            let (first, second) = bytes[..end].split_at(chance.below(end + 1));
            let mut in_two = TextCheck::new(false);
            let pushed = in_two.push(first).and_then(|()| in_two.push(second));
            assert_eq!(pushed.is_err(), is_hopeless, "{:x?}", &bytes[..end]);
            if is_hopeless {
                assert_eq!(check.push(b""), Ok(()), "an empty piece changes nothing");
                assert_eq!(check.push(b"x"), Err(NotUtf8));
                assert_eq!(check.finish(), Err(TextError::NotUtf8));
                break;
            }
        }
    }
}

#[test]
fn no_nesting_is_too_deep() {
    const DEPTH: usize = 1 << 22;
    let arrays = [b"[".repeat(DEPTH), b"]".repeat(DEPTH)].concat();
    let objects = [b"{\"a\":".repeat(DEPTH), b"0".to_vec(), b"}".repeat(DEPTH)].concat();
    for text in [&arrays, &objects] {
        assert_eq!(check_text(text), Ok(()));
        let mut wrong = text.clone();
        // That container, which is not the outermost one, is now closed as one of the other kind.
        let at = text.len() - 100;
        wrong[at] ^= b']' ^ b'}';
        assert_eq!(offset_of(&check_text(&wrong)), Err(at));
        assert_eq!(offset_of(&check_text(&text[..text.len() - 1])), Err(text.len() - 1));
    }
    let mut check = TextCheck::new(true);
    assert_eq!(check.heap_bytes(), 0);
    check.push(&b"[".repeat(64)).expect("UTF-8");
    assert_eq!(check.heap_bytes(), 0, "the first levels need no heap memory");
    check.push(&b"[".repeat(DEPTH)).expect("UTF-8");
    assert!((DEPTH / 8..DEPTH).contains(&check.heap_bytes()), "a bit for each level: {}", check.heap_bytes());
    check.push(b"}").expect("UTF-8");
    assert_eq!(check.heap_bytes(), 0, "a text that is not JSON needs no levels");
}

#[test]
fn containers_of_any_depth_must_be_closed_as_they_were_opened() {
    for seed in 0..300 {
        let mut chance = Random(seed);
        let mut open = Vec::new();
        let mut text = Vec::new();
        for _ in 0..chance.below(1000) {
            if chance.below(5) < 3 {
                let (start, end) = [(&b"["[..], b']'), (b"{\"k\":", b'}')][chance.below(2)];
                text.extend_from_slice(start);
                open.push(end);
            } else if let Some(end) = open.pop() {
                text.extend_from_slice(b"0");
                text.push(end);
                while let Some(end) = open.pop_if(|_| chance.below(3) > 0) {
                    text.push(end);
                }
                match open.last() {
                    None => break,
                    Some(b']') => text.push(b','),
                    Some(_) => text.extend_from_slice(b",\"\":"),
                }
            }
        }
        if open.is_empty() && !text.is_empty() {
            assert_eq!(check_text(&text), Ok(()), "{}", String::from_utf8_lossy(&text));
            continue;
        }
        text.push(b'0');
        text.extend(open.iter().rev());
        assert_eq!(check_text(&text), Ok(()), "{}", String::from_utf8_lossy(&text));
        text.push(b']');
        assert_eq!(offset_of(&check_text(&text)), Err(text.len() - 1));
    }
}

#[test]
fn only_the_start_of_a_very_long_type_is_returned() {
    let long = |unit: &str, lead: usize| "x".repeat(lead) + &unit.repeat(1024);
    for unit in ["x", "é", "日", "😀", r"\n", r"\u00e9", r"\ud83d\ude00"] {
        for lead in 0..12 {
            let spelled = long(unit, lead);
            let text = format!(r#"{{"a":[],"type":"{spelled}","b":{{}}}}"#);
            let whole: String = serde_json::from_str(&format!("\"{spelled}\"")).expect("a string");
            let found = check_text_and_type(text.as_bytes()).expect("JSON").expect("a type");
            assert!(whole.starts_with(&*found), "{unit}");
            assert!(found.len() > 1000 / unit.len(), "{unit}: {} bytes", found.len());
            for piece in [1, 7, 500, 1500] {
                let mut check = TextCheck::new(true);
                for piece in text.as_bytes().chunks(piece) {
                    check.push(piece).expect("UTF-8");
                    assert!(check.heap_bytes() <= 5000, "{}", check.heap_bytes());
                }
                assert_eq!(check.finish().expect("JSON").as_deref(), Some(&*found), "{unit} by {piece}");
            }
        }
    }
    let long_key = format!(r#"{{"{}":"x"}}"#, "type".repeat(1000));
    assert_eq!(check_text_and_type(long_key.as_bytes()), Ok(None));
}
