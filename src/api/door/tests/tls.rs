use super::*;
use rcgen::{CertificateParams, DnType, KeyPair, SanType};
use std::path::Path;
use tokio_rustls::rustls::pki_types::CertificateDer;

/// Writes a new certificate and, unless told otherwise, the key that it was made for.
fn write_pair(dir: &Path, with_key: bool) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(dir.join("tls.crt"), made.cert.pem()).unwrap();
    if with_key {
        std::fs::write(dir.join("tls.key"), made.signing_key.serialize_pem()).unwrap();
    }
}

fn files(dir: &Path) -> TlsFiles {
    TlsFiles { cert: dir.join("tls.crt"), key: dir.join("tls.key"), client_ca: None }
}

#[test]
fn new_files_are_used_and_bad_ones_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    write_pair(dir.path(), true);
    let tls = Tls::new(files(dir.path())).unwrap();
    let config = || tls.acceptor().config().clone();
    let first = config();
    assert_eq!(tls.look(), Look::Same);
    // A certificate whose key is still to come, as it may be seen in the middle of a renewal.
    write_pair(dir.path(), false);
    assert_eq!((tls.look(), tls.look()), (Look::Refused, Look::Same), "told once");
    assert!(Arc::ptr_eq(&config(), &first));
    std::fs::remove_file(dir.path().join("tls.crt")).unwrap();
    assert_eq!((tls.look(), tls.look()), (Look::Refused, Look::Same));
    assert!(Arc::ptr_eq(&config(), &first));
    write_pair(dir.path(), true);
    assert_eq!((tls.look(), tls.look()), (Look::Renewed, Look::Same));
    assert!(!Arc::ptr_eq(&config(), &first));
}

#[tokio::test(start_paused = true)]
async fn the_files_are_looked_at_every_ten_seconds() {
    let dir = tempfile::tempdir().unwrap();
    write_pair(dir.path(), true);
    let tls = Arc::new(Tls::new(files(dir.path())).unwrap());
    let first = tls.acceptor().config().clone();
    let looking = tls.clone();
    tokio::spawn(async move { looking.keep_looking().await });
    write_pair(dir.path(), true);
    tokio::time::sleep(Duration::from_millis(9_999)).await;
    assert!(Arc::ptr_eq(tls.acceptor().config(), &first));
    tokio::time::sleep(Duration::from_millis(2)).await;
    assert!(!Arc::ptr_eq(tls.acceptor().config(), &first));
}

#[test]
fn at_the_start_the_files_must_be_good() {
    let dir = tempfile::tempdir().unwrap();
    let error = |tls: Result<Tls, DoorError>| tls.err().unwrap().to_string();
    let missing = error(Tls::new(files(dir.path())));
    assert!(missing.contains("tls.crt") && missing.contains("cannot read"), "{missing}");
    write_pair(dir.path(), true);
    write_pair(dir.path(), false);
    let unequal = error(Tls::new(files(dir.path())));
    assert!(unequal.contains("give a certificate and the key that it was made for"), "{unequal}");
}

#[test]
fn a_door_that_lets_nobody_in_is_none() {
    let options = |client_names| DoorOptions {
        files: files(Path::new("/nowhere")),
        client_names,
        tokens: None,
        requests_per_second: 1,
        clock: Clock::system(),
        metrics: crate::telemetry::Metrics::new().unwrap().door().clone(),
    };
    for names in [BTreeSet::new(), BTreeSet::from(["controller".to_owned()])] {
        let error = Door::new(options(names)).err().unwrap();
        assert!(matches!(error, DoorError::NobodyKnown), "{error}");
    }
}

#[test]
fn a_certificate_is_about_its_common_name_and_its_alternative_names() {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(["controller.optipod".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, "controller");
    params.subject_alt_names.push(SanType::URI("spiffe://cluster.local/ns/a/sa/b".try_into().unwrap()));
    params.subject_alt_names.push(SanType::IpAddress("10.0.0.1".parse().unwrap()));
    params.not_after = rcgen::date_time_ymd(2030, 1, 2);
    let der = params.self_signed(&key).unwrap().der().clone();
    let read = certificate::Certificate::read(&der);
    assert_eq!(read.names, ["controller", "controller.optipod", "spiffe://cluster.local/ns/a/sa/b"]);
    assert_eq!(read.until, "2030-01-02T00:00:00Z".parse().unwrap());
    let broken = certificate::Certificate::read(&CertificateDer::from(vec![0x30, 0x03, 1]));
    assert_eq!((broken.names.len(), broken.until), (0, jiff::Timestamp::MIN));
}
