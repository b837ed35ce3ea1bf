//! Section 6: one memory budget for all queued and half received messages.

use std::io::Write;
use std::thread;

use crate::answer::{Answer, plain_request};
use crate::client::{Client, Received};
use crate::frame::{BINARY, BINARY_BEGINS, CONTINUES, ENDS, TEXT, TEXT_BEGINS, frame, frame_header};
use crate::harness::Relay;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// A budget smaller than most messages here.
const NARROW: [&str; 2] = ["--max-buffered", "4MiB"];

/// A JSON text of `bytes` bytes that contains `mark`.
fn text(mark: usize, bytes: usize) -> String {
    let start = format!("[{mark},\"");
    format!("{start}{}\"]", "x".repeat(bytes - start.len() - 2))
}

/// Pairs whose mobiles do not read, and whose desktops send until the relay stops reading them.
fn stalled_pairs(relay: &Relay, count: usize) -> Vec<(Client, Client, thread::JoinHandle<()>)> {
    let pair = |index| {
        let (desktop, mobile) = relay.pair_with_narrow_mobile(&format!("stalled{index}"));
        let sent = send_later(&desktop, frame(TEXT, text(index, 4 * MIB).as_bytes()));
        (desktop, mobile, sent)
    };
    (0..count).map(pair).collect()
}

/// Sends from another thread what the relay does not read yet.
fn send_later(client: &Client, bytes: Vec<u8>) -> thread::JoinHandle<()> {
    let mut writer = client.writer();
    thread::spawn(move || writer.write_all(&bytes).unwrap())
}

#[test]
fn messages_of_all_sizes_pass_beside_stalled_receivers_which_get_theirs_later() {
    let relay = Relay::start(&NARROW);
    let stalled = stalled_pairs(&relay, 20);
    let (mut desktop, mut mobile) = relay.pair("healthy");
    for bytes in [128, 20 * KIB, 2 * MIB].repeat(5) {
        desktop.send_text(&text(1, bytes));
        mobile.expect_text(&text(1, bytes));
        mobile.send(BINARY, &[7; 16 * KIB]);
        assert_eq!(desktop.receive(), Received::Binary(vec![7; 16 * KIB]));
    }
    assert_eq!(Answer::to(relay.tcp(), &plain_request("GET", "/health")).status, 200);
    for (index, (_desktop, mut mobile, sent)) in stalled.into_iter().enumerate() {
        mobile.expect_text(&text(index, 4 * MIB));
        sent.join().unwrap();
    }
}

#[test]
fn message_of_50_mib_passes_through_a_budget_of_1_mib() {
    let relay = Relay::start(&["--max-buffered", "1MiB"]);
    let (desktop, mut mobile) = relay.pair("abc");
    let sent = send_later(&desktop, frame(TEXT, text(1, 50 * MIB).as_bytes()));
    mobile.expect_text(&text(1, 50 * MIB));
    sent.join().unwrap();
}

#[test]
fn forty_mib_pass_through_a_budget_of_4_mib_to_a_slow_reader() {
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
fn messages_in_many_fragments_do_not_block_each_other() {
    let relay = Relay::start(&NARROW);
    let mut pairs: Vec<(Client, Client)> = (0..4).map(|index| relay.pair(&index.to_string())).collect();
    let fragments = |first| {
        (0..30).map(move |index| frame(if index == 0 { first } else { CONTINUES }, &vec![7; 100 * KIB]))
    };
    let senders: Vec<_> = pairs
        .iter()
        .map(|(desktop, _)| {
            let bytes: Vec<u8> = fragments(BINARY_BEGINS).chain([frame(ENDS, b"")]).flatten().collect();
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
fn fragmented_text_passes_and_its_type_is_logged() {
    let relay = Relay::start_with(&NARROW, &[("RUST_LOG", "info")]);
    let (mut desktop, mut mobile) = relay.pair("abc");
    let start = r#"{"type":"bundle_update_of_a_longer_name","p":""#;
    let text = format!("{start}{}\"}}", "x".repeat(3584 * KIB - start.len() - 2));
    let (front, back) = text.as_bytes().split_at(MIB);
    desktop.send(TEXT_BEGINS, front);
    desktop.send(ENDS, back);
    mobile.expect_text(&text);
    relay.wait_for_log_ending("Message from desktop: bundle_update_of_a_longer_name");
}

#[test]
fn announced_messages_that_do_not_come_take_no_memory_and_end_at_the_stall_timeout() {
    let relay = Relay::start(&[&NARROW[..], &["--stall-timeout", "1s"]].concat());
    let mut silent: Vec<Client> = (0..50).map(|index| relay.join("desktop", &index.to_string())).collect();
    for client in &mut silent {
        client.send_raw(&frame_header(BINARY, (3 * MIB) as u64));
    }
    let (mut desktop, mut mobile) = relay.pair("healthy");
    desktop.send_text(&text(1, 3 * MIB));
    mobile.expect_text(&text(1, 3 * MIB));
    for client in &mut silent {
        client.expect_close_code(1001);
    }
    desktop.expect_quiet();
}

#[test]
fn end_of_a_held_client_is_noticed_at_once() {
    let relay = Relay::start(&NARROW);
    let (mut desktop, _mobile) = relay.pair_with_narrow_mobile("abc");
    desktop.send_raw(&frame(BINARY, &vec![7; 3 * MIB])[..2 * MIB]);
    desktop.reset();
    relay.wait_for_log_ending("Desktop disconnected from session abc: 1006");
}

#[test]
fn memory_of_a_message_is_freed_when_its_sender_dies() {
    let relay = Relay::start(&NARROW);
    let (mut desktop, mut mobile) = relay.pair("abc");
    desktop.send_raw(&frame(BINARY, &vec![7; 3 * MIB])[..900 * KIB]);
    mobile.expect_quiet();
    desktop.reset();
    mobile.expect_notice("desktop_disconnected");
    let mut again = relay.join_peer("desktop", "abc", &mut mobile);
    again.send_text(&text(1, 3 * MIB));
    mobile.expect_text(&text(1, 3 * MIB));
}

#[test]
fn relay_with_a_used_up_budget_stops_cleanly() {
    let mut relay = Relay::start(&[&NARROW[..], &["--shutdown-grace", "2s"]].concat());
    let _stalled: Vec<_> = (0..20)
        .map(|index| {
            let (desktop, mobile) = relay.pair_with_narrow_mobile(&index.to_string());
            let mut writer = desktop.writer();
            // The thread ends when the relay does.
            thread::spawn(move || drop(writer.write_all(&frame(BINARY, &vec![7; 8 * MIB]))));
            (desktop, mobile)
        })
        .collect();
    let (mut waiting, _mobile) = relay.pair("waiting");
    waiting.send_raw(&frame_header(BINARY, (3 * MIB) as u64));
    assert_eq!(relay.stop(), Some(0));
}
