//! A server of the user's own that speaks `UsageService`: where it is, and how it is trusted.

use super::connect::{CONNECT_TIMEOUT, TCP_KEEPALIVE};
use super::{GrpcProvider, ProviderError};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

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
        Ok(GrpcProvider::new(CUSTOM, self.channel().map_err(refused)?, self.timeout))
    }

    /// None of the recommender's defaults: a token that is meant for it is shown to nobody else.
    fn channel(&self) -> Result<Channel, String> {
        let address = Endpoint::from_shared(self.addr.clone());
        let mut endpoint = address.map_err(|error| {
            format!("\"{}\" is not an address ({error}); write for example http://127.0.0.1:9090", self.addr)
        })?;
        if self.addr.starts_with("https://") {
            endpoint = endpoint
                .tls_config(self.tls()?)
                .map_err(|error| format!("TLS cannot be set up: {}", causes(&error)))?;
        }
        Ok(endpoint.connect_timeout(CONNECT_TIMEOUT).tcp_keepalive(Some(TCP_KEEPALIVE)).connect_lazy())
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

/// An error with what is behind it: tonic's own text is "transport error".
fn causes(error: &dyn std::error::Error) -> String {
    let chain = std::iter::successors(Some(error), |error| error.source());
    chain.map(ToString::to_string).collect::<Vec<_>>().join(": ")
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
