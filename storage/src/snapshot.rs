//! Snapshots of the series table in a file of their own, so that sealed slots keep their names
//! when the sled part is lost.
//!
//! May not know: sled, slots. Invariant: a snapshot under its final name is complete and durable.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::codec::{DecodeError, Reader};
use crate::record::Version;
use crate::slot_file::{ReadError, sync_parent};
use crate::table::{self, SeriesRecord};

const MAGIC: [u8; 8] = *b"OPTITABL";
/// Series in one checksummed part.
const PART: usize = 1024;
/// The newest and one before it, should the newest turn out damaged.
const KEPT: usize = 2;

/// Writes all series, which are those with numbers below `next_id`; older snapshots beyond one go.
pub(crate) fn write(dir: &Path, next_id: u32, records: &[SeriesRecord]) -> io::Result<()> {
    let path = dir.join(format!("{next_id:010}.table"));
    let temporary = path.with_extension("tmp");
    let mut file = BufWriter::new(File::create(&temporary)?);
    file.write_all(&MAGIC)?;
    file.write_all(&Version::CURRENT.bytes())?;
    for part in records.chunks(PART) {
        let bytes = table::encode_records(part);
        let len = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        file.write_all(&len.to_le_bytes())?;
        file.write_all(&crc32fast::hash(&bytes).to_le_bytes())?;
        file.write_all(&bytes)?;
    }
    file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
    fs::rename(&temporary, &path)?;
    sync_parent(&path)?;
    for (_, old) in list(dir)?.into_iter().rev().skip(KEPT) {
        fs::remove_file(old)?;
    }
    Ok(())
}

/// Snapshots by the `next_id` they were written at.
pub(crate) fn list(dir: &Path) -> io::Result<BTreeMap<u32, PathBuf>> {
    let mut found = BTreeMap::new();
    for path in with_extension(dir, "table")? {
        let stem = path.file_stem().and_then(|s| s.to_str());
        found.extend(stem.and_then(|s| s.parse().ok()).map(|id: u32| (id, path.clone())));
    }
    Ok(found)
}

/// Removes what a crash left of snapshots that were being written.
pub(crate) fn remove_unfinished(dir: &Path) -> io::Result<()> {
    with_extension(dir, "tmp")?.into_iter().try_for_each(fs::remove_file)
}

fn with_extension(dir: &Path, extension: &str) -> io::Result<Vec<PathBuf>> {
    let paths: io::Result<Vec<PathBuf>> = fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect();
    Ok(paths?.into_iter().filter(|path| path.extension().is_some_and(|e| e == extension)).collect())
}

/// The series of a snapshot up to the first damage, and that damage.
pub(crate) fn read(path: &Path) -> Result<(Vec<SeriesRecord>, Option<DecodeError>), ReadError> {
    let bytes = fs::read(path)?;
    let mut reader = Reader::new(&bytes);
    check_head(&mut reader)?;
    let mut records = Vec::new();
    while reader.remaining() > 0 {
        match read_part(&mut reader) {
            Ok(part) => records.extend(part),
            Err(damage) => return Ok((records, Some(damage))),
        }
    }
    Ok((records, None))
}

/// Whether all checksums of a snapshot match.
pub(crate) fn check(path: &Path) -> Result<(), ReadError> {
    let bytes = fs::read(path)?;
    let mut reader = Reader::new(&bytes);
    check_head(&mut reader)?;
    while reader.remaining() > 0 {
        part(&mut reader)?;
    }
    Ok(())
}

fn check_head(reader: &mut Reader<'_>) -> Result<(), DecodeError> {
    if reader.array("a snapshot")? != MAGIC {
        return Err(DecodeError::Invalid("the head of a snapshot"));
    }
    Version::read("a snapshot", reader.u16("a snapshot")?)?; // both versions are alike here
    Ok(())
}

fn read_part(reader: &mut Reader<'_>) -> Result<Vec<SeriesRecord>, DecodeError> {
    table::decode_records(part(reader)?)
}

/// The bytes of the next part.
fn part<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], DecodeError> {
    let what = "a part of a snapshot";
    let (len, crc) = (reader.u32(what)?, reader.u32(what)?);
    let bytes = reader.bytes(len as usize, what)?;
    if crc32fast::hash(bytes) != crc {
        return Err(DecodeError::Checksum(what));
    }
    Ok(bytes)
}
