//! Every named input in `fuzz/seeds` on any machine, without nightly or a fuzzer: what the targets
//! begin with, and what they once found.
#![expect(
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    clippy::panic,
    unreachable_pub,
    reason = "the targets decode operations from bytes, and fail by panicking"
)]

use std::fs;
use std::panic;
use std::path::Path;

#[path = "../fuzz/src/lib.rs"]
mod targets;

#[test]
fn frames_bring_the_messages_and_refusals_that_tungstenite_finds() {
    replay("frame", targets::frame::check);
}

#[test]
fn heads_are_read_as_a_slow_and_strict_reader_reads_them() {
    replay("handshake", targets::handshake::check);
}

#[test]
fn proxy_headers_are_read_as_slow_readers_of_both_versions_read_them() {
    replay("proxy_header", targets::proxy_header::check);
}

#[test]
fn keys_rules_ranges_and_origins_are_what_slow_readers_find() {
    replay("access_files", targets::access_files::check);
}

#[test]
fn hosts_are_admitted_locked_out_and_forgotten_as_their_history_says() {
    replay("hosts", targets::hosts::check);
}

#[test]
fn texts_are_json_and_have_the_type_that_a_value_has() {
    replay("message", targets::message::check);
}

#[test]
fn timers_fire_as_from_a_sorted_map() {
    replay("wheel", targets::wheel::check);
}

#[test]
fn receivers_of_messages_in_transit_are_sent_what_a_list_of_bytes_holds() {
    replay("transit", targets::transit::check);
}

#[test]
fn sessions_pair_and_end_as_their_history_says() {
    replay("session", targets::session::check);
}

#[test]
fn relay_survives_whatever_its_clients_and_their_streams_do() {
    replay("relay", targets::relay::check);
}

#[test]
fn operators_are_answered_whatever_they_and_strangers_do() {
    replay("admin", targets::admin::check);
}

/// Runs one target with each of its inputs, and names those that fail.
fn replay(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let mut inputs: Vec<_> = fs::read_dir(folder)
        .expect("the folder can be read")
        .map(|entry| entry.expect("the entry can be read").path())
        .collect();
    inputs.sort();
    assert!(!inputs.is_empty(), "the target has inputs");
    let is_refuted = |path: &&Path| {
        let data = fs::read(path).expect("the input can be read");
        panic::catch_unwind(|| check(&data)).is_err()
    };
    let refuted: Vec<&Path> = inputs.iter().map(AsRef::as_ref).filter(is_refuted).collect();
    assert!(refuted.is_empty(), "refuted by {refuted:?}");
}
