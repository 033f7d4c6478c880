//! List and watch: versions, pages, bookmarks, and what has expired.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::coordination::v1::Lease;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use serde_json::json;

use super::{gadgets, refusal};
use crate::harness::{Result, Server, wait_for};

/// What a watch tells: what happened to which object, and at which version.
#[derive(Debug, PartialEq)]
struct Told(&'static str, String, u64);

/// Long enough for what is awaited, and the end of a watch that tells less.
const SECONDS: u32 = 20;
/// Two compactions and a look of the cache in front of them.
const COMPACTED_WITHIN: Duration = Duration::from_mins(1);

fn number(version: Option<String>) -> Result<u64> {
    Ok(version.context("no resourceVersion")?.parse()?)
}

async fn create(leases: &Api<Lease>, name: &str, group: &str) -> Result<u64> {
    let lease = json!({"metadata": {"name": name, "labels": {"group": group}}});
    let created = leases.create(&PostParams::default(), &serde_json::from_value(lease)?).await?;
    number(created.resource_version())
}

async fn label(leases: &Api<Lease>, name: &str, group: &str) -> Result<u64> {
    let patch = Patch::Merge(json!({"metadata": {"labels": {"group": group}}}));
    number(leases.patch(name, &PatchParams::default(), &patch).await?.resource_version())
}

fn told(event: WatchEvent<Lease>) -> Result<Told> {
    let of = |word, lease: Lease| Ok(Told(word, lease.name_any(), number(lease.resource_version())?));
    match event {
        WatchEvent::Added(lease) => of("ADDED", lease),
        WatchEvent::Modified(lease) => of("MODIFIED", lease),
        WatchEvent::Deleted(lease) => of("DELETED", lease),
        WatchEvent::Bookmark(mark) => {
            let end =
                mark.metadata.annotations == BTreeMap::from([("k8s.io/initial-events-end".into(), "true".into())]);
            let name = if end { "initial-events-end" } else { "" };
            Ok(Told("BOOKMARK", name.to_owned(), mark.metadata.resource_version.parse()?))
        }
        WatchEvent::Error(status) => bail!("the watch ended with {status:?}"),
    }
}

/// The next `count` events of a watch.
async fn watched(leases: &Api<Lease>, params: &WatchParams, version: u64, count: usize) -> Result<Vec<Told>> {
    let stream = leases.watch(params, &version.to_string()).await?;
    let events: Vec<Told> = stream.map(|event| told(event?)).take(count).try_collect().await?;
    ensure!(events.len() == count, "the watch ended after {events:?}");
    Ok(events)
}

fn silent() -> WatchParams {
    WatchParams::default().timeout(SECONDS).disable_bookmarks()
}

pub async fn a_watch_tells_every_change_after_its_version_once_and_in_order(server: &Server) -> Result {
    let namespace = server.namespace("watch").await?;
    let elsewhere = server.namespace("elsewhere").await?;
    let leases: Api<Lease> = namespace.api();
    create(&leases, "before", "a").await?;
    let list = leases.list(&ListParams::default()).await?;
    let version = number(list.metadata.resource_version)?;

    let created = create(&leases, "after", "a").await?;
    create(&elsewhere.api(), "not-here", "a").await?;
    let labelled = label(&leases, "before", "b").await?;
    leases.delete("after", &DeleteParams::default()).await?;
    let newest = create(&leases, "last", "a").await?;

    let told = watched(&leases, &silent(), version, 4).await?;
    let deleted = told[2].2;
    let expected = [
        ("ADDED", "after", created),
        ("MODIFIED", "before", labelled),
        ("DELETED", "after", deleted),
        ("ADDED", "last", newest),
    ];
    assert_eq!(told, expected.map(|(word, name, version)| Told(word, name.to_owned(), version)));
    assert!(told.is_sorted_by(|a, b| a.2 < b.2), "{told:?}");
    let resumed = watched(&leases, &silent(), labelled, 2).await?;
    assert_eq!(resumed, told[2..], "from the version of an event on comes what followed it");
    Ok(())
}

pub async fn a_watch_with_a_selector_sees_objects_come_and_go(server: &Server) -> Result {
    let namespace = server.namespace("selected").await?;
    let leases: Api<Lease> = namespace.api();
    let start = create(&leases, "one", "a").await?;

    let away = label(&leases, "one", "b").await?;
    create(&leases, "two", "b").await?;
    let back = label(&leases, "one", "a").await?;

    let told = watched(&leases, &silent().labels("group=a"), start, 2).await?;
    assert_eq!(told, [Told("DELETED", "one".into(), away), Told("ADDED", "one".into(), back)]);
    Ok(())
}

pub async fn a_watch_can_begin_with_what_there_is(server: &Server) -> Result {
    let namespace = server.namespace("initial").await?;
    let leases: Api<Lease> = namespace.api();
    let b = create(&leases, "b", "x").await?;
    let a = create(&leases, "a", "x").await?;

    let stream = leases.watch(&WatchParams::default().timeout(SECONDS).initial_events(), "").await?;
    let mut stream = std::pin::pin!(stream.map(|event| told(event?)));
    let mut first = Vec::new();
    for _ in 0..3 {
        first.push(stream.try_next().await?.context("the watch ended")?);
    }

    assert_eq!(first[..2], [Told("ADDED", "a".into(), a), Told("ADDED", "b".into(), b)]);
    assert_eq!((first[2].0, first[2].1.as_str()), ("BOOKMARK", "initial-events-end"));
    assert!(first[2].2 >= a, "{first:?}");
    let later = create(&leases, "c", "x").await?;
    assert_eq!(stream.try_next().await?, Some(Told("ADDED", "c".into(), later)));
    Ok(())
}

/// A bookmark comes once a minute, and two seconds before the end of the watch.
pub async fn a_bookmark_says_how_far_the_watch_has_come(server: &Server) -> Result {
    let namespace = server.namespace("bookmark").await?;
    let leases: Api<Lease> = namespace.api();
    let start = create(&leases, "one", "a").await?;
    let other = create(&leases, "two", "b").await?;

    let told = watched(&leases, &WatchParams::default().timeout(4).labels("group=a"), start, 1).await?;

    let Told(word, _, mark) = &told[0];
    assert!(*word == "BOOKMARK" && *mark >= other, "{told:?}: past the change that was not selected");
    let later = create(&leases, "three", "a").await?;
    assert_eq!(watched(&leases, &silent(), *mark, 1).await?, [Told("ADDED", "three".into(), later)]);
    Ok(())
}

pub async fn without_asking_for_bookmarks_there_are_none(server: &Server) -> Result {
    let namespace = server.namespace("no-bookmark").await?;
    let leases: Api<Lease> = namespace.api();
    let start = create(&leases, "one", "a").await?;

    let stream = leases.watch(&WatchParams::default().timeout(3).disable_bookmarks(), &start.to_string()).await?;

    let told: Vec<Told> = stream.map(|event| told(event?)).try_collect().await?;
    assert_eq!(told, []);
    Ok(())
}

pub async fn a_watch_from_an_expired_version_gets_410_inside_its_answer(server: &Server) -> Result {
    let namespace = server.namespace("expired").await?;
    // Its history begins with its definition; version 1 was long before.
    let gadgets = gadgets(server, &namespace).await?;

    let stream = gadgets.watch(&silent(), "1").await?;

    let events: Vec<_> = stream.try_collect().await?;
    let [WatchEvent::Error(status)] = &events[..] else { bail!("{events:?}") };
    assert_eq!((status.code, status.reason.as_str()), (410, "Expired"));
    assert!(status.message.starts_with("too old resource version: 1 ("), "{}", status.message);
    Ok(())
}

async fn page(leases: &Api<Lease>, token: Option<&str>) -> kube::Result<(Vec<String>, Option<String>)> {
    let params = ListParams::default().limit(2);
    let list = leases.list(&token.map_or_else(|| params.clone(), |token| params.clone().continue_token(token))).await?;
    Ok((list.items.iter().map(ResourceExt::name_any).collect(), list.metadata.continue_))
}

pub async fn the_pages_of_a_list_show_one_moment(server: &Server) -> Result {
    let namespace = server.namespace("pages").await?;
    let leases: Api<Lease> = namespace.api();
    for name in ["a", "b", "c", "e"] {
        create(&leases, name, "x").await?;
    }

    let (names, token) = page(&leases, None).await?;
    create(&leases, "d", "x").await?;
    leases.delete("e", &DeleteParams::default()).await?;

    assert_eq!(names, ["a", "b"]);
    let token = token.context("no second page")?;
    assert_eq!(page(&leases, Some(&token)).await?, (vec!["c".to_owned(), "e".to_owned()], None));
    let whole = leases.list(&ListParams::default()).await?;
    assert_eq!(whole.items.iter().map(ResourceExt::name_any).collect::<Vec<_>>(), ["a", "b", "c", "d"]);
    Ok(())
}

pub async fn a_page_of_an_expired_list_is_refused_with_410(server: &Server) -> Result {
    let namespace = server.namespace("late-page").await?;
    let leases: Api<Lease> = namespace.api();
    for name in ["a", "b", "c"] {
        create(&leases, name, "x").await?;
    }
    let (_, token) = page(&leases, None).await?;
    let token = token.context("no second page")?;

    server.compact();

    let refused = wait_for("the page to expire", COMPACTED_WITHIN, || async {
        // A write, because what is compacted is what was before one.
        label(&leases, "a", "y").await?;
        let answer = page(&leases, Some(&token)).await;
        refusal(answer)
    });
    assert_eq!(refused.await?, (410, "Expired".to_owned()));
    Ok(())
}

pub async fn a_list_at_a_version_to_come_is_refused(server: &Server) -> Result {
    let namespace = server.namespace("future").await?;
    let leases: Api<Lease> = namespace.api();
    let now = create(&leases, "one", "a").await?;
    let later = (now + 1_000_000).to_string();

    let refused = leases.list(&ListParams::default().at(&later)).await;

    let Err(kube::Error::Api(status)) = refused else { bail!("{refused:?}") };
    assert_eq!((status.code, status.reason.as_str()), (504, "Timeout"));
    assert!(status.message.contains(&format!("Too large resource version: {later}, current: ")), "{}", status.message);
    Ok(())
}
