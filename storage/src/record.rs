//! The envelope around every record in the sled part: checksum and version.
//!
//! May not know: what the payload means, nor sled. Invariant: a payload that comes back is the one
//! that was written under that key.

use crate::codec::{DecodeError, Reader};

/// A version of the format; every record and file carries its own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Version {
    /// Before the freeze; it is read, and written no more.
    Zero = 0,
    /// Frozen.
    One = 1,
}

impl Version {
    /// What this program writes.
    pub(crate) const CURRENT: Self = Self::One;

    /// Two bytes.
    pub(crate) fn bytes(self) -> [u8; 2] {
        (self as u16).to_le_bytes()
    }

    /// Refuses what a newer program wrote; `what` names it.
    pub(crate) fn read(what: &'static str, found: u16) -> Result<Self, DecodeError> {
        match found {
            0 => Ok(Self::Zero),
            1 => Ok(Self::One),
            _ => Err(DecodeError::Newer { what, found, supported: Self::CURRENT as u16 }),
        }
    }
}

/// The version of the format that this program writes, that of encoded sketches too.
pub const FORMAT_VERSION: u16 = Version::CURRENT as u16;

/// Bytes that [`seal`] adds.
pub(crate) const OVERHEAD: usize = 6;

/// `crc32(key ‖ rest) u32 | version u16 | payload`. The key is covered, so that a value under
/// another's key is found out.
pub(crate) fn seal(key: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(OVERHEAD + payload.len());
    out.extend([0; 4]);
    out.extend(Version::CURRENT.bytes());
    out.extend(payload);
    let (head, rest) = out.split_at_mut(4); // four bytes were written above
    head.copy_from_slice(&checksum(key, rest).to_le_bytes());
    out
}

/// The payload of a sealed value, and its version.
pub(crate) fn open<'a>(key: &[u8], value: &'a [u8]) -> Result<(Version, &'a [u8]), DecodeError> {
    let mut reader = Reader::new(value);
    let crc = reader.u32("a record")?;
    let rest = reader.bytes(reader.remaining(), "a record")?;
    if checksum(key, rest) != crc {
        return Err(DecodeError::Checksum("a record"));
    }
    let mut reader = Reader::new(rest);
    let version = Version::read("a record", reader.u16("a record")?)?;
    Ok((version, reader.bytes(reader.remaining(), "a record")?))
}

fn checksum(key: &[u8], rest: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(rest);
    hasher.finalize()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_flipped_bit_is_found(payload: Vec<u8>, at: prop::sample::Index, bit in 0_u8..8) {
            let mut value = seal(b"k", &payload);
            prop_assert_eq!(open(b"k", &value).unwrap(), (Version::One, &payload[..]));
            prop_assert!(open(b"other", &value).is_err());
            let at = at.index(value.len());
            value[at] ^= 1 << bit;
            prop_assert!(open(b"k", &value).is_err());
        }
    }

    #[test]
    fn a_newer_version_is_told_apart_from_damage() {
        let mut value = seal(b"k", b"x");
        value[4] = 9;
        let crc = checksum(b"k", &value[4..]);
        value[..4].copy_from_slice(&crc.to_le_bytes());
        assert!(matches!(open(b"k", &value), Err(DecodeError::Newer { found: 9, .. })));
    }
}
