//! Tests of what the model allows.

use std::net::Ipv4Addr;

use apptuner_relay::relay::{ConnectionId, Now, Readiness, Settings};

use super::Model;
use super::conn::Phase;
use super::expected::{Expected, Message};
use crate::client::Content;

#[test]
fn complete_head_may_stay_unread_in_the_turn_in_which_memory_is_freed() {
    let settings = Settings { max_buffered: 2 << 20, max_message_size: 1 << 10, ..Settings::default() };
    for (queued_bytes, may_go) in [(2 << 20, true), (0, false)] {
        let mut model = Model::new(settings.clone(), false, Now::default());
        let [reader, head] = [0, 1].map(|slot| ConnectionId { slot, generation: 0 });
        for id in [reader, head] {
            model.accept(id, Ipv4Addr::LOCALHOST.into());
        }
        model.conns[0].phase = Phase::Open;
        let content = Content::valid(2, vec![0; queued_bytes]);
        model.conns[0].queue(Expected::Message(Message::new(1, content, queued_bytes, true, false)));
        model.note_readiness(1, Readiness { is_read_closed: true, ..Readiness::default() });
        model.used_max = queued_bytes;
        model.begin_turn();
        model.conns[0].take_messages();
        assert_eq!(model.closed(head).is_ok(), may_go, "{queued_bytes}");
    }
}
