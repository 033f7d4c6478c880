//! Which values a policy may carry: written once, for the CRD's schema and for [`super::Policy::resolve`].

use super::duration;
use crate::quantity::{Bytes, Millicores};
use std::fmt;
use std::time::Duration;

/// The least and the greatest value, both allowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Limits<T> {
    pub(super) least: T,
    pub(super) most: T,
}

impl<T: PartialOrd> Limits<T> {
    pub(super) fn contain(&self, value: &T) -> bool {
        self.least <= *value && *value <= self.most
    }
}

impl<T: fmt::Display> fmt::Display for Limits<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "from {} to {}", self.least, self.most)
    }
}

impl Limits<&str> {
    /// The same as durations; the limits below all parse, which a test proves.
    pub(super) fn durations(&self) -> Limits<Duration> {
        let parse = |text| duration::parse(text).unwrap_or_default();
        Limits { least: parse(self.least), most: parse(self.most) }
    }
}

pub(super) const WEIGHT: Limits<i32> = Limits { least: 1, most: 1000 };
pub(super) const SAFETY_FACTOR: Limits<f64> = Limits { least: 1.0, most: 5.0 };
pub(super) const MIN_SAMPLES: Limits<i32> = Limits { least: 1, most: 1_000_000 };
pub(super) const MIN_CHANGE_PERCENT: Limits<i32> = Limits { least: 0, most: 100 };
pub(super) const MAX_DECREASE_PERCENT: Limits<i32> = Limits { least: 1, most: 100 };
pub(super) const MAX_UPDATES_PER_CYCLE: Limits<i32> = Limits { least: 1, most: 1000 };

pub(super) const WINDOW: Limits<&str> = Limits { least: "5m", most: "90d" };
/// The window is the other limit of a span.
pub(super) const MIN_SPAN: Limits<&str> = Limits { least: "1s", most: "90d" };
pub(super) const COOLDOWN: Limits<&str> = Limits { least: "1m", most: "7d" };
pub(super) const INTERVAL: Limits<&str> = Limits { least: "10s", most: "24h" };

pub(super) const LEAST_CPU: Millicores = Millicores(1);
pub(super) const LEAST_MEMORY: Bytes = Bytes(Bytes::MIB);
/// The longest text of a quantity.
pub(super) const QUANTITY_LENGTH: usize = 32;

/// Limits of size keep the cost of the CEL rules within the API server's budget.
pub(super) const CONTAINERS: usize = 32;
pub(super) const NAMESPACES: usize = 256;
pub(super) const MATCH_LABELS: usize = 16;
pub(super) const MATCH_EXPRESSIONS: usize = 16;
pub(super) const EXPRESSION_VALUES: usize = 32;
/// Containers that a status lists of one workload.
pub(crate) const STATUS_CONTAINERS: usize = 64;
/// A DNS label: names of namespaces, containers and providers.
pub(super) const DNS_LABEL_LENGTH: usize = 63;
/// A label key: a prefix of 253 characters, a slash and a name of 63.
pub(super) const LABEL_KEY_LENGTH: usize = 317;
/// A label's value, and the name part of its key.
pub(super) const LABEL_VALUE_LENGTH: usize = 63;

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a test that panics has failed
mod tests {
    use super::*;

    #[test]
    fn limits_of_durations_are_durations_in_order() {
        for limits in [WINDOW, MIN_SPAN, COOLDOWN, INTERVAL] {
            assert!(duration::parse(limits.least).unwrap() < duration::parse(limits.most).unwrap());
        }
    }
}
