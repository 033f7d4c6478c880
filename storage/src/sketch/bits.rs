//! Bits and numbers in few of them: small numbers are short, and none is long.
//!
//! A number `v` with parameter `k` is as many one bits as `v >> k` has bits, a zero bit, and the
//! bits of `v` below its highest one, but `k` at least. Bits fill bytes from the highest down; the
//! last byte is filled with zeros. Invariant: reading never panics, and what is read beyond
//! the input is zero and told.

use crate::codec::DecodeError;

/// The largest parameter that [`best_parameter`] gives: a nibble.
const MAX_PARAMETER: u32 = 15;
/// Bits of the largest number.
const MAX_BITS: u32 = 53;

/// The parameter that makes `values` shortest.
pub(super) fn best_parameter(values: &[u64]) -> u32 {
    let length = |k: u32| values.iter().map(|v| number_length(k, *v)).sum::<u32>();
    (0..=MAX_PARAMETER).min_by_key(|k| length(*k)).unwrap_or(0)
}

/// How many bits a number has.
#[inline]
pub(super) fn bit_length(value: u64) -> u32 {
    u64::BITS - value.leading_zeros()
}

fn number_length(k: u32, value: u64) -> u32 {
    let ones = bit_length(value >> k);
    ones + 1 + k + ones.saturating_sub(1)
}

/// Appends bits to bytes.
pub(super) struct BitWriter<'a> {
    out: &'a mut Vec<u8>,
    /// The last `len` bits are not written yet.
    held: u64,
    len: u32,
}

impl<'a> BitWriter<'a> {
    pub(super) fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out, held: 0, len: 0 }
    }

    /// Appends the low `n` bits of `bits`, at most 56.
    #[allow(clippy::cast_possible_truncation)] // a byte is cut off
    pub(super) fn put(&mut self, bits: u64, n: u32) {
        self.held = self.held << n | bits & ((1 << n) - 1);
        self.len += n;
        while self.len >= 8 {
            self.len -= 8;
            self.out.push((self.held >> self.len) as u8);
        }
    }

    /// Appends a number of at most 53 bits; `k` is below 53.
    pub(super) fn put_number(&mut self, k: u32, value: u64) {
        let ones = bit_length(value >> k);
        self.put((1 << (ones + 1)) - 2, ones + 1);
        self.put(value, k + ones.saturating_sub(1));
    }

    /// Fills the last byte.
    pub(super) fn finish(mut self) {
        self.put(0, (8 - self.len) % 8);
    }
}

/// A cursor over bits. Beyond their end it reads zeros, until [`BitReader::refill`] or
/// [`BitReader::end`] tells.
pub(super) struct BitReader<'a> {
    bytes: &'a [u8],
    /// The last eight bytes, or all.
    tail: u64,
    /// Bytes taken in.
    at: usize,
    /// The next bits, from the highest down; `len` of them count, and those beyond are zero or
    /// already what the next bytes bring.
    held: u64,
    len: u32,
}

impl<'a> BitReader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        let few = || bytes.iter().fold(0, |tail, byte| tail << 8 | u64::from(*byte));
        let tail = bytes.last_chunk().map_or_else(few, |eight| u64::from_be_bytes(*eight));
        Self { bytes, tail, at: 0, held: 0, len: 0 }
    }

    /// Takes in whole bytes, until 56 bits are there.
    #[inline]
    fn take_in(&mut self) {
        let next = self.bytes.get(self.at..).and_then(|rest| rest.first_chunk());
        let next = next.map_or_else(|| self.beyond_tail(), |eight| u64::from_be_bytes(*eight));
        self.held |= next >> self.len;
        self.at += (63 - self.len) as usize / 8;
        self.len = 56 + self.len % 8;
    }

    /// What is left of the tail, and zeros.
    #[inline]
    fn beyond_tail(&self) -> u64 {
        let gone = u32::try_from(self.at + 8 - self.bytes.len()).unwrap_or(u32::MAX);
        self.tail.checked_shl(gone.saturating_mul(8)).unwrap_or(0)
    }

    /// Bits that are left; `None` where more were read than there are.
    fn left(&self) -> Option<usize> {
        (8 * self.bytes.len() + self.len as usize).checked_sub(8 * self.at)
    }

    /// Makes ready for 56 bits, and errs when more were read than there are.
    #[inline]
    pub(super) fn refill(&mut self, what: &'static str) -> Result<(), DecodeError> {
        self.take_in();
        if self.left().is_none() { Err(DecodeError::Truncated(what)) } else { Ok(()) }
    }

    /// The next `n` bits, at most 56.
    #[inline]
    pub(super) fn take(&mut self, n: u32) -> u64 {
        if self.len < n {
            self.take_in();
        }
        let bits = (self.held >> 1) >> (63 - n);
        self.held <<= n;
        self.len -= n;
        bits
    }

    /// The next number that [`BitWriter::put_number`] wrote; `None` when it has more bits than that
    /// writes.
    #[inline]
    pub(super) fn number(&mut self, k: u32) -> Option<u64> {
        let ones = self.held.leading_ones();
        let low = k + ones.saturating_sub(1);
        if ones + 1 + low > self.len {
            return self.long_number(k);
        }
        self.held <<= ones + 1;
        self.len -= ones + 1;
        Some(u64::from(ones > 0) << low | self.take(low))
    }

    /// A number that is not held as a whole.
    #[cold]
    fn long_number(&mut self, k: u32) -> Option<u64> {
        self.take_in();
        let ones = self.held.leading_ones();
        let low = k + ones.saturating_sub(1);
        if low > MAX_BITS {
            return None;
        }
        self.take(ones + 1);
        Some(u64::from(ones > 0) << low | self.take(low))
    }

    /// Nothing but the zeros of the last byte may be left.
    pub(super) fn end(mut self, what: &'static str) -> Result<(), DecodeError> {
        self.refill(what)?;
        if self.left() < Some(8) && self.held == 0 { Ok(()) } else { Err(DecodeError::Invalid(what)) }
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
        fn numbers_come_back_and_nothing_is_left(
            numbers in prop::collection::vec((0_u64..1 << 53, 0_u32..54, 0_u32..53, any::<bool>()), 0..40),
        ) {
            let mut out = Vec::new();
            let mut writer = BitWriter::new(&mut out);
            let mut length = 0;
            for (number, shift, k, bit) in &numbers {
                writer.put(u64::from(*bit), 1);
                writer.put_number(*k, number >> shift);
                length += 1 + number_length(*k, number >> shift);
            }
            writer.finish();
            prop_assert_eq!(out.len() as u64, u64::from(length.div_ceil(8)), "the length is foretold");
            let mut reader = BitReader::new(&out);
            for (number, shift, k, bit) in &numbers {
                prop_assert_eq!(reader.take(1), u64::from(*bit));
                prop_assert_eq!(reader.number(*k), Some(number >> shift));
            }
            prop_assert_eq!(reader.end("end"), Ok(()));
        }

        #[test]
        fn any_bits_are_read_or_end(bytes: Vec<u8>, k in 0_u32..53) {
            let mut reader = BitReader::new(&bytes);
            let mut numbers = 0;
            while let (Some(number), Ok(())) = (reader.number(k), reader.refill("number")) {
                prop_assert!(number < 1 << 63);
                numbers += 1;
            }
            prop_assert!(numbers <= 8 * bytes.len());
        }
    }

    #[test]
    fn a_number_is_its_length_in_ones_a_zero_and_the_low_bits() {
        let mut out = Vec::new();
        let mut writer = BitWriter::new(&mut out);
        writer.put_number(2, 0b1101); // 110 101
        writer.put_number(0, 1); // 10
        writer.put_number(3, 0b101); // 0 101
        writer.finish();
        assert_eq!(out, [0b1101_0110, 0b0101_0000]);
    }

    #[test]
    fn bits_left_beyond_the_last_byte_are_refused() {
        assert!(BitReader::new(&[0]).end("end").is_err(), "a whole byte");
        let mut reader = BitReader::new(&[0b1000_0001]);
        assert_eq!(reader.take(1), 1);
        assert!(reader.end("end").is_err(), "a one among the zeros");
    }
}
