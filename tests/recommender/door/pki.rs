//! Authorities, and certificates that they sign, as files.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use std::path::{Path, PathBuf};

pub struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key.
pub type Pair = (PathBuf, PathBuf);

impl Authority {
    pub fn new(name: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let pem = params.self_signed(&key).expect("an authority").pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// Writes its certificate.
    pub fn write(&self, dir: &Path, file: &str) -> PathBuf {
        let path = dir.join(file);
        std::fs::write(&path, &self.pem).expect("written");
        path
    }

    /// Writes a new certificate of a server on this machine, also by the name of the chart's Service, and its key.
    pub fn serving(&self, dir: &Path, name: &str) -> Pair {
        let hosts = ["127.0.0.1", "localhost", "optipod-recommender.optipod-system.svc"];
        self.sign(dir, name, &hosts, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// Writes a new client certificate with `name` as common name, and its key.
    pub fn client(&self, dir: &Path, name: &str) -> Pair {
        self.sign(dir, name, &[], ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn sign(&self, dir: &Path, name: &str, hosts: &[&str], usage: ExtendedKeyUsagePurpose) -> Pair {
        let key = KeyPair::generate().expect("a key");
        let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(hosts).expect("names");
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        let pair = (dir.join(format!("{name}.crt")), dir.join(format!("{name}.key")));
        std::fs::write(&pair.0, params.signed_by(&key, &self.issuer).expect("signed").pem()).expect("written");
        std::fs::write(&pair.1, key.serialize_pem()).expect("written");
        pair
    }
}
