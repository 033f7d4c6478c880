//! Log lines on standard error, as text for people or JSON for machines.

use std::io::IsTerminal as _;
use std::str::FromStr;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt as _;

/// How log lines look.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(format!("unknown log format \"{text}\"; give text or json")),
        }
    }
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The level is not understood.
    #[error(
        "log level \"{level}\" is not understood: {cause}; give error, warn, info, debug, trace, or target=level pairs"
    )]
    Level {
        /// What was given.
        level: String,
        /// What is wrong with it.
        cause: String,
    },
    /// Another subscriber is in place.
    #[error("logging is set up already: {0}")]
    Twice(String),
}

/// Sets up logging for the whole process, once. `level` is a level such as `info`, or `target=level` pairs.
pub fn init(format: LogFormat, level: &str) -> Result<(), InitError> {
    let filter = filter(level)?;
    let colours = std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours);
    match format {
        LogFormat::Text => lines.finish().try_init(),
        LogFormat::Json => lines.json().flatten_event(true).finish().try_init(),
    }
    .map_err(|error| InitError::Twice(error.to_string()))
}

fn filter(level: &str) -> Result<EnvFilter, InitError> {
    EnvFilter::try_new(level).map_err(|cause| InitError::Level { level: level.to_owned(), cause: cause.to_string() })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)] // a test that panics has failed
mod tests {
    use super::*;

    #[test]
    fn formats_and_levels_are_checked_before_anything_starts() {
        assert_eq!("json".parse(), Ok(LogFormat::Json));
        assert!("xml".parse::<LogFormat>().unwrap_err().contains("text or json"));
        assert!(filter("info,kube=warn").is_ok());
        assert!(filter("optipod=chatty").unwrap_err().to_string().contains("give error, warn"));
    }
}
