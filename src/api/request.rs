//! Reading requests: every field checked, every violation named with the values that would be right.

use super::errors::Violations;
use super::limits::SHORTEST_SPAN;
use crate::proto;
use crate::workload::WorkloadKind;
use optipod_storage::SeriesKey;
use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

/// Reads a series; every part is needed.
pub(super) fn series(check: &mut Violations, field: &str, series: Option<proto::Series>) -> SeriesKey {
    let Some(proto::Series { namespace, kind, workload, container }) = series else {
        check.add(field, "is needed: namespace, kind, workload and container");
        return SeriesKey {
            namespace: String::new(),
            kind: String::new(),
            workload: String::new(),
            container: String::new(),
        };
    };
    for (part, value) in [("namespace", &namespace), ("workload", &workload), ("container", &container)] {
        if value.is_empty() {
            check.add(format!("{field}.{part}"), "must not be empty");
        }
    }
    SeriesKey { namespace, kind: kind_of(check, &format!("{field}.kind"), &kind), workload, container }
}

/// Reads a kind, however it is written, into the API's spelling.
pub(super) fn kind_of(check: &mut Violations, field: &str, kind: &str) -> String {
    match WorkloadKind::from_str(kind) {
        Ok(kind) => kind.as_str().to_owned(),
        Err(error) => {
            check.add(field, error.to_string());
            String::new()
        }
    }
}

/// Reads a span of time from 5 minutes to `most`, which the message calls `most_is`.
pub(super) fn span(
    check: &mut Violations,
    field: &str,
    value: Option<prost_types::Duration>,
    most: Duration,
    most_is: &str,
) -> Duration {
    match value.map(proto::duration) {
        Some(Some(span)) if SHORTEST_SPAN <= span && span <= most => return span,
        Some(_) => {
            let longest = humantime::format_duration(most);
            check.add(field, format!("must be from 5m to {longest}, {most_is}"));
        }
        None => check.add(field, "is needed, for example 24h"),
    }
    SHORTEST_SPAN
}

/// Reads a span that may be left out.
pub(super) fn optional_span(
    check: &mut Violations,
    field: &str,
    value: Option<prost_types::Duration>,
    most: Duration,
    most_is: &str,
) -> Option<Duration> {
    value.map(|value| span(check, field, Some(value), most, most_is))
}

/// Reads a moment.
pub(super) fn moment(
    check: &mut Violations,
    field: &str,
    value: Option<prost_types::Timestamp>,
) -> optipod_storage::Timestamp {
    let millis = value.and_then(|at| {
        let nanos = u32::try_from(at.nanos).ok().filter(|nanos| *nanos < 1_000_000_000)?;
        at.seconds.checked_mul(1000)?.checked_add(i64::from(nanos / 1_000_000))
    });
    if millis.is_none() {
        check.add(field, "is needed: a moment in time, as seconds and nanoseconds since 1970");
    }
    optipod_storage::Timestamp(millis.unwrap_or_default())
}

/// Reads a quantity; empty means `absent`.
pub(super) fn quantity<T>(check: &mut Violations, field: &str, text: &str, absent: T) -> T
where
    T: FromStr,
    T::Err: Display,
{
    if text.is_empty() {
        return absent;
    }
    text.parse().unwrap_or_else(|error: T::Err| {
        check.add(field, error.to_string());
        absent
    })
}
