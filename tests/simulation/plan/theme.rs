//! The theme of a run: which steps it has, how long its messages are, how its clients read.

use super::share;
use crate::random::Random;

/// The theme of a run.
#[expect(clippy::struct_excessive_bools, reason = "independent facts about a theme")]
pub(super) struct Theme {
    /// How often it is chosen, relative to the others.
    share: u32,
    pub(super) steps: Steps,
    /// There are messages of megabytes.
    pub(super) is_heavy: bool,
    /// Clients read little at once, and late.
    pub(super) is_slow: bool,
    /// There are many clients, all paired from the start.
    pub(super) is_crowded: bool,
    /// There are even more clients, all paired from the start, and the relay shuts down during the run.
    pub(super) is_stopped: bool,
    /// Plans with a small shared budget, per mille.
    pub(super) tight_per_mille: u32,
}

/// The weights of a theme's steps.
#[derive(Clone, Copy)]
pub(super) struct Steps {
    connect: u32,
    say: u32,
    offend: u32,
    read: u32,
    half_close: u32,
    reset: u32,
    break_writes: u32,
    vanish: u32,
    stale_events: u32,
    exhaust: u32,
    wait: u32,
    freeze: u32,
    shut_down: u32,
}

/// The kind of a step.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Connect,
    Say,
    Offend,
    Read,
    HalfClose,
    Reset,
    BreakWrites,
    Vanish,
    StaleEvents,
    Exhaust,
    Wait,
    Freeze,
    ShutDown,
}

const CHAT: Steps = Steps {
    connect: 12,
    say: 70,
    offend: 2,
    read: 4,
    half_close: 2,
    reset: 1,
    break_writes: 1,
    vanish: 1,
    stale_events: 2,
    exhaust: 1,
    wait: 25,
    freeze: 1,
    shut_down: 0,
};
const CHURN: Steps = Steps {
    connect: 50,
    say: 40,
    read: 3,
    half_close: 8,
    reset: 6,
    break_writes: 2,
    vanish: 3,
    stale_events: 5,
    wait: 15,
    ..CHAT
};
const PRESSURE: Steps =
    Steps { connect: 10, say: 90, offend: 1, read: 14, half_close: 3, reset: 2, vanish: 2, wait: 20, ..CHAT };
const SLOWNESS: Steps =
    Steps { connect: 25, say: 80, offend: 12, read: 15, half_close: 4, reset: 2, vanish: 3, ..CHAT };
const HOSTILE: Steps = Steps {
    connect: 40,
    say: 30,
    offend: 40,
    read: 8,
    half_close: 6,
    reset: 4,
    break_writes: 3,
    vanish: 4,
    stale_events: 6,
    wait: 20,
    freeze: 2,
    ..CHAT
};
const WAIT_MAX: Steps =
    Steps { connect: 14, say: 20, read: 6, vanish: 6, stale_events: 1, wait: 60, freeze: 4, ..CHAT };
const SHORTAGE: Steps = Steps { connect: 12, read: 12, wait: 18, ..PRESSURE };
const SHUTDOWN: Steps = Steps {
    connect: 25,
    say: 50,
    offend: 5,
    read: 8,
    half_close: 4,
    reset: 2,
    vanish: 2,
    wait: 20,
    shut_down: 4,
    ..CHAT
};
const DRAIN: Steps =
    Steps { connect: 6, read: 8, half_close: 3, reset: 2, vanish: 2, exhaust: 0, wait: 30, ..CHAT };

const THEMES: [Theme; 13] = [
    theme(18, CHAT),
    theme(20, CHURN),
    heavy(4, PRESSURE),
    Theme { is_slow: true, ..heavy(5, PRESSURE) },
    Theme { is_slow: true, tight_per_mille: share::IS_TIGHT_IF_SLOW, ..theme(20, SLOWNESS) },
    theme(15, HOSTILE),
    theme(12, WAIT_MAX),
    theme(6, SHUTDOWN),
    Theme { is_slow: true, ..heavy(2, SHUTDOWN) },
    crowded(9, SHORTAGE),
    Theme { is_slow: true, ..crowded(9, SHORTAGE) },
    Theme { is_stopped: true, ..theme(8, DRAIN) },
    Theme { is_slow: true, is_stopped: true, tight_per_mille: share::IS_TIGHT_IF_SLOW, ..theme(4, DRAIN) },
];

const fn theme(share: u32, steps: Steps) -> Theme {
    Theme {
        share,
        steps,
        is_heavy: false,
        is_slow: false,
        is_crowded: false,
        is_stopped: false,
        tight_per_mille: share::IS_TIGHT,
    }
}

const fn heavy(share: u32, steps: Steps) -> Theme {
    Theme { is_heavy: true, tight_per_mille: share::IS_TIGHT_IF_HEAVY, ..theme(share, steps) }
}

const fn crowded(share: u32, steps: Steps) -> Theme {
    Theme { is_crowded: true, tight_per_mille: share::IS_TIGHT_IF_CROWDED, ..heavy(share, steps) }
}

impl Theme {
    pub(super) fn choose(random: &mut Random) -> &'static Self {
        &THEMES[random.weighted(&THEMES.map(|theme| theme.share))]
    }
}

impl Steps {
    pub(super) fn choose(self, random: &mut Random) -> Kind {
        random.among(&[
            (self.connect, Kind::Connect),
            (self.say, Kind::Say),
            (self.offend, Kind::Offend),
            (self.read, Kind::Read),
            (self.half_close, Kind::HalfClose),
            (self.reset, Kind::Reset),
            (self.break_writes, Kind::BreakWrites),
            (self.vanish, Kind::Vanish),
            (self.stale_events, Kind::StaleEvents),
            (self.exhaust, Kind::Exhaust),
            (self.wait, Kind::Wait),
            (self.freeze, Kind::Freeze),
            (self.shut_down, Kind::ShutDown),
        ])
    }
}
