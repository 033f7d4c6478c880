//! Errors as callers see them: the right code, and what to do.

use optipod_storage::{BackupError, SeriesKey, StoreError};
use std::time::Duration;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

/// What is wrong with a request, all of it at once.
#[derive(Debug, Default)]
pub(super) struct Violations(Vec<FieldViolation>);

impl Violations {
    pub(super) fn add(&mut self, field: impl Into<String>, description: impl Into<String>) {
        self.0.push(FieldViolation::new(field, description));
    }

    /// `value` when nothing is wrong, else INVALID_ARGUMENT with each violation in its details and its message.
    pub(super) fn check<T>(self, value: T) -> Result<T, Status> {
        if self.0.is_empty() {
            return Ok(value);
        }
        let texts: Vec<String> = self.0.iter().map(|v| format!("{}: {}", v.field, v.description)).collect();
        let details = ErrorDetails::with_bad_request(self.0);
        Err(Status::with_error_details(Code::InvalidArgument, texts.join("; "), details))
    }
}

/// Nothing is known of a series.
pub(super) fn unknown_series(key: &SeriesKey, window: Duration) -> Status {
    Status::not_found(format!(
        "nothing is known of {key} in the last {}; list what is known with ListSeries, or wait until it has been \
         collected for a minute",
        humantime::format_duration(window)
    ))
}

/// The store could not be read.
pub(super) fn store(error: &StoreError) -> Status {
    match error {
        StoreError::ZeroStep => Status::invalid_argument(error.to_string()),
        StoreError::Loading => Status::unavailable(error.to_string()),
        _ => {
            tracing::error!(%error, "the store cannot be read");
            Status::unavailable(error.to_string())
        }
    }
}

/// A backup could not be made.
pub(super) fn backup(error: &BackupError) -> Status {
    match error {
        BackupError::NotEmpty { .. } => Status::already_exists(error.to_string()),
        BackupError::WithinStore { .. } | BackupError::NoName { .. } => Status::invalid_argument(error.to_string()),
        _ => {
            tracing::error!(%error, "a backup failed");
            Status::unavailable(error.to_string())
        }
    }
}
