//! A tick's bytes: rows of samples, and the streams that rows name by number.
//!
//! A stream is one pod's share of a series. Its eight-byte hash is written once an epoch (five
//! minutes of ticks); rows carry its number. May not know: chunks, sled, slots.

use crate::codec::{DecodeError, Reader, put_signed, put_u24, put_varint, value24};
use crate::table::MAX_ID;
use crate::{SeriesId, Timestamp};

/// One accepted sample; its values are `code24`s.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct FrameRow {
    /// The stream's number in the frame's epoch.
    pub(crate) stream: u32,
    pub(crate) at: Timestamp,
    pub(crate) cpu: u32,
    pub(crate) memory: u32,
}

/// All samples that one append accepted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct TickFrame {
    pub(crate) now: Timestamp,
    pub(crate) epoch: u64,
    pub(crate) rows: Vec<FrameRow>,
}

/// Streams named for the first time in their epoch, numbered from `first`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct StreamFrame {
    pub(crate) epoch: u64,
    pub(crate) first: u32,
    pub(crate) streams: Vec<(SeriesId, u64)>,
}

impl TickFrame {
    /// `now i64 | epoch | unit | count | rows`; a row is the step of the stream's number, the step
    /// of the time in units, and three bytes for each value.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let whole_seconds = self.rows.iter().all(|r| r.at.0 % 1000 == 0);
        let unit: i64 = if whole_seconds { 1000 } else { 1 };
        let mut out = Vec::with_capacity(24 + self.rows.len() * 10);
        out.extend(self.now.0.to_le_bytes());
        put_varint(&mut out, self.epoch);
        out.push(u8::from(whole_seconds));
        put_varint(&mut out, self.rows.len() as u64);
        let (mut stream, mut at) = (0_i64, 0_i64);
        for row in &self.rows {
            put_signed(&mut out, i64::from(row.stream) - stream);
            put_signed(&mut out, (row.at.0 / unit).wrapping_sub(at));
            (stream, at) = (i64::from(row.stream), row.at.0 / unit);
            put_u24(&mut out, row.cpu);
            put_u24(&mut out, row.memory);
        }
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let now = Timestamp(reader.i64("a tick's time")?);
        let epoch = reader.varint("a tick's epoch")?;
        let unit = match reader.u8("a tick's unit")? {
            0 => 1,
            1 => 1000,
            _ => return Err(DecodeError::Invalid("a tick's unit")),
        };
        let count = reader.count(8, "the number of samples")?;
        let mut rows = Vec::with_capacity(count);
        let (mut stream, mut at) = (0_i64, 0_i64);
        for _ in 0..count {
            stream = stream.wrapping_add(reader.signed("a stream's number")?);
            at = at.wrapping_add(reader.signed("a sample's time")?);
            let millis = at.checked_mul(unit);
            rows.push(FrameRow {
                stream: u32::try_from(stream).map_err(|_| DecodeError::Invalid("a stream's number"))?,
                at: Timestamp(millis.ok_or(DecodeError::Invalid("a sample's time"))?),
                cpu: read_code(&mut reader)?,
                memory: read_code(&mut reader)?,
            });
        }
        reader.end("the end of a tick")?;
        Ok(Self { now, epoch, rows })
    }
}

fn read_code(reader: &mut Reader<'_>) -> Result<u32, DecodeError> {
    let code = reader.u24("a sample's value")?;
    value24(code).ok_or(DecodeError::Invalid("a sample's value"))?;
    Ok(code)
}

impl StreamFrame {
    /// `epoch | first | count | streams`; a stream is the step of its series' number and the hash.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(16 + self.streams.len() * 10);
        put_varint(&mut out, self.epoch);
        put_varint(&mut out, u64::from(self.first));
        put_varint(&mut out, self.streams.len() as u64);
        let mut before = 0;
        for (series, pod) in &self.streams {
            put_signed(&mut out, i64::from(series.0) - before);
            before = i64::from(series.0);
            out.extend(pod.to_le_bytes());
        }
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let epoch = reader.varint("an epoch")?;
        let first = reader.varint32("a stream's number")?;
        let count = reader.count(9, "the number of streams")?;
        let mut streams = Vec::with_capacity(count);
        let mut series = 0_i64;
        for _ in 0..count {
            series = series.wrapping_add(reader.signed("a series' number")?);
            let id = u32::try_from(series).ok().filter(|id| *id <= MAX_ID);
            let id = id.ok_or(DecodeError::Invalid("a series' number"))?;
            streams.push((SeriesId(id), reader.u64("a pod")?));
        }
        reader.end("the end of the streams")?;
        Ok(Self { epoch, first, streams })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rows() -> impl Strategy<Value = Vec<FrameRow>> {
        let row = (any::<u32>(), -1_000_000_000_i64..1_000_000_000, 0_u32..1 << 23, 0_u32..1 << 23);
        let row = row.prop_map(|(stream, at, cpu, memory)| FrameRow { stream, at: Timestamp(at), cpu, memory });
        prop::collection::vec(row, 0..40)
    }

    proptest! {
        #[test]
        fn ticks_come_back(rows in rows(), now: i64, epoch: u64, seconds: bool) {
            let mut frame = TickFrame { now: Timestamp(now), epoch, rows };
            if seconds {
                frame.rows.iter_mut().for_each(|r| r.at.0 *= 1000);
            }
            prop_assert_eq!(TickFrame::decode(&frame.encode()).unwrap(), frame);
        }

        #[test]
        fn streams_come_back(streams in prop::collection::vec((0..MAX_ID, any::<u64>()), 0..40), epoch: u64, first: u32) {
            let streams = streams.into_iter().map(|(s, p)| (SeriesId(s), p)).collect();
            let frame = StreamFrame { epoch, first, streams };
            prop_assert_eq!(StreamFrame::decode(&frame.encode()).unwrap(), frame);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let _ = TickFrame::decode(&bytes);
            let _ = StreamFrame::decode(&bytes);
        }
    }
}
