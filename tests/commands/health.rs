//! `tenantry health`, which says whether a server is alive without an HTTP client.

use std::{io::Write as _, net::TcpListener};

use serde_json::json;

use super::support::Workplace;

#[test]
fn a_server_that_is_alive_says_so_and_one_that_is_gone_does_not() {
    let place = Workplace::new();
    let serve = place.serve();
    let address = format!("127.0.0.1:{}", serve.port());
    let asking = Workplace::new().with("TENANTRY_LISTEN", &address);
    assert_eq!(asking.run("health").ok(), "ok\n");
    assert_eq!(asking.run("health --ready --json").json(), json!({"status": "ok"}));
    drop(serve);

    let error = asking.run("health").failure(1);
    assert!(error.starts_with(&format!("error: nobody answers on {address}: ")), "{error}");
    assert!(!asking.data_dir().exists());
}

#[test]
fn a_server_that_answers_something_else_is_not_well() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let answer = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"HTTP/1.1 503 Service Unavailable\r\n\r\n").unwrap();
        // Closed only once the question has come, or it would be reset.
        std::io::Read::read(&mut stream, &mut [0; 1024]).unwrap();
    });
    let error =
        Workplace::new().with("TENANTRY_LISTEN", address.to_string()).run("health --ready").failure(1);
    answer.join().unwrap();
    assert_eq!(
        error,
        format!("error: the server on {address} answers \"HTTP/1.1 503 Service Unavailable\" to /readyz\n")
    );
}

#[test]
fn where_there_is_a_listener_that_strangers_do_not_come_to_it_is_asked() {
    let place = Workplace::new().with("TENANTRY_ADMIN_LISTEN", "127.0.0.1:0");
    let serve = place.serve();
    let admin = serve.started()["admin"].as_str().unwrap();
    let admin = admin.trim_start_matches("http://").split('/').next().unwrap();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
    let busy = nobody.local_addr().unwrap().to_string();
    let asking = |name, address: &str| {
        Workplace::new().with("TENANTRY_LISTEN", &busy).with(name, address).run("health --ready").ok()
    };
    assert_eq!(asking("TENANTRY_ADMIN_LISTEN", admin), "ok\n");
    assert_eq!(asking("TENANTRY_METRICS_LISTEN", admin), "ok\n");
}
