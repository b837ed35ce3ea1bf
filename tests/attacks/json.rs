//! Attacks by JSON that breaks parsers.

use crate::client::Received;
use crate::footprint::{Footprint, MIB};
use crate::frame::{TEXT, frame};
use crate::harness::Relay;

/// Requires that the relay, which reads the `type` of each text for the log, forwards the texts unchanged and uses at
/// most `seconds` of processor time.
fn assert_passes(relay: &Relay, texts: &[String], seconds: u64) {
    let (mut desktop, mut mobile) = relay.pair("abc");
    let before = Footprint::of(relay);
    for text in texts {
        let sent = desktop.send_meanwhile(frame(TEXT, text.as_bytes()));
        let received = mobile.receive();
        assert!(received == Received::Text(text.clone()), "{received:?}");
        sent.join().unwrap();
    }
    before.assert_took_at_most(seconds);
    desktop.expect_quiet();
}

/// CVE-2020-36518 (jackson-databind: each level of nesting uses stack).
#[test]
fn nesting_100_000_deep_passes() {
    const DEPTH: usize = 100_000;
    let arrays = "[".repeat(DEPTH) + &"]".repeat(DEPTH);
    let objects = "{\"a\":".repeat(DEPTH) + "1" + &"}".repeat(DEPTH);
    let both = "[{\"type\":".repeat(DEPTH) + "1" + &"}]".repeat(DEPTH);
    let in_type = format!("{{\"type\":{arrays},\"type\":{objects},\"a\":{both}}}");
    assert_passes(&Relay::start(&[]), &[arrays, objects, both, in_type], 5);
}

/// CVE-2020-36518 again, with nesting that never closes.
#[test]
fn unclosed_nesting_is_an_error_like_any_other() {
    let relay = Relay::start(&[]);
    let mut desktop = relay.join("desktop", "abc");
    let opening = "[".repeat(100_000);
    for text in [opening.clone(), opening.clone() + "}", format!("{{\"type\":{opening}")] {
        desktop.send_text(&text);
        assert_eq!(desktop.receive_system()["code"], "invalid_json");
    }
    desktop.expect_quiet();
}

/// CVE-2023-4043 (Parsson: a long number takes far more than linear time).
#[test]
fn number_of_a_megabyte_takes_no_longer_than_other_bytes() {
    let digits = "9".repeat(1_000_000);
    let numbers = [
        digits.clone(),
        format!("-{digits}.{digits}"),
        format!("0.{}1", "0".repeat(1_000_000)),
        format!("1e{digits}"),
        format!("{digits}e-{digits}"),
    ];
    let texts = numbers.map(|number| format!("{{\"type\":{number},\"a\":[{number}]}}"));
    assert_passes(&Relay::start(&[]), &texts, 5);
}

/// CVE-2023-5072 (JSON-java: a short text takes unlimited memory).
#[test]
fn ten_megabytes_of_escapes_take_little_more_memory_than_their_length() {
    let relay = Relay::start(&[]);
    let escapes = "\\u0041".repeat(10_000_000 / 6);
    let texts = [format!("{{\"type\":\"{escapes}\"}}"), format!("{{\"{escapes}\":\"{escapes}\"}}")];
    let before = Footprint::of(&relay);
    assert_passes(&relay, &texts, 5);
    // Twice the longer text, plus once while it is received.
    before.assert_memory_grew_at_most(48 * MIB);
    let cut = format!("Message from desktop: {}", "A".repeat(64));
    relay.wait_for_log_ending(&cut);
}

/// CVE-2017-12635 (Apache `CouchDB`: two parsers use different ones of duplicate keys).
#[test]
fn last_of_100_000_duplicate_keys_counts_and_all_are_forwarded() {
    let relay = Relay::start(&[]);
    let keys = "\"type\":\"first\",\"\\u0074ype\":\"escaped\",".repeat(50_000);
    assert_passes(&relay, &[format!("{{{keys}\"type\":\"last\"}}")], 5);
    relay.wait_for_log_ending("Message from desktop: last");
}

/// Finding the offset of an error must not take more than linear time. Here it is at the end of ten megabytes.
#[test]
fn error_at_the_end_of_ten_megabytes_is_found_in_linear_time() {
    let relay = Relay::start(&[]);
    let before = Footprint::of(&relay);
    let rows =
        ["[\n".repeat(5_000_000), " ".repeat(10_000_000) + "?", "[".to_owned() + &"9".repeat(10_000_000)];
    for text in rows {
        let (mut desktop, mut mobile) = relay.pair("abc");
        let sent = desktop.send_meanwhile(frame(TEXT, text.as_bytes()));
        mobile.expect_close(1011, "Message cut short");
        let error = desktop.receive_system();
        let place = text.find('?').unwrap_or(text.len());
        assert!(error["error"].as_str().unwrap().contains(&format!(" {place}:")), "{error}");
        desktop.expect_notice("mobile_disconnected");
        desktop.expect_quiet();
        sent.join().unwrap();
    }
    before.assert_took_at_most(8);
    before.assert_memory_grew_at_most(32 * MIB);
}
