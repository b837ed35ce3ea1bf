use super::*;

const MIB: usize = 1 << 20;

fn u32_of(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("fits")
}

#[test]
fn chunks_take_at_most_seven_eighths_of_the_budget() {
    let mut memory = Memory::new(8 * MIB);
    let chunks: Vec<Chunk> = std::iter::from_fn(|| memory.try_take_chunk()).collect();
    assert_eq!((chunks.len(), memory.used_bytes()), (7 * MIB / CHUNK_BYTES, 7 * MIB));
    assert!(memory.is_short_of_chunks() && memory.has_small_room() && memory.has_least_room());
    for chunk in chunks {
        memory.give_chunk(chunk);
    }
    assert_eq!(memory.used_bytes(), 0);
}

#[test]
fn small_memory_takes_at_most_half_and_chunks_may_use_the_rest() {
    let mut memory = Memory::new(8 * MIB);
    memory.charge_small(0, u32_of(4 * MIB));
    assert!(!memory.has_small_room(), "at most half");
    let chunks = std::iter::from_fn(|| memory.try_take_chunk()).count();
    assert_eq!(chunks * CHUNK_BYTES, 4 * MIB);
    assert!(!memory.has_least_room());
}

#[test]
fn each_receiver_may_have_the_high_water_mark_waiting_or_half_of_what_is_free() {
    let mut memory = Memory::new(8 * MIB);
    let mut waiting = Vec::new();
    let mut limits = Vec::new();
    while !memory.is_short_of_chunks() {
        let limit = memory.receiver_bytes_max();
        limits.push(limit);
        // A receiver that takes nothing, with half its limit waiting, in whole chunks.
        for _ in 0..(limit / 2).div_ceil(CHUNK_BYTES) {
            waiting.extend(memory.try_take_chunk());
        }
    }
    assert_eq!(limits[..4], [HIGH_WATER_BYTES; 4]);
    assert!(limits.is_sorted_by(|one, next| one >= next), "{limits:?}");
    assert!(limits.len() > 16, "{}", limits.len());
}

#[test]
fn without_chunks_each_receiver_may_have_a_piece_and_some_memory_stays_free() {
    let mut memory = Memory::new(256 * MIB);
    let chunks: Vec<Chunk> = std::iter::from_fn(|| memory.try_take_chunk()).collect();
    for _ in 0..1_500 {
        let piece = memory.piece_bytes_max();
        assert!(piece >= LEAST_READ_BYTES && memory.has_least_room());
        memory.charge_pieces(0, piece);
    }
    assert!(memory.pieces_bytes <= 256 * MIB / PIECES_SHARE);
    assert!(memory.piece_bytes_max() > LEAST_READ_BYTES);
    assert!(memory.has_small_room(), "pieces leave the reserved share to small messages");
    drop(chunks);
}

#[test]
fn if_memory_is_short_reads_are_small() {
    let mut memory = Memory::new(MIB);
    assert_eq!(memory.small_message_bytes_max(), SMALL_MESSAGE_BYTES_MAX);
    memory.charge_small(0, u32_of(MIB / 2 - SMALL_ROOM_BYTES_MIN));
    assert_eq!(
        (memory.read_bytes_max(), memory.small_message_bytes_max()),
        (LEAST_READ_BYTES, LEAST_READ_BYTES)
    );
    assert!(memory.has_small_room());
    memory.charge_small(0, 1);
    assert!(!memory.has_small_room() && memory.has_least_room());
}

#[test]
fn memory_without_a_limit_is_never_short() {
    let memory = Memory::default();
    assert_eq!(memory.receiver_bytes_max(), HIGH_WATER_BYTES);
    assert_eq!(memory.read_bytes_max(), RECEIVE_BUFFER_BYTES);
    assert!(memory.small_queue_bytes_max() >= 7 * HIGH_WATER_BYTES);
}

/// Every limit that depends on how much is free, except for those that a single read must keep.
fn limits(memory: &Memory) -> ([usize; 6], [bool; 4]) {
    let sizes = [
        memory.receiver_bytes_max(),
        memory.ended_bytes_max(),
        memory.hold_bytes(),
        memory.small_queue_bytes_max(),
        memory.small_message_bytes_max(),
        memory.piece_bytes_max(),
    ];
    let answers = [
        memory.is_short_of_chunks(),
        memory.has_small_room(),
        memory.has_least_room(),
        memory.may_check_take(MIB),
    ];
    (sizes, answers)
}

#[test]
fn cached_memory_counts_as_free_in_every_limit() {
    for (others, small) in [(0, 0), (40, 0), (80, MIB), (112, 0)] {
        let [mut without, mut with] = [(); 2].map(|()| Memory::new(8 * MIB));
        let mut chunks = Vec::new();
        for memory in [&mut without, &mut with] {
            memory.charge_small(0, u32_of(small));
            chunks.extend((0..others).filter_map(|_| memory.try_take_chunk()));
        }
        // As much as there is room for, in chunks, pieces and small messages.
        let cached: Vec<Chunk> = (0..16).filter_map(|_| with.try_take_chunk()).collect();
        with.charge_pieces(0, 10_000);
        with.charge_cached(0, 20_000);
        assert_ne!(limits(&with), limits(&without), "{others} chunks: what is claimed counts");
        with.note_cached(cached.len(), 10_000, true);
        assert_eq!(limits(&with), limits(&without), "{others} chunks");
        assert_eq!(with.claimed_bytes(), without.used_bytes());
        assert_eq!(with.used_bytes() - without.used_bytes(), cached.len() * CHUNK_BYTES + 30_000);
        with.note_cached(cached.len(), 10_000, false);
        assert_ne!(limits(&with), limits(&without), "{others} chunks: what is to be written again counts");
    }
}

#[test]
fn what_is_cached_gives_way_once_only_the_reserved_eighth_is_free() {
    let mut memory = Memory::new(8 * MIB);
    let chunks: Vec<Chunk> = std::iter::from_fn(|| memory.try_take_chunk()).collect();
    memory.charge_small(0, u32_of(MIB));
    assert!(!memory.is_crowded(), "nothing is cached, so nothing can give way");
    memory.note_cached(1, 0, true);
    assert!(memory.is_crowded());
    memory.charge_small(u32_of(MIB), 1);
    assert!(memory.is_crowded());
    memory.charge_small(1, 0);
    assert!(!memory.is_crowded(), "an eighth is free");
    memory.charge_cached(0, 1);
    assert!(memory.is_crowded(), "small messages that are kept count as well");
    drop(chunks);
}

#[test]
fn whatever_is_cached_a_read_finds_the_memory_that_the_limits_promise() {
    for bytes_max in [MIB, 3 * MIB + 12_345, 64 * MIB] {
        let mut memory = Memory::new(bytes_max);
        memory.charge_cached(0, bytes_max - bytes_max / SMALL_SHARE);
        assert!(!memory.is_crowded(), "so nothing more gives way");
        assert_eq!(memory.receiver_bytes_max(), Memory::new(bytes_max).receiver_bytes_max());
        assert!(memory.try_take_chunk().is_some(), "for what is read into a chunk");
        let replies = memory.read_bytes_max() * REPLIES_PER_BYTE_MAX;
        assert!(memory.used_bytes() - CHUNK_BYTES + replies <= bytes_max, "for all replies to a read");
    }
}

#[test]
fn a_chunk_is_not_taken_before_its_room_is_free() {
    let mut memory = Memory::new(8 * MIB);
    memory.charge_cached(0, 8 * MIB - CHUNK_BYTES + 1);
    assert!(!memory.is_short_of_chunks() && memory.try_take_chunk().is_none());
    memory.charge_cached(1, 0);
    assert!(memory.try_take_chunk().is_some());
    assert_eq!(memory.used_bytes(), 8 * MIB);
}

#[test]
fn reads_get_shorter_while_what_is_cached_fills_the_budget() {
    let mut memory = Memory::new(64 * MIB);
    let mut cached = 0;
    let mut reads = Vec::new();
    for left in [64 * MIB, 2 * MIB, 24 * 50_000, 24 * 1_000, 24 * 300, 1] {
        memory.charge_cached(cached, 64 * MIB - left);
        cached = 64 * MIB - left;
        reads.push(memory.read_bytes_max());
    }
    let full = RECEIVE_BUFFER_BYTES;
    assert_eq!(reads, [full, full, 50_000, 1_000, 300, LEAST_READ_BYTES]);
}

#[test]
fn what_a_client_that_is_back_is_to_get_shares_the_part_of_the_chunks() {
    let mut memory = Memory::new(8 * MIB);
    memory.charge_cached(0, 6 * MIB);
    assert_eq!((memory.receiver_bytes_max(), memory.claimed_bytes()), (HIGH_WATER_BYTES, 0));
    memory.charge_cached(6 * MIB, 0);
    memory.charge_returned(0, 6 * MIB);
    assert_eq!((memory.claimed_bytes(), memory.ended_bytes_max()), (6 * MIB, MIB));
    let chunks: Vec<Chunk> = std::iter::from_fn(|| memory.try_take_chunk()).collect();
    assert_eq!(chunks.len() * CHUNK_BYTES, MIB, "seven eighths together");
    assert!(memory.has_small_room(), "the reserved share is left to small messages");
    let small = SmallBytes { returned: 6 * MIB, ..SmallBytes::default() };
    memory.check_invariants([(chunks.len(), 0), (0, 0)], small);
    memory.charge_returned(6 * MIB, 0);
    assert!(!memory.is_short_of_chunks());
}
