//! `optipod store export`.

use super::{exit, open, row};
use clap::ValueEnum;
use optipod_storage::SlotRow;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Format {
    /// Comma-separated figures with a header, for people and spreadsheets; `import` does not read it
    Csv,
    /// One JSON object a line, with the figures and the sketches themselves; `import` gives the same answers from it
    Jsonl,
}

pub(super) async fn export(
    dir: &Path,
    format: Format,
    namespace: Option<&str>,
    out: &mut impl Write,
    notes: &mut impl Write,
) -> anyhow::Result<ExitCode> {
    let source = open(dir, notes).await?;
    if format == Format::Csv {
        writeln!(out, "{}", row::CSV_HEADER)?;
    }
    let mut write = |rows: Vec<SlotRow>| -> anyhow::Result<()> {
        for row in rows.iter().filter(|row| namespace.is_none_or(|n| n == row.key.namespace)) {
            match format {
                Format::Csv => writeln!(out, "{}", row::csv(row))?,
                Format::Jsonl => writeln!(out, "{}", row::to_json(row)?)?,
            }
        }
        Ok(())
    };
    let problems = match source {
        Ok(store) => {
            for rows in store.export()? {
                write(rows?)?;
            }
            store.status(super::now()).problems
        }
        Err(mut live) => live.export(namespace, write).await?,
    };
    for problem in &problems {
        writeln!(notes, "damaged and left out: {problem}")?;
    }
    out.flush()?;
    Ok(exit(problems.is_empty()))
}
