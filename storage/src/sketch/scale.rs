//! The scale function k2 of the t-digest: how heavy a centroid may be, by the weight left of it.
//!
//! Encoded weights are what they differ from [`Scale::heaviest`], so this is part of the format.
//! Invariant: every machine gets the same bits, because only `+ - * /` and `sqrt` are used, which
//! IEEE 754 defines to the last bit; no `ln`, no `exp`, no fused multiplication.

use std::cell::Cell;

use super::tdigest::SLOT_COMPRESSION;

/// Limits of the weights in a digest of a given total.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    total: f64,
    /// One over total and normalizer; zero where nothing may be joined.
    factor: f64,
    inverse: f64,
    /// `(inverse - total) / 2`.
    offset: f64,
}

thread_local! {
    /// The last scale of a slot: the slots of a window mostly hold as many values as one another, and the logarithm takes
    /// a tenth of reading a digest.
    static LAST: Cell<(u64, Scale)> = const { Cell::new((0, Scale::NOTHING)) };
}

impl Scale {
    /// The limits of no values: none may be joined.
    const NOTHING: Self = Self { total: 0.0, factor: 0.0, inverse: 0.0, offset: 0.0 };

    /// The limits of a slot's digest.
    #[inline]
    pub(super) fn of_slot(total: u64) -> Self {
        let (known, scale) = LAST.get();
        if known == total {
            return scale;
        }
        let scale = Self::new(total, SLOT_COMPRESSION);
        LAST.set((total, scale));
        scale
    }

    /// `compression` is δ. Of `δ / 2` values or fewer none are joined.
    pub(super) fn new(total: u64, compression: f64) -> Self {
        let total = total as f64;
        if total <= compression / 2.0 {
            return Self { total, ..Self::NOTHING };
        }
        let inverse = total * (compression / (4.0 * ln(total / compression) + 24.0).max(4.0));
        Self { total, factor: 1.0 / inverse, inverse, offset: (inverse - total) / 2.0 }
    }

    /// The weight that k2 allows a cluster with an edge at `before`: `total q (1 - q) / normalizer`,
    /// where `q` is the share of the weight left of the edge.
    #[inline]
    pub(super) fn limit(&self, before: f64) -> f64 {
        before * (self.total - before) * self.factor
    }

    /// The largest weight that the limits at both edges of a cluster right of `before` allow, and
    /// one at least. Signed numbers, because these become floats and back in half the time.
    #[inline]
    #[allow(clippy::cast_possible_truncation)] // that is wanted
    pub(super) fn heaviest(&self, before: i64) -> i64 {
        let before = before as f64;
        let left = self.limit(before);
        // Limits fall from the middle to both sides alike: the edge nearer to an end has the lower.
        if before + before + left <= self.total {
            return (left as i64).max(1);
        }
        // Where `edge - before = limit(edge)`, which is quadratic in `edge`.
        let edge = (self.offset * self.offset + self.inverse * before).sqrt() - self.offset;
        ((edge - before) as i64).max(1)
    }
}

/// The natural logarithm of a positive normal number, to 12 digits.
fn ln(x: f64) -> f64 {
    let bits = x.to_bits();
    let exponent = f64::from((bits >> 52) as u32) - 1023.0; // eleven bits
    let mantissa = f64::from_bits(bits & ((1 << 52) - 1) | 1023 << 52);
    // ln m = 2 artanh t, and t is a third at most.
    let t = (mantissa - 1.0) / (mantissa + 1.0);
    let series = (0..=11).rev().fold(0.0, |sum, i| sum * (t * t) + 1.0 / f64::from(2 * i + 1));
    exponent * std::f64::consts::LN_2 + 2.0 * t * series
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_logarithm_is_that_of_the_standard_library() {
        for i in 0..200_000 {
            let x = 0.02 * 1.0002_f64.powi(i) + 1e-3 * f64::from(i % 7);
            assert!((ln(x) - x.ln()).abs() < 1e-11, "{x}: {} {}", ln(x), x.ln());
        }
    }

    #[test]
    fn the_heaviest_weight_is_the_largest_within_both_limits() {
        for total in [1_i64, 7, 25, 26, 60, 240, 999, 5_760, 1_000_000] {
            let scale = Scale::new(total.unsigned_abs(), 50.0);
            let mut before = 0;
            while before < total {
                let heaviest = scale.heaviest(before);
                let at = |w: i64| (w as f64) <= scale.limit(before as f64).min(scale.limit((before + w) as f64)) + 1e-9;
                let searched = (1..=total - before).take_while(|w| at(*w)).last().unwrap_or(1);
                assert!(heaviest.abs_diff(searched) <= 1, "{total} {before}: {heaviest} {searched}");
                before += heaviest;
            }
        }
    }

    #[test]
    fn no_total_gives_a_weight_beyond_it() {
        for shift in 0..=53 {
            for total in [(1_i64 << shift) - i64::from(shift > 0), 1 << shift] {
                let scale = Scale::new(total.unsigned_abs(), 50.0);
                for before in [0, 1, total / 3, total / 2, total - 1, total] {
                    let heaviest = scale.heaviest(before);
                    assert!(heaviest >= 1 && heaviest <= total.max(1), "{total} {before} {heaviest}");
                }
            }
        }
    }
}
