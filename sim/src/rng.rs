//! Seeded random numbers, one stream for each concern.
//!
//! Our own SplitMix64 (Steele, Lea, Flood 2014): the demo's bytes must not change with the version
//! of a crate, which `rand` does not promise for its small generators.
//! Invariant: a stream depends only on its seed and its name, never on who else draws.

/// A stream of random numbers.
#[derive(Clone, Debug)]
pub(crate) struct Rng {
    state: u64,
}

impl Rng {
    /// The stream of `seed` for the concern called `name`.
    pub(crate) fn named(seed: u64, name: &str) -> Self {
        let mut rng = Self { state: seed ^ fnv1a(name.as_bytes()) };
        rng.next();
        rng
    }

    /// The next 64 bits.
    pub(crate) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `[0, 1)`.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Uniform in `[low, high)`.
    pub(crate) fn range(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// True with the given probability.
    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// Roughly normal with mean 0 and standard deviation 1 (sum of four uniforms, within ±3.5).
    pub(crate) fn normal(&mut self) -> f64 {
        let sum: f64 = (0..4).map(|_| self.unit()).sum();
        (sum - 2.0) * 3.0_f64.sqrt()
    }
}

/// FNV-1a, 64 bit.
pub(crate) fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Letters that Kubernetes uses in generated names (no vowels, nothing that looks alike).
const NAME_LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// `count` letters of a generated name, made from `bits`.
pub(crate) fn name_suffix(mut bits: u64, count: usize) -> String {
    let letters = NAME_LETTERS.len() as u64;
    (0..count)
        .filter_map(|_| {
            let index = usize::try_from(bits % letters).ok()?;
            bits /= letters;
            NAME_LETTERS.get(index).map(|byte| char::from(*byte))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_depends_on_seed_and_name_only() {
        let draw = |seed, name| Rng::named(seed, name).next();
        assert_eq!(draw(7, "load"), draw(7, "load"));
        assert_ne!(draw(7, "load"), draw(8, "load"));
        assert_ne!(draw(7, "load"), draw(7, "faults"));
    }

    #[test]
    fn normal_has_mean_zero_and_deviation_one() {
        let mut rng = Rng::named(1, "normal");
        let draws: Vec<f64> = (0..20_000).map(|_| rng.normal()).collect();
        let mean = draws.iter().sum::<f64>() / 20_000.0;
        let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 20_000.0;
        assert!(mean.abs() < 0.03 && (variance - 1.0).abs() < 0.05);
    }
}
