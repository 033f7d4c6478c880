//! Why we write to the cluster.

use std::fmt;
use std::str::FromStr;

/// Why a workload was changed: every write names one in annotation, event and status.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// Its recommendation differs from what it requests.
    Recommend,
    /// The change before it went wrong; what was there before was put back.
    Rollback,
    /// A person asked for what was there before OptiPod.
    Undo,
}

impl Cause {
    /// The word in annotation, event and status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Recommend => "Recommend",
            Self::Rollback => "Rollback",
            Self::Undo => "Undo",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that names no cause.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("unknown cause \"{0}\"; it is Recommend, Rollback or Undo")]
pub struct UnknownCause(String);

impl FromStr for Cause {
    type Err = UnknownCause;

    fn from_str(text: &str) -> Result<Self, UnknownCause> {
        let all = [Self::Recommend, Self::Rollback, Self::Undo];
        all.into_iter().find(|cause| cause.as_str() == text).ok_or_else(|| UnknownCause(text.to_owned()))
    }
}
