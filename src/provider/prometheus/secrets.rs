//! What the files with credentials say, read anew for each request, so that a Secret that is mounted may change.
//!
//! Invariant: nothing of it reaches a log or an error.

use super::PrometheusOptions;
use crate::pem::{self, PemError};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::HeaderValue;
use rustls::{ClientConfig, RootCertStore};
use std::path::{Path, PathBuf};

/// The contents of all files at one moment. It has no `Debug`, on purpose.
#[derive(PartialEq, Eq, Default)]
pub struct Secrets {
    bearer: Option<String>,
    basic: Option<(String, String)>,
    ca: Option<File>,
    certificate: Option<(File, File)>,
}

/// A file and what it holds.
#[derive(PartialEq, Eq)]
struct File {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl Secrets {
    /// Reads the files that the options name.
    ///
    /// # Errors
    /// Which file cannot be read or holds nothing usable.
    pub fn read(options: &PrometheusOptions) -> Result<Self, String> {
        let bearer = options.bearer_token_file.as_ref().map(|path| line("bearerTokenFile", path)).transpose()?;
        let basic = match (&options.basic_auth_user, &options.basic_auth_password_file) {
            (Some(user), Some(path)) => Some((user.clone(), line("basicAuthPasswordFile", path)?)),
            _ => None,
        };
        let ca = options.ca_file.as_ref().map(|path| File::read("caFile", path)).transpose()?;
        let certificate = match (&options.cert_file, &options.key_file) {
            (Some(cert), Some(key)) => Some((File::read("certFile", cert)?, File::read("keyFile", key)?)),
            _ => None,
        };
        Ok(Self { bearer, basic, ca, certificate })
    }

    /// The header `Authorization`, if any.
    pub fn authorization(&self) -> Result<Option<HeaderValue>, String> {
        let text = match (&self.bearer, &self.basic) {
            (Some(token), _) => format!("Bearer {token}"),
            (None, Some((user, password))) => {
                format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")))
            }
            (None, None) => return Ok(None),
        };
        let mut value = HeaderValue::try_from(text)
            .map_err(|_| "the token in bearerTokenFile has characters that no token has".to_owned())?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    /// How TLS is spoken: with the CA of the file or else those of the system, and with the certificate if there is one.
    pub fn tls(&self, is_used: bool) -> Result<ClientConfig, String> {
        let builder = ClientConfig::builder_with_provider(pem::provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(self.roots(is_used)?);
        let Some((cert, key)) = &self.certificate else { return Ok(builder.with_no_client_auth()) };
        let chain = pem::certificates(&cert.path, &cert.bytes).map_err(of("certFile"))?;
        let key = pem::private_key(&key.path, &key.bytes).map_err(of("keyFile"))?;
        builder
            .with_client_auth_cert(chain, key)
            .map_err(|error| format!("certFile and keyFile do not fit together: {error}"))
    }

    fn roots(&self, is_used: bool) -> Result<RootCertStore, String> {
        match &self.ca {
            Some(File { path, bytes }) => pem::authorities(path, bytes).map_err(of("caFile")),
            None if is_used => Ok(pem::system_authorities()),
            None => Ok(RootCertStore::empty()),
        }
    }

    /// The text without what must not be seen, should a server send it back.
    pub fn redact(&self, text: String) -> String {
        let basic = self.basic.as_ref();
        let encoded = basic.map(|(user, password)| BASE64_STANDARD.encode(format!("{user}:{password}")));
        let hidden = [self.bearer.as_ref(), basic.map(|(_, password)| password), encoded.as_ref()];
        hidden
            .into_iter()
            .flatten()
            .filter(|secret| secret.len() > 3)
            .fold(text, |text, secret| text.replace(secret, "***"))
    }
}

impl File {
    fn read(key: &'static str, path: &Path) -> Result<Self, String> {
        Ok(Self { path: path.to_owned(), bytes: pem::read(path).map_err(of(key))? })
    }
}

/// An error of a file, with the key of the setting that names it.
fn of(key: &'static str) -> impl Fn(PemError) -> String {
    move |error| format!("prometheus.{key}: {error}")
}

fn line(key: &'static str, path: &Path) -> Result<String, String> {
    let bytes = pem::read(path).map_err(of(key))?;
    let text = String::from_utf8(bytes).map_err(|_| format!("prometheus.{key}: {} holds no text", path.display()))?;
    match text.trim() {
        "" => Err(format!("prometheus.{key}: {} is empty", path.display())),
        text => Ok(text.to_owned()),
    }
}
