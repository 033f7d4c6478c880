//! A usage provider of one's own: a server of `optipod.v1alpha1.UsageService` that answers from a CSV file.
//!
//!     cargo run --example usage_server -- 127.0.0.1:9091 examples/usage.csv
//!     optipod controller --custom-provider-addr http://127.0.0.1:9091      # for policies with provider: custom
//!
//! A real one would ask a database where this one looks into a map. docs/providers.md tells what answers are held to.

use futures::stream::{self, BoxStream, StreamExt as _};
use optipod::proto::usage_service_server::{UsageService, UsageServiceServer};
use optipod::proto::{BatchGetUsageRequest, BatchGetUsageResponse, Distribution};
use optipod::proto::{GetUsageRequest, GetUsageResponse, Series, Usage};
use std::{collections::HashMap, error::Error, time::SystemTime};
use tonic::{Request, Response, Status};

/// `namespace,kind,workload,container` → P50, P90, P99 and peak of CPU in cores, then the same of memory in bytes.
struct Table(HashMap<String, Vec<f64>>);

impl Table {
    fn read(text: &str) -> Result<Self, Box<dyn Error>> {
        let mut table = HashMap::new();
        for line in text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
            let fields: Vec<&str> = line.split(',').map(str::trim).collect();
            let Some(numbers) = fields.get(4..12) else {
                return Err(format!("fewer than 4 names and 8 numbers: {line}").into());
            };
            let numbers = numbers.iter().map(|number| number.parse()).collect::<Result<_, _>>()?;
            table.insert(fields[..4].join(","), numbers);
        }
        Ok(Self(table))
    }

    /// Here the same numbers for every window, as if it had been watched completely until now.
    fn usage(&self, series: &Series, window: Option<prost_types::Duration>) -> Option<Usage> {
        let Series { namespace, kind, workload, container } = series;
        let numbers = self.0.get(&format!("{namespace},{kind},{workload},{container}"))?;
        let distribution = |of: &[f64]| {
            let (p50, p90, p99, peak) = (of[0], of[1], of[2], of[3]);
            Some(Distribution { p50, p90, p99, peak, mean: p50, samples: 1000, ..Default::default() })
        };
        let (cpu, memory) = (distribution(&numbers[..4]), distribution(&numbers[4..]));
        let to = SystemTime::now(); // the time of the last sample: it tells fresh usage from stale
        let from = to.checked_sub(window?.try_into().ok()?)?;
        let (from, to) = (Some(from.into()), Some(to.into()));
        Some(Usage { window, from, to, covered: window, cpu, memory, ..Default::default() })
    }
}

#[tonic::async_trait]
impl UsageService for Table {
    type BatchGetUsageStream = BoxStream<'static, Result<BatchGetUsageResponse, Status>>;

    /// The one call that a controller makes: an answer for each series, in their order, without `usage` where nothing is
    /// known.
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
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, file] = &arguments[..] else { return Err("usage: usage_server ADDRESS FILE".into()) };
    let table = Table::read(&std::fs::read_to_string(file)?)?;
    println!("answering on http://{address} about {} series", table.0.len());
    Ok(tonic::transport::Server::builder().add_service(UsageServiceServer::new(table)).serve(address.parse()?).await?)
}
