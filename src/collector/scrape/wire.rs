//! The protobuf wire format, borrowed: fields of a message one by one, nothing allocated.
//!
//! Own code, because what we depend on for protobuf (prost) copies every text into an allocation of its own, which for
//! 300,000 containers takes four times as long as this walk.
//! <https://protobuf.dev/programming-guides/encoding/>
//!
//! It may not know what a field means. Invariant: every length is checked against what is there, and each step takes at
//! least one byte, so that any input ends.

/// Why bytes are not a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum WireError {
    #[error("it ends in the middle of a field")]
    Truncated,
    #[error("a number has more than 64 bits")]
    Overlong,
    #[error("a field is numbered 0")]
    NoField,
    #[error("wire type {0} is not one that Kubernetes writes")]
    WireType(u64),
    #[error("field {0} is of another type than expected")]
    OtherType(u64),
    #[error("field {0} is a text, but not UTF-8")]
    NotText(u64),
}

/// A field: its number and its value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Field<'a> {
    pub(super) number: u64,
    value: Value<'a>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Value<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    /// Four or eight bytes; no message that we read has such a field.
    Fixed,
}

impl<'a> Field<'a> {
    /// A text, a message or bytes.
    pub(super) fn bytes(self) -> Result<&'a [u8], WireError> {
        match self.value {
            Value::Bytes(bytes) => Ok(bytes),
            Value::Varint(_) | Value::Fixed => Err(WireError::OtherType(self.number)),
        }
    }

    pub(super) fn message(self) -> Result<Fields<'a>, WireError> {
        self.bytes().map(Fields::new)
    }

    pub(super) fn text(self) -> Result<&'a str, WireError> {
        std::str::from_utf8(self.bytes()?).map_err(|_| WireError::NotText(self.number))
    }

    /// An `int64` or `int32`: two's complement, 64 bits wide.
    pub(super) fn signed(self) -> Result<i64, WireError> {
        match self.value {
            Value::Varint(value) => Ok(value.cast_signed()),
            Value::Bytes(_) | Value::Fixed => Err(WireError::OtherType(self.number)),
        }
    }
}

/// The fields of a message, in the order of its bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    /// Calls `read` with every field.
    #[inline]
    pub(super) fn each(mut self, mut read: impl FnMut(Field<'a>) -> Result<(), WireError>) -> Result<(), WireError> {
        while !self.rest.is_empty() {
            read(self.next()?)?;
        }
        Ok(())
    }

    #[inline(always)]
    #[allow(clippy::inline_always)] // left to itself it stays a call, which takes a third of the walk
    fn next(&mut self) -> Result<Field<'a>, WireError> {
        let key = self.varint()?;
        let number = key >> 3;
        if number == 0 {
            return Err(WireError::NoField);
        }
        let value = match key & 7 {
            0 => Value::Varint(self.varint()?),
            1 => self.take(8).map(|_| Value::Fixed)?,
            2 => {
                let len = self.varint()?;
                Value::Bytes(self.take(len)?)
            }
            5 => self.take(4).map(|_| Value::Fixed)?,
            other => return Err(WireError::WireType(other)),
        };
        Ok(Field { number, value })
    }

    #[inline]
    fn take(&mut self, len: u64) -> Result<&'a [u8], WireError> {
        let len = usize::try_from(len).map_err(|_| WireError::Truncated)?;
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    /// Nearly all of ours have one byte.
    #[inline]
    fn varint(&mut self) -> Result<u64, WireError> {
        match self.rest.split_first() {
            Some((byte, rest)) if byte & 0x80 == 0 => {
                self.rest = rest;
                Ok((*byte).into())
            }
            _ => self.long_varint(),
        }
    }

    /// Seven bits a byte, the lowest first.
    #[inline(never)]
    fn long_varint(&mut self) -> Result<u64, WireError> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.rest.split_first().ok_or(WireError::Truncated)?;
            self.rest = rest;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(WireError::Overlong);
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(WireError::Overlong)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)] // a test that panics has failed
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(message: &[u8]) -> Result<Vec<Field<'_>>, WireError> {
        let mut fields = Vec::new();
        Fields::new(message).each(|field| {
            fields.push(field);
            Ok(())
        })?;
        Ok(fields)
    }

    #[test]
    fn fields_are_read_as_the_specification_writes_them() {
        // 150 and "testing" are the examples of protobuf.dev; then fixed64, fixed32, and -1 as int64.
        let message = b"\x08\x96\x01\x12\x07testing\x1912345678\x251234\x28\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01";
        let fields = all(message).unwrap();
        assert_eq!(fields.iter().map(|field| field.number).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
        assert_eq!((fields[0].signed(), fields[1].text(), fields[4].signed()), (Ok(150), Ok("testing"), Ok(-1)));
        assert_eq!(fields[0].text(), Err(WireError::OtherType(1)));
        assert_eq!(fields[2].bytes(), Err(WireError::OtherType(3)));
        assert_eq!(fields[1].signed(), Err(WireError::OtherType(2)));
    }

    #[test]
    fn what_is_not_a_message_is_told() {
        for (bytes, error) in [
            (&b"\x08"[..], WireError::Truncated),
            (b"\x08\x80", WireError::Truncated),
            (b"\x12\x02a", WireError::Truncated),
            (b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", WireError::Truncated),
            (b"\x191234567", WireError::Truncated),
            (b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", WireError::Overlong),
            (b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00", WireError::Overlong),
            (b"\x00\x00", WireError::NoField),
            (b"\x0b\x0c", WireError::WireType(3)),
        ] {
            assert_eq!(all(bytes), Err(error), "{bytes:x?}");
        }
        assert_eq!(all(b"\x0a\x01\xff").unwrap()[0].text(), Err(WireError::NotText(1)));
    }

    proptest! {
        /// Oracle: prost's own reader.
        #[test]
        fn numbers_are_those_that_prost_writes(number in 1u32..1 << 29, value: i64) {
            let mut message = Vec::new();
            prost::encoding::int64::encode(number, &value, &mut message);
            let fields = all(&message).unwrap();
            prop_assert_eq!((fields[0].number, fields[0].signed()), (u64::from(number), Ok(value)));
        }

        #[test]
        fn any_bytes_end(bytes: Vec<u8>) {
            if let Ok(fields) = all(&bytes) {
                prop_assert!(fields.len() <= bytes.len());
            }
        }
    }
}
