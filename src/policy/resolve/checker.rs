//! Collects what is wrong with a policy, so that a user sees all of it at once.

use super::super::duration;
use super::super::limits::{self, Limits};
use super::super::resolved::Bounds;
use super::super::types::QuantityText;
use super::syntax;
use crate::plant::planted;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// One thing that is wrong with a policy.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{field}: {message}")]
pub struct FieldError {
    /// The field's path, as the API server writes it: `spec.containers[0].resourceBounds.cpu.min`.
    pub field: String,
    /// What is wrong, and which values are valid.
    pub message: String,
}

/// Every check takes a value, notes what is wrong with it, and answers what can be gone on with.
#[derive(Default)]
pub(super) struct Checker {
    errors: Vec<FieldError>,
}

impl Checker {
    /// The value, if nothing was wrong.
    pub(super) fn finish<T>(self, value: T) -> Result<T, Vec<FieldError>> {
        if self.errors.is_empty() { Ok(value) } else { Err(self.errors) }
    }

    pub(super) fn fail(&mut self, field: &str, message: impl fmt::Display) {
        self.errors.push(FieldError { field: field.to_owned(), message: message.to_string() });
    }

    pub(super) fn within<T: Copy + PartialOrd + fmt::Display>(
        &mut self,
        field: &str,
        value: T,
        limits: Limits<T>,
    ) -> T {
        if !limits.contain(&value) {
            self.fail(field, format!("must be {limits}, got {value}"));
        }
        value
    }

    /// A number that its limits keep from being negative.
    pub(super) fn count(&mut self, field: &str, value: i32, limits: Limits<i32>) -> u32 {
        u32::try_from(self.within(field, value, limits)).unwrap_or_default()
    }

    pub(super) fn duration(&mut self, field: &str, text: &str, limits: Limits<&str>) -> Option<Duration> {
        match duration::parse(text) {
            Ok(value) if limits.durations().contain(&value) => return Some(value),
            Ok(_) => self.fail(field, format!("must be {limits}, got \"{text}\"")),
            Err(error) => self.fail(field, format!("must be {limits}: {error}")),
        }
        None
    }

    /// Bounds whose quantities are wrong come back as the least value twice.
    pub(super) fn bounds<T>(&mut self, field: &str, min: &QuantityText, max: &QuantityText, least: T) -> Bounds<T>
    where
        T: FromStr<Err: fmt::Display> + Copy + Ord + fmt::Display,
    {
        let ends =
            (self.quantity(&format!("{field}.min"), min, least), self.quantity(&format!("{field}.max"), max, least));
        let (Some(least), Some(most)) = ends else { return Bounds { min: least, max: least } };
        if least > most && !planted(15) {
            self.fail(&format!("{field}.min"), format!("min \"{min}\" must not exceed max \"{max}\""));
        }
        Bounds { min: least, max: most }
    }

    fn quantity<T>(&mut self, field: &str, written: &QuantityText, least: T) -> Option<T>
    where
        T: FromStr<Err: fmt::Display> + Copy + Ord + fmt::Display,
    {
        let text = written.to_string();
        let problem = match text.parse() {
            _ if text.len() > limits::QUANTITY_LENGTH => {
                format!("in at most {} characters, got {}", limits::QUANTITY_LENGTH, text.len())
            }
            Ok(value) if value >= least => return Some(value),
            Ok(_) => format!("got \"{text}\""),
            Err(error) => error.to_string(),
        };
        self.fail(field, format!("must be a quantity of at least {least}; {problem}"));
        None
    }

    /// The name of a namespace, a container or a provider.
    pub(super) fn dns_label(&mut self, field: &str, text: &str) {
        if !syntax::is_dns_label(text) {
            let rule = "must be 1 to 63 of a-z, 0-9 and -, beginning and ending with a letter or digit";
            self.fail(field, format!("{rule}, got \"{text}\""));
        }
    }

    pub(super) fn at_most(&mut self, field: &str, count: usize, most: usize) {
        if count > most {
            self.fail(field, format!("must have at most {most} items, got {count}"));
        }
    }

    /// The field of a later item that equals an earlier one is the list's, with the later one's index.
    pub(super) fn unique<T: PartialEq + fmt::Debug>(&mut self, field: &str, items: &[T]) {
        for (index, item) in items.iter().enumerate() {
            if items.iter().take(index).any(|earlier| earlier == item) {
                self.fail(&format!("{field}[{index}]"), format!("{item:?} is there twice; give each once"));
            }
        }
    }
}
