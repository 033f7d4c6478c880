//! The watch of VerticalPodAutoscalers, whose CRD may be absent, and may come and go.
//!
//! Whether it is there is read from discovery, which needs no right; a list is sent only where it is.

use super::{Shared, follow};
use crate::controller::bounds::VPAS;
use crate::controller::ingest;
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind};
use kube::runtime::watcher;
use std::time::Duration;
use tokio::time::{sleep, timeout};

const GROUP_VERSION: &str = "autoscaling.k8s.io/v1";
/// How often we look for the CRD; a VPA that comes with it is seen that late.
const LOOK_EVERY: Duration = Duration::from_mins(1);
/// The deadline of one look.
const DEADLINE: Duration = Duration::from_secs(10);

pub(super) async fn run(client: Client, shared: Shared) {
    let kind = GroupVersionKind::gvk("autoscaling.k8s.io", "v1", "VerticalPodAutoscaler");
    let resource = ApiResource::from_gvk_with_plural(&kind, VPAS);
    loop {
        match timeout(DEADLINE, served(&client)).await {
            Ok(Ok(served)) => {
                shared.take(|cluster| cluster.bounds.note_vpa_served(served));
                if served {
                    let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
                    let events = watcher(api, watcher::Config::default());
                    follow(VPAS, events, shared.clone(), |cluster, event| {
                        cluster.bounds.vpas.take(event, |o| ingest::object_key(&o.metadata), ingest::vpa);
                    })
                    .await;
                    continue;
                }
            }
            Ok(Err(error)) => tracing::warn!(%error, "whether {GROUP_VERSION} is served is not known"),
            Err(_) => tracing::warn!("whether {GROUP_VERSION} is served is not known: no answer within {DEADLINE:?}"),
        }
        sleep(LOOK_EVERY).await;
    }
}

/// A group that is not served is answered by 404.
async fn served(client: &Client) -> Result<bool, kube::Error> {
    match client.list_api_group_resources(GROUP_VERSION).await {
        Ok(list) => Ok(list.resources.iter().any(|resource| resource.name == VPAS)),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
        Err(error) => Err(error),
    }
}
