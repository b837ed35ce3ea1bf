//! When the queued messages arrived, to measure how long each is in the relay.

/// Most groups. Enough for times to be exact to an eighth of the longest time that a message waits.
const GROUPS_MAX: usize = 16;

/// Messages next to each other in the queue that are taken to have arrived at the same time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ArrivalGroup {
    /// The time in microseconds modulo 2³², which is 71 minutes.
    pub micros: u32,
    /// How many messages. Stays at the largest value if there are more.
    pub messages: u32,
}

impl ArrivalGroup {
    /// Adds the messages of a later group if it is within `step` microseconds. Returns whether it is.
    const fn try_join(&mut self, later: Self, step: u32) -> bool {
        // The subtraction wraps as the clock does, so it is right for messages that wait less than 71 minutes.
        let is_near = later.micros.wrapping_sub(self.micros) <= step;
        if is_near {
            self.messages = self.messages.saturating_add(later.messages);
        }
        is_near
    }
}

/// The arrival times of queued messages, in the order of the queue. The memory is bounded: messages that arrived
/// within one step form a group with the time of the first, and the step doubles when there would be too many groups.
///
/// A message may seem older than it is, but never younger.
#[derive(Debug, Default)]
pub(super) struct ArrivalTimes {
    /// At most [`GROUPS_MAX`].
    groups: Vec<ArrivalGroup>,
    /// Starts again at 0, which is exact, whenever the queue is empty.
    step_micros: u32,
}

impl ArrivalTimes {
    /// Records messages at the end of the queue.
    pub(super) fn push(&mut self, messages: u64, micros: u32) {
        self.push_group(ArrivalGroup { micros, messages: u32::try_from(messages).unwrap_or(u32::MAX) });
    }

    fn push_group(&mut self, arrived: ArrivalGroup) {
        if self.groups.is_empty() {
            self.step_micros = 0;
        }
        while !self.try_push(arrived) {
            let step = self.step_micros.saturating_mul(2).max(1);
            self.step_micros = step;
            self.groups.dedup_by(|later, earlier| earlier.try_join(*later, step));
        }
    }

    /// Adds a group, or adds its messages to the last one if that is within one step. Returns false if all are in use.
    fn try_push(&mut self, arrived: ArrivalGroup) -> bool {
        let step = self.step_micros;
        if self.groups.last_mut().is_some_and(|last| last.try_join(arrived, step)) {
            return true;
        }
        let has_room = self.groups.len() < GROUPS_MAX;
        if has_room {
            self.groups.push(arrived);
        }
        has_room
    }

    /// Takes `messages` messages from the front of the queue, and adds their times to `taken`. Messages whose arrival
    /// was not recorded are left out.
    pub(super) fn take(&mut self, mut messages: u64, taken: &mut Vec<ArrivalGroup>) {
        while messages > 0
            && let Some(first) = self.groups.first_mut()
        {
            let from_group = u32::try_from(messages).unwrap_or(u32::MAX).min(first.messages);
            note(taken, ArrivalGroup { messages: from_group, ..*first });
            messages -= u64::from(from_group);
            first.messages -= from_group;
            // At most 15 groups move, and only when one is used up.
            if first.messages == 0 {
                self.groups.remove(0);
            }
        }
    }

    /// Adds the times of another queue behind these.
    pub(super) fn append(&mut self, other: &Self) {
        other.groups.iter().for_each(|&group| self.push_group(group));
    }
}

/// Adds messages to `taken`, to its last group if they have the same time.
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
    fn messages_leave_in_the_order_of_their_arrival() {
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
    fn many_messages_are_all_counted_and_none_seems_younger_than_it_is() {
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
    fn times_of_a_replaced_connection_come_before_newer_ones() {
        let (mut old, mut new) = (ArrivalTimes::default(), ArrivalTimes::default());
        old.push(1, 1);
        new.append(&old);
        new.push(1, 2);
        assert_eq!(taken(&mut new, 2), [(1, 1), (2, 1)]);
    }
}
