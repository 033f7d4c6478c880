//! A backup as `docs/operations.md` makes and restores one: a file from a running recommender, into another one's store.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, ensure};
use optipod::proto::{Series, Usage};
use optipod_storage::{Store, StoreOptions, Timestamp};

use super::history::{self, Used};
use super::install::RECOMMENDER;
use super::process::{Optipod, Role};
use super::shared;
use crate::harness::{Cluster, Result};

const USED: [Used; 2] = [
    Used { namespace: "saved", workload: "web", container: "app", cores: 0.1, bytes: 1e8 },
    Used { namespace: "saved", workload: "web", container: "proxy", cores: 0.02, bytes: 3e7 },
];
const DAY: Duration = Duration::from_hours(24);

pub async fn an_export_of_a_running_recommender_answers_the_same_where_it_is_imported(
    cluster: &'static Cluster,
) -> Result {
    shared(cluster).await?; // installs the roles
    let prepared = Optipod::prepare(cluster, Role::Recommender, RECOMMENDER).await?;
    let now = Timestamp(jiff::Timestamp::now().as_millisecond());
    history::write_until(&prepared.data(), now - Duration::from_mins(15), Duration::from_hours(4), &USED)?;
    close_slots(&prepared.data(), now)?;
    let (folder, from) = (prepared.data(), prepared.start()?);
    let (known, wanted) = (series(&from).await?, answers(&from).await?);
    ensure!(known.len() == 2 && wanted.iter().all(|usage| samples(usage) == 4 * 60 * 4), "{known:?}: {wanted:?}");

    let file = optipod(&["store", "export", path(&folder)?, "--format", "jsonl"], b"")?;
    let verified = String::from_utf8(optipod(&["store", "verify", path(&folder)?], b"")?)?;
    ensure!(verified.ends_with(" sealed slots intact\n"), "{verified}");
    let prepared = Optipod::prepare(cluster, Role::Recommender, RECOMMENDER).await?;
    // Repeated, it changes nothing.
    for _ in 0..2 {
        optipod(&["store", "import", path(&prepared.data())?, "-"], &file)?;
    }

    let to = prepared.start()?;
    ensure!(series(&to).await? == known, "other containers than {known:?}");
    let found = answers(&to).await?;
    ensure!(found == wanted, "from the file {found:?}, and from the store {wanted:?}");
    Ok(())
}

/// An export has the slots that are closed, as a recommender's ticks do it.
fn close_slots(folder: &Path, now: Timestamp) -> Result {
    let store = Store::open(folder, StoreOptions::default(), now)?;
    while store.maintain(now)?.pending {}
    store.close();
    Ok(())
}

/// Its containers, once it has read all of its store.
async fn series(recommender: &Optipod) -> Result<Vec<String>> {
    recommender.wait_for("the list of series", || recommender.series("saved")).await
}

/// The usage of each container over a day.
async fn answers(recommender: &Optipod) -> Result<Vec<Usage>> {
    let mut all = Vec::new();
    for used in &USED {
        let series = Series {
            namespace: used.namespace.into(),
            kind: "Deployment".into(),
            workload: used.workload.into(),
            container: used.container.into(),
        };
        all.push(recommender.usage_of(series, DAY).await?);
    }
    Ok(all)
}

fn samples(usage: &Usage) -> u64 {
    usage.cpu.as_ref().map_or(0, |cpu| cpu.samples)
}

fn path(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is no text")
}

/// What the command prints, given this to read.
fn optipod(arguments: &[&str], input: &[u8]) -> Result<Vec<u8>> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_optipod"));
    // The image has no temporary folder either.
    let command = command
        .args(arguments)
        .env("TMPDIR", "/nonexistent")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().context("start optipod")?;
    let (mut stdin, input) = (child.stdin.take().context("no stdin")?, input.to_vec());
    let writing = thread::spawn(move || stdin.write_all(&input));
    let done = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&done.stderr);
    ensure!(done.status.success(), "optipod {arguments:?}: {}: {said}", done.status);
    ensure!(writing.join().is_ok_and(|written| written.is_ok()), "optipod {arguments:?} did not read all of its input");
    Ok(done.stdout)
}
