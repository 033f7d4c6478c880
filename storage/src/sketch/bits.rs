//! Bits and Rice codes: small numbers in few bits, the commonest first.
//!
//! A Rice code of parameter `k` is `v >> k` one bits, a zero bit, and the low `k` bits of `v`. From
//! [`LIMIT`] one bits on, the number's length in 6 bits and its bits follow instead, so that no
//! number is long. Bits fill bytes from the highest down; the last byte is filled with zeros.
//! Invariant: reading never panics and never reads beyond its input.

use crate::codec::DecodeError;

/// One bits that say that the number follows plainly.
const LIMIT: u32 = 15;
/// The largest parameter: a nibble.
const MAX_PARAMETER: u32 = 15;

/// The parameter that makes `values` shortest.
pub(super) fn best_parameter(values: &[u64]) -> u32 {
    let length = |k: u32| values.iter().map(|v| u64::from(rice_length(k, *v))).sum::<u64>();
    (0..=MAX_PARAMETER).min_by_key(|k| length(*k)).unwrap_or(0)
}

fn rice_length(k: u32, value: u64) -> u32 {
    match u32::try_from(value >> k) {
        Ok(ones @ 0..LIMIT) => ones + 1 + k,
        _ => LIMIT + 6 + (u64::BITS - value.leading_zeros()),
    }
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

    /// Appends the low `n` bits of `bits`, at most 32.
    #[allow(clippy::cast_possible_truncation)] // a byte is cut off
    pub(super) fn put(&mut self, bits: u64, n: u32) {
        self.held = self.held << n | bits & ((1 << n) - 1);
        self.len += n;
        while self.len >= 8 {
            self.len -= 8;
            self.out.push((self.held >> self.len) as u8);
        }
    }

    /// Appends a number below 2^63 as a Rice code.
    pub(super) fn put_rice(&mut self, k: u32, value: u64) {
        if let Ok(ones @ 0..LIMIT) = u32::try_from(value >> k) {
            self.put((1 << (ones + 1)) - 2, ones + 1);
            return self.put(value, k);
        }
        let length = u64::BITS - value.leading_zeros();
        self.put((1 << LIMIT) - 1, LIMIT);
        self.put(u64::from(length), 6);
        self.put(value >> 32, length.saturating_sub(32));
        self.put(value, length.min(32));
    }

    /// Fills the last byte.
    pub(super) fn finish(mut self) {
        self.put(0, (8 - self.len) % 8);
    }
}

/// A cursor over bits that errs at their end.
pub(super) struct BitReader<'a> {
    rest: &'a [u8],
    /// The next bits, from the highest down; `len` of them count.
    held: u64,
    len: u32,
}

impl<'a> BitReader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, held: 0, len: 0 }
    }

    /// Takes in whole bytes until 56 bits are there or the input ends. Bits of `held` beyond `len`
    /// are zero or already what the next bytes bring.
    #[inline]
    fn refill(&mut self) {
        if let Some((eight, _)) = self.rest.split_first_chunk() {
            self.held |= u64::from_be_bytes(*eight) >> self.len;
            let bytes = (63 - self.len) / 8;
            self.rest = self.rest.get(bytes as usize..).unwrap_or_default();
            self.len += bytes * 8;
            return;
        }
        while let (true, Some((byte, rest))) = (self.len <= 56, self.rest.split_first()) {
            self.held |= u64::from(*byte) << (56 - self.len);
            self.len += 8;
            self.rest = rest;
        }
    }

    /// The next `n` bits, at most 32.
    #[inline]
    pub(super) fn take(&mut self, n: u32, what: &'static str) -> Result<u64, DecodeError> {
        if self.len < n {
            self.refill();
        }
        let bits = (self.held >> 1) >> (63 - n);
        self.skip(n, what)?;
        Ok(bits)
    }

    #[inline]
    fn skip(&mut self, n: u32, what: &'static str) -> Result<(), DecodeError> {
        self.len = self.len.checked_sub(n).ok_or(DecodeError::Truncated(what))?;
        self.held <<= n;
        Ok(())
    }

    /// The next number that [`BitWriter::put_rice`] wrote.
    #[inline]
    pub(super) fn rice(&mut self, k: u32, what: &'static str) -> Result<u64, DecodeError> {
        if self.len < LIMIT + 1 + MAX_PARAMETER {
            self.refill();
        }
        let ones = self.held.leading_ones();
        if ones >= LIMIT {
            return self.plain(what);
        }
        let low = (self.held << (ones + 1) >> 1) >> (63 - k);
        self.skip(ones + 1 + k, what)?;
        Ok(u64::from(ones) << k | low)
    }

    #[cold]
    fn plain(&mut self, what: &'static str) -> Result<u64, DecodeError> {
        self.skip(LIMIT, what)?;
        let length = u32::try_from(self.take(6, what)?).unwrap_or(0); // six bits
        let high = self.take(length.saturating_sub(32), what)?;
        Ok(high << 32 | self.take(length.min(32), what)?)
    }

    /// Nothing but the zeros of the last byte may be left.
    pub(super) fn end(mut self, what: &'static str) -> Result<(), DecodeError> {
        self.refill();
        let is_filling = self.rest.is_empty() && self.len < 8 && (self.held >> 1) >> (63 - self.len) == 0;
        if is_filling { Ok(()) } else { Err(DecodeError::Invalid(what)) }
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
            numbers in prop::collection::vec((0_u64..1 << 53, 0_u32..54, 0_u32..16, any::<bool>()), 0..40),
        ) {
            let mut out = Vec::new();
            let mut writer = BitWriter::new(&mut out);
            let mut length = 0;
            for (number, shift, k, bit) in &numbers {
                writer.put(u64::from(*bit), 1);
                writer.put_rice(*k, number >> shift);
                length += 1 + rice_length(*k, number >> shift);
            }
            writer.finish();
            prop_assert_eq!(out.len() as u64, u64::from(length.div_ceil(8)), "the length is foretold");
            let mut reader = BitReader::new(&out);
            for (number, shift, k, bit) in &numbers {
                prop_assert_eq!(reader.take(1, "bit"), Ok(u64::from(*bit)));
                prop_assert_eq!(reader.rice(*k, "number"), Ok(number >> shift));
            }
            prop_assert_eq!(reader.end("end"), Ok(()));
        }

        #[test]
        fn any_bits_are_read_or_end(bytes: Vec<u8>, k in 0_u32..16) {
            let mut reader = BitReader::new(&bytes);
            let mut numbers = 0;
            while reader.rice(k, "number").is_ok() {
                numbers += 1;
            }
            prop_assert!(numbers <= 8 * bytes.len());
        }
    }

    #[test]
    fn a_rice_code_is_ones_a_zero_and_the_low_bits() {
        let mut out = Vec::new();
        let mut writer = BitWriter::new(&mut out);
        writer.put_rice(2, 0b1101); // 1110 01
        writer.put_rice(0, 1); // 10
        writer.finish();
        assert_eq!(out, [0b1110_0110]);
    }

    #[test]
    fn bits_left_beyond_the_last_byte_are_refused() {
        assert!(BitReader::new(&[0]).end("end").is_err(), "a whole byte");
        let mut reader = BitReader::new(&[0b1000_0001]);
        assert_eq!(reader.take(1, "bit"), Ok(1));
        assert!(reader.end("end").is_err(), "a one among the zeros");
    }
}
