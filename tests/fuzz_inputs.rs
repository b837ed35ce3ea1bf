//! Runs every named input in `fuzz/seeds` without a nightly toolchain or a fuzzer: inputs to begin with, and inputs
//! that once found a bug.
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
fn frames_agree_with_tungstenite() {
    replay("frame", targets::frame::check);
}

#[test]
fn heads_agree_with_a_slow_strict_parser() {
    replay("handshake", targets::handshake::check);
}

#[test]
fn proxy_headers_agree_with_slow_parsers_of_both_versions() {
    replay("proxy_header", targets::proxy_header::check);
}

#[test]
fn keys_rules_ranges_and_origins_agree_with_slow_parsers() {
    replay("access_files", targets::access_files::check);
}

#[test]
fn hosts_agree_with_a_model_of_their_history() {
    replay("hosts", targets::hosts::check);
}

#[test]
fn json_verdicts_and_types_agree_with_a_full_parser() {
    replay("message", targets::message::check);
}

#[test]
fn timers_agree_with_a_sorted_map() {
    replay("wheel", targets::wheel::check);
}

#[test]
fn messages_in_transit_agree_with_a_list_of_bytes() {
    replay("transit", targets::transit::check);
}

#[test]
fn sessions_agree_with_a_model_of_their_history() {
    replay("session", targets::session::check);
}

#[test]
fn relay_survives_all_actions_of_clients_and_streams() {
    replay("relay", targets::relay::check);
}

#[test]
fn operators_are_answered_after_all_actions_of_strangers() {
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
