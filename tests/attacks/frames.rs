//! Attacks by single frames: lengths, reserved bits, masks and close codes.

use crate::answer::upgrade_request;
use crate::bystanders::Bystanders;
use crate::client::{Client, Received};
use crate::footprint::{Footprint, MIB, connections_allowed, quiet_relay};
use crate::frame::{
    BINARY, CLOSE, CONTINUES, ENDS, LengthForm, MASK, PING, PONG, RSV1, RSV2, RSV3, TEXT, TEXT_BEGINS,
    UNCHANGED, close_payload, frame, frame_header, frame_under, header_with,
};
use crate::harness::Relay;
use crate::processor::assert_rests;

const HIGHEST_BIT: u64 = 1 << 63;
const MAX_MESSAGE_BYTES: u64 = 64 * MIB;

/// A header with the 64-bit form of any length.
fn header_in_eight_bytes(first: u8, length: u64) -> Vec<u8> {
    header_with(first, MASK, LengthForm::Eight, length)
}

/// Requires that each of the frames ends its mobile with `code`, that the desktop gets one notice, and that bystanders
/// are not affected.
fn assert_each_closed(relay: &Relay, frames: &[Vec<u8>], code: u16) {
    let mut bystanders = Bystanders::join(relay);
    let mut desktop = relay.join("desktop", "abc");
    for frame in frames {
        let mut mobile = relay.join_peer("mobile", "abc", &mut desktop);
        mobile.send_raw(frame);
        let received = mobile.receive();
        let is_right = matches!(&received, Received::Close(received, _) if *received == code);
        assert!(is_right, "{:02x?}: {received:?}", &frame[..frame.len().min(20)]);
        // Bytes after it are not parsed as frames, and do not keep the connection from ending.
        mobile.send_raw(&[0xFF; 1000]);
        assert_eq!(mobile.receive(), Received::End);
        desktop.expect_notice("mobile_disconnected");
        bystanders.are_served();
    }
    desktop.expect_quiet();
}

/// CVE-2020-13935 (Tomcat: such a length becomes negative, and the frame is read without end) and baresip/re#1584 (the
/// length overflows when the header's is added).
#[test]
fn length_with_its_highest_bit_set_breaks_the_protocol_and_the_relay_rests() {
    let relay = quiet_relay(&[]);
    let mut frames = Vec::new();
    for length in [HIGHEST_BIT, HIGHEST_BIT + 1, HIGHEST_BIT + 125, u64::MAX - 14, u64::MAX - 3, u64::MAX] {
        for first in [TEXT, BINARY, TEXT_BEGINS] {
            frames.push(header_in_eight_bytes(first, length));
        }
        frames.push([frame(TEXT_BEGINS, b"["), header_in_eight_bytes(CONTINUES, length)].concat());
    }
    let before = Footprint::of(&relay);
    assert_each_closed(&relay, &frames, 1002);
    assert_rests(&relay);
    before.assert_memory_grew_at_most(MIB);
}

/// The same for control frames, which may not be long.
#[test]
fn control_frame_of_any_length_over_125_breaks_the_protocol() {
    let relay = quiet_relay(&[]);
    let mut frames = Vec::new();
    for first in [CLOSE, PING, PONG] {
        frames.push(frame_header(first, 126));
        frames.extend([0, 125, HIGHEST_BIT - 1, u64::MAX].map(|length| header_in_eight_bytes(first, length)));
    }
    assert_each_closed(&relay, &frames, 1002);
}

/// CVE-2020-27813 (gorilla/websocket: the sum of two fragments' lengths overflows and passes the limit).
#[test]
fn length_of_2_to_the_63_minus_1_is_too_large_alone_and_after_other_fragments() {
    let relay = quiet_relay(&[]);
    let mut bystanders = Bystanders::join(&relay);
    let mut desktop = relay.join("desktop", "abc");
    let before = Footprint::of(&relay);
    for length in [HIGHEST_BIT - 1, HIGHEST_BIT - 15, 1 << 62, 1 << 32, MAX_MESSAGE_BYTES + 1] {
        let openings = [
            (frame_header(TEXT, length), length),
            (frame_header(BINARY, length), length),
            (frame_header(TEXT_BEGINS, length), length),
            ([frame(TEXT_BEGINS, b"[1,2"), frame_header(CONTINUES, length)].concat(), length + 4),
            ([frame(TEXT_BEGINS, b"[1,2"), frame_header(ENDS, length)].concat(), length + 4),
        ];
        for (opening, total) in openings {
            let mut mobile = relay.join_peer("mobile", "abc", &mut desktop);
            mobile.send_raw(&opening);
            let error = mobile.receive_system();
            assert_eq!(error["code"], "message_too_large");
            assert!(error["error"].as_str().unwrap().contains(&format!(" {total} bytes")), "{error}");
            assert!(matches!(mobile.receive(), Received::Close(1009, _)));
            // The client would have to send the whole message before the relay reads its answer to the close.
            drop(mobile);
            desktop.expect_notice("mobile_disconnected");
        }
        bystanders.are_served();
    }
    desktop.expect_quiet();
    before.assert_memory_grew_at_most(MIB);
}

/// faye/faye-websocket-node#26 (a buffer of the announced length is allocated when the header arrives).
#[test]
fn thousand_announced_frames_of_50_mib_take_no_memory() {
    let relay = quiet_relay(&[]);
    let mut bystanders = Bystanders::join(&relay);
    let before = Footprint::of(&relay);
    let count = connections_allowed(1000);
    let mut clients: Vec<Client> = (0..count).map(|id| relay.join("mobile", &id.to_string())).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.send_raw(&frame_header(if number % 2 == 0 { BINARY } else { TEXT_BEGINS }, 50 * MIB));
    }
    bystanders.are_served();
    // One page for each, and the connections themselves; the frames announce 50,000 MiB.
    before.assert_memory_grew_at_most(12 * MIB);
    assert_rests(&relay);
}

/// websockets/ws#1777 and websockets/ws#2170 (a reserved bit ends the process), tornadoweb/tornado#2391 and
/// python-websockets/websockets#407 (the size after decompression is not limited).
#[test]
fn reserved_bit_without_an_extension_breaks_the_protocol_before_any_decompression() {
    // A kilobyte that a decompressor might inflate to a large text.
    let bomb = [0; 1024];
    let mut frames = Vec::new();
    for bits in [RSV1, RSV2, RSV3, RSV1 | RSV2 | RSV3] {
        for first in [TEXT, BINARY, TEXT_BEGINS, PING, CLOSE] {
            frames.push(frame(first | bits, if first & 0x08 == 0 { &bomb } else { b"" }));
        }
        frames.push([frame(TEXT_BEGINS, b"["), frame(CONTINUES | bits, &bomb)].concat());
    }
    let relay = quiet_relay(&[]);
    let before = Footprint::of(&relay);
    assert_each_closed(&relay, &frames, 1002);
    before.assert_memory_grew_at_most(MIB);
}

/// GHSA-g78m-2chm-r7qv (websocket-extensions: the parser of offers), and attacks that need compression.
#[test]
fn all_offers_of_extensions_are_ignored() {
    let relay = quiet_relay(&[]);
    let offers = [
        "permessage-deflate; client_max_window_bits",
        "permessage-deflate; server_no_context_takeover; client_max_window_bits=8, x-webkit-deflate-frame",
        "permessage-deflate; server_max_window_bits=1000000000000000000000",
        "permessage-deflate;;;; =, \"",
        "permessage-bzip2, permessage-deflate\r\nSec-WebSocket-Extensions: permessage-deflate",
        "\"",
        "",
    ];
    for offer in offers {
        let lines = format!("Host: relay\r\nSec-WebSocket-Extensions: {offer}\r\n");
        let request = upgrade_request("/desktop/abc").replace("Host: relay\r\n", &lines);
        let (answer, mut client) = Client::handshake(relay.tcp(), request.as_bytes());
        assert_eq!(answer.status, 101, "{offer}");
        assert_eq!(answer.header("sec-websocket-extensions"), None, "{offer}");
        client.expect_connected("desktop", "abc");
        client.leave();
    }
}

/// websockets/ws#1676, #1916 and #1922 (a close code that must not be sent ends the process).
#[test]
fn close_with_a_bad_code_or_reason_ends_only_its_sender() {
    let relay = quiet_relay(&[]);
    let reason = "r".repeat(123);
    let mut frames = vec![frame(CLOSE, b"\x03"), frame(CLOSE, &close_payload(1000, &(reason.clone() + "r")))];
    for code in [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 22_373, 32_768, 65_535] {
        frames.push(frame(CLOSE, &close_payload(code, "")));
        frames.push(frame(CLOSE, &close_payload(code, &reason)));
    }
    assert_each_closed(&relay, &frames, 1002);

    let relay = quiet_relay(&[]);
    let reasons = [&b"\xFF"[..], b"\xC0\x80", b"\xED\xA0\x80", b"\xF4\x90\x80\x80", b"ok \xE2\x82"];
    let frames = reasons.map(|reason| frame(CLOSE, &[&close_payload(1000, "")[..], reason].concat()));
    assert_each_closed(&relay, &frames, 1007);
}

/// RFC 6455, section 10.3: masks protect intermediaries. A mask of zeros protects nothing, but is allowed. A frame
/// without a mask is refused.
#[test]
fn mask_of_zeros_is_allowed_and_a_missing_mask_is_not() {
    let relay = quiet_relay(&[]);
    let (mut desktop, mut mobile) = relay.pair("zeros");
    desktop.send_raw(&frame_under(UNCHANGED, TEXT, b"true"));
    mobile.expect_text("true");

    let long = [&[BINARY, 0x7E, 0x10, 0x00][..], &[0; 4096]].concat();
    assert_each_closed(&relay, &[vec![TEXT, 0x01, b'1'], vec![PING, 0], vec![CLOSE, 0], long], 1002);
}
