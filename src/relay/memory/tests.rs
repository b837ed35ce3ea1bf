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
