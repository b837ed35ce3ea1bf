//! What the clients of themes send.

use super::{Fault, Say, Scope, share};
use crate::random::Random;

pub(super) fn speech(random: &mut Random, scope: &Scope) -> Say {
    let fragments = if random.per_mille(share::IS_FRAGMENTED) { 2 + random.below(6) } else { 1 };
    let pings_between = random.per_mille(share::HAS_PINGS_BETWEEN);
    if scope.is_crowded && random.per_mille(share::IS_OF_CROWD) {
        return speech_of_crowd(random, scope, pings_between);
    }
    if scope.is_heavy && random.per_mille(share::IS_HEAVY) {
        return heavy_speech(random, scope, fragments, pings_between);
    }
    if scope.is_slow && random.per_mille(share::IS_BAD_JSON_IF_SLOW) {
        return Say::BadJson(random.below(usize::MAX));
    }
    if scope.is_slow && random.per_mille(share::IS_LONG_TEXT_IF_SLOW) {
        let bytes = (16_000 + random.below(290_000)).min(scope.size_max);
        return Say::Text { bytes, fragments, pings_between };
    }
    ordinary_speech(random, scope, fragments, pings_between)
}

/// Messages that fill a small budget.
fn speech_of_crowd(random: &mut Random, scope: &Scope, pings_between: bool) -> Say {
    #[derive(Clone, Copy)]
    enum Kind {
        Part,
        PartOfSmall,
        BurstOfLargeSmall,
        PartOfMany,
        LongBurst,
        Binary,
    }
    const KINDS: [(u32, Kind); 6] = [
        (1, Kind::Part),
        (1, Kind::PartOfSmall),
        (2, Kind::BurstOfLargeSmall),
        (2, Kind::PartOfMany),
        (1, Kind::LongBurst),
        (2, Kind::Binary),
    ];
    let bytes = random.pick(&[17_000, 100_000, 300_000, scope.size_max]).min(scope.size_max);
    match random.among(&KINDS) {
        Kind::Part if random.per_mille(share::PART_OF_CROWD_IS_SPOILED) => spoiled(random, bytes),
        // Often little more than the header.
        Kind::Part => Say::Part { bytes, sent_per_mille: random.pick(&[3, 30, 100, 500, 990]) },
        Kind::PartOfSmall => Say::Part { bytes: 16_000, sent_per_mille: 900 },
        Kind::BurstOfLargeSmall => Say::Burst { messages: 1 + random.below(8), bytes: 16_000 },
        Kind::PartOfMany => {
            Say::PartOfMany { bytes, fragments: 2 + random.below(6), sent_per_mille: random.below(1000) }
        }
        Kind::LongBurst => Say::Burst {
            messages: 100 + random.below(1_000),
            bytes: random.among(&[(2, 1), (1, 100), (1, 1_000)]),
        },
        Kind::Binary => Say::Binary { bytes, fragments: 1 + random.below(12), pings_between },
    }
}

/// Messages of megabytes.
fn heavy_speech(random: &mut Random, scope: &Scope, fragments: usize, pings_between: bool) -> Say {
    #[derive(Clone, Copy)]
    enum Kind {
        Text,
        Binary,
        PartOfLongest,
        Spoiled,
        Burst,
    }
    const KINDS: [(u32, Kind); 5] =
        [(1, Kind::Text), (1, Kind::Binary), (2, Kind::PartOfLongest), (1, Kind::Spoiled), (1, Kind::Burst)];
    let bytes = random.pick(&[60_000, 300_000, scope.size_max]).min(scope.size_max);
    match random.among(&KINDS) {
        Kind::Text => Say::Text { bytes, fragments, pings_between },
        Kind::Binary => Say::Binary { bytes, fragments, pings_between },
        Kind::PartOfLongest => {
            Say::Part { bytes: scope.size_max, sent_per_mille: random.pick(&[300, 600, 900, 990]) }
        }
        Kind::Spoiled => spoiled(random, bytes),
        Kind::Burst => Say::Burst { messages: 1 + random.below(30), bytes: 60_000.min(scope.size_max) },
    }
}

fn ordinary_speech(random: &mut Random, scope: &Scope, fragments: usize, pings_between: bool) -> Say {
    #[derive(Clone, Copy)]
    enum Kind {
        Text,
        Binary,
        Burst,
        AppPing,
        BadJson,
        Ping,
        Pong,
        Part,
        Close,
    }
    const KINDS: [(u32, Kind); 9] = [
        (50, Kind::Text),
        (20, Kind::Binary),
        (12, Kind::Burst),
        (8, Kind::AppPing),
        (6, Kind::BadJson),
        (10, Kind::Ping),
        (4, Kind::Pong),
        (4, Kind::Part),
        (3, Kind::Close),
    ];
    match random.among(&KINDS) {
        Kind::Text => Say::Text { bytes: random.length(scope.size_max), fragments, pings_between },
        Kind::Binary => Say::Binary { bytes: random.length(scope.size_max), fragments, pings_between },
        Kind::Burst => Say::Burst { messages: 1 + random.below(40), bytes: random.below(300) },
        Kind::AppPing => Say::AppPing,
        Kind::BadJson => Say::BadJson(random.below(usize::MAX)),
        Kind::Ping => Say::Ping(random.below(126)),
        Kind::Pong => Say::Pong(random.below(126)),
        Kind::Part => Say::Part { bytes: random.length(scope.size_max), sent_per_mille: random.below(1000) },
        Kind::Close => Say::Close {
            code: random.pick(&[None, Some(1000), Some(1001), Some(1011), Some(3000), Some(4999)]),
            reason: random.below(124),
        },
    }
}

/// A text that becomes wrong, usually after most of it.
pub(super) fn spoiled(random: &mut Random, bytes: usize) -> Say {
    let choice = random.below(usize::MAX);
    let fault =
        random.among(&[(2, Fault::Json), (1, Fault::Utf8), (1, Fault::Frame(choice)), (1, Fault::Close)]);
    let at_per_mille = random.among(&[(1, 990), (1, 950), (2, 900), (1, 500)]) + random.below(10);
    Say::Spoiled { bytes, fragments: 1 + random.below(3), at_per_mille, fault }
}

pub(super) fn offence(random: &mut Random) -> Say {
    #[derive(Clone, Copy)]
    enum Kind {
        NotUtf8,
        TooLarge,
        BadJson,
        Broken,
    }
    const KINDS: [(u32, Kind); 4] =
        [(1, Kind::NotUtf8), (1, Kind::TooLarge), (1, Kind::BadJson), (2, Kind::Broken)];
    let fragments = 1 + random.below(3);
    match random.among(&KINDS) {
        Kind::NotUtf8 => Say::NotUtf8 { fragments },
        Kind::TooLarge => Say::TooLarge { fragments },
        Kind::BadJson => Say::BadJson(random.below(usize::MAX)),
        Kind::Broken => Say::Broken(random.below(usize::MAX)),
    }
}
