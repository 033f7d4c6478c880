//! What an OptiPod process answers over gRPC on loopback.

use std::time::Duration;

use anyhow::{Context, ensure};
use optipod::proto;
use optipod::proto::recommender_service_client::RecommenderServiceClient;
use optipod::proto::usage_service_client::UsageServiceClient;
use tonic::transport::Channel;

use super::process::Optipod;
use crate::harness::{Result, Workload};

impl Optipod {
    async fn channel(&self) -> Result<Channel> {
        let address = format!("http://127.0.0.1:{}", self.grpc_port());
        Ok(Channel::from_shared(address)?.connect().await?)
    }

    /// The series of one namespace, `Kind/workload/container`, in order.
    pub async fn series(&self, namespace: &str) -> Result<Vec<String>> {
        let mut client = RecommenderServiceClient::new(self.channel().await?);
        let request = proto::ListSeriesRequest { namespace: namespace.to_owned(), ..Default::default() };
        let found = client.list_series(request).await?.into_inner().series;
        let found = found.into_iter().filter_map(|info| info.series);
        Ok(found.map(|s| format!("{}/{}/{}", s.kind, s.workload, s.container)).collect())
    }

    /// What a container used in the last five minutes and more.
    pub async fn usage(&self, workload: &Workload, container: &str) -> Result<proto::Usage> {
        let series = proto::Series {
            namespace: workload.namespace.clone(),
            kind: format!("{:?}", workload.kind),
            workload: workload.name.clone(),
            container: container.to_owned(),
        };
        self.usage_of(series, Duration::from_mins(5)).await
    }

    /// What a series says of a window.
    pub async fn usage_of(&self, series: proto::Series, window: Duration) -> Result<proto::Usage> {
        let mut client = UsageServiceClient::new(self.channel().await?);
        let windows = vec![window.try_into()?];
        let request = proto::GetUsageRequest { series: Some(series), windows, sub_window: None };
        let usages = client.get_usage(request).await?.into_inner().usages;
        usages.into_iter().next().context("an answer without usage")
    }

    /// Waits until it knows `samples` of a container.
    pub async fn wait_usage(&self, workload: &Workload, container: &str, samples: u64) -> Result<proto::Usage> {
        let what = format!("{samples} samples of {}/{container}", workload.name);
        self.wait_for(what, || async {
            let usage = self.usage(workload, container).await?;
            let seen = usage.cpu.map_or(0, |cpu| cpu.samples);
            ensure!(seen >= samples, "{seen} samples");
            Ok(usage)
        })
        .await
    }

    /// How its store is.
    pub async fn store_status(&self) -> Result<proto::GetStoreStatusResponse> {
        let mut client = RecommenderServiceClient::new(self.channel().await?);
        Ok(client.get_store_status(proto::GetStoreStatusRequest {}).await?.into_inner())
    }

    /// Waits until it has read all of its store, without finding anything wrong.
    pub async fn wait_whole(&self) -> Result {
        self.wait_for("the whole store to be read", || async {
            let status = self.store_status().await?;
            ensure!(status.problems.is_empty() && !status.loading, "{status:?}");
            Ok(())
        })
        .await
    }
}
