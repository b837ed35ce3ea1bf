//! When the messages that wait had come, to measure how long they are in the relay.

/// Most groups kept apart: enough to tell times from each other that differ by an eighth of the longest.
const GROUPS_MAX: usize = 16;

/// Messages that came at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ArrivalGroup {
    /// When, in microseconds modulo 2³²: 71 minutes.
    pub micros: u32,
    /// How many.
    pub messages: u32,
}

/// Runs of messages in the order of the queue. Takes the same memory however many there are: those that came within
/// one step count from the first of them, and where the groups are too many, the step doubles.
#[derive(Debug, Default)]
pub(super) struct ArrivalTimes {
    groups: [ArrivalGroup; GROUPS_MAX],
    len: usize,
    step_micros: u32,
}

impl ArrivalTimes {
    /// Notes more messages at the end of the queue.
    pub(super) fn push(&mut self, messages: u64, micros: u32) {
        self.push_group(ArrivalGroup { micros, messages: u32::try_from(messages).unwrap_or(u32::MAX) });
    }

    fn push_group(&mut self, arrived: ArrivalGroup) {
        if self.len == 0 {
            self.step_micros = 0;
        }
        while !self.try_push(arrived) {
            self.step_micros = self.step_micros.saturating_mul(2).max(1);
            let (groups, len) = (self.groups, self.len);
            self.len = 0;
            // No more than there were.
            groups.iter().take(len).for_each(|&group| _ = self.try_push(group));
        }
    }

    fn try_push(&mut self, arrived: ArrivalGroup) -> bool {
        let last = self.len.checked_sub(1).and_then(|last| self.groups.get_mut(last));
        if let Some(last) = last.filter(|last| arrived.micros.wrapping_sub(last.micros) <= self.step_micros) {
            last.messages = last.messages.saturating_add(arrived.messages);
            return true;
        }
        let Some(place) = self.groups.get_mut(self.len) else { return false };
        *place = arrived;
        self.len += 1;
        true
    }

    /// Takes so many messages from the front of the queue, and adds what is known of them to `taken`.
    pub(super) fn take(&mut self, mut messages: u64, taken: &mut Vec<ArrivalGroup>) {
        while messages > 0 && self.len > 0 {
            let [first, ..] = &mut self.groups;
            let from_group = u32::try_from(messages).unwrap_or(u32::MAX).min(first.messages);
            note(taken, ArrivalGroup { messages: from_group, ..*first });
            messages -= u64::from(from_group);
            first.messages -= from_group;
            if first.messages == 0 {
                self.groups.copy_within(1..self.len, 0);
                self.len -= 1;
            }
        }
    }

    /// Puts those of another queue behind these.
    pub(super) fn append(&mut self, other: &Self) {
        other.groups.iter().take(other.len).for_each(|&group| self.push_group(group));
    }
}

/// Adds messages to those that were taken.
pub(super) fn note(taken: &mut Vec<ArrivalGroup>, arrived: ArrivalGroup) {
    match taken.last_mut().filter(|last| last.micros == arrived.micros) {
        Some(last) => last.messages = last.messages.saturating_add(arrived.messages),
        None => taken.push(arrived),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(arrivals: &mut ArrivalTimes, messages: u64) -> Vec<(u32, u32)> {
        let mut taken = Vec::new();
        arrivals.take(messages, &mut taken);
        taken.into_iter().map(|ArrivalGroup { micros, messages }| (micros, messages)).collect()
    }

    #[test]
    fn messages_leave_in_the_order_in_which_they_came() {
        let mut arrivals = ArrivalTimes::default();
        for micros in [5, 5, 7, 9] {
            arrivals.push(1, micros);
        }
        assert_eq!(taken(&mut arrivals, 1), [(5, 1)]);
        assert_eq!(taken(&mut arrivals, 2), [(5, 1), (7, 1)]);
        assert_eq!(taken(&mut arrivals, 9), [(9, 1)], "no more than there are");
        assert_eq!(taken(&mut arrivals, 1), []);
    }

    #[test]
    fn however_many_wait_none_is_lost_and_none_seems_younger_than_it_is() {
        let mut arrivals = ArrivalTimes::default();
        for micros in 0..1000 {
            arrivals.push(1, micros);
        }
        let groups = taken(&mut arrivals, 1000);
        assert_eq!(groups.iter().map(|(_, messages)| messages).sum::<u32>(), 1000);
        let mut came_at = 0;
        for (micros, messages) in groups {
            assert!(micros <= came_at && came_at - micros <= 1000 / 8, "{micros} for {came_at}");
            came_at += messages;
        }
    }

    #[test]
    fn those_of_a_replaced_connection_stand_before_newer_ones() {
        let (mut old, mut new) = (ArrivalTimes::default(), ArrivalTimes::default());
        old.push(1, 1);
        new.append(&old);
        new.push(1, 2);
        assert_eq!(taken(&mut new, 2), [(1, 1), (2, 1)]);
    }
}
