//! Who a client certificate is about.

use jiff::Timestamp;
use tokio_rustls::rustls::pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// A client certificate that the client authority signed, as TLS has checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Certificate {
    /// Its common name, and the DNS names, URIs and e-mail addresses of its subjectAltName.
    pub(super) names: Vec<String>,
    /// It counts until then; a connection may last longer.
    pub(super) until: Timestamp,
}

impl Certificate {
    /// Reads it; one that cannot be read is about nobody.
    pub(super) fn read(der: &CertificateDer<'_>) -> Self {
        let Ok((_, certificate)) = X509Certificate::from_der(der) else {
            return Self { names: Vec::new(), until: Timestamp::MIN };
        };
        let common = certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok());
        let mut names: Vec<String> = common.map(str::to_owned).collect();
        if let Ok(Some(alternative)) = certificate.subject_alternative_name() {
            names.extend(alternative.value.general_names.iter().filter_map(|name| match name {
                GeneralName::DNSName(name) | GeneralName::URI(name) | GeneralName::RFC822Name(name) => {
                    Some((*name).to_owned())
                }
                _ => None,
            }));
        }
        let until = Timestamp::from_second(certificate.validity().not_after.timestamp());
        Self { names, until: until.unwrap_or(Timestamp::MAX) }
    }
}
