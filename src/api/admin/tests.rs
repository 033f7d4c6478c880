//! What a caller is told; what the answers say is tested with the commands that show them.

use super::*;
use crate::clock::Clock;
use crate::proto::admin::store_admin_service_server::StoreAdminService as _;
use futures::StreamExt as _;
use optipod_storage::{Sample, SeriesKey, StoreOptions, Timestamp};
use tonic::Code;

const NOW: Timestamp = Timestamp(1_699_833_600_000);

/// More series than the messages that an export may be ahead.
fn admin(dir: &std::path::Path) -> Admin {
    let store = Store::open(dir, StoreOptions::default(), NOW).unwrap();
    let key = |n: usize| SeriesKey {
        namespace: format!("ns-{}", n % 2),
        kind: "Deployment".to_owned(),
        workload: format!("app-{n}"),
        container: "app".to_owned(),
    };
    let sample = |n| Sample { series: store.intern(&key(n)), pod: 1, at: NOW, cpu: 1.0, memory: 1e8 };
    let samples: Vec<Sample> = (0..1500).map(sample).collect();
    assert_eq!(store.append(NOW, &samples).unwrap().accepted, 1500);
    Admin::new(Api::new(Arc::new(store), Clock::system(), Duration::from_hours(24)))
}

fn export(namespace: &str) -> Request<wire::ExportRequest> {
    Request::new(wire::ExportRequest { namespace: namespace.to_owned() })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_piece_of_work_goes_on_at_a_time_and_ends_with_its_caller() {
    let dir = tempfile::tempdir().unwrap();
    let admin = admin(dir.path());
    let mut stalled = admin.export(export("")).await.unwrap().into_inner();
    assert!(!stalled.next().await.unwrap().unwrap().rows.is_empty());
    let status = admin.examine(Request::new(wire::ExamineRequest {})).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(status.message().contains("try again"), "{status:?}");
    drop(stalled);
    while admin.turn.available_permits() == 0 {
        tokio::task::yield_now().await;
    }
    let found = admin.examine(Request::new(wire::ExamineRequest {})).await.unwrap().into_inner();
    assert_eq!(found.series, 1500);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_reads_no_further_when_its_caller_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let admin = admin(dir.path());
    for namespace in ["", "ns-2"] {
        let store = admin.api.store.clone();
        let (sender, mut receiver) = mpsc::channel(100); // room for all of it
        let caller = Caller { sender, runtime: Handle::current() };
        let exporting = tokio::task::spawn_blocking(move || {
            let mut read = 0;
            let parts = store.export().unwrap().inspect(|_| {
                read += 1;
                if read == 2 {
                    receiver.close();
                }
            });
            send_rows(parts, namespace, Vec::new, &caller);
            read
        });
        assert_eq!(exporting.await.unwrap(), 2, "of twelve parts, for {namespace:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_comes_in_small_messages_and_holds_its_namespace_only() {
    let dir = tempfile::tempdir().unwrap();
    let admin = admin(dir.path());
    for (namespace, expected) in [("", 1500), ("ns-1", 750), ("ns-2", 0)] {
        let messages: Vec<_> = admin.export(export(namespace)).await.unwrap().into_inner().collect().await;
        let messages: Vec<wire::ExportResponse> = messages.into_iter().map(Result::unwrap).collect();
        assert!(messages.iter().all(|message| message.rows.len() <= ROWS));
        let complete: Vec<bool> = messages.iter().map(|message| message.complete).collect();
        assert!(complete.iter().rev().copied().eq((0..complete.len()).map(|n| n == 0)), "the last one says so");
        let rows: Vec<_> = messages.into_iter().flat_map(|message| message.rows).collect();
        assert_eq!(rows.len(), expected);
        assert!(rows.iter().all(|row| namespace.is_empty() || row.namespace == namespace));
    }
}

#[tokio::test]
async fn a_socket_can_be_reached_by_its_owner_alone_from_the_first_moment() {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let path = dir.path().join("admin.sock");
    for _ in 0..2 {
        let listener = socket::listen(&path, |new| {
            let listener = tokio::net::UnixListener::bind(new)?;
            std::fs::set_permissions(new, std::fs::Permissions::from_mode(0o777))?; // as by any umask
            assert_eq!(mode(new.parent().unwrap()), 0o700);
            Ok(listener)
        });
        drop(listener.unwrap());
        assert_eq!(mode(&path), 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left");
        std::fs::create_dir(dir.path().join("sock.tmp")).unwrap(); // by a killed recommender
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_needs_a_full_path_to_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let admin = admin(&dir.path().join("store"));
    let backup = |target: &std::path::Path| {
        admin.backup(Request::new(wire::BackupRequest { target: target.display().to_string() }))
    };
    assert_eq!(backup("some".as_ref()).await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(backup(&dir.path().join("store/slots/x")).await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(backup(&dir.path().join("store")).await.unwrap_err().code(), Code::AlreadyExists);
    assert_eq!(backup(&dir.path().join("no/where")).await.unwrap_err().code(), Code::Unavailable);
    let made = backup(&dir.path().join("backup")).await.unwrap().into_inner();
    assert_eq!((made.series, made.last_tick_ms), (1500, Some(NOW.0)));
}
