//! Certificates, tokens and kubeconfigs of a cluster.

use anyhow::Context;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

use super::Result;
use super::state::{Ports, StateDir};

/// Who talks to the API server from outside, with their groups. The `system:`
/// users have their rights from the API server's bootstrap policy, the others
/// from `addons.yaml`.
const USERS: [(&str, &str); 5] = [
    ("admin", "system:masters"),
    ("system:kube-controller-manager", ""),
    ("system:kube-scheduler", ""),
    ("kwok", ""),
    ("metrics-server", ""),
];

/// What clients need to know.
pub struct Identities {
    /// PEM of the authority that signed every serving certificate.
    pub ca: String,
    /// Kubeconfig of the administrator, as text.
    pub admin: String,
}

impl Identities {
    /// Makes all keys and files; the names are those that `flags` passes on.
    pub fn write(dir: &StateDir, ports: Ports) -> Result<Self> {
        let ca = Authority::new("optipod-test-ca")?;
        dir.write("ca.crt", &ca.pem)?;
        let serving = ExtendedKeyUsagePurpose::ServerAuth;
        let local = ["127.0.0.1", "localhost"];
        ca.sign(dir, "apiserver", &local, serving.clone())?;
        ca.sign(dir, "kubelet", &local, serving.clone())?;
        let names = ["localhost", "metrics-server.kube-system.svc"];
        ca.sign(dir, "metrics-server", &names, serving)?;

        let front = Authority::new("optipod-test-front-proxy-ca")?;
        dir.write("front-proxy-ca.crt", &front.pem)?;
        let client = ExtendedKeyUsagePurpose::ClientAuth;
        front.sign(dir, "front-proxy-client", &[], client)?;

        // The API server reads a public key from no PKCS #8 private key.
        let accounts = KeyPair::generate()?;
        dir.write("sa.key", &accounts.serialize_pem())?;
        dir.write("sa.pub", &accounts.public_key_pem())?;
        let admin = write_users(dir, ports, &ca.pem)?;
        Ok(Self { ca: ca.pem, admin })
    }
}

fn write_users(dir: &StateDir, ports: Ports, ca: &str) -> Result<String> {
    let mut tokens = Vec::new();
    let mut admin = String::new();
    for (user, group) in USERS {
        let token = random_token()?;
        let config = kubeconfig(ports.api_server, ca, &token);
        let short = user.trim_start_matches("system:");
        dir.write(&format!("{short}.kubeconfig"), &config)?;
        tokens.push(format!("{token},{user},{user},{group}\n"));
        if user == "admin" {
            admin = config;
        }
    }
    dir.write("tokens.csv", &tokens.concat())?;
    Ok(admin)
}

fn random_token() -> Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).context("draw a random token")?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}

/// A kubeconfig for whoever holds `token`.
pub fn kubeconfig(port: u16, ca: &str, token: &str) -> String {
    serde_json::json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": {
            "server": format!("https://127.0.0.1:{port}"),
            "certificate-authority-data": base64(ca.as_bytes()),
        }}],
        "users": [{"name": "test", "user": {"token": token}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "current-context": "test",
    })
    .to_string()
}

/// Base64 as in kubeconfigs and `caBundle`.
pub fn base64(bytes: &[u8]) -> String {
    serde_json::to_value(k8s_openapi::ByteString(bytes.to_vec()))
        .ok()
        .and_then(|value| value.as_str().map(str::to_owned))
        .unwrap_or_default()
}

struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(name: &str) -> Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let pem = params.self_signed(&key)?.pem();
        Ok(Self { pem, issuer: Issuer::new(params, key) })
    }

    /// Writes `<name>.crt` and `<name>.key`, with `name` as common name.
    fn sign(&self, dir: &StateDir, name: &str, hosts: &[&str], usage: ExtendedKeyUsagePurpose) -> Result {
        let key = KeyPair::generate()?;
        let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(hosts)?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        dir.write(&format!("{name}.crt"), &params.signed_by(&key, &self.issuer)?.pem())?;
        dir.write(&format!("{name}.key"), &key.serialize_pem())
    }
}
