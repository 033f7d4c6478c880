//! Reading and writing the few primitives of the format: fixed little-endian numbers, varints and
//! shortened floats.
//!
//! May not know: what the bytes mean. Invariant: reading never panics and never reads beyond its
//! input.

/// Why bytes could not be read as what they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end before the value does.
    #[error("the bytes end in the middle of {0}; the record was cut off or damaged")]
    Truncated(&'static str),
    /// The bytes are complete but impossible.
    #[error("{0} is impossible; the record is damaged")]
    Invalid(&'static str),
    /// The checksum does not match.
    #[error("the checksum of {0} does not match; the record is damaged")]
    Checksum(&'static str),
    /// A newer program wrote it.
    #[error("{what} has format version {found}, this program reads {supported}; use the program that wrote it")]
    Newer {
        /// What carries the version.
        what: &'static str,
        /// The version found.
        found: u16,
        /// The version that can be read.
        supported: u16,
    },
}

/// A cursor over bytes that errs at their end.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn remaining(&self) -> usize {
        self.rest.len()
    }

    pub(crate) fn bytes(&mut self, n: usize, what: &'static str) -> Result<&'a [u8], DecodeError> {
        let (head, rest) = self.rest.split_at_checked(n).ok_or(DecodeError::Truncated(what))?;
        self.rest = rest;
        Ok(head)
    }

    pub(crate) fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], DecodeError> {
        let (head, rest) = self.rest.split_first_chunk().ok_or(DecodeError::Truncated(what))?;
        self.rest = rest;
        Ok(*head)
    }

    pub(crate) fn u8(&mut self, what: &'static str) -> Result<u8, DecodeError> {
        self.array::<1>(what).map(|[b]| b)
    }

    pub(crate) fn u16(&mut self, what: &'static str) -> Result<u16, DecodeError> {
        self.array(what).map(u16::from_le_bytes)
    }

    pub(crate) fn u24(&mut self, what: &'static str) -> Result<u32, DecodeError> {
        self.array(what).map(|[a, b, c]| u32::from_le_bytes([a, b, c, 0]))
    }

    pub(crate) fn u32(&mut self, what: &'static str) -> Result<u32, DecodeError> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self, what: &'static str) -> Result<u64, DecodeError> {
        self.array(what).map(u64::from_le_bytes)
    }

    pub(crate) fn i64(&mut self, what: &'static str) -> Result<i64, DecodeError> {
        self.array(what).map(i64::from_le_bytes)
    }

    /// A LEB128 number of at most ten bytes.
    #[inline]
    pub(crate) fn varint(&mut self, what: &'static str) -> Result<u64, DecodeError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8(what)?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::Invalid(what))
    }

    /// A varint that must fit 32 bits.
    pub(crate) fn varint32(&mut self, what: &'static str) -> Result<u32, DecodeError> {
        u32::try_from(self.varint(what)?).map_err(|_| DecodeError::Invalid(what))
    }

    /// A zigzag varint.
    pub(crate) fn signed(&mut self, what: &'static str) -> Result<i64, DecodeError> {
        let raw = self.varint(what)?;
        Ok((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed())
    }

    /// A count of items that take at least `each` bytes, so that it cannot exceed the input.
    pub(crate) fn count(&mut self, each: usize, what: &'static str) -> Result<usize, DecodeError> {
        let count = usize::try_from(self.varint(what)?).map_err(|_| DecodeError::Invalid(what))?;
        if count.saturating_mul(each) > self.remaining() {
            return Err(DecodeError::Truncated(what));
        }
        Ok(count)
    }

    /// A string with its length before it.
    pub(crate) fn text(&mut self, what: &'static str) -> Result<&'a str, DecodeError> {
        let len = self.count(1, what)?;
        std::str::from_utf8(self.bytes(len, what)?).map_err(|_| DecodeError::Invalid(what))
    }

    pub(crate) fn end(&self, what: &'static str) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(DecodeError::Invalid(what)) }
    }
}

/// Appends a LEB128 number.
#[allow(clippy::cast_possible_truncation)] // the low seven bits are what is wanted
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a zigzag varint: small numbers of either sign are short.
pub(crate) fn put_signed(out: &mut Vec<u8>, value: i64) {
    put_varint(out, ((value << 1) ^ (value >> 63)).cast_unsigned());
}

/// Appends the low three bytes.
pub(crate) fn put_u24(out: &mut Vec<u8>, value: u32) {
    let [a, b, c, _] = value.to_le_bytes();
    out.extend([a, b, c]);
}

/// Appends a string with its length before it.
pub(crate) fn put_text(out: &mut Vec<u8>, text: &str) {
    put_varint(out, text.len() as u64);
    out.extend(text.as_bytes());
}

/// A value as the top 24 bits of an `f32` without its sign: 16 bits of mantissa, so the relative
/// step is 1.5e-5. Rounded up: a peak is never stored below what was seen.
pub(crate) fn code24(value: f64) -> u32 {
    f32_up(value).to_bits().div_ceil(1 << 7)
}

/// As [`code24`], but rounded down: what is known as a minimum is never stored above what was seen.
pub(crate) fn code24_down(value: f64) -> u32 {
    let code = code24(value);
    match value24(code) {
        Some(up) if up > value => code.saturating_sub(1),
        _ => code,
    }
}

/// The value of a [`code24`]; `None` for codes of infinities and NaN.
pub(crate) fn value24(code: u32) -> Option<f64> {
    let value = f32::from_bits(code.checked_mul(1 << 7)?);
    (value.is_finite() && code < 1 << 24).then_some(f64::from(value))
}

/// A value as the top 16 bits of an `f32` without its sign: 8 bits of mantissa. Rounded to the
/// nearest, so that means are not biased: off by at most 0.2 %.
pub(crate) fn code16(value: f64) -> u32 {
    (f32_up(value).to_bits() + (1 << 14)) >> 15
}

/// The value of a [`code16`]; `None` for codes of infinities and NaN.
pub(crate) fn value16(code: u32) -> Option<f64> {
    let value = f32::from_bits(code.checked_mul(1 << 15)?);
    (value.is_finite() && code < 1 << 16).then_some(f64::from(value))
}

/// The smallest `f32` that is not below a value from 0 to 1e37.
#[allow(clippy::cast_possible_truncation)] // rounding is the point
fn f32_up(value: f64) -> f32 {
    let near = value.abs() as f32;
    if f64::from(near) < value { near.next_up() } else { near }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn varints_come_back(value: u64, signed: i64) {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            put_signed(&mut out, signed);
            let mut reader = Reader::new(&out);
            prop_assert_eq!(reader.varint("v"), Ok(value));
            prop_assert_eq!(reader.signed("s"), Ok(signed));
            prop_assert_eq!(reader.end("e"), Ok(()));
        }

        #[test]
        fn codes_round_up_or_to_the_nearest(exponent in -30_i32..37, mantissa in 1.0_f64..10.0) {
            let value = mantissa * 10_f64.powi(exponent);
            let up = value24(code24(value)).unwrap();
            prop_assert!(up >= value && up <= value * (1.0 + 1.6e-5), "{value} -> {up}");
            prop_assert_eq!(code24(up), code24(value), "a stored value is stored unchanged");
            let down = value24(code24_down(value)).unwrap();
            prop_assert!(down <= value && down >= value * (1.0 - 1.6e-5), "{value} -> {down}");
            prop_assert_eq!(code24_down(down), code24_down(value), "a stored minimum is stored unchanged");
            let near = value16(code16(value)).unwrap();
            prop_assert!((near - value).abs() <= value * 1.96e-3, "{value} -> {near}");
        }

        #[test]
        fn reading_arbitrary_bytes_never_panics(bytes: Vec<u8>) {
            let mut reader = Reader::new(&bytes);
            while reader.varint("v").is_ok() {}
            let mut reader = Reader::new(&bytes);
            let _ = reader.text("t");
            let _ = reader.count(3, "c");
        }
    }

    #[test]
    fn zero_stays_zero() {
        assert_eq!(value24(code24(0.0)), Some(0.0));
        assert_eq!(value24(code24(-0.0)), Some(0.0));
        assert_eq!(value16(code16(0.0)), Some(0.0));
    }
}
