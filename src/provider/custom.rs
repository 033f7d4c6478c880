//! A server of the user's own that speaks `UsageService`: where it is, and how it is trusted.

use super::{GrpcProvider, ProviderError, Target};
use crate::pem::{self, PemError};
use std::path::PathBuf;
use std::time::Duration;

/// The name that policies use.
pub const CUSTOM: &str = "custom";

/// Which server, and how it is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustomOptions {
    /// Where it answers: `http://…`, or `https://…` for TLS.
    pub addr: String,
    /// A file with the certificates (PEM) of the authorities to trust, in place of the system's.
    pub ca_file: Option<PathBuf>,
    /// Files with the client's certificate chain and private key (PEM).
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The deadline of one question of up to 500 series.
    pub timeout: Duration,
}

impl CustomOptions {
    /// The provider. It connects with the first question, and reads the files with each connection. Must be called within a
    /// runtime.
    ///
    /// # Errors
    /// [`ProviderError::Refused`], naming the address or the file that cannot be used.
    pub fn provider(&self) -> Result<GrpcProvider, ProviderError> {
        let of_identity = self.identity.iter().flat_map(|(cert, key)| [cert, key]);
        for file in self.ca_file.iter().chain(of_identity) {
            let refused =
                |cause: PemError| ProviderError::Refused { provider: CUSTOM.into(), cause: cause.to_string() };
            pem::read(file).map_err(refused)?;
        }
        let target = Target {
            ca_file: self.ca_file.clone(),
            identity: self.identity.clone(),
            is_foreign: true,
            ..Target::new(self.addr.as_str())
        };
        GrpcProvider::connect_lazy_to(CUSTOM, target, self.timeout)
    }
}
