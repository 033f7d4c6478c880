//! The watches that feed the index.

use super::bounded::bounded;
use super::index::{Owners, Watched};
use crate::collector::backoff::doubling;
use futures::StreamExt as _;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PartialObjectMeta;
use kube::runtime::watcher::{self, Config, Event, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

/// The longest that one page of a list, or the beginning of a watch, may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Between attempts to watch, the pause doubles from the first to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

impl Owners {
    /// Watches pods, replicasets and jobs of all namespaces and never ends: errors are logged and tried again.
    pub async fn watch(self: &Arc<Self>, client: &kube::Client) {
        tokio::join!(
            follow::<Pod>(self, client, Watched::Pods),
            follow::<ReplicaSet>(self, client, Watched::ReplicaSets),
            follow::<Job>(self, client, Watched::Jobs),
        );
    }
}

async fn follow<K>(owners: &Arc<Owners>, client: &kube::Client, kind: Watched)
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let index = owners.clone();
    let client = bounded(client, TIMEOUT, move || index.works(kind));
    let api: Api<PartialObjectMeta<K>> = Api::all(client);
    let mut events = std::pin::pin!(watcher(api, Config::default()));
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => owners.apply(kind, trimmed(event)),
            // kube's own back-off starts anew with every attempt, because each begins with an `Init`, no error.
            Err(error) => {
                let failures = owners.fail(kind, plain(&error));
                tokio::time::sleep(doubling(FIRST_PAUSE, LONGEST_PAUSE, failures)).await;
            }
        }
    }
}

/// What the API server said, without kube's rendering of the whole answer.
fn plain(error: &watcher::Error) -> String {
    use watcher::Error::{InitialListFailed, WatchError, WatchFailed, WatchStartFailed};
    match error {
        InitialListFailed(kube::Error::Api(status))
        | WatchStartFailed(kube::Error::Api(status))
        | WatchFailed(kube::Error::Api(status))
        | WatchError(status) => format!("{} (HTTP {})", status.message, status.code),
        other => other.to_string(),
    }
}

/// The few fields that we keep; labels, annotations and managedFields go at once.
fn trimmed<K>(event: Event<PartialObjectMeta<K>>) -> Event<ObjectMeta> {
    let trim = |object: PartialObjectMeta<K>| ObjectMeta {
        namespace: object.metadata.namespace,
        name: object.metadata.name,
        uid: object.metadata.uid,
        owner_references: object.metadata.owner_references,
        ..ObjectMeta::default()
    };
    match event {
        Event::Init => Event::Init,
        Event::InitDone => Event::InitDone,
        Event::InitApply(object) => Event::InitApply(trim(object)),
        Event::Apply(object) => Event::Apply(trim(object)),
        Event::Delete(object) => Event::Delete(trim(object)),
    }
}
