//! The server's side of TLS, from files that are read again when they change.
//!
//! Invariant: a connection keeps the configuration that it began with, so a new certificate drops nothing; a new file
//! that cannot be used changes nothing and is told once.

use super::DoorError;
use crate::hash::fnv_1a;
use crate::pem::{self, PemError};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::server::WebPkiClientVerifier;

/// How often the files are looked at: the kubelet itself takes up to a minute to renew a mounted Secret.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// The files of a server's TLS.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlsFiles {
    /// The certificate and those between it and its authority, PEM.
    pub cert: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// The authorities of client certificates, PEM; none are asked for without it.
    pub client_ca: Option<PathBuf>,
}

/// What a look at the files found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Look {
    /// They are as before.
    Same,
    /// New connections use what is in them now.
    Renewed,
    /// They cannot be used; what was read before goes on.
    Refused,
}

/// The configuration of new connections.
pub(super) struct Tls {
    files: TlsFiles,
    state: Mutex<State>,
}

struct State {
    config: Arc<ServerConfig>,
    /// Of the content that was looked at last, usable or not.
    seen: u64,
}

impl Tls {
    /// Reads the files.
    pub(super) fn new(files: TlsFiles) -> Result<Self, DoorError> {
        let (seen, content) = Content::read(&files);
        let config = content?.config(&files)?;
        Ok(Self { files, state: Mutex::new(State { config: Arc::new(config), seen }) })
    }

    /// For one connection to come.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        TlsAcceptor::from(state.config.clone())
    }

    /// Looks at the files once.
    pub(super) fn look(&self) -> Look {
        let (seen, content) = Content::read(&self.files);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if seen == state.seen {
            return Look::Same;
        }
        state.seen = seen;
        match content.map_err(DoorError::from).and_then(|content| content.config(&self.files)) {
            Ok(config) => {
                state.config = Arc::new(config);
                tracing::info!(cert = %self.files.cert.display(), "new TLS files are in use");
                Look::Renewed
            }
            Err(error) => {
                tracing::error!(%error, "the new TLS files cannot be used; those read before go on");
                Look::Refused
            }
        }
    }

    /// Looks at the files again and again, without end.
    pub(super) async fn keep_looking(&self) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            self.look();
        }
    }
}

/// The bytes of the files.
struct Content {
    cert: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

impl Content {
    /// The bytes and a hash that tells them, or their failure, from others.
    fn read(files: &TlsFiles) -> (u64, Result<Self, PemError>) {
        let read = || {
            let client_ca = files.client_ca.as_ref().map(|path| pem::read(path)).transpose()?;
            Ok(Self { cert: pem::read(&files.cert)?, key: pem::read(&files.key)?, client_ca })
        };
        let content: Result<Self, PemError> = read();
        let seen = match &content {
            Ok(content) => {
                let parts = [&content.cert, &content.key, content.client_ca.as_ref().unwrap_or(&content.cert)];
                fnv_1a(parts.into_iter().flat_map(|part| [fnv_1a(part.iter().copied()).to_be_bytes()]).flatten())
            }
            Err(error) => fnv_1a(error.to_string().bytes()),
        };
        (seen, content)
    }

    fn config(&self, files: &TlsFiles) -> Result<ServerConfig, DoorError> {
        let unusable = |error: &dyn std::fmt::Display| DoorError::Unusable {
            cert: files.cert.clone(),
            key: files.key.clone(),
            cause: error.to_string(),
        };
        let builder = ServerConfig::builder_with_provider(pem::provider());
        let builder = builder.with_safe_default_protocol_versions().map_err(|error| unusable(&error))?;
        let builder = match (&files.client_ca, &self.client_ca) {
            (Some(path), Some(bytes)) => {
                let roots = Arc::new(pem::authorities(path, bytes)?);
                // A caller without a certificate may have a token, and is told what is missing in either case.
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, pem::provider());
                let verifier = verifier.allow_unauthenticated().build().map_err(|error| unusable(&error))?;
                builder.with_client_cert_verifier(verifier)
            }
            _ => builder.with_no_client_auth(),
        };
        let chain = pem::certificates(&files.cert, &self.cert)?;
        let key = pem::private_key(&files.key, &self.key)?;
        let mut config = builder.with_single_cert(chain, key).map_err(|error| unusable(&error))?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }
}
