//! Weights as what they differ from those that the scale function would give.
//!
//! May not know: means, bits. Invariant: the weights add up to the total, each at least one; what
//! is foretold rests on the total and the weights before alone.

use super::bits::bit_length;
use super::scale::Scale;

/// Foretells weights one after the other.
pub(super) struct Weights {
    scale: Scale,
    before: i64,
    total: i64,
    /// About the bits of the last differences.
    usual: u32,
}

impl Weights {
    /// The weights of a digest of `total` values: at least one, and at most
    /// [`super::tdigest::MAX_WEIGHT`].
    pub(super) fn new(total: u64) -> Self {
        Self { scale: Scale::of_slot(total), before: 0, total: total.cast_signed(), usual: 0 }
    }

    /// Whether weight is left.
    #[inline]
    pub(super) fn is_any_left(&self) -> bool {
        self.before < self.total
    }

    /// The parameter of the next difference.
    #[inline]
    pub(super) fn parameter(&self) -> u32 {
        self.usual.saturating_sub(1)
    }

    /// The next weight's difference, for weights that add up to the total.
    pub(super) fn difference(&mut self, weight: u64) -> u64 {
        let weight = weight.cast_signed();
        let (expected, below, above) = self.expected();
        let (off, both) = (weight.abs_diff(expected), below.min(above).unsigned_abs());
        let difference = if off > both { both + off } else { 2 * off - u64::from(weight < expected) };
        self.advance(weight, difference);
        difference
    }

    /// The next weight, by its difference below 2^63; `None` when it is not within what is left, which
    /// is not nothing.
    #[inline]
    pub(super) fn weight(&mut self, difference: u64) -> Option<u64> {
        let (expected, below, above) = self.expected();
        let (signed, both) = (difference.cast_signed(), below.min(above));
        let off = if signed <= 2 * both {
            (signed >> 1) ^ -(signed & 1) // 0, -1, 1, -2, 2, ...
        } else if above > below {
            signed - both
        } else {
            both - signed
        };
        if off < -below || off > above {
            return None;
        }
        self.advance(expected + off, difference);
        Some((expected + off).unsigned_abs())
    }

    /// The expected weight, and how far below and above it a weight may lie.
    #[inline]
    fn expected(&self) -> (i64, i64, i64) {
        let rest = self.total - self.before;
        let expected = self.scale.heaviest(self.before).min(rest);
        (expected, expected - 1, rest - expected)
    }

    #[inline]
    fn advance(&mut self, weight: i64, difference: u64) {
        self.before += weight;
        self.usual = self.usual.midpoint(bit_length(difference));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn weights_come_back(weights in prop::collection::vec((1_u64..1 << 46, 0_u32..46), 1..60)) {
            let weights: Vec<u64> = weights.iter().map(|(weight, shift)| (weight >> shift).max(1)).collect();
            let total = weights.iter().sum();
            let (mut writing, mut reading) = (Weights::new(total), Weights::new(total));
            for weight in weights {
                prop_assert_eq!(writing.parameter(), reading.parameter());
                let difference = writing.difference(weight);
                prop_assert_eq!(reading.weight(difference), Some(weight));
            }
            prop_assert!(!reading.is_any_left());
        }

        #[test]
        fn any_difference_gives_a_weight_within_the_rest_or_none(
            total in 1_u64..=1 << 53,
            differences in prop::collection::vec((0_u64..1 << 63, 0_u32..63), 1..60),
        ) {
            let (mut weights, mut rest) = (Weights::new(total), total);
            for (difference, shift) in differences {
                if !weights.is_any_left() {
                    break;
                }
                if let Some(weight) = weights.weight(difference >> shift) {
                    prop_assert!(weight >= 1 && weight <= rest);
                    rest -= weight;
                    prop_assert_eq!(weights.is_any_left(), rest > 0);
                }
            }
        }
    }

    #[test]
    fn what_the_scale_function_gives_is_no_difference() {
        // By hand: 240 values of δ = 50 make the normalizer 50 / (4 ln 4.8 + 24) = 1.652, so that
        // after 5 values 5 * 235 / (240 * 1.652) = 2.97 are allowed, after 7 values 4.11, and after
        // 100 values 35.3 at the left edge and 135 * 105 / (240 * 1.652) = 35.8 at the right one.
        // Where 4 are expected of 233, only 3 lie below: differences from 7 on are above, by 3 less.
        let mut weights = Weights::new(240);
        // The parameters: 3 has two bits, so about one is usual then; 92 has seven, so three are.
        for (parameter, weight, difference) in [(0, 1, 0), (0, 4, 3), (0, 2, 0), (0, 93, 92), (2, 35, 0)] {
            assert_eq!(weights.parameter(), parameter, "{weight}");
            assert_eq!(weights.difference(weight), difference, "{weight}");
        }
    }
}
