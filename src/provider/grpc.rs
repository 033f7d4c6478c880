//! Any server that speaks `UsageService`: the recommender, or one of the user's own.
//!
//! It may not know who serves. Invariants: every call has a deadline; an answer counts only when it is complete, in
//! order and made of possible numbers, because requests are computed from it.

use super::bearer::Bearer;
use super::connect::{Line, Target};
use super::only_grpc::OnlyGrpc;
use super::{ProviderError, TO_MEND_IT, TO_REACH_IT, UsageProvider, UsageQuery, with_causes};
use crate::proto;
use crate::proto::usage_service_client::UsageServiceClient;
use crate::usage::{ResourceUsage, SeriesKey, WindowUsage};
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::error::Error as _;
use std::time::Duration;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Status};

/// Series asked for in one call: half of what a server must take, so that one call stays short.
const CHUNK: usize = 500;

/// Asks a `UsageService`.
#[derive(Clone, Debug)]
pub struct GrpcProvider {
    name: String,
    client: UsageServiceClient<Line>,
    timeout: Duration,
}

impl GrpcProvider {
    /// Asks over `channel`; each call of up to 500 series has `timeout` to complete.
    pub fn new(name: impl Into<String>, channel: Channel, timeout: Duration) -> Self {
        Self::over(name, InterceptedService::new(OnlyGrpc(channel), Bearer::none()), timeout)
    }

    /// The same over a line that says who calls.
    pub fn over(name: impl Into<String>, line: Line, timeout: Duration) -> Self {
        Self { name: name.into(), client: UsageServiceClient::new(line), timeout }
    }

    /// Asks the server at `endpoint`, such as `http://127.0.0.1:9090`. It connects with the first question, and again
    /// whenever a connection breaks. Must be called within a runtime.
    pub fn connect_lazy(name: impl Into<String>, endpoint: &str, timeout: Duration) -> Result<Self, ProviderError> {
        Self::connect_lazy_to(name, Target::new(endpoint), timeout)
    }

    /// The same for a server that wants to know who calls.
    pub fn connect_lazy_to(name: impl Into<String>, target: Target, timeout: Duration) -> Result<Self, ProviderError> {
        let name = name.into();
        match target.lazy() {
            Ok(line) => Ok(Self::over(name, line, timeout)),
            Err(error) => Err(ProviderError::Refused { provider: name, cause: error.to_string() }),
        }
    }

    /// Asks for one window of at most [`CHUNK`] series.
    async fn ask(&self, window: Duration, series: &[&SeriesKey]) -> Result<Vec<Option<WindowUsage>>, ProviderError> {
        let request = proto::BatchGetUsageRequest {
            series: series.iter().map(|key| wire_series(key)).collect(),
            window: prost_types::Duration::try_from(window).ok(),
        };
        let call = self.receive(request, series);
        tokio::time::timeout(self.timeout, call).await.unwrap_or_else(|_| Err(self.too_late()))
    }

    async fn receive(
        &self,
        request: proto::BatchGetUsageRequest,
        series: &[&SeriesKey],
    ) -> Result<Vec<Option<WindowUsage>>, ProviderError> {
        let mut client = self.client.clone();
        let mut stream = client.batch_get_usage(request).await.map_err(|s| self.failed(&s))?.into_inner();
        let mut answers = Vec::with_capacity(series.len());
        while let Some(answer) = stream.message().await.map_err(|s| self.failed(&s))? {
            let asked = series.get(answers.len()).map(|key| wire_series(key));
            if asked.is_none() || asked != answer.series {
                return Err(self.unusable(format!("answer {} is not about the series asked for", answers.len())));
            }
            answers.push(answer.usage.map(|usage| read_usage(&usage)).transpose().map_err(|e| self.unusable(e))?);
        }
        if answers.len() == series.len() {
            return Ok(answers);
        }
        Err(self.unusable(format!("{} answers to {} questions", answers.len(), series.len())))
    }

    fn failed(&self, status: &Status) -> ProviderError {
        let said = format!("{} ({:?})", with_causes(status.message().to_owned(), status), status.code());
        let cause = match what_to_do(status) {
            Some(what_to_do) => format!("{said}; {what_to_do}"),
            None => said,
        };
        match status.code() {
            Code::DeadlineExceeded => self.too_late(),
            Code::Unavailable
            | Code::Cancelled
            | Code::Aborted
            | Code::ResourceExhausted
            | Code::Internal
            | Code::Unknown => ProviderError::Unavailable { provider: self.name.clone(), cause },
            _ => self.unusable(cause),
        }
    }

    fn too_late(&self) -> ProviderError {
        ProviderError::Timeout { provider: self.name.clone(), after: self.timeout }
    }

    fn unusable(&self, cause: String) -> ProviderError {
        ProviderError::Refused { provider: self.name.clone(), cause }
    }
}

#[async_trait::async_trait]
impl UsageProvider for GrpcProvider {
    fn name(&self) -> &str {
        &self.name
    }

    async fn usage(&self, queries: &[UsageQuery]) -> Result<Vec<Option<WindowUsage>>, ProviderError> {
        let mut by_window: BTreeMap<Duration, Vec<(usize, &SeriesKey)>> = BTreeMap::new();
        for (place, query) in queries.iter().enumerate() {
            by_window.entry(query.window).or_default().push((place, &query.series));
        }
        let mut answers: BTreeMap<usize, Option<WindowUsage>> = BTreeMap::new();
        for (window, asked) in by_window {
            for chunk in asked.chunks(CHUNK) {
                let series: Vec<&SeriesKey> = chunk.iter().map(|(_, key)| *key).collect();
                let usages = self.ask(window, &series).await?;
                answers.extend(chunk.iter().map(|(place, _)| *place).zip(usages));
            }
        }
        Ok(answers.into_values().collect())
    }
}

/// What a code alone tells to do; what is said with it may tell more.
fn what_to_do(status: &Status) -> Option<&'static str> {
    match status.code() {
        Code::Unauthenticated => Some("check the files with the token or the client certificate"),
        Code::PermissionDenied => Some("whoever asks may not read this usage there"),
        Code::Unimplemented => Some("it must serve BatchGetUsage of optipod.v1alpha1.UsageService"),
        Code::OutOfRange => Some("a message may have 4 MiB"),
        // A cause is of our own end: no connection, or what came was not understood.
        Code::Internal if status.source().is_some() => Some("check the address and the port: is a gRPC server there?"),
        Code::Unavailable if status.message().contains("TLS with") => None, // and what to do
        Code::Unavailable if status.source().is_some() => Some(TO_REACH_IT),
        Code::Unavailable | Code::ResourceExhausted | Code::Internal | Code::Unknown => Some(TO_MEND_IT),
        _ => None,
    }
}

fn wire_series(key: &SeriesKey) -> proto::Series {
    proto::Series {
        namespace: key.workload.namespace.clone(),
        kind: key.workload.kind.as_str().to_owned(),
        workload: key.workload.name.clone(),
        container: key.container.clone(),
    }
}

fn read_usage(usage: &proto::Usage) -> Result<WindowUsage, String> {
    let missing = |field: &str| format!("the answer lacks {field}");
    let moment = |field: &str, at: Option<prost_types::Timestamp>| {
        let at = at.ok_or_else(|| missing(field))?;
        Timestamp::new(at.seconds, at.nanos).map_err(|error| format!("{field} is no moment in time: {error}"))
    };
    let covered = usage.covered.ok_or_else(|| missing("covered"))?;
    let (from, to) = (moment("from", usage.from)?, moment("to", usage.to)?);
    if from > to {
        return Err(format!("the samples begin at {from}, after they end at {to}"));
    }
    Ok(WindowUsage {
        cpu: read_distribution("cpu", usage.cpu.as_ref())?,
        memory: read_distribution("memory", usage.memory.as_ref())?,
        from,
        to,
        covered: proto::duration(covered).ok_or("covered is no duration")?,
        notes: Vec::new(),
    })
}

fn read_distribution(field: &str, of: Option<&proto::Distribution>) -> Result<ResourceUsage, String> {
    let of = of.ok_or_else(|| format!("the answer lacks {field}"))?;
    let values = [of.p50, of.p90, of.p99, of.peak];
    let possible = values.iter().chain([&of.mean]).all(|value| value.is_finite() && *value >= 0.0);
    if !possible || !values.is_sorted() {
        return Err(format!(
            "{field} is no distribution: p50 {}, p90 {}, p99 {}, peak {}",
            of.p50, of.p90, of.p99, of.peak
        ));
    }
    Ok(ResourceUsage { p50: of.p50, p90: of.p90, p99: of.p99, mean: of.mean, peak: of.peak, samples: of.samples })
}
