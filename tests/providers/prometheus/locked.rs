//! Real programs behind passwords and certificates.

use super::super::harness::Result;
use super::data::Written;
use super::programs::{self, Kind, Server};
use super::{provider, query};
use optipod::provider::{PrometheusOptions, ProviderError, UsageProvider as _};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use std::path::{Path, PathBuf};
use std::time::Duration;

const PASSWORD: &str = "open sesame";
/// The password, as bcrypt with the least cost.
const HASHED: &str = "$2b$05$abcdefghijklmnopqrstuupx2xBUC4954936wVIjyyPHmUBFu0wCW";

async fn ask(options: PrometheusOptions) -> std::result::Result<usize, ProviderError> {
    let asked = [query("shop", "Pod/bare", "app", Duration::from_hours(1))];
    Ok(provider(options).unwrap().usage(&asked).await?.len())
}

fn locked(kind: Kind, folder: &Path) -> Result<Server> {
    let more = match kind {
        Kind::Prometheus => {
            let config = folder.join("web.yml");
            std::fs::write(&config, format!("basic_auth_users:\n  me: {HASHED}\n"))?;
            vec![format!("--web.config.file={}", config.display())]
        }
        Kind::VictoriaMetrics => {
            vec!["-httpAuth.username=me".to_owned(), format!("-httpAuth.password={PASSWORD}")]
        }
    };
    programs::start(kind, &Written::default(), &more)
}

pub async fn a_password_opens_and_without_it_the_error_says_what_to_check(kind: Kind) -> Result {
    let folder = tempfile::tempdir()?;
    let server = locked(kind, folder.path())?;
    let password = folder.path().join("password");
    let options = PrometheusOptions {
        basic_auth_user: Some("me".into()),
        basic_auth_password_file: Some(password.clone()),
        ..PrometheusOptions::new(server.program.url())
    };
    for wrong in ["open barley", "open"] {
        std::fs::write(&password, wrong)?;
        let error = ask(options.clone()).await.unwrap_err().to_string();
        assert!(error.contains("401") && error.contains("check the files") && !error.contains("barley"), "{error}");
    }
    std::fs::write(&password, format!("{PASSWORD}\n"))?;
    assert_eq!(ask(options).await, Ok(1));
    Ok(())
}

/// A certificate and its key, as files.
fn issue(folder: &Path, name: &str, by: &CertifiedIssuer<'_, KeyPair>) -> Result<(PathBuf, PathBuf)> {
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()])?.signed_by(&key, by)?;
    let (cert_file, key_file) = (folder.join(format!("{name}.pem")), folder.join(format!("{name}.key")));
    std::fs::write(&cert_file, certificate.pem())?;
    std::fs::write(&key_file, key.serialize_pem())?;
    Ok((cert_file, key_file))
}

pub async fn a_client_certificate_opens() -> Result {
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name);
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    std::fs::write(path("ca.pem"), authority.pem())?;
    let (server_cert, server_key) = issue(folder.path(), "server", &authority)?;
    let (cert, key) = issue(folder.path(), "client", &authority)?;
    let config = format!(
        "tls_server_config:\n  cert_file: {}\n  key_file: {}\n  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: {}\n",
        server_cert.display(),
        server_key.display(),
        path("ca.pem").display()
    );
    std::fs::write(path("web.yml"), config)?;
    let more = format!("--web.config.file={}", path("web.yml").display());
    let server = programs::start(Kind::Prometheus, &Written::default(), &[more])?;
    let url = format!("https://{}", server.program.address);
    let trusting = PrometheusOptions { ca_file: Some(path("ca.pem")), ..PrometheusOptions::new(&url) };
    let known = PrometheusOptions { cert_file: Some(cert), key_file: Some(key), ..trusting.clone() };
    let rotated = provider(known.clone())?;
    let asked = [query("shop", "Pod/bare", "app", Duration::from_hours(1))];
    assert_eq!(rotated.usage(&asked).await, Ok(vec![None]));
    let right = std::fs::read(path("ca.pem"))?;
    let mut other = CertificateParams::default();
    other.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    std::fs::write(path("ca.pem"), CertifiedIssuer::self_signed(other, KeyPair::generate()?)?.pem())?;
    assert!(rotated.usage(&asked).await.is_err(), "the file is read anew");
    std::fs::write(path("ca.pem"), right)?;
    assert_eq!(rotated.usage(&asked).await, Ok(vec![None]));
    for (options, part) in [
        (PrometheusOptions { ca_file: None, ..known.clone() }, "UnknownIssuer"),
        (trusting, "ertificate"),
        (PrometheusOptions { ca_file: known.key_file.clone(), ..known.clone() }, "caFile: "),
        (PrometheusOptions { key_file: known.cert_file.clone(), ..known.clone() }, "holds no usable private key"),
        (PrometheusOptions { key_file: Some(server_key), ..known.clone() }, "do not fit together"),
    ] {
        let error = ask(options).await.unwrap_err().to_string();
        assert!(error.contains(part), "{part}: {error}");
    }
    Ok(())
}
