//! A process that may open no more files.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use super::support::Workplace;

#[test]
fn who_waits_for_a_request_makes_room_where_no_file_is_left_and_it_is_told_now_and_then() {
    let place = Workplace::new();
    let (serve, log) = place.serve_with_log();
    let pid = serve.pid().cast_signed();
    let silent: Vec<TcpStream> = (0..30).map(|_| TcpStream::connect(serve.address()).unwrap()).collect();
    // By then, each of them may be closed for another.
    std::thread::sleep(Duration::from_millis(1_200));
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    assert!(open > silent.len());
    // Fewer than there are: each of them has to make room for more than itself.
    let most = Some(u64::try_from(open - 3).unwrap());
    prlimit(Pid::from_raw(pid), Resource::Nofile, Rlimit { current: most, maximum: most }).unwrap();
    let mut probes: Vec<TcpStream> = (0..10).map(|_| TcpStream::connect(serve.address()).unwrap()).collect();
    for probe in &mut probes {
        probe.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        probe.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut answer = [0; 12];
        probe.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
    }
    drop((silent, probes));
    assert_eq!(serve.terminate(), Some(0));
    let told: Vec<_> = log.filter(|line| line.contains("a connection cannot be accepted")).collect();
    assert_eq!(told.len(), 1, "{told:#?}");
}
