//! What the files with credentials say, read anew for each request, so that a Secret that is mounted may change.
//!
//! Invariant: nothing of it reaches a log or an error.

use super::PrometheusOptions;
use crate::pem;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::HeaderValue;
use rustls::ClientConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::path::Path;
use tokio::io::AsyncReadExt as _;

/// Files larger than this are no credentials.
const LARGEST: u64 = 1 << 20;

/// The contents of all files at one moment. It has no `Debug`, on purpose.
#[derive(PartialEq, Eq, Default)]
pub struct Secrets {
    bearer: Option<String>,
    basic: Option<(String, String)>,
    ca: Option<Vec<u8>>,
    certificate: Option<(Vec<u8>, Vec<u8>)>,
}

impl Secrets {
    /// Reads the files that the options name.
    ///
    /// # Errors
    /// Which file cannot be read or holds nothing usable.
    pub async fn read(options: &PrometheusOptions) -> Result<Self, String> {
        let bearer = match &options.bearer_token_file {
            Some(path) => Some(line("bearerTokenFile", path).await?),
            None => None,
        };
        let basic = match (&options.basic_auth_user, &options.basic_auth_password_file) {
            (Some(user), Some(path)) => Some((user.clone(), line("basicAuthPasswordFile", path).await?)),
            _ => None,
        };
        let ca = match &options.ca_file {
            Some(path) => Some(bytes("caFile", path).await?),
            None => None,
        };
        let certificate = match (&options.cert_file, &options.key_file) {
            (Some(cert), Some(key)) => Some((bytes("certFile", cert).await?, bytes("keyFile", key).await?)),
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
        let chain: Vec<_> = CertificateDer::pem_slice_iter(cert)
            .collect::<Result<_, _>>()
            .map_err(|error| format!("certFile holds no certificate in PEM: {error}"))?;
        // The error of a key could quote it.
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| "keyFile holds no private key in PEM".to_owned())?;
        builder
            .with_client_auth_cert(chain, key)
            .map_err(|error| format!("certFile and keyFile do not fit together: {error}"))
    }

    fn roots(&self, is_used: bool) -> Result<rustls::RootCertStore, String> {
        let mut roots = rustls::RootCertStore::empty();
        if let Some(ca) = &self.ca {
            for certificate in CertificateDer::pem_slice_iter(ca) {
                let added = certificate
                    .map_err(|error| error.to_string())
                    .and_then(|certificate| roots.add(certificate).map_err(|error| error.to_string()));
                added.map_err(|error| format!("caFile holds something else than certificates in PEM: {error}"))?;
            }
            if roots.is_empty() {
                return Err("caFile holds no certificate in PEM".to_owned());
            }
        } else if is_used {
            roots = pem::system_authorities();
        }
        Ok(roots)
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

async fn line(key: &str, path: &Path) -> Result<String, String> {
    let text =
        String::from_utf8(bytes(key, path).await?).map_err(|_| format!("{key} {} holds no text", path.display()))?;
    match text.trim() {
        "" => Err(format!("{key} {} is empty", path.display())),
        text => Ok(text.to_owned()),
    }
}

async fn bytes(key: &str, path: &Path) -> Result<Vec<u8>, String> {
    let read = async {
        let mut bytes = Vec::new();
        tokio::fs::File::open(path).await?.take(LARGEST + 1).read_to_end(&mut bytes).await?;
        Ok::<_, std::io::Error>(bytes)
    };
    let bytes = read.await.map_err(|error| format!("{key} {} cannot be read: {error}", path.display()))?;
    if bytes.len() as u64 > LARGEST {
        return Err(format!("{key} {} is larger than {LARGEST} bytes", path.display()));
    }
    Ok(bytes)
}
