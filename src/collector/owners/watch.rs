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
use kube::runtime::watcher;
use kube::runtime::watcher::{Config, Event};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::time::Duration;

/// The longest that one page of a list may take.
const LIST_TIMEOUT: Duration = Duration::from_secs(30);

/// Between attempts to watch, the pause doubles from the first to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

impl Owners {
    /// Watches pods, replicasets and jobs of all namespaces and never ends: errors are logged and tried again.
    pub async fn watch(&self, client: &kube::Client) {
        let client = bounded(client, LIST_TIMEOUT);
        tokio::join!(
            follow::<Pod>(self, &client, Watched::Pods),
            follow::<ReplicaSet>(self, &client, Watched::ReplicaSets),
            follow::<Job>(self, &client, Watched::Jobs),
        );
    }
}

async fn follow<K>(owners: &Owners, client: &kube::Client, kind: Watched)
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let api: Api<PartialObjectMeta<K>> = Api::all(client.clone());
    let mut events = std::pin::pin!(watcher(api, Config::default()));
    // kube's own back-off starts anew with every attempt, because each begins with an `Init` that is no error.
    let mut failures = 0;
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                failures = if matches!(event, Event::Init) { failures } else { 0 };
                owners.apply(kind, trimmed(event));
            }
            Err(error) => {
                failures += 1;
                owners.fail(kind, &error);
                tokio::time::sleep(doubling(FIRST_PAUSE, LONGEST_PAUSE, failures)).await;
            }
        }
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
