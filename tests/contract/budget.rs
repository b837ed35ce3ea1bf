//! Section 6: one memory budget for all that waits and all that is half received.

use std::thread;
use std::time::Duration;

use crate::answer::{Answer, plain_request};
use crate::client::{Client, Received};
use crate::frame::{BINARY, CONTINUES, ENDS, TEXT, frame, frame_header};
use crate::harness::Relay;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// Of 4 MiB large messages get 3.5.
const NARROW: [&str; 4] = ["--max-buffered", "4MiB", "--max-message-size", "3584KiB"];

/// A JSON text of `bytes`, told apart by `mark`.
fn text(mark: usize, bytes: usize) -> String {
    let start = format!("[{mark},\"");
    format!("{start}{}\"]", "x".repeat(bytes - start.len() - 2))
}

/// A pair whose mobile reads nothing yet, with a message of 2 MiB on its way to it.
fn full_pair(relay: &Relay) -> (Client, Client) {
    let (mut desktop, mobile) = relay.pair_with_narrow_mobile("full");
    desktop.send_text(&text(0, 2 * MIB));
    desktop.expect_quiet();
    (desktop, mobile)
}

/// Sends what the relay does not read yet, and comes back once it is sent.
fn send_later(client: &Client, bytes: Vec<u8>) -> thread::JoinHandle<()> {
    let mut writer = client.writer();
    thread::spawn(move || std::io::Write::write_all(&mut writer, &bytes).unwrap())
}

#[test]
fn large_message_waits_in_the_kernel_for_room_while_small_ones_pass_and_is_then_delivered() {
    let relay = Relay::start(&NARROW);
    let (_full, mut full_mobile) = full_pair(&relay);
    let (desktop, mut mobile) = relay.pair("waiting");
    let sent = send_later(&desktop, frame(TEXT, text(1, 3 * MIB).as_bytes()));
    let (mut other_desktop, mut other_mobile) = relay.pair("small");
    for _ in 0..100 {
        other_desktop.send_text("1");
        other_mobile.expect_text("1");
        other_mobile.send(BINARY, &[7; 16 * KIB]);
        assert_eq!(other_desktop.receive(), Received::Binary(vec![7; 16 * KIB]));
    }
    mobile.expect_quiet();
    assert_eq!(Answer::to(relay.tcp(), &plain_request("GET", "/health")).status, 200);
    full_mobile.expect_text(&text(0, 2 * MIB));
    mobile.expect_text(&text(1, 3 * MIB));
    sent.join().unwrap();
}

#[test]
fn forty_megabytes_pass_through_a_budget_of_four_however_slowly_they_are_read() {
    let relay = Relay::start(&NARROW);
    let pairs: Vec<(Client, Client)> =
        (0..20).map(|index| relay.pair_with_narrow_mobile(&index.to_string())).collect();
    let senders: Vec<_> = pairs
        .iter()
        .enumerate()
        .map(|(index, (desktop, _))| send_later(desktop, frame(TEXT, text(index, 2 * MIB).as_bytes())))
        .collect();
    thread::scope(|scope| {
        for (index, (_, mobile)) in pairs.into_iter().enumerate() {
            let mut mobile = mobile;
            scope.spawn(move || mobile.expect_text(&text(index, 2 * MIB)));
        }
    });
    for sender in senders {
        sender.join().unwrap();
    }
}

#[test]
fn messages_in_many_fragments_do_not_lock_each_other_out() {
    let relay = Relay::start(&NARROW);
    let mut pairs: Vec<(Client, Client)> = (0..4).map(|index| relay.pair(&index.to_string())).collect();
    let fragments = |first| {
        (0..30).map(move |index| frame(if index == 0 { first } else { CONTINUES }, &vec![7; 100 * KIB]))
    };
    let senders: Vec<_> = pairs
        .iter()
        .map(|(desktop, _)| {
            let bytes: Vec<u8> = fragments(BINARY & 0x7F).chain([frame(ENDS, b"")]).flatten().collect();
            send_later(desktop, bytes)
        })
        .collect();
    for (_, mobile) in &mut pairs {
        assert!(mobile.receive() == Received::Binary(vec![7; 3000 * KIB]));
    }
    for sender in senders {
        sender.join().unwrap();
    }
}

#[test]
fn text_in_fragments_may_take_all_that_large_messages_may_while_its_type_is_logged() {
    let relay = Relay::start_with(&NARROW, &[("RUST_LOG", "info")]);
    let (mut desktop, mut mobile) = relay.pair("abc");
    let start = r#"{"type":"bundle_update_of_a_longer_name","p":""#;
    let text = format!("{start}{}\"}}", "x".repeat(3584 * KIB - start.len() - 2));
    let (front, back) = text.as_bytes().split_at(MIB);
    desktop.send(TEXT & 0x7F, front);
    desktop.send(ENDS, back);
    mobile.expect_text(&text);
    relay.wait_for_log_ending("Message from desktop: bundle_update_of_a_longer_name");
}

#[test]
fn room_of_those_that_announce_and_do_not_send_comes_back_at_the_stall_timeout() {
    let relay = Relay::start(&[&NARROW[..], &["--stall-timeout", "1s"]].concat());
    let mut silent: Vec<Client> = (0..50).map(|index| relay.join("desktop", &index.to_string())).collect();
    for client in &mut silent {
        client.send_raw(&frame_header(BINARY, (3 * MIB) as u64));
    }
    let (mut desktop, mut mobile) = relay.pair("healthy");
    let sent = send_later(&desktop, frame(TEXT, text(1, 3 * MIB).as_bytes()));
    // Those that have no room and send nothing hold themselves back: all are ended together.
    for client in &mut silent {
        client.expect_close_code(1001);
    }
    sent.join().unwrap();
    mobile.expect_text(&text(1, 3 * MIB));
    desktop.expect_quiet();
}

#[test]
fn client_that_waits_for_room_and_goes_is_noticed_at_once() {
    for is_reset in [false, true] {
        let relay = Relay::start(&NARROW);
        let (_full, _full_mobile) = full_pair(&relay);
        let (mut desktop, mut mobile) = relay.pair("waiting");
        desktop.send_raw(&frame(BINARY, &vec![7; 3 * MIB])[..100 * KIB]);
        mobile.expect_quiet();
        if is_reset {
            desktop.reset();
        } else {
            drop(desktop);
        }
        mobile.expect_notice("desktop_disconnected");
        relay.wait_for_log_ending("Desktop disconnected from session waiting: 1006");
    }
}

#[test]
fn sender_that_dies_in_mid_message_leaves_nothing_of_it() {
    let relay = Relay::start(&NARROW);
    let (mut desktop, mut mobile) = relay.pair("abc");
    desktop.send_raw(&frame(BINARY, &vec![7; 3 * MIB])[..2 * MIB]);
    mobile.expect_quiet();
    desktop.reset();
    mobile.expect_notice("desktop_disconnected");
    let mut again = relay.join_peer("desktop", "abc", &mut mobile);
    again.send_text(&text(1, 3 * MIB));
    mobile.expect_text(&text(1, 3 * MIB));
}

#[test]
fn full_relay_stops_cleanly() {
    let mut relay = Relay::start(&[&NARROW[..], &["--shutdown-grace", "2s"]].concat());
    let (_full, _full_mobile) = full_pair(&relay);
    let (mut waiting, _mobile) = relay.pair("waiting");
    waiting.send_raw(&frame_header(BINARY, (3 * MIB) as u64));
    thread::sleep(Duration::from_millis(50));
    assert_eq!(relay.stop(), Some(0));
}
