//! Which stream is sent next: urgency and incremental delivery (RFC 9218).
//!
//! What is more urgent goes first. Among streams of an urgency those that are of use only as a whole go one
//! after the other, and the incremental ones take turns, frame by frame, with the first of those.

use std::collections::VecDeque;

/// Urgencies, 0 the most.
const LEVELS: usize = 8;

/// How a client wants a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Priority {
    urgency: u8,
    incremental: bool,
}

impl Default for Priority {
    fn default() -> Priority {
        Priority { urgency: 3, incremental: false }
    }
}

impl Priority {
    /// Reads the field `Priority`, or what `PRIORITY_UPDATE` has of it: a dictionary (RFC 8941), of which
    /// only `u` and `i` say something. What cannot be read says nothing.
    pub(super) fn parse(value: &[u8]) -> Priority {
        let mut priority = Priority::default();
        for member in value.split(|&byte| byte == b',') {
            // Parameters mean nothing here.
            let member = member.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
            match member {
                [b'u', b'=', urgency @ b'0'..=b'7'] => priority.urgency = urgency - b'0',
                b"i" | b"i=?1" => priority.incremental = true,
                b"i=?0" => priority.incremental = false,
                _ => {}
            }
        }
        priority
    }
}

/// A stream in its place: its number, and where it is kept.
pub(super) type Waiting = (u32, usize);

/// Streams that could send something, if a window allowed it.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    levels: [Level; LEVELS],
}

#[derive(Debug, Default)]
struct Level {
    /// By number.
    in_order: VecDeque<Waiting>,
    /// In turns.
    sharing: VecDeque<Waiting>,
    /// Whose turn it is, if there are both.
    is_sharers_turn: bool,
}

impl Schedule {
    /// A stream has something to send.
    pub(super) fn add(&mut self, waiting: Waiting, priority: Priority) {
        let level = &mut self.levels[usize::from(priority.urgency)];
        if priority.incremental {
            level.sharing.push_back(waiting);
        } else {
            let at = level.in_order.partition_point(|other| other.0 < waiting.0);
            level.in_order.insert(at, waiting);
        }
    }

    /// It has not any more.
    pub(super) fn remove(&mut self, waiting: Waiting, priority: Priority) {
        let level = &mut self.levels[usize::from(priority.urgency)];
        let queue = if priority.incremental { &mut level.sharing } else { &mut level.in_order };
        queue.retain(|other| *other != waiting);
    }

    /// Whose turn it is. It is taken out.
    pub(super) fn next(&mut self) -> Option<Waiting> {
        let is_used = |level: &&mut Level| !(level.in_order.is_empty() && level.sharing.is_empty());
        let level = self.levels.iter_mut().find(is_used)?;
        let shares = level.in_order.is_empty() || (level.is_sharers_turn && !level.sharing.is_empty());
        level.is_sharers_turn = !shares;
        if shares { level.sharing.pop_front() } else { level.in_order.pop_front() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fields() {
        for (value, urgency, incremental) in [
            ("", 3, false),
            ("u=0", 0, false),
            ("u=7, i", 7, true),
            ("i=?1;x=\"y\" , u=5;z", 5, true),
            ("i, i=?0", 3, false),
            ("u=8", 3, false),
            ("u=-1, i", 3, true),
            ("u=12", 3, false),
            ("x, y=z, u=1", 1, false),
            ("\u{e9}", 3, false),
        ] {
            assert_eq!(Priority::parse(value.as_bytes()), Priority { urgency, incremental }, "{value}");
        }
    }

    fn order(streams: &[(u32, &str)], frames: usize) -> Vec<u32> {
        let mut schedule = Schedule::default();
        let priority = |id: u32| {
            let (_, value) = streams.iter().find(|(other, _)| *other == id).unwrap();
            Priority::parse(value.as_bytes())
        };
        streams.iter().for_each(|&(id, _)| schedule.add((id, 0), priority(id)));
        let mut order = Vec::new();
        for _ in 0..frames {
            let Some((id, key)) = schedule.next() else { break };
            order.push(id);
            // Three frames each.
            if order.iter().filter(|other| **other == id).count() < 3 {
                schedule.add((id, key), priority(id));
            }
        }
        order
    }

    #[test]
    fn who_goes_first() {
        let one_by_one = order(&[(5, ""), (1, ""), (3, "u=1")], 9);
        assert_eq!(one_by_one, [3, 3, 3, 1, 1, 1, 5, 5, 5]);
        let in_turns = order(&[(1, "i"), (3, "i"), (5, "u=7")], 9);
        assert_eq!(in_turns, [1, 3, 1, 3, 1, 3, 5, 5, 5]);
        // Neither kind waits for all of the other.
        let mixed = order(&[(1, ""), (3, "i"), (5, "")], 9);
        assert_eq!(mixed, [1, 3, 1, 3, 1, 3, 5, 5, 5]);
    }

    proptest! {
        /// Nobody is served before somebody more urgent, and everybody is served.
        #[test]
        fn all_are_served_by_urgency(streams in proptest::collection::vec((0u8..8, any::<bool>()), 1..20)) {
            let text: Vec<(u32, String)> = (0..).step_by(2).zip(&streams)
                .map(|(id, (urgency, incremental))| (id + 1, format!("u={urgency}, i=?{}", u8::from(*incremental))))
                .collect();
            let named: Vec<(u32, &str)> = text.iter().map(|(id, value)| (*id, &value[..])).collect();
            let order = order(&named, usize::MAX);
            prop_assert_eq!(order.len(), 3 * streams.len());
            let urgency = |id: u32| streams[(id / 2) as usize].0;
            prop_assert!(order.is_sorted_by_key(|id| urgency(*id)));
        }
    }
}
