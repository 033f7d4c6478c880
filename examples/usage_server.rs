//! A usage provider of one's own, in sixty lines: answers `optipod.v1alpha1.UsageService` from a CSV file.
//!
//!     cargo run --example usage_server -- 127.0.0.1:9091 examples/usage.csv
//!     optipod controller --custom-provider-addr http://127.0.0.1:9091      # policies: provider: custom
//!
//! A real one would ask a database where this one looks into a map. `docs/providers.md` tells what answers must hold.

use futures::stream::{self, BoxStream, StreamExt as _};
use optipod::proto::usage_service_server::{UsageService, UsageServiceServer};
use optipod::proto::{
    BatchGetUsageRequest, BatchGetUsageResponse, Distribution, GetUsageRequest, GetUsageResponse, Series, Usage,
};
use std::{collections::HashMap, error::Error, sync::Arc, time::SystemTime};
use tonic::{Request, Response, Status, transport::Server};

/// One line of the file: `namespace,kind,workload,container` and P50, P90, P99 and peak of CPU (cores) and memory (bytes).
fn read_line(line: &str) -> Result<([String; 4], [f64; 8]), Box<dyn Error>> {
    let fields: Vec<&str> = line.split(',').map(str::trim).collect();
    let (names, numbers) = fields.split_at_checked(4).ok_or("fewer than four names")?;
    let numbers = numbers.iter().map(|number| number.parse()).collect::<Result<Vec<f64>, _>>()?;
    let numbers = numbers.try_into().map_err(|_| "not eight numbers")?;
    Ok((std::array::from_fn(|i| names[i].to_owned()), numbers))
}

struct Table(HashMap<[String; 4], [f64; 8]>);

impl Table {
    /// What is known of a series: here the same numbers for every window, as if it had been seen completely until now.
    fn usage(&self, series: &Series, window: Option<prost_types::Duration>) -> Option<Usage> {
        let Series { namespace, kind, workload, container } = series.clone();
        let numbers = self.0.get(&[namespace, kind, workload, container])?;
        let distribution = |of: &[f64]| Distribution {
            p50: of[0],
            p90: of[1],
            p99: of[2],
            peak: of[3],
            mean: of[0],
            samples: 1000,
            ..Default::default()
        };
        let now = SystemTime::now();
        let start = now - std::time::Duration::try_from(window?).ok()?;
        let (cpu, memory) = (Some(distribution(&numbers[..4])), Some(distribution(&numbers[4..])));
        let (from, to) = (Some(start.into()), Some(now.into())); // `to` is the last sample's time: it tells fresh from stale
        Some(Usage { window, from, to, covered: window, cpu, memory, sub_usages: Vec::new() })
    }
}

#[tonic::async_trait]
impl UsageService for Table {
    type BatchGetUsageStream = BoxStream<'static, Result<BatchGetUsageResponse, Status>>;

    /// The one call that a controller makes. One answer for each series, in the order of the request; without `usage` where
    /// nothing is known.
    async fn batch_get_usage(
        &self,
        request: Request<BatchGetUsageRequest>,
    ) -> Result<Response<Self::BatchGetUsageStream>, Status> {
        let BatchGetUsageRequest { series, window } = request.into_inner();
        let answer = |series| BatchGetUsageResponse { usage: self.usage(&series, window), series: Some(series) };
        let answers: Vec<_> = series.into_iter().map(|series| Ok(answer(series))).collect();
        Ok(Response::new(stream::iter(answers).boxed()))
    }

    /// For people and their tools; a provider may leave it out.
    async fn get_usage(&self, _: Request<GetUsageRequest>) -> Result<Response<GetUsageResponse>, Status> {
        Err(Status::unimplemented("ask with BatchGetUsage"))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(address), Some(file)) = (arguments.next(), arguments.next()) else {
        return Err("usage: usage_server ADDRESS FILE, for example 127.0.0.1:9091 examples/usage.csv".into());
    };
    let text = std::fs::read_to_string(&file)?;
    let lines = text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
    let table = Table(lines.map(read_line).collect::<Result<_, _>>()?);
    let listener = tokio::net::TcpListener::bind(&address).await?;
    println!("answering on http://{} about {} series", listener.local_addr()?, table.0.len());
    let incoming = tonic::transport::server::TcpIncoming::from(listener);
    Ok(Server::builder()
        .add_service(UsageServiceServer::from_arc(Arc::new(table)))
        .serve_with_incoming(incoming)
        .await?)
}
