//! `optipod store import`, killed again and again: as the program, on files.

use super::harness::{Result, test};
use anyhow::ensure;
use libtest_mimic::Trial;
use optipod::clock::Clock;
use optipod_storage::{Store, StoreOptions, Timestamp};
use serde_json::Value;
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const OPTIPOD: &str = env!("CARGO_BIN_EXE_optipod");
const HOUR: i64 = 3600;

pub fn tests() -> Vec<Trial> {
    vec![test("import::what_is_killed_and_repeated_is_as_if_done_at_once", || {
        Box::pin(what_is_killed_and_repeated_is_as_if_done_at_once())
    })]
}

/// A day and a half of two workloads, a sample a minute of each pod, which ended two hours ago.
fn samples() -> String {
    let mut text = "time_s,namespace,kind,workload,container,pod,cpu_cores,memory_bytes\n".to_owned();
    let end = Clock::system().now().as_second() / HOUR * HOUR - 2 * HOUR;
    for at in (end - 36 * HOUR..end).step_by(60) {
        for (n, pod) in (0..).zip(["web-0", "web-1", "db-0"]) {
            let (workload, value) = (pod.split_once('-').unwrap().0, at / 60 % 100 + n);
            writeln!(text, "{at},shop,StatefulSet,{workload},app,{pod},0.{value},{}", 1000 * value).unwrap();
        }
    }
    text
}

fn import(store: &Path, file: &Path) -> Command {
    let mut command = Command::new(OPTIPOD);
    command.args(["store", "import"]).args([store, file]).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Kills it once there are some more slots, which are rolled up to hours after two hours; whether it was still at work.
async fn killed(mut child: Child, store: &Path) -> Result<bool> {
    let files = || std::fs::read_dir(store.join("slots")).map_or(0, Iterator::count);
    let before = files();
    while files() < before + 10 {
        if child.try_wait()?.is_some() {
            return Ok(false);
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    child.kill()?;
    child.wait()?;
    Ok(true)
}

/// Rolls up what is due, as a recommender's first ticks do.
fn settle(store: &Path, now: Timestamp) -> Result {
    let store = Store::open(store, StoreOptions::default(), now)?;
    while store.maintain(now)?.pending {}
    Ok(())
}

/// Everything in a store, slot by slot.
fn exported(store: &Path) -> Result<String> {
    let output = Command::new(OPTIPOD).args(["store", "export", "--format=jsonl"]).arg(store).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

async fn what_is_killed_and_repeated_is_as_if_done_at_once() -> Result {
    let folder = tempfile::tempdir()?;
    let [file, whole, killed_often] = ["samples.csv", "whole", "killed"].map(|name| folder.path().join(name));
    std::fs::write(&file, samples())?;
    ensure!(import(&whole, &file).status()?.success());
    let mut kills = 0;
    for _ in 0..4 {
        kills += u32::from(killed(import(&killed_often, &file).spawn()?, &killed_often).await?);
    }
    ensure!(kills >= 3, "killed only {kills} times: it ended by itself");
    let now = Timestamp(Clock::system().now().as_millisecond());
    settle(&whole, now)?;
    let expected = exported(&whole)?;
    let counts = expected.lines().map(|line| Ok(serde_json::from_str::<Value>(line)?["samples"].as_u64().unwrap_or(0)));
    let counted = counts.sum::<Result<u64>>()?;
    ensure!(counted == 36 * 60 * 3, "{counted} samples");
    ensure!(exported(&killed_often)? != expected, "all was in already");
    for _ in 0..2 {
        ensure!(import(&killed_often, &file).status()?.success());
        settle(&killed_often, now)?;
        ensure!(exported(&killed_often)? == expected, "repeated after {kills} kills, it is not the same");
    }
    Ok(())
}
