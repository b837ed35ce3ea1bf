//! Section 3, cut-through: the relay begins to send a long message while it still arrives.

use crate::client::{Client, Received};
use crate::frame::{BINARY_BEGINS, CONTINUES, ENDS, PING, TEXT, frame};
use crate::harness::Relay;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// A JSON text of `bytes` bytes.
fn text(bytes: usize) -> Vec<u8> {
    [b"\"", &vec![b'x'; bytes - 2][..], b"\""].concat()
}

fn expect_message(client: &mut Client, payload: &[u8]) {
    match client.receive() {
        Received::Text(text) => assert!(text.as_bytes() == payload),
        Received::Binary(bytes) => assert!(bytes == payload),
        other => panic!("{other:?}"),
    }
}

fn expect_cut_short(client: &mut Client) {
    client.expect(&Received::Close(1011, "Message cut short".to_owned()));
}

/// A pair whose desktop has sent a part of a text of 8 MiB, and whose mobile has received some of it.
fn streaming_pair(relay: &Relay) -> (Client, Client, Vec<u8>) {
    let (mut desktop, mut mobile) = relay.pair("abc");
    let mut message = frame(TEXT, &text(8 * MIB));
    let rest = message.split_off(3 * MIB);
    desktop.send_raw(&message);
    mobile.expect_part();
    (desktop, mobile, rest)
}

#[test]
fn start_of_a_long_message_arrives_before_the_rest_is_sent() {
    let relay = Relay::start(&[]);
    let (desktop, mut mobile, rest) = streaming_pair(&relay);
    let sent = desktop.send_meanwhile(rest);
    expect_message(&mut mobile, &text(8 * MIB));
    sent.join().unwrap();
}

#[test]
fn message_of_1_mib_arrives_only_after_all_of_it_is_sent() {
    let relay = Relay::start(&[]);
    let (mut desktop, mut mobile) = relay.pair("abc");
    let message = frame(TEXT, &text(MIB));
    let (most, last) = message.split_at(message.len() - 1);
    desktop.send_raw(most);
    mobile.expect_quiet();
    desktop.send_raw(last);
    expect_message(&mut mobile, &text(MIB));
}

#[test]
fn fragmented_message_is_cut_through_as_well() {
    let relay = Relay::start(&[]);
    let (mut desktop, mut mobile) = relay.pair("abc");
    desktop.send(BINARY_BEGINS, &vec![7; MIB]);
    desktop.send(CONTINUES, &vec![7; 500 * KIB]);
    mobile.expect_part();
    desktop.send(ENDS, b"");
    expect_message(&mut mobile, &vec![7; MIB + 500 * KIB]);
}

#[test]
fn end_of_the_sender_inside_a_message_closes_its_receiver_with_1011() {
    for is_reset in [true, false] {
        let relay = Relay::start(&[]);
        let (desktop, mut mobile, _) = streaming_pair(&relay);
        if is_reset {
            desktop.reset();
        } else {
            drop(desktop);
        }
        expect_cut_short(&mut mobile);
    }
}

#[test]
fn replacing_the_sender_inside_a_message_closes_its_receiver_and_leaves_no_peer() {
    let relay = Relay::start(&[]);
    let (mut desktop, mut mobile, _) = streaming_pair(&relay);
    let mut again = relay.join("desktop", "abc");
    again.expect_quiet();
    desktop.expect(&Received::Close(1000, "New desktop connection".to_owned()));
    expect_cut_short(&mut mobile);
}

#[test]
fn text_with_invalid_json_inside_is_cut_short_and_its_sender_gets_the_offset() {
    let relay = Relay::start(&[]);
    let (mut desktop, mut mobile) = relay.pair("abc");
    let mut payload = text(8 * MIB);
    payload[5 * MIB] = 1;
    let bytes = frame(TEXT, &payload);
    let sent = desktop.send_meanwhile(bytes);
    expect_cut_short(&mut mobile);
    let error = desktop.receive_system();
    let place = format!("Invalid JSON at byte {}: ", 5 * MIB);
    assert!(
        error["code"] == "invalid_json" && error["error"].as_str().unwrap().starts_with(&place),
        "{error}"
    );
    desktop.expect_notice("mobile_disconnected");
    sent.join().unwrap();
    let mut mobile = relay.join_peer("mobile", "abc", &mut desktop);
    desktop.send_text("1");
    mobile.expect_text("1");
}

#[test]
fn text_with_invalid_utf8_inside_is_cut_short_and_its_sender_closed_with_1007() {
    let relay = Relay::start(&[]);
    let (mut desktop, mut mobile, mut rest) = streaming_pair(&relay);
    // With any mask, some of these bytes are not valid UTF-8.
    rest[MIB..MIB + 64].fill(0xFF);
    rest[MIB + 64..MIB + 128].fill(0x00);
    // The relay reads no further than this.
    rest.truncate(MIB + 128);
    let sent = desktop.send_meanwhile(rest);
    expect_cut_short(&mut mobile);
    desktop.expect_close_code(1007);
    sent.join().unwrap();
}

#[test]
fn without_a_peer_the_sender_gets_an_error_after_the_first_mib() {
    let relay = Relay::start(&[]);
    let mut desktop = relay.join("desktop", "abc");
    let message = frame(TEXT, &text(4 * MIB));
    let (before, rest) = message.split_at(2 * MIB);
    desktop.send_raw(before);
    desktop.expect_error("peer_not_connected", "Mobile device not connected");
    let mut mobile = relay.join_peer("mobile", "abc", &mut desktop);
    desktop.send_raw(rest);
    desktop.send_text("1");
    mobile.expect_text("1");
}

#[test]
fn end_of_the_receiver_inside_a_message_is_reported_and_the_rest_is_skipped() {
    let relay = Relay::start(&[]);
    let (mut desktop, mobile, rest) = streaming_pair(&relay);
    mobile.reset();
    assert_eq!(desktop.expect_undelivered(), 1);
    desktop.expect_notice("mobile_disconnected");
    let mut mobile = relay.join_peer("mobile", "abc", &mut desktop);
    desktop.send_raw(&rest);
    desktop.send_text("1");
    mobile.expect_text("1");
}

#[test]
fn ping_of_the_receiver_is_answered_between_two_fragments() {
    let relay = Relay::start(&[]);
    let (desktop, mut mobile, rest) = streaming_pair(&relay);
    mobile.send(PING, b"still here");
    mobile.expect(&Received::Pong(b"still here".to_vec()));
    let sent = desktop.send_meanwhile(rest);
    expect_message(&mut mobile, &text(8 * MIB));
    sent.join().unwrap();
}

#[test]
fn session_timeout_and_shutdown_inside_a_message_close_both_clients() {
    let mut relay = Relay::start(&["--shutdown-grace", "2s"]);
    let (mut desktop, mut mobile, _) = streaming_pair(&relay);
    relay.signal(rustix::process::Signal::TERM);
    let close = Received::Close(1001, "Relay shutting down".to_owned());
    desktop.expect(&close);
    mobile.expect(&close);
    drop((desktop, mobile));
    assert_eq!(relay.wait(), Some(0));
}
