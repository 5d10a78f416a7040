//! What a storm of logins does to everybody else.

use std::{sync::Arc, time::Duration};

use serde_json::json;

use crate::{
    Failure,
    cases::Case,
    client::{self, Load, Request},
    measure::Bench,
    report::{self, Storm, millis, say},
    seed::{PASSWORD, Target},
};

/// Somebody at work, not a load: what is measured is how long he waits.
const AT_WORK: u32 = 2;

/// How long people who are signed in wait for an answer, alone and beside logins of users that do not exist, which come
/// as fast as they are answered. Limits are off: with them, all but ten a minute would cost next to nothing.
pub(crate) async fn measure(bench: &Bench<'_>, targets: &[Target]) -> Result<Option<Storm>, Failure> {
    let connections = bench.options.storm;
    if connections == 0 {
        return Ok(None);
    }
    say(&format!("{}: a storm of logins", report::tenants(u32::try_from(targets.len())?)));
    let (address, duration) = (bench.service.address, Duration::from_secs(bench.options.seconds.into()));
    let at_work = Case::CurrentUser.requests(targets);
    let logins: Arc<[Request]> = targets.iter().map(login_of_nobody).collect();
    client::once(address, &at_work).await?;
    let alone = client::load(address, &at_work, AT_WORK, duration).await?;
    let (beside, storm) = tokio::try_join!(
        client::load(address, &at_work, AT_WORK, duration),
        client::load(address, &logins, connections, duration)
    )?;
    let ratio = |percent| millis(beside.percentile(percent)) / millis(alone.percentile(percent));
    let per_second = |load: &Load| f64::from(load.requests) / load.took.as_secs_f64();
    Ok(Some(Storm {
        connections,
        logins_per_second: per_second(&storm),
        alone_p50_ms: millis(alone.percentile(50)),
        alone_p99_ms: millis(alone.percentile(99)),
        beside_p50_ms: millis(beside.percentile(50)),
        beside_p99_ms: millis(beside.percentile(99)),
        ratio_p50: ratio(50),
        ratio_p99: ratio(99),
    }))
}

fn login_of_nobody(target: &Target) -> Request {
    let body = json!({"username": "nobody", "password": PASSWORD});
    Request::new("POST", &target.host, "/api/login/", 400, "Unable to log in").json(&body)
}
