//! `optipod store import`: exports, and samples kept elsewhere.

use super::row;
use crate::telemetry::{Due, Progress};
use anyhow::{Context as _, bail, ensure};
use optipod_storage::{Imported, OpenError, PastSample, SeriesKey, Store, StoreOptions, Timestamp};
use std::fs::File;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, BufRead, BufReader, Read as _, Write};
use std::path::Path;
use std::process::ExitCode;

pub(super) const HELP: &str = "\
Either the JSON lines of `optipod store export --format jsonl`, or samples as CSV with these columns, in any order:

    time_s,namespace,kind,workload,container,pod,cpu_cores,memory_bytes

time_s is Unix time in seconds. Samples must be sorted by time, but within five minutes:
    (head -1 FILE; tail -n +2 FILE | sort -t, -k1,1n) | optipod store import DIR -
Where it fails on the way or is killed, what came before is in; correct the file and repeat it, before the recommender
runs again. What is in already is left as it is.";

/// No line that makes sense is longer: two sketches of 16 KB, and names.
const MAX_LINE: u64 = 1 << 20;

pub(super) fn import(
    dir: &Path,
    file: &Path,
    options: &StoreOptions,
    now: Timestamp,
    out: &mut impl Write,
    notes: &mut impl Write,
) -> anyhow::Result<ExitCode> {
    let (input, size) = open(file)?;
    let done = take_in(dir, Lines::new(input, Progress::new("import", size), notes), options, now)?;
    tell(&done, out)?;
    Ok(ExitCode::SUCCESS)
}

/// What to read, and how many bytes that are where it is a file.
fn open(file: &Path) -> anyhow::Result<(Box<dyn BufRead>, Option<u64>)> {
    if file == Path::new("-") {
        return Ok((Box::new(io::stdin().lock()), None));
    }
    let opened = File::open(file).with_context(|| format!("opening {}", file.display()))?;
    let size = opened.metadata().ok().filter(std::fs::Metadata::is_file).map(|about| about.len());
    Ok((Box::new(BufReader::new(opened)), size))
}

/// Takes in all lines, and tells how far that is.
pub(super) fn take_in(
    dir: &Path,
    mut lines: Lines<'_, impl Write>,
    options: &StoreOptions,
    now: Timestamp,
) -> anyhow::Result<Imported> {
    ensure!(lines.advance()?, "there is nothing to import");
    let store = match Store::open(dir, options.clone(), now) {
        Err(error @ OpenError::InUse { .. }) => bail!("{error}; importing needs the recommender stopped"),
        opened => opened?,
    };
    if lines.text.starts_with('{') { rows(&store, lines, now) } else { samples(&store, lines, now) }
}

/// Lines of a bounded length, with their numbers; it tells how far they are read.
pub(super) struct Lines<'a, W> {
    input: Box<dyn BufRead>,
    number: u64,
    text: String,
    bytes: u64,
    progress: Progress,
    notes: &'a mut W,
}

impl<'a, W: Write> Lines<'a, W> {
    pub(super) fn new(input: Box<dyn BufRead>, progress: Progress, notes: &'a mut W) -> Self {
        Self { input, number: 0, text: String::new(), bytes: 0, progress, notes }
    }

    /// Reads the next line that is not empty; whether there is one.
    fn advance(&mut self) -> anyhow::Result<bool> {
        loop {
            self.text.clear();
            self.number += 1;
            let read = self.input.by_ref().take(MAX_LINE).read_line(&mut self.text);
            let read = read.with_context(|| format!("reading line {}", self.number))?;
            ensure!((read as u64) < MAX_LINE, "line {} is longer than {MAX_LINE} bytes", self.number);
            self.bytes += read as u64;
            self.tell()?;
            self.text.truncate(self.text.trim_end().len());
            if read == 0 || !self.text.is_empty() {
                return Ok(read > 0);
            }
        }
    }

    fn tell(&mut self) -> io::Result<()> {
        let number = self.number;
        match self.progress.tell(self.bytes, || format!("{number} lines")) {
            Some(Due { percent: Some(percent) }) => writeln!(self.notes, "import: {percent} %, {number} lines"),
            Some(Due { percent: None }) => writeln!(self.notes, "import: {number} lines"),
            None => Ok(()),
        }
    }
}

fn rows(store: &Store, mut lines: Lines<'_, impl Write>, now: Timestamp) -> anyhow::Result<Imported> {
    let mut import = store.import(now);
    loop {
        let taken = row::from_json(&lines.text).and_then(|row| Ok(import.row(row)?));
        taken.with_context(|| format!("line {}", lines.number))?;
        if !lines.advance()? {
            return Ok(import.finish()?);
        }
    }
}

fn samples(store: &Store, mut lines: Lines<'_, impl Write>, now: Timestamp) -> anyhow::Result<Imported> {
    let columns = Columns::of(&lines.text)?;
    let mut backfill = store.backfill(now);
    while lines.advance()? {
        let taken = columns.sample(&lines.text).and_then(|sample| Ok(backfill.sample(sample)?));
        taken.with_context(|| format!("line {}", lines.number))?;
    }
    Ok(backfill.finish()?)
}

/// Where each column stands.
struct Columns([usize; 8]);

const NAMES: [&str; 8] = ["time_s", "namespace", "kind", "workload", "container", "pod", "cpu_cores", "memory_bytes"];

impl Columns {
    fn of(header: &str) -> anyhow::Result<Self> {
        if header == row::CSV_HEADER {
            bail!("this is an export of figures, which cannot be imported; export with --format jsonl");
        }
        let header: Vec<&str> = header.split(',').map(str::trim).collect();
        let mut places = [0; 8];
        for (place, name) in places.iter_mut().zip(NAMES) {
            let found = header.iter().position(|column| *column == name);
            *place = found.with_context(|| {
                format!("the first line has no column {name}; it must name these: {}", NAMES.join(","))
            })?;
        }
        Ok(Self(places))
    }

    fn sample(&self, line: &str) -> anyhow::Result<PastSample> {
        ensure!(!line.contains('"'), "quoted fields are not read; write names as they are");
        let fields: Vec<&str> = line.split(',').map(str::trim).collect();
        let field =
            |place: usize, name: &'static str| fields.get(place).copied().with_context(|| format!("{name} is missing"));
        let Self([time, namespace, kind, workload, container, pod, cpu, memory]) = *self;
        let name = |place, name| Ok::<_, anyhow::Error>(field(place, name)?.to_owned());
        let mut hasher = DefaultHasher::new();
        field(pod, "pod")?.hash(&mut hasher);
        Ok(PastSample {
            key: SeriesKey {
                namespace: name(namespace, "namespace")?,
                kind: name(kind, "kind")?,
                workload: name(workload, "workload")?,
                container: name(container, "container")?,
            },
            pod: hasher.finish(),
            at: time_of(field(time, "time_s")?)?,
            cpu: value(field(cpu, "cpu_cores")?, "cpu_cores")?,
            memory: value(field(memory, "memory_bytes")?, "memory_bytes")?,
        })
    }
}

/// A value that is left out counts as an invalid sample, as NaN does.
fn value(text: &str, name: &str) -> anyhow::Result<f64> {
    if text.is_empty() {
        return Ok(f64::NAN);
    }
    text.parse().with_context(|| format!("{name} is \"{text}\", not a number"))
}

/// The years that a program may mean.
const SECONDS: std::ops::Range<f64> = 0.0..1e11;

fn time_of(text: &str) -> anyhow::Result<Timestamp> {
    let seconds: f64 = text.parse().with_context(|| format!("time_s is \"{text}\", not a number"))?;
    ensure!(SECONDS.contains(&seconds), "time_s is {text}, which is not Unix time in seconds");
    #[allow(clippy::cast_possible_truncation)] // below 1e14
    Ok(Timestamp((seconds * 1000.0).round() as i64))
}

fn tell(done: &Imported, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{} slots written, with {} rows", done.slots, done.rows)?;
    let counts = [
        (done.samples, "samples counted"),
        (done.duplicates, "samples left out: the same pod, container and time again"),
        (done.invalid, "samples left out: a value is missing or no usage"),
        (done.kept, "slots left as they are: the store has them, or a part of their time"),
        (done.expired, "slots left out: older than the retention"),
        (done.open, "slots left out: they may still take samples of their own"),
    ];
    for (count, what) in counts.into_iter().filter(|(count, _)| *count > 0) {
        writeln!(out, "{count} {what}")?;
    }
    Ok(())
}
