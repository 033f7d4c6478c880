//! `optipod store verify` and `inspect`.

use super::{Scratch, check_is_store, exit, iso, or_live};
use crate::api::LiveStore;
use optipod_storage::{Examination, Store};
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

async fn examine(dir: &Path, notes: &mut impl Write) -> anyhow::Result<Examination> {
    check_is_store(dir)?;
    let scratch = match Scratch::new() {
        Ok(scratch) => scratch,
        Err(no_folder) => {
            // As in the container's image, whose recommender needs none.
            let Ok(mut live) = LiveStore::connect(dir).await else { return Err(no_folder) };
            writeln!(notes, "asking the recommender that has {} open", dir.display())?;
            return Ok(live.examine().await?);
        }
    };
    match or_live(dir, Store::examine(dir, &scratch.0), notes).await? {
        Ok(found) => Ok(found),
        Err(mut live) => Ok(live.examine().await?),
    }
}

pub(super) async fn verify(dir: &Path, out: &mut impl Write, notes: &mut impl Write) -> anyhow::Result<ExitCode> {
    let found = examine(dir, notes).await?;
    for problem in &found.problems {
        writeln!(out, "{problem}")?;
    }
    for path in &found.set_aside {
        writeln!(out, "{} was moved aside because of damage", path.display())?;
    }
    summary(&found, out)?;
    Ok(exit(found.problems.is_empty() && found.set_aside.is_empty()))
}

pub(super) fn summary(found: &Examination, out: &mut impl Write) -> std::io::Result<()> {
    let intact = found.slots.iter().filter(|slot| slot.damage.is_none()).count();
    writeln!(out, "{} series, {intact} of {} sealed slots intact", found.series, found.slots.len())
}

pub(super) async fn inspect(dir: &Path, out: &mut impl Write, notes: &mut impl Write) -> anyhow::Result<ExitCode> {
    let found = examine(dir, notes).await?;
    writeln!(out, "series: {}", found.series)?;
    writeln!(out, "last tick: {}", found.last_tick.map_or("none".to_owned(), iso))?;
    let open: Vec<String> = found.open_slots.iter().map(|start| iso(*start)).collect();
    writeln!(out, "open slots: {}", open.join(", "))?;
    writeln!(out, "database: {} bytes, {} of them live", found.database_bytes, found.database_live_bytes)?;
    let bytes: u64 = found.slots.iter().map(|slot| slot.bytes).sum();
    writeln!(out, "sealed slots: {}, {bytes} bytes", found.slots.len())?;
    for slot in &found.slots {
        let damage = slot.damage.as_ref().map_or(String::new(), |damage| format!("  DAMAGED: {damage}"));
        let length = humantime::format_duration(slot.kind.length());
        writeln!(
            out,
            "  {}  {length:>4}  {:>12} bytes  {:>6} blocks{damage}",
            iso(slot.start),
            slot.bytes,
            slot.blocks
        )?;
    }
    for problem in &found.problems {
        writeln!(out, "problem: {problem}")?;
    }
    Ok(ExitCode::SUCCESS)
}
