//! Every decoder of the store's bytes by name: the door for fuzz targets and for the test that
//! replays their corpora. No part of the API.
//!
//! May not know: how anything is encoded. Invariant: it reads as the store does, but mends
//! checksums first where damage would never get past them.

use std::fs;
use std::path::Path;

use crate::chunk::{Assembler, split};
use crate::codec::DecodeError;
use crate::entry::{decode_block, encode_block};
use crate::frame::{StreamFrame, TickFrame};
use crate::slot::{Slot, SlotKind};
use crate::slot_file::{HEADER, SlotFile, file_name, index_checksum, kind_from_code};
use crate::slot_writer::SlotFileWriter;
use crate::store::keys::{self, Head};
use crate::table::{decode_records, encode_records};
use crate::witness::Witness;
use crate::{AnySketch, LogLinear, Sketch, TDigest, Timestamp};
use crate::{record, snapshot};
use record::Version;

/// The version that slot files, snapshots and records carry.
pub const FORMAT_VERSION: u16 = record::FORMAT_VERSION;
/// The key that the record decoder is asked for.
pub const RECORD_KEY: &[u8] = b"h";
/// The slot of the block decoder: the first hour of all.
const SLOT: Slot = Slot { kind: SlotKind::Hour, start: Timestamp(0) };

/// Encodes again what was decoded, with an empty folder to work in; `None` when that is impossible.
pub type Encode = Box<dyn FnOnce(&Path) -> Option<Vec<u8>>>;

/// Reads bytes, with an empty folder to work in; `None` when it refuses them.
pub type Decode = fn(&[u8], &Path) -> Option<Encode>;

/// All decoders by name. What one named `…_v0` accepts is written in the current version, for the
/// decoder without that suffix.
pub const DECODERS: [(&str, Decode); 16] = [
    ("digest", sketch::<TDigest>),
    ("histogram", sketch::<LogLinear>),
    ("any_sketch", sketch::<AnySketch>),
    ("block", |bytes, _| decoded(decode_block(Version::CURRENT, SLOT, bytes), |entries| encode_block(SLOT, &entries))),
    ("block_v0", |bytes, _| decoded(decode_block(Version::Zero, SLOT, bytes), |entries| encode_block(SLOT, &entries))),
    ("slot_file", slot_file),
    ("snapshot", series_snapshot),
    ("record", |bytes, _| {
        decoded(record::open(RECORD_KEY, bytes).map(|(_, payload)| payload.to_vec()), |payload| {
            record::seal(RECORD_KEY, &payload)
        })
    }),
    ("chunk", chunk),
    ("rows", |bytes, _| decoded(TickFrame::decode(bytes), |frame| frame.encode())),
    ("streams", |bytes, _| decoded(StreamFrame::decode(bytes), |frame| frame.encode())),
    ("series", |bytes, _| decoded(decode_records(bytes), |records| encode_records(&records))),
    ("head", |bytes, _| decoded(Head::decode(Version::CURRENT, bytes), |head| head.encode())),
    ("head_v0", |bytes, _| decoded(Head::decode(Version::Zero, bytes), |head| head.encode())),
    ("last_tick", last_tick),
    ("manifest", |bytes, _| decoded(keys::decode_manifest_entry(bytes), keys::encode_manifest_entry)),
];

fn decoded<T: 'static>(result: Result<T, DecodeError>, encode: fn(T) -> Vec<u8>) -> Option<Encode> {
    let value = result.ok()?;
    Some(Box::new(move |_| Some(encode(value))))
}

fn sketch<S: Sketch + 'static>(bytes: &[u8], _: &Path) -> Option<Encode> {
    decoded(S::decode(bytes), |sketch| {
        let mut out = Vec::new();
        sketch.encode(&mut out);
        out
    })
}

/// A frame of one chunk.
fn chunk(bytes: &[u8], _: &Path) -> Option<Encode> {
    let mut assembler = Assembler::default();
    assembler.add(0, bytes).ok()?;
    let (id, frame) = assembler.finish().pop_first()?;
    let frame = frame.bytes?;
    Some(Box::new(move |_| split(id, &frame).into_iter().next()))
}

/// Reads all of a slot file.
fn slot_file(bytes: &[u8], dir: &Path) -> Option<Encode> {
    let mut bytes = bytes.to_vec();
    mend_index(&mut bytes);
    let start = Timestamp(i64::from_le_bytes(bytes.get(11..HEADER)?.try_into().ok()?));
    let slot = Slot { kind: kind_from_code(*bytes.get(10)?)?, start };
    let path = dir.join(file_name(slot));
    fs::write(&path, &bytes).ok()?;
    let file = SlotFile::open(&path).ok()?;
    let blocks: Result<Vec<_>, _> = (0..file.block_count()).map(|index| file.block(index)).collect();
    let (blocks, names) = (blocks.ok()?, file.names().ok()?);
    Some(Box::new(move |dir| {
        let mut writer = SlotFileWriter::create(dir, slot).ok()?;
        for block in &blocks {
            writer.push(block).ok()?;
        }
        fs::read(writer.finish(&names).ok()?.path()).ok()
    }))
}

/// Puts in the checksum that header and index have.
fn mend_index(bytes: &mut [u8]) -> Option<()> {
    let foot = bytes.len().checked_sub(16)?;
    let len = u32::from_le_bytes(bytes.get(foot..foot + 4)?.try_into().ok()?);
    let index = bytes.get(foot.checked_sub(len as usize)?..foot)?;
    let crc = index_checksum(bytes.get(..HEADER)?, index);
    bytes.get_mut(foot + 4..foot + 8)?.copy_from_slice(&crc.to_le_bytes());
    Some(())
}

/// Reads all of a snapshot of the series.
fn series_snapshot(bytes: &[u8], dir: &Path) -> Option<Encode> {
    let mut bytes = bytes.to_vec();
    mend_parts(&mut bytes);
    let path = dir.join("snapshot");
    fs::write(&path, &bytes).ok()?;
    let (records, damage) = snapshot::read(&path).ok()?;
    if damage.is_some() {
        return None;
    }
    Some(Box::new(move |dir| {
        snapshot::write(dir, 0, &records).ok()?;
        fs::read(dir.join("0000000000.table")).ok()
    }))
}

/// The file beside sled that names the last durable tick.
fn last_tick(bytes: &[u8], dir: &Path) -> Option<Encode> {
    let path = dir.join("last-tick");
    fs::write(&path, bytes).ok()?;
    let tick = Witness::open(&path).ok()?.last_tick().ok()??;
    Some(Box::new(move |dir| {
        let path = dir.join("last-tick");
        Witness::open(&path).ok()?.note(tick);
        fs::read(path).ok()
    }))
}

/// Puts in the checksums that the parts have.
fn mend_parts(bytes: &mut [u8]) -> Option<()> {
    let mut parts = bytes.get_mut(10..)?;
    loop {
        let (len, rest) = parts.split_first_chunk_mut::<4>()?;
        let (crc, rest) = rest.split_first_chunk_mut::<4>()?;
        let (part, rest) = rest.split_at_mut_checked(u32::from_le_bytes(*len) as usize)?;
        *crc = crc32fast::hash(part).to_le_bytes();
        parts = rest;
    }
}
