//! `UsageService`: the provider contract.

use super::errors::{Violations, unknown_series};
use super::limits::{MAX_BATCH, MAX_PARTS, MAX_WINDOWS};
use super::{Api, convert, request};
use crate::plant::planted;
use crate::proto;
use crate::proto::usage_service_server::UsageService;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use optipod_storage::SeriesKey;
use std::time::Duration;
use tonic::{Request, Response, Status};

#[tonic::async_trait]
impl UsageService for Api {
    async fn get_usage(
        &self,
        request: Request<proto::GetUsageRequest>,
    ) -> Result<Response<proto::GetUsageResponse>, Status> {
        let question = self.usage_question(request.into_inner())?;
        let usages = question.windows.iter().map(|window| self.window(&question, *window));
        let usages = usages.collect::<Result<Vec<_>, _>>()?;
        if usages.iter().all(|usage| usage.cpu.is_none()) {
            let longest = question.windows.iter().max().copied().unwrap_or_default();
            return Err(unknown_series(&question.key, longest));
        }
        Ok(Response::new(proto::GetUsageResponse { usages }))
    }

    type BatchGetUsageStream = BoxStream<'static, Result<proto::BatchGetUsageResponse, Status>>;

    async fn batch_get_usage(
        &self,
        request: Request<proto::BatchGetUsageRequest>,
    ) -> Result<Response<Self::BatchGetUsageStream>, Status> {
        let (keys, window) = self.batch_question(request.into_inner())?;
        let api = self.clone();
        let answers = stream::iter(keys).map(move |key| api.batch_answer(key, window));
        Ok(Response::new(answers.boxed()))
    }
}

/// A valid `GetUsageRequest`.
struct UsageQuestion {
    key: SeriesKey,
    windows: Vec<Duration>,
    part: Option<Duration>,
}

impl Api {
    fn usage_question(&self, request: proto::GetUsageRequest) -> Result<UsageQuestion, Status> {
        let mut check = Violations::default();
        let key = request::series(&mut check, "series", request.series);
        if request.windows.is_empty() || request.windows.len() > MAX_WINDOWS {
            check.add("windows", format!("must be 1 to {MAX_WINDOWS}, got {}", request.windows.len()));
        }
        let windows: Vec<Duration> = request
            .windows
            .into_iter()
            .take(MAX_WINDOWS)
            .enumerate()
            .map(|(i, window)| self.window_field(&mut check, &format!("windows[{i}]"), Some(window)))
            .collect();
        let part = request::optional_span(
            &mut check,
            "sub_window",
            request.sub_window,
            self.retention,
            "the store's retention",
        );
        if let Some(part) = part
            && windows.iter().any(|window| parts(*window, part) > MAX_PARTS)
        {
            check.add("sub_window", format!("divides a window into more than {MAX_PARTS} parts; make it longer"));
        }
        check.check(UsageQuestion { key, windows, part })
    }

    fn batch_question(&self, request: proto::BatchGetUsageRequest) -> Result<(Vec<SeriesKey>, Duration), Status> {
        let mut check = Violations::default();
        let window = self.window_field(&mut check, "window", request.window);
        if request.series.len() > MAX_BATCH {
            check.add("series", format!("at most {MAX_BATCH} in one request, got {}", request.series.len()));
            return check.check((Vec::new(), window));
        }
        let keys = request
            .series
            .into_iter()
            .enumerate()
            .map(|(i, series)| request::series(&mut check, &format!("series[{i}]"), Some(series)))
            .collect();
        check.check((keys, window))
    }

    /// Reads a window that ends now.
    pub(super) fn window_field(
        &self,
        check: &mut Violations,
        field: &str,
        window: Option<prost_types::Duration>,
    ) -> Duration {
        request::span(check, field, window, self.retention, "the store's retention")
    }

    fn window(&self, question: &UsageQuestion, window: Duration) -> Result<proto::Usage, Status> {
        let Some(usage) = self.usage_of(&question.key, window)? else {
            return Ok(convert::no_usage(window));
        };
        let mut answer = convert::usage(window, &usage);
        if let Some(part) = question.part {
            let now = self.now();
            let parts = self.read(|store| store.query_range(&question.key, now - window, now, part))?;
            answer.sub_usages = parts.iter().map(|usage| convert::usage(part, usage)).collect();
        }
        Ok(answer)
    }

    fn batch_answer(&self, key: SeriesKey, window: Duration) -> Result<proto::BatchGetUsageResponse, Status> {
        let seen = if planted(12) { self.retention } else { window };
        let usage = self.usage_of(&key, seen)?.map(|usage| convert::usage(window, &usage));
        Ok(proto::BatchGetUsageResponse { series: Some(convert::series(key)), usage })
    }
}

/// How many parts of length `part` a window has, the last perhaps shorter.
pub(super) fn parts(window: Duration, part: Duration) -> u64 {
    u64::try_from(window.as_nanos().div_ceil(part.as_nanos().max(1))).unwrap_or(u64::MAX)
}
