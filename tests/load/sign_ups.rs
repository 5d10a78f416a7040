//! How long an organization waits that signs up.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{
    Failure,
    client::{Client, Request, percentile},
    measure::Bench,
    report::{self, SignUps, millis, say},
    seed::PASSWORD,
};

/// Signs organizations up over HTTP, one after the other, each beside a bare hash and followed by its first request.
pub(crate) async fn measure(bench: &Bench<'_>, tenants: u32) -> Result<Option<SignUps>, Failure> {
    let count = bench.options.sign_ups;
    if count == 0 {
        return Ok(None);
    }
    say(&format!("{}: {count} sign-ups", report::tenants(tenants)));
    let port = bench.service.address.port();
    let host = format!("localhost:{port}");
    let mut client = Client::connect(bench.service.address).await?;
    let (mut hashes, mut sign_ups, mut firsts) = (Vec::new(), Vec::new(), Vec::new());
    let (mut cpu_server, mut cpu_postgres) = (Duration::ZERO, Duration::ZERO);
    // The first is not counted: it opens connections.
    for number in 0..=count {
        let started = Instant::now();
        bench.hasher.hash(PASSWORD.into()).await?;
        let hash = started.elapsed();

        let slug = format!("new-{tenants}-{number}");
        let body = json!({
            "organization": slug, "slug": slug, "username": "ada",
            "email": format!("ada@{slug}.example"), "password": PASSWORD,
        });
        let request =
            Request::new("POST", &host, "/api/sign_up/tenant/", 201, &format!("\"{slug}\"")).json(&body);
        let before = bench.processes.cpu()?;
        let (sign_up, answer) = timed(&mut client, &request).await?;
        let used = bench.processes.cpu()?.since(before);

        let text = |pointer| answer.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let own_host = format!("{slug}.{host}");
        let request = Request::new("GET", &own_host, "/api/current_user/", 200, text("/user/pk"));
        let (first, _) = timed(&mut client, &request.bearer(text("/token"))).await?;
        if number > 0 {
            hashes.push(hash);
            sign_ups.push(sign_up);
            firsts.push(first);
            cpu_server += used.server;
            cpu_postgres += used.postgres;
        }
    }
    let sorted = |mut durations: Vec<Duration>| {
        durations.sort_unstable();
        durations
    };
    let (hashes, sign_ups, firsts) = (sorted(hashes), sorted(sign_ups), sorted(firsts));
    Ok(Some(SignUps {
        count,
        median_ms: millis(percentile(&sign_ups, 50)),
        p99_ms: millis(percentile(&sign_ups, 99)),
        hash_median_ms: millis(percentile(&hashes, 50)),
        beside_hash_median_ms: millis(percentile(&sign_ups, 50).saturating_sub(percentile(&hashes, 50))),
        server_cpu_ms: millis(cpu_server) / f64::from(count),
        postgres_cpu_ms: millis(cpu_postgres) / f64::from(count),
        first_request_median_ms: millis(percentile(&firsts, 50)),
        first_request_p99_ms: millis(percentile(&firsts, 99)),
    }))
}

async fn timed(client: &mut Client, request: &Request) -> Result<(Duration, Value), Failure> {
    let started = Instant::now();
    let body = client.send(request).await?;
    Ok((started.elapsed(), serde_json::from_slice(body)?))
}
