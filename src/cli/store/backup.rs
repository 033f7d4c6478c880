//! `optipod store backup` and `restore`.

use super::{Scratch, exit, iso, open};
use anyhow::Context as _;
use optipod_storage::{RestoreError, RestoreOptions, Store};
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

pub(super) async fn backup(
    dir: &Path,
    target: &Path,
    out: &mut impl Write,
    notes: &mut impl Write,
) -> anyhow::Result<ExitCode> {
    let made = match open(dir, notes).await? {
        Ok(store) => store.backup(target, super::now())?,
        Err(mut live) => {
            let target = std::path::absolute(target).with_context(|| format!("finding {}", target.display()))?;
            live.backup(&target).await?
        }
    };
    for problem in &made.problems {
        writeln!(notes, "damaged, and so in the backup: {problem}")?;
    }
    writeln!(
        out,
        "{}: {} series, {} sealed slots linked and {} copied, {} bytes; last tick {}",
        made.target.display(),
        made.series,
        made.linked,
        made.copied,
        made.slot_bytes,
        made.last_tick.map_or("none".to_owned(), iso)
    )?;
    Ok(exit(made.problems.is_empty()))
}

pub(super) fn restore(
    backup: &Path,
    dir: &Path,
    options: RestoreOptions,
    out: &mut impl Write,
) -> anyhow::Result<ExitCode> {
    match Store::restore(backup, dir, options, &Scratch::new()?.0) {
        Ok(restored) => {
            for problem in &restored.found.problems {
                writeln!(out, "damaged, and so left out: {problem}")?;
            }
            super::examine::summary(&restored.found, out)?;
            if let Some(replaced) = restored.replaced {
                writeln!(out, "the store from before is in {}; remove it when it is not needed", replaced.display())?;
            }
            Ok(exit(restored.found.problems.is_empty()))
        }
        Err(error @ RestoreError::Damaged { .. }) => {
            writeln!(out, "{error}")?;
            Ok(exit(false))
        }
        Err(error) => Err(error.into()),
    }
}
