//! A policy whose changes do harm again and again is stopped as a whole.
//!
//! The rule: 3 workloads rolled back within an hour; or 2, where that is more than 5 % of at least 3 workloads changed in
//! that hour. One rollback alone never opens the circuit: it is 5 % of any policy that changes fewer than 20 workloads, and
//! says something of that workload only.

use super::Reason;
use jiff::{SignedDuration, Timestamp};

/// An open circuit: no workload of the policy is changed until somebody edits the policy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Circuit {
    /// When it opened.
    pub opened_at: Timestamp,
    /// It is open as long as this is the policy's generation.
    pub generation: i64,
    /// Workloads that had been rolled back in the hour before.
    pub rollbacks: u32,
    /// Workloads that had been changed in that hour, those rolled back included.
    pub changed: u32,
}

impl Circuit {
    /// Why it holds every workload of the policy.
    pub fn reason(&self) -> Reason {
        Reason::CircuitOpen { rollbacks: self.rollbacks, changed: self.changed }
    }
}

const WITHIN: SignedDuration = SignedDuration::from_hours(1);
const ROLLBACKS: usize = 3;
const SHARE_ROLLBACKS: usize = 2;
const SHARE_CHANGED: usize = 3;
const SHARE_PERCENT: usize = 5;

/// Whether the latest of these rollbacks opens the circuit, and with how many rollbacks and changed workloads: one time
/// for each workload that was rolled back, one of the last write for each that was changed. What happened up to `closed`,
/// when the circuit last opened, counts no more.
pub fn opens(rollbacks: &[Timestamp], writes: &[Timestamp], closed: Option<Timestamp>) -> Option<(u32, u32)> {
    let is_new = |at: &Timestamp| closed.is_none_or(|closed| *at > closed);
    let latest = *rollbacks.iter().filter(|at| is_new(at)).max()?;
    let within = |at: &&Timestamp| is_new(at) && **at <= latest && latest.duration_since(**at) < WITHIN;
    let back = rollbacks.iter().filter(within).count();
    let changed = writes.iter().filter(within).count().max(back);
    let share = back >= SHARE_ROLLBACKS && changed >= SHARE_CHANGED && back * 100 > changed * SHARE_PERCENT;
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    (back >= ROLLBACKS || share).then_some((number(back), number(changed)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minutes: &[i64]) -> Vec<Timestamp> {
        minutes.iter().map(|minute| Timestamp::UNIX_EPOCH + SignedDuration::from_mins(*minute)).collect()
    }

    const MANY: &[i64] = &[
        1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30,
        31, 32, 33, 34, 35, 36, 37, 38, 39, 40,
    ];

    /// Minutes of rollbacks, of changes, of the circuit's last opening; rollbacks and changes counted.
    type Row = (&'static str, &'static [i64], &'static [i64], Option<i64>, Option<(u32, u32)>);

    #[test]
    fn the_rule_as_a_table() {
        let cases: [Row; 10] = [
            ("nothing", &[], &[1, 2, 3], None, None),
            ("one of one", &[1], &[1], None, None),
            ("one of many", &[40], MANY, None, None),
            ("one of two", &[2], &[1, 2], None, None),
            ("two of two", &[1, 2], &[1, 2], None, None),
            ("two of three", &[2, 3], &[1, 2, 3], None, Some((2, 3))),
            ("two of forty are 5 %, not more", &[39, 40], MANY, None, None),
            ("three of forty", &[38, 39, 40], MANY, None, Some((3, 40))),
            ("three, but not within an hour", &[1, 31, 61], &[1, 31, 61], None, None),
            ("those before the circuit last opened are past", &[1, 2, 3, 4], &[1, 2, 3, 4], Some(3), None),
        ];
        for (name, rollbacks, changes, closed, expected) in cases {
            let closed = closed.map(|minute| at(&[minute])).and_then(|times| times.first().copied());
            assert_eq!(opens(&at(rollbacks), &at(changes), closed), expected, "{name}");
        }
    }

    #[test]
    fn what_changes_after_the_latest_rollback_does_not_count_for_it() {
        assert_eq!(opens(&at(&[1, 2]), &at(&[1, 2, 3]), None), None);
    }
}
