//! `optipod store`: looks at a store's folder that no recommender has open.

use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};
use optipod_storage::{Distribution, Examination, SeriesInfo, Store, StoreOptions, Timestamp, Usage};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// Arguments of `optipod store`.
#[derive(Args, Debug)]
pub struct StoreArgs {
    #[command(subcommand)]
    command: StoreCommand,
}

#[derive(Subcommand, Debug)]
enum StoreCommand {
    /// Read everything and tell what is damaged or missing; changes nothing. Exits 0 when all is there, 2 when damage was
    /// found, 1 otherwise
    Verify {
        /// The store's folder
        dir: PathBuf,
    },
    /// Tell what is in a store, file by file; changes nothing
    Inspect {
        /// The store's folder
        dir: PathBuf,
    },
    /// Print what each container used in each slot
    Export {
        /// The store's folder
        dir: PathBuf,
        /// How it is written
        #[arg(long, value_enum, default_value_t = Format::Csv)]
        format: Format,
        /// Only this namespace
        #[arg(short, long)]
        namespace: Option<String>,
    },
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
enum Format {
    /// Comma-separated values with a header
    Csv,
    /// One JSON object a line
    Jsonl,
}

/// What `verify` exits with when it found damage.
const DAMAGED: u8 = 2;

/// Runs one of them.
pub fn store(args: &StoreArgs) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    let done = match &args.command {
        StoreCommand::Verify { dir } => return verify(dir, &mut out),
        StoreCommand::Inspect { dir } => inspect(dir, &mut out),
        StoreCommand::Export { dir, format, namespace } => export(dir, *format, namespace.as_deref(), &mut out),
    };
    done.or_else(nobody_reads_on).map(|()| ExitCode::SUCCESS)
}

/// As in `optipod store export … | head`.
fn nobody_reads_on(error: anyhow::Error) -> anyhow::Result<()> {
    let io = error.downcast_ref::<std::io::Error>();
    if io.is_some_and(|io| io.kind() == std::io::ErrorKind::BrokenPipe) { Ok(()) } else { Err(error) }
}

/// Reads the folder; the copy of its database goes to the system's temporary folder for the while.
fn examine(dir: &Path) -> anyhow::Result<Examination> {
    anyhow::ensure!(dir.is_dir(), "there is no folder {}; name the one given as --data-dir", dir.display());
    let scratch = std::env::temp_dir().join(format!("optipod-store-{}", std::process::id()));
    Ok(Store::examine(dir, &scratch)?)
}

fn verify(dir: &Path, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let found = examine(dir)?;
    for problem in &found.problems {
        writeln!(out, "{problem}")?;
    }
    for path in &found.set_aside {
        writeln!(out, "{} was moved aside because of damage", path.display())?;
    }
    let intact = found.slots.iter().filter(|slot| slot.damage.is_none()).count();
    writeln!(out, "{} series, {intact} of {} sealed slots intact", found.series, found.slots.len())?;
    let is_whole = found.problems.is_empty() && found.set_aside.is_empty();
    Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::from(DAMAGED) })
}

fn inspect(dir: &Path, out: &mut impl Write) -> anyhow::Result<()> {
    let found = examine(dir)?;
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
    Ok(())
}

fn iso(at: Timestamp) -> String {
    jiff::Timestamp::from_millisecond(at.as_millis()).map_or_else(|_| at.to_string(), |at| at.to_string())
}

/// One container in one slot.
#[derive(serde::Serialize)]
struct Row<'a> {
    namespace: &'a str,
    kind: &'a str,
    workload: &'a str,
    container: &'a str,
    from: String,
    to: String,
    covered_seconds: u64,
    samples: u64,
    cpu_cores: Figures,
    memory_bytes: Figures,
}

#[derive(serde::Serialize)]
struct Figures {
    min: f64,
    p50: f64,
    p90: f64,
    p95: f64,
    p99: f64,
    max: f64,
    mean: f64,
}

impl Figures {
    fn of(values: &Distribution) -> Self {
        let [p50, p90, p95, p99] = [0.5, 0.9, 0.95, 0.99].map(|q| values.quantile(q));
        Self { min: values.min(), p50, p90, p95, p99, max: values.max(), mean: values.mean() }
    }

    fn csv(&self) -> String {
        let Self { min, p50, p90, p95, p99, max, mean } = self;
        format!("{min},{p50},{p90},{p95},{p99},{max},{mean}")
    }
}

impl<'a> Row<'a> {
    fn new(info: &'a SeriesInfo, usage: &Usage) -> Self {
        Self {
            namespace: &info.key.namespace,
            kind: &info.key.kind,
            workload: &info.key.workload,
            container: &info.key.container,
            from: iso(usage.from),
            to: iso(usage.to),
            covered_seconds: usage.covered.as_secs(),
            samples: usage.cpu.count(),
            cpu_cores: Figures::of(&usage.cpu),
            memory_bytes: Figures::of(&usage.memory),
        }
    }

    /// Kubernetes names hold neither commas nor quotes.
    fn csv(&self) -> String {
        let Self { namespace, kind, workload, container, from, to, covered_seconds, samples, .. } = self;
        let (cpu, memory) = (self.cpu_cores.csv(), self.memory_bytes.csv());
        format!("{namespace},{kind},{workload},{container},{from},{to},{covered_seconds},{samples},{cpu},{memory}")
    }
}

const CSV_HEADER: &str = "namespace,kind,workload,container,from,to,covered_seconds,samples,\
    cpu_min,cpu_p50,cpu_p90,cpu_p95,cpu_p99,cpu_max,cpu_mean,\
    memory_min,memory_p50,memory_p90,memory_p95,memory_p99,memory_max,memory_mean";

/// A step this short gives an answer for each slot.
const STEP: Duration = Duration::from_mins(5);
/// Containers asked for at a time.
const PAGE: usize = 1000;

fn export(dir: &Path, format: Format, namespace: Option<&str>, out: &mut impl Write) -> anyhow::Result<()> {
    anyhow::ensure!(dir.is_dir(), "there is no folder {}; name the one given as --data-dir", dir.display());
    let now = Timestamp(jiff::Timestamp::now().as_millisecond());
    let store = Store::open(dir, StoreOptions::default(), now)?;
    if format == Format::Csv {
        writeln!(out, "{CSV_HEADER}")?;
    }
    let mut page = store.series(None, PAGE);
    while let Some(last) = page.last().map(|info| info.key.clone()) {
        for info in page.iter().filter(|info| namespace.is_none_or(|n| n == info.key.namespace)) {
            let end = info.last + Duration::from_millis(1);
            let answers = store.query_range(&info.key, info.first, end, STEP);
            for usage in answers.with_context(|| format!("reading {}", info.key))? {
                let row = Row::new(info, &usage);
                match format {
                    Format::Csv => writeln!(out, "{}", row.csv())?,
                    Format::Jsonl => writeln!(out, "{}", serde_json::to_string(&row)?)?,
                }
            }
        }
        page = store.series(Some(&last), PAGE);
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use optipod_storage::{Sample, SeriesKey};

    const START: Timestamp = Timestamp(1_699_833_600_000);

    /// Twenty minutes of one container: CPU 1 to 80.
    fn build(dir: &Path) {
        let store = Store::open(dir, StoreOptions::default(), START).unwrap();
        let key = SeriesKey {
            namespace: "shop".to_owned(),
            kind: "Deployment".to_owned(),
            workload: "cart".to_owned(),
            container: "app".to_owned(),
        };
        for n in 0..80 {
            let at = START + Duration::from_secs(15 * n);
            let sample = Sample { series: store.intern(&key), pod: 1, at, cpu: 1.0 + n as f64, memory: 1e8 };
            store.append(at, &[sample]).unwrap();
            store.maintain(at).unwrap();
        }
    }

    fn text(run: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        run(&mut out);
        String::from_utf8(out).unwrap()
    }

    fn bytes_of(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
        let mut all = Vec::new();
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                all.extend(bytes_of(&path));
            } else {
                all.push((path.clone(), std::fs::read(path).unwrap()));
            }
        }
        all.sort();
        all
    }

    #[test]
    fn a_whole_store_is_verified_and_inspected_without_a_change() {
        let dir = tempfile::tempdir().unwrap();
        build(dir.path());
        let before = bytes_of(dir.path());
        let said = text(|out| assert_eq!(verify(dir.path(), out).unwrap(), ExitCode::SUCCESS));
        assert_eq!(said, "1 series, 3 of 3 sealed slots intact\n");
        let said = text(|out| inspect(dir.path(), out).unwrap());
        assert!(said.contains("last tick: 2023-11-13T00:19:45Z") && said.contains("sealed slots: 3"), "{said}");
        assert!(bytes_of(dir.path()) == before, "the folder is as it was");
    }

    #[test]
    fn damage_is_told_with_exit_code_two_and_left_where_it_is() {
        let dir = tempfile::tempdir().unwrap();
        build(dir.path());
        let path = dir.path().join("slots/5m-1699833600.slot");
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[25] ^= 1; // in its only block
        std::fs::write(&path, &bytes).unwrap();
        let said = text(|out| assert_eq!(verify(dir.path(), out).unwrap(), ExitCode::from(DAMAGED)));
        assert!(said.contains("FiveMinutes slot at 1699833600.000s is damaged"), "{said}");
        std::fs::remove_file(&path).unwrap();
        let said = text(|out| assert_eq!(verify(dir.path(), out).unwrap(), ExitCode::from(DAMAGED)));
        assert!(said.contains("5m-1699833600.slot is missing"), "{said}");
    }

    #[test]
    fn an_export_has_a_row_for_each_slot() {
        let dir = tempfile::tempdir().unwrap();
        build(dir.path());
        let csv = text(|out| export(dir.path(), Format::Csv, None, out).unwrap());
        let rows: Vec<&str> = csv.lines().collect();
        assert_eq!(rows.len(), 5, "{csv}");
        assert!(rows[0].split(',').count() == rows[1].split(',').count());
        assert!(rows[1].starts_with("shop,Deployment,cart,app,2023-11-13T00:00:00Z,2023-11-13T00:04:45Z,300,20,1,"));
        let json = text(|out| export(dir.path(), Format::Jsonl, Some("shop"), out).unwrap());
        let last: serde_json::Value = serde_json::from_str(json.lines().last().unwrap()).unwrap();
        assert_eq!((&last["samples"], &last["cpu_cores"]["max"]), (&20.into(), &80.0.into()));
        assert_eq!(text(|out| export(dir.path(), Format::Jsonl, Some("other"), out).unwrap()), "");
    }

    #[test]
    fn a_folder_that_is_not_there_or_in_use_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        assert!(verify(&dir.path().join("none"), &mut Vec::new()).is_err());
        let _store = Store::open(dir.path(), StoreOptions::default(), START).unwrap();
        assert!(verify(dir.path(), &mut Vec::new()).unwrap_err().to_string().contains("already open"));
    }
}
