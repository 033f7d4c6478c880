//! Certificates and keys from PEM files, for both ends of TLS.
//!
//! It may not know what they are for. Invariant: a file is read within a bound, and every error names it and says what
//! it should hold.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The largest file that is read, in bytes; a bundle of all public authorities has a quarter of that.
const MOST_BYTES: u64 = 1 << 20;

/// Why a file gives no certificate or key.
#[derive(Debug, thiserror::Error)]
pub enum PemError {
    /// It is not there or cannot be read.
    #[error("cannot read {}: {source}; check that it is mounted and readable", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is longer than any such file is.
    #[error("{} is longer than {MOST_BYTES} bytes; give a PEM file", .path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// There is nothing of that kind in it, or it is broken.
    #[error("{} holds no usable {wanted} ({cause}); give a PEM file", .path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        wanted: &'static str,
        /// What is wrong.
        cause: String,
    },
}

/// The one crypto provider, which kube uses too.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(default_provider())
}

/// A whole file, at most 1 MiB.
pub fn read(path: &Path) -> Result<Vec<u8>, PemError> {
    let failed = |source| PemError::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(PemError::TooLong { path: path.to_owned() });
    }
    Ok(bytes)
}

/// Every certificate in `bytes`, which were read from `path`; at least one.
pub fn certificates(path: &Path, bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let content = |cause| PemError::Content { path: path.to_owned(), wanted: "certificate", cause };
    let found = CertificateDer::pem_slice_iter(bytes).collect::<Result<Vec<_>, _>>();
    let found = found.map_err(|error| content(error.to_string()))?;
    if found.is_empty() { Err(content("there is none".to_owned())) } else { Ok(found) }
}

/// The authorities that this system trusts.
pub fn system_authorities() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

/// The first private key in `bytes`, which were read from `path`: PKCS #8, PKCS #1 or SEC 1.
pub fn private_key(path: &Path, bytes: &[u8]) -> Result<PrivateKeyDer<'static>, PemError> {
    // The parser's words could quote the key.
    PrivateKeyDer::from_pem_slice(bytes).map_err(|_| PemError::Content {
        path: path.to_owned(),
        wanted: "private key",
        cause: "there is none, or it is broken".to_owned(),
    })
}

/// The authorities in `bytes`, which were read from `path`; each must be usable.
pub fn authorities(path: &Path, bytes: &[u8]) -> Result<RootCertStore, PemError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path, bytes)? {
        roots.add(certificate).map_err(|error| PemError::Content {
            path: path.to_owned(),
            wanted: "certificate of an authority",
            cause: error.to_string(),
        })?;
    }
    Ok(roots)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)] // a test that panics has failed
mod tests {
    use super::*;

    #[test]
    fn every_error_names_the_file_and_what_it_should_hold() {
        let missing = read(Path::new("/nowhere/tls.crt")).unwrap_err().to_string();
        assert!(missing.contains("/nowhere/tls.crt") && missing.contains("mounted"), "{missing}");
        let path = Path::new("tls.crt");
        let broken = b"-----BEGIN CERTIFICATE-----\n????\n-----END CERTIFICATE-----\n";
        for (error, wanted) in [
            (certificates(path, b"").unwrap_err(), "certificate (there is none)"),
            (certificates(path, broken).unwrap_err(), "certificate"),
            (private_key(path, b"").unwrap_err(), "private key"),
            (private_key(path, b"-----BEGIN PRIVATE KEY-----\nsecret\n").unwrap_err(), "private key"),
            (authorities(path, b"").unwrap_err(), "certificate (there is none)"),
        ] {
            let text = error.to_string();
            assert!(text.contains("tls.crt holds no usable") && text.contains(wanted), "{text}");
            assert!(!text.contains("secret"), "{text}");
        }
    }

    #[test]
    fn a_file_without_end_is_not_read_to_its_end() {
        assert!(matches!(read(Path::new("/dev/zero")), Err(PemError::TooLong { .. })));
    }
}
