//! A real `serve` that speaks TLS, and what becomes of it when its certificate is replaced.

use std::{
    fs,
    net::TcpStream,
    path::Path,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use rcgen::{CertificateParams, CertifiedKey, KeyPair, date_time_ymd, generate_simple_self_signed};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use serde_json::json;

use super::support::{Serve, Workplace};
use crate::support::eventually;

/// Writes a certificate for the service and its key.
fn certify(chain: &Path, key: &Path) {
    certify_for(&["localhost", "acme.localhost"], chain, key);
}

fn certify_for(names: &[&str], chain: &Path, key: &Path) {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names).unwrap();
    fs::write(chain, cert.pem()).unwrap();
    fs::write(key, signing_key.serialize_pem()).unwrap();
}

/// Whether it shows this certificate.
fn shows(serve: &Serve, certificate: &Path) -> bool {
    shows_for("acme.localhost", serve, certificate)
}

fn shows_for(name: &'static str, serve: &Serve, certificate: &Path) -> bool {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificate).unwrap()).unwrap();
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let mut client = ClientConnection::new(Arc::new(config), name.try_into().unwrap()).unwrap();
    let mut stream = TcpStream::connect(serve.address()).unwrap();
    client.complete_io(&mut stream).is_ok() && !client.is_handshaking()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_certificate_is_taken_and_a_broken_one_is_not() {
    let place = Workplace::new();
    let [chain, key, second] = ["tls.pem", "tls.key", "second.pem"].map(|name| place.path(name));
    let second_key = place.path("second.key");
    certify(&chain, &key);
    certify(&second, &second_key);
    let first = place.path("first.pem");
    fs::copy(&chain, &first).unwrap();
    let with_tls = |place: Workplace| {
        place
            .with("TENANTRY_TLS_CERT_FILE", chain.to_str().unwrap())
            .with("TENANTRY_TLS_KEY_FILE", key.to_str().unwrap())
    };
    let place = with_tls(place).with("TENANTRY_ADMIN_LISTEN", "127.0.0.1:0");
    let (serve, mut log) = place.serve_with_log();
    let url = format!("https://localhost:{}", serve.port());
    assert_eq!(serve.started()["url"], url);
    assert!(
        serve.started()["admin"].as_str().unwrap().starts_with("https://127.0.0.1:"),
        "{}",
        serve.started()
    );
    assert!(shows(&serve, &first));
    let asking = with_tls(Workplace::new()).with("TENANTRY_LISTEN", format!("127.0.0.1:{}", serve.port()));
    assert_eq!(asking.run("health --ready --json").json(), json!({"status": "ok"}));
    let plain = Workplace::new().with("TENANTRY_LISTEN", format!("127.0.0.1:{}", serve.port()));
    let error = plain.run("health").failure(1);
    assert!(error.contains("answers \"HTTP/1.1 400 Bad Request\" to /healthz"), "{error}");

    fs::write(&chain, "none").unwrap();
    serve.signal("HUP");
    let told = log.find(|line| line.contains("the new certificate is of no use")).unwrap();
    assert!(told.contains("ERROR") && told.contains("holds no certificate"), "{told}");
    assert!(shows(&serve, &first));
    // However often it is asked for, it is told once.
    (0..20).for_each(|_| serve.signal("HUP"));
    fs::copy(&second, &chain).unwrap();
    fs::copy(&second_key, &key).unwrap();
    serve.signal("HUP");
    eventually("the new one is shown", async || shows(&serve, &second)).await;
    assert!(!shows(&serve, &first));
    assert_eq!(serve.terminate(), Some(0));
    assert_eq!(log.filter(|line| line.contains("holds no certificate")).count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_never_comes_holds_up_neither_the_other_certificates_nor_the_end() {
    let place = Workplace::new();
    let [first, first_key, second, second_key, new, new_key] =
        ["a.pem", "a.key", "b.pem", "b.key", "c.pem", "c.key"].map(|name| place.path(name));
    certify(&first, &first_key);
    certify(&new, &new_key);
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(["old.example".to_owned()]).unwrap();
    (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
    fs::write(&second, params.self_signed(&key).unwrap().pem()).unwrap();
    fs::write(&second_key, key.serialize_pem()).unwrap();
    let both = |one: &Path, other: &Path| format!("{},{}", one.display(), other.display());
    let place = place
        .with("TENANTRY_TLS_CERT_FILE", both(&first, &second))
        .with("TENANTRY_TLS_KEY_FILE", both(&first_key, &second_key));
    let (serve, mut log) = place.serve_with_log();
    let told = log.find(|line| line.contains("a certificate needs to be replaced")).unwrap();
    assert!(
        told.contains("WARN") && told.contains("b.pem") && told.contains("ended at 2021-01-01"),
        "{told}"
    );
    // Whoever opens it waits for somebody who writes.
    fs::remove_file(&second).unwrap();
    assert!(Command::new("mkfifo").arg(&second).status().unwrap().success());
    serve.signal("HUP");
    fs::copy(&new, &first).unwrap();
    fs::copy(&new_key, &first_key).unwrap();
    eventually("the new one is shown", async || {
        serve.signal("HUP");
        shows(&serve, &new)
    })
    .await;
    // Where it was, there are others by now. Whoever waits for it waits on.
    let [late, late_key] = ["d.pem", "d.key"].map(|name| place.path(name));
    certify_for(&["old.example"], &late, &late_key);
    fs::copy(&late_key, &second_key).unwrap();
    let beside = place.path("e.pem");
    fs::copy(&late, &beside).unwrap();
    fs::rename(&beside, &second).unwrap();
    eventually("the other new one is shown", async || {
        serve.signal("HUP");
        shows_for("old.example", &serve, &late)
    })
    .await;
    let begun = Instant::now();
    assert_eq!(serve.terminate(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[test]
fn without_a_certificate_that_can_be_used_it_does_not_start() {
    let place = Workplace::new();
    let [chain, key] = ["tls.pem", "tls.key"].map(|name| place.path(name));
    certify(&chain, &key);
    let place = place
        .with("TENANTRY_TLS_CERT_FILE", chain.to_str().unwrap())
        .with("TENANTRY_TLS_KEY_FILE", chain.to_str().unwrap());
    let error = place.run("serve").failure(1);
    let expected = format!(
        "error: TENANTRY_TLS_CERT_FILE and TENANTRY_TLS_KEY_FILE: {} holds no key in PEM that is not encrypted\n",
        chain.display()
    );
    assert_eq!(error, expected);
    assert!(!place.data_dir().exists());
    let one = Workplace::new().with("TENANTRY_TLS_CERT_FILE", "tls.pem").run("serve").failure(1);
    assert!(one.contains("TENANTRY_TLS_KEY_FILE") && one.contains("as many keys as certificates"), "{one}");
}
