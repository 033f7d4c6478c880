//! The commands on a folder and on a store that a recommender has open, each against what was put in.

use super::*;
use crate::api::{Api, serve_admin};
use crate::clock::Clock;
use crate::telemetry::Progress;
use optipod_storage::{Sample, SeriesKey};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const START: Timestamp = Timestamp(1_699_833_600_000);
const DAY: Duration = Duration::from_hours(24);

fn key(workload: &str) -> SeriesKey {
    let [namespace, kind, container] = ["shop", "Deployment", "app"].map(str::to_owned);
    SeriesKey { namespace, kind, workload: workload.to_owned(), container }
}

/// Twenty minutes of one container: CPU 1 to 80.
fn fill(store: &Store) {
    for n in 0..80 {
        let at = START + Duration::from_secs(15 * n);
        let sample = Sample { series: store.intern(&key("cart")), pod: 1, at, cpu: 1.0 + n as f64, memory: 1e8 };
        store.append(at, &[sample]).unwrap();
        store.maintain(at).unwrap();
    }
}

fn build(dir: &Path) {
    fill(&Store::open(dir, StoreOptions::default(), START).unwrap());
}

/// Runs `optipod store WORDS`; what it exits with, prints and notes.
async fn said(words: &[&str]) -> (anyhow::Result<ExitCode>, String, String) {
    use clap::Parser as _;
    let line = ["optipod", "store"].iter().chain(words);
    let cli = crate::cli::Cli::try_parse_from(line).unwrap();
    let crate::cli::Command::Store(args) = cli.command else { unreachable!() };
    let (mut out, mut notes) = (Vec::new(), Vec::new());
    let exit = run(&args.command, &cli.flags, &mut out, &mut notes).await;
    (exit, String::from_utf8(out).unwrap(), String::from_utf8(notes).unwrap())
}

/// What it prints when it succeeds.
async fn printed(words: &[&str]) -> String {
    let (exit, out, notes) = said(words).await;
    assert_eq!(exit.unwrap(), ExitCode::SUCCESS, "{out}{notes}");
    out
}

async fn error(words: &[&str]) -> String {
    crate::cli::told(&said(words).await.0.unwrap_err())
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
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

/// A recommender's store, served on its socket.
struct Live {
    dir: tempfile::TempDir,
    store: Arc<Store>,
    shutdown: CancellationToken,
    serving: tokio::task::JoinHandle<Result<(), crate::api::ServeError>>,
}

impl Live {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        // What a killed recommender left behind.
        drop(std::os::unix::net::UnixListener::bind(dir.path().join("admin.sock")).unwrap());
        let store = Arc::new(Store::open(dir.path(), StoreOptions::default(), START).unwrap());
        fill(&store);
        let shutdown = CancellationToken::new();
        let api = Api::new(store.clone(), Clock::system(), DAY);
        let serving = tokio::spawn(serve_admin(api, shutdown.clone()));
        while crate::api::LiveStore::connect(dir.path()).await.is_err() {
            assert!(!serving.is_finished(), "it does not serve");
            tokio::task::yield_now().await;
        }
        Self { dir, store, shutdown, serving }
    }

    fn dir(&self) -> &str {
        text(self.dir.path())
    }

    /// Ends the recommender and closes the store.
    async fn stop(self) -> tempfile::TempDir {
        self.shutdown.cancel();
        self.serving.await.unwrap().unwrap();
        drop(self.store);
        // The last connection and its thread may hold it for a moment.
        let lock = std::fs::File::options().write(true).open(self.dir.path().join("lock")).unwrap();
        while lock.try_lock().is_err() {
            tokio::task::yield_now().await;
        }
        self.dir
    }
}

#[tokio::test]
async fn a_whole_store_is_verified_and_inspected_without_a_change() {
    let dir = tempfile::tempdir().unwrap();
    build(dir.path());
    let before = bytes_of(dir.path());
    assert_eq!(printed(&["verify", text(dir.path())]).await, "1 series, 3 of 3 sealed slots intact\n");
    let out = printed(&["inspect", text(dir.path())]).await;
    assert!(out.contains("last tick: 2023-11-13T00:19:45Z") && out.contains("sealed slots: 3"), "{out}");
    assert!(bytes_of(dir.path()) == before, "the folder is as it was");
}

#[tokio::test]
async fn damage_is_told_with_exit_code_two_and_left_where_it_is() {
    let dir = tempfile::tempdir().unwrap();
    build(dir.path());
    let path = dir.path().join("slots/5m-1699833600.slot");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[25] ^= 1; // in its only block
    std::fs::write(&path, &bytes).unwrap();
    let (exit, out, _) = said(&["verify", text(dir.path())]).await;
    assert_eq!(exit.unwrap(), ExitCode::from(DAMAGED));
    assert!(out.contains("FiveMinutes slot at 1699833600.000s is damaged"), "{out}");
    let (exit, out, notes) = said(&["export", text(dir.path())]).await;
    assert_eq!((exit.unwrap(), out.lines().count()), (ExitCode::from(DAMAGED), 4));
    assert!(notes.contains("damaged and left out"), "{notes}");
    std::fs::remove_file(&path).unwrap();
    let (exit, out, _) = said(&["verify", text(dir.path())]).await;
    assert_eq!(exit.unwrap(), ExitCode::from(DAMAGED));
    assert!(out.contains("5m-1699833600.slot is missing"), "{out}");
}

#[tokio::test]
async fn an_export_has_a_row_for_each_slot() {
    let dir = tempfile::tempdir().unwrap();
    build(dir.path());
    let csv = printed(&["export", text(dir.path())]).await;
    let rows: Vec<&str> = csv.lines().collect();
    assert_eq!(rows.len(), 5, "{csv}");
    assert!(rows[0].split(',').count() == rows[1].split(',').count());
    assert!(rows[1].starts_with("shop,Deployment,cart,app,2023-11-13T00:00:00Z,2023-11-13T00:04:45Z,300,20,1,"));
    let json = printed(&["export", text(dir.path()), "--format=jsonl", "--namespace=shop"]).await;
    let last: serde_json::Value = serde_json::from_str(json.lines().last().unwrap()).unwrap();
    assert_eq!((&last["samples"], &last["cpu_cores"]["max"], &last["slot"]), (&20.into(), &80.0.into(), &"5m".into()));
    assert_eq!(printed(&["export", text(dir.path()), "--format=jsonl", "--namespace=other"]).await, "");
}

#[tokio::test]
async fn what_holds_no_store_is_an_error_and_is_not_made_one() {
    let dir = tempfile::tempdir().unwrap();
    let none = dir.path().join("none");
    for command in ["verify", "inspect", "export"] {
        assert!(error(&[command, text(&none)]).await.contains("there is no store in"));
        assert!(error(&[command, text(dir.path())]).await.contains("there is no store in"));
    }
    assert!(error(&["backup", text(dir.path()), text(&none)]).await.contains("there is no store in"));
    assert!(error(&["restore", text(dir.path()), text(&none)]).await.contains("holds no store"));
    assert_eq!(bytes_of(dir.path()), []);
}

#[tokio::test]
async fn a_store_in_use_without_a_socket_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let _store = Store::open(dir.path(), StoreOptions::default(), START).unwrap();
    let said = error(&["verify", text(dir.path())]).await;
    assert!(said.contains("no recommender answers on") && said.contains("admin.sock"), "{said}");
    let file = dir.path().join("some.csv");
    std::fs::write(&file, "time_s,namespace,kind,workload,container,pod,cpu_cores,memory_bytes\n").unwrap();
    let said = error(&["import", text(dir.path()), text(&file)]).await;
    assert!(said.contains("needs the recommender stopped"), "{said}");
    let said = error(&["restore", text(dir.path()), text(dir.path())]).await;
    assert!(said.contains("already open"), "{said}");
}

#[tokio::test]
async fn a_folder_whose_socket_would_have_too_long_a_path_is_told() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("x".repeat(120));
    let store = Arc::new(Store::open(&dir, StoreOptions::default(), START).unwrap());
    let said = error(&["verify", text(&dir)]).await;
    assert!(said.contains("longer than the 107 bytes"), "{said}");
    let served = serve_admin(Api::new(store, Clock::system(), DAY), CancellationToken::new()).await;
    assert!(served.unwrap_err().to_string().contains("symbolic link"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recommender_tells_of_its_store_what_its_files_tell() {
    let live = Live::new().await;
    let socket = std::fs::metadata(live.dir.path().join("admin.sock")).unwrap();
    assert_eq!(socket.permissions().mode() & 0o777, 0o600);
    let dir = live.dir().to_owned();
    let commands: [&[&str]; 5] = [
        &["verify", &dir],
        &["inspect", &dir],
        &["export", &dir],
        &["export", &dir, "--format=jsonl", "--namespace=shop"],
        &["export", &dir, "--namespace=other"],
    ];
    let mut answers = Vec::new();
    for words in commands {
        let (exit, out, notes) = said(words).await;
        assert_eq!(exit.unwrap(), ExitCode::SUCCESS, "{out}{notes}");
        assert!(notes.contains("asking the recommender"), "{notes}");
        answers.push(out);
    }
    let dir_kept = live.stop().await;
    assert!(!dir_kept.path().join("admin.sock").exists());
    // How large a database is changes when it is opened.
    let told = |out: &str| -> Vec<String> {
        out.lines().filter(|line| !line.starts_with("database")).map(str::to_owned).collect()
    };
    for (words, answer) in commands.iter().zip(&answers) {
        let (exit, out, notes) = said(words).await;
        assert_eq!(exit.unwrap(), ExitCode::SUCCESS);
        assert!(notes.contains("reading its files"), "{notes}");
        assert_eq!(told(&out), told(answer), "{words:?}");
    }
    assert_eq!(answers[2].lines().count(), 5, "its header and four slots");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_of_a_live_store_is_told_with_exit_code_two() {
    let live = Live::new().await;
    let path = live.dir.path().join("slots/5m-1699833600.slot");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[25] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let (exit, out, _) = said(&["verify", live.dir()]).await;
    assert_eq!(exit.unwrap(), ExitCode::from(DAMAGED), "{out}");
    assert!(out.contains("FiveMinutes slot at 1699833600.000s is damaged"), "{out}");
    let (exit, out, notes) = said(&["export", live.dir()]).await;
    assert_eq!((exit.unwrap(), out.lines().count()), (ExitCode::from(DAMAGED), 4));
    assert!(notes.is_empty() || notes.contains("asking"), "{notes}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_live_store_is_backed_up_and_the_backup_restored() {
    let live = Live::new().await;
    let root = tempfile::tempdir().unwrap();
    let (backup, new) = (root.path().join("backup"), root.path().join("new"));
    let out = printed(&["backup", live.dir(), text(&backup)]).await;
    assert!(out.contains("1 series, ") && out.ends_with("last tick 2023-11-13T00:19:45Z\n"), "{out}");
    let again = error(&["backup", live.dir(), text(&backup)]).await;
    assert!(again.contains("is not empty"), "{again}");
    assert_eq!(printed(&["verify", text(&backup)]).await, "1 series, 3 of 3 sealed slots intact\n");
    printed(&["restore", text(&backup), text(&new)]).await;
    let store = Store::open(&new, StoreOptions::default(), START).unwrap();
    let usage = store.usage(&key("cart"), DAY, START + Duration::from_mins(20)).unwrap().unwrap();
    assert_eq!((usage.cpu.count(), usage.cpu.min(), usage.cpu.max()), (80, 1.0, 80.0));
    drop(store);
    let said_again = error(&["restore", text(&backup), text(&new)]).await;
    assert!(said_again.contains("--replace"), "{said_again}");
    let out = printed(&["restore", "--replace", text(&backup), text(&new)]).await;
    assert!(out.contains("the store from before is in"), "{out}");

    std::fs::remove_file(backup.join("slots/5m-1699833600.slot")).unwrap();
    let (exit, out, _) = said(&["restore", text(&backup), text(&root.path().join("other"))]).await;
    assert_eq!(exit.unwrap(), ExitCode::from(DAMAGED));
    assert!(out.contains("is missing") && out.contains("--allow-damaged"), "{out}");
    let other = root.path().join("other");
    assert!(!other.exists());
    let (exit, out, _) = said(&["restore", "--allow-damaged", text(&backup), text(&other)]).await;
    assert_eq!(exit.unwrap(), ExitCode::from(DAMAGED));
    assert!(out.starts_with("damaged, and so left out: slots/5m-1699833600.slot is missing"), "{out}");
    let store = Store::open(&other, StoreOptions::default(), START).unwrap();
    let usage = store.usage(&key("cart"), DAY, START + Duration::from_mins(20)).unwrap().unwrap();
    assert_eq!(usage.cpu.count(), 60);
}

#[tokio::test]
async fn an_export_imported_is_the_same_export_and_repeating_it_changes_nothing() {
    let root = tempfile::tempdir().unwrap();
    let (from, to, file) = (root.path().join("from"), root.path().join("to"), root.path().join("some.jsonl"));
    build(&from);
    let exported = printed(&["export", text(&from), "--format=jsonl"]).await;
    std::fs::write(&file, &exported).unwrap();
    // What was measured in 2023 is long past any retention: the clock is an argument.
    let mut out = Vec::new();
    let now = START + DAY;
    import::import(&to, &file, &StoreOptions::default(), now, &mut out, &mut Vec::new()).unwrap();
    assert_eq!(String::from_utf8(out).unwrap(), "4 slots written, with 4 rows\n");
    assert_eq!(printed(&["export", text(&to), "--format=jsonl"]).await, exported);
    let mut out = Vec::new();
    import::import(&to, &file, &StoreOptions::default(), now, &mut out, &mut Vec::new()).unwrap();
    assert!(String::from_utf8(out).unwrap().starts_with("0 slots written, with 0 rows\n4 slots left as they are"));
    let expired = printed(&["import", text(&to), text(&file)]).await;
    assert!(expired.contains("older than the retention"), "{expired}");
}

#[test]
fn an_import_tells_how_far_it_is_by_the_size_of_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let header = "time_s,namespace,kind,workload,container,pod,cpu_cores,memory_bytes\n";
    let line = |n: i64| format!("{},shop,Deployment,cart,app,p,1,{}\n", START.as_millis() / 1000 + n, 1000 + n);
    let input = header.to_owned() + &(0..100).map(line).collect::<String>();
    for (size, first, last) in [
        (Some(input.len() as u64), "import: 1 %, 1 lines", "import: 100 %, 101 lines"),
        (None, "import: 1 lines", "import: 101 lines"),
    ] {
        let mut notes = Vec::new();
        let progress = Progress::in_lines(size, Duration::ZERO);
        let lines = import::Lines::new(Box::new(std::io::Cursor::new(input.clone())), progress, &mut notes);
        let store = dir.path().join(first);
        assert_eq!(import::take_in(&store, lines, &StoreOptions::default(), START + DAY).unwrap().samples, 100);
        let told = String::from_utf8(notes).unwrap();
        assert!(told.starts_with(first) && told.lines().any(|line| line == last), "{told}");
    }
    // What takes no ten seconds says nothing.
    let (file, mut notes) = (dir.path().join("some.csv"), Vec::new());
    std::fs::write(&file, input).unwrap();
    let store = dir.path().join("store");
    import::import(&store, &file, &StoreOptions::default(), START + DAY, &mut Vec::new(), &mut notes).unwrap();
    assert!(notes.is_empty(), "{notes:?}");
}

/// Imports some text at a time in 2023; what it prints, or the error.
fn imported(dir: &Path, input: &str) -> Result<String, String> {
    let file = dir.join("input");
    std::fs::write(&file, input).unwrap();
    let mut out = Vec::new();
    let done =
        import::import(&dir.join("store"), &file, &StoreOptions::default(), START + DAY, &mut out, &mut Vec::new());
    done.map(|_| String::from_utf8(out).unwrap()).map_err(|error| crate::cli::told(&error))
}

#[test]
fn samples_kept_elsewhere_are_imported_by_the_names_of_their_columns() {
    use std::fmt::Write as _;
    let dir = tempfile::tempdir().unwrap();
    let mut csv = "pod,time_s,namespace,kind,workload,container,note,memory_bytes,cpu_cores\n".to_owned();
    for n in 0..600 {
        let at = START.as_millis() / 1000 + 15 * n;
        writeln!(csv, "cart-{},{at}.0,shop,Deployment,cart,app,x,{},{}", n % 2, 1000 * n, n + 1).unwrap();
    }
    write!(csv, "cart-0,{},shop,Deployment,cart,app,,,1\r\n\n", START.as_millis() / 1000 + 9000).unwrap();
    let out = imported(dir.path(), &csv).unwrap();
    assert!(out.contains("600 samples counted\n1 samples left out: a value is missing"), "{out}");
    let store = Store::open(&dir.path().join("store"), StoreOptions::default(), START).unwrap();
    let usage = store.usage(&key("cart"), DAY, START + DAY).unwrap().unwrap();
    assert_eq!((usage.cpu.count(), usage.cpu.min(), usage.memory.min()), (600, 1.0, 0.0));
    assert!((usage.cpu.quantile(0.5) - 300.0).abs() < 6.0 && (usage.cpu.quantile(0.99) - 594.0).abs() < 6.0);
    assert_eq!((usage.from, usage.to), (START, START + Duration::from_secs(15 * 599)));
}

#[test]
fn input_that_cannot_be_imported_is_told_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let header = "time_s,namespace,kind,workload,container,pod,cpu_cores,memory_bytes\n";
    let line = |time: &str, cpu: &str| format!("{time},shop,Deployment,cart,app,p,{cpu},1\n");
    let cases = [
        (String::new(), "there is nothing to import"),
        ("time_s,pod\n".to_owned(), "no column namespace"),
        (row::CSV_HEADER.to_owned(), "export with --format jsonl"),
        (header.to_owned() + &line("1699834500", "1") + &line("1699833600", "1"), "line 3"),
        (header.to_owned() + &line("1699834500", "1") + &line("1699833600", "1"), "sort the input by time"),
        (header.to_owned() + &line("1699833600", "much"), "cpu_cores is \"much\", not a number"),
        (header.to_owned() + &line("1699833600000", "1"), "not Unix time in seconds"),
        (header.to_owned() + &line("NaN", "1"), "not Unix time in seconds"),
        (header.to_owned() + "1699833600,shop\n", "pod is missing"),
        (header.to_owned() + "1699833600,\"shop\",Deployment,cart,app,p,1,1\n", "quoted fields are not read"),
        (header.to_owned() + "1699833600,,Deployment,cart,app,p,1,1\n", "1 to 253 bytes"),
        ("{\"namespace\":1}\n".to_owned(), "is not a line of `optipod store export"),
        ("x".repeat(2 << 20), "longer than"),
    ];
    for (input, expected) in cases {
        let error = imported(dir.path(), &input).unwrap_err();
        assert!(error.contains(expected), "{expected}: {error}");
    }
}
