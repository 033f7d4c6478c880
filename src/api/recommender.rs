//! `RecommenderService`: recommendations, lists, charts and the store's state.

use super::errors::{Violations, unknown_series};
use super::limits::{CLOCK_SKEW, DEFAULT_PAGE, MAX_PAGE, MAX_SCAN, MAX_STEPS};
use super::pages::Filter;
use super::request::{self, moment};
use super::{Api, convert, recommendation, usage};
use crate::blocking;
use crate::proto;
use crate::proto::recommender_service_server::RecommenderService;
use crate::recommend::{Insufficient, recommend};
use optipod_storage::{SeriesInfo, SeriesKey, StoreError, Timestamp};
use std::time::Duration;
use tonic::{Request, Response, Status};

#[tonic::async_trait]
impl RecommenderService for Api {
    async fn get_recommendation(
        &self,
        request: Request<proto::GetRecommendationRequest>,
    ) -> Result<Response<proto::GetRecommendationResponse>, Status> {
        let question = recommendation::Question::read(request.into_inner(), self.retention)?;
        let window = question.metrics.window;
        let Some(usage) = self.usage_of(&question.key, window)? else {
            return Err(self.nothing_known(&question.key, window)?);
        };
        let result = recommend(&convert::window_usage(&usage), &question.metrics, &question.plan, None);
        let recommendation = result.map_err(|reason| Status::failed_precondition(reason.to_string()))?;
        Ok(Response::new(question.answer(recommendation, convert::usage(window, &usage))))
    }

    async fn list_series(
        &self,
        request: Request<proto::ListSeriesRequest>,
    ) -> Result<Response<proto::ListSeriesResponse>, Status> {
        let (filter, after, size) = page_question(request.into_inner())?;
        self.read(|store| if store.is_loaded() { Ok(()) } else { Err(StoreError::Loading) })?;
        let (found, last) = self.page(&filter, after, size);
        let next_page_token = last.map(|key| filter.token(&key)).unwrap_or_default();
        let series = found.into_iter().map(convert::series_info).collect();
        Ok(Response::new(proto::ListSeriesResponse { series, next_page_token }))
    }

    async fn query_range(
        &self,
        request: Request<proto::QueryRangeRequest>,
    ) -> Result<Response<proto::QueryRangeResponse>, Status> {
        let (key, start, end, step) = self.range_question(request.into_inner())?;
        let usages = self.read(|store| store.query_range(&key, start, end, step))?;
        if usages.is_empty() && self.usage_of(&key, self.retention)?.is_none() {
            return Err(unknown_series(&key, self.retention));
        }
        let usages = usages.iter().map(|usage| convert::usage(step, usage)).collect();
        Ok(Response::new(proto::QueryRangeResponse { usages }))
    }

    async fn get_store_status(
        &self,
        _: Request<proto::GetStoreStatusRequest>,
    ) -> Result<Response<proto::GetStoreStatusResponse>, Status> {
        let status = self.read(|store| Ok(store.status(self.now())))?;
        Ok(Response::new(convert::status(status, self.retention)))
    }
}

impl Api {
    /// Why there is no usage within `window`: the series is unknown, or it is quiet.
    fn nothing_known(&self, key: &SeriesKey, window: Duration) -> Result<Status, Status> {
        Ok(match self.usage_of(key, self.retention)? {
            None => unknown_series(key, window),
            Some(_) => Status::failed_precondition(Insufficient::NoUsage.to_string()),
        })
    }

    /// At most `size` series that match, and the last key looked at unless the list ends here.
    fn page(&self, filter: &Filter, after: Option<SeriesKey>, size: usize) -> (Vec<SeriesInfo>, Option<SeriesKey>) {
        let mut found = Vec::new();
        let mut last = after.or_else(|| filter.start());
        let at_once = (size + 1).max(DEFAULT_PAGE);
        for _ in 0..MAX_SCAN / at_once {
            let batch = blocking::inline(|| self.store.series(last.as_ref(), at_once));
            let ends = batch.len() < at_once;
            for info in batch {
                if filter.is_past(&info.key) {
                    return (found, None);
                }
                if found.len() == size {
                    return (found, last);
                }
                last = Some(info.key.clone());
                if filter.matches(&info.key) {
                    found.push(info);
                }
            }
            if ends {
                return (found, None);
            }
        }
        (found, last)
    }

    fn range_question(
        &self,
        request: proto::QueryRangeRequest,
    ) -> Result<(SeriesKey, Timestamp, Timestamp, Duration), Status> {
        let mut check = Violations::default();
        let key = request::series(&mut check, "series", request.series);
        let start = moment(&mut check, "start", request.start);
        let end = moment(&mut check, "end", request.end);
        let step = self.window_field(&mut check, "step", request.step);
        if start >= end {
            check.add("end", "must be after start");
        } else if usage::parts(end.since(start), step) > MAX_STEPS {
            check.add("step", format!("divides the range into more than {MAX_STEPS} steps; make it longer"));
        }
        if start < self.now() - (self.retention + CLOCK_SKEW) {
            let kept = humantime::format_duration(self.retention);
            check.add("start", format!("is before the oldest sample that is kept; the store keeps {kept}"));
        }
        check.check((key, start, end, step))
    }
}

fn page_question(request: proto::ListSeriesRequest) -> Result<(Filter, Option<SeriesKey>, usize), Status> {
    let mut check = Violations::default();
    let size = match usize::try_from(request.page_size) {
        Ok(0) => DEFAULT_PAGE,
        Ok(size) if size <= MAX_PAGE => size,
        _ => {
            check.add("page_size", format!("must be from 1 to {MAX_PAGE}, or 0 for {DEFAULT_PAGE}"));
            DEFAULT_PAGE
        }
    };
    let kind = match request.kind.as_str() {
        "" => String::new(),
        kind => request::kind_of(&mut check, "kind", kind),
    };
    let filter = Filter { namespace: request.namespace, kind, workload: request.workload };
    let after = filter.after(&request.page_token);
    if after.is_none() && !request.page_token.is_empty() {
        check.add(
            "page_token",
            "is not one of this list's; begin again without a token, or repeat the filter of the first page",
        );
    }
    check.check((filter, after, size))
}
