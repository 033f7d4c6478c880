//! A server of the user's own that speaks `UsageService`: where it is, and how it is trusted.

use super::{GrpcProvider, ProviderError};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

/// The name that policies use.
pub const CUSTOM: &str = "custom";

/// Files larger than this are no certificates.
const MAX_FILE: u64 = 1 << 20;

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
    /// The provider. It reads the files now and connects with the first question. Must be called within a runtime.
    ///
    /// # Errors
    /// [`ProviderError::Refused`], naming the address or the file that cannot be used.
    pub fn provider(&self) -> Result<GrpcProvider, ProviderError> {
        let tls = if self.addr.starts_with("https://") { Some(self.tls().map_err(refused)?) } else { None };
        GrpcProvider::connect_lazy_with(CUSTOM, &self.addr, tls, self.timeout)
    }

    fn tls(&self) -> Result<ClientTlsConfig, String> {
        let tls = match &self.ca_file {
            Some(path) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(path)?)),
            None => ClientTlsConfig::new().with_native_roots(),
        };
        Ok(match &self.identity {
            Some((cert, key)) => tls.identity(Identity::from_pem(read(cert)?, read(key)?)),
            None => tls,
        })
    }
}

fn refused(cause: String) -> ProviderError {
    ProviderError::Refused { provider: CUSTOM.to_owned(), cause }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let size = std::fs::metadata(path).map(|file| file.len());
    let content = size.and_then(|size| match size {
        0..=MAX_FILE => std::fs::read(path),
        _ => Err(std::io::Error::other(format!("it has {size} bytes, which is no certificate"))),
    });
    content.map_err(|error| format!("reading {}: {error}", path.display()))
}
