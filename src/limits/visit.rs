//! A request at the gate of a tenant: counted, let through at the tenant's rate, and one of so many at once.

use std::{sync::Arc, time::Duration};

use poem::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tenants::{Full, Meter, Tenant, Turn, Unit};
use tokio::sync::Semaphore;

use crate::{
    http::{Place, Problem, Visit, Visited},
    metrics::Refusal,
    state::App,
};

/// How long a request or a job waits for its turn: longer than nearly all take, so that who sends a few too many at once is
/// served, and short enough that a client is told before it gives up by itself.
pub(crate) const WAIT: Duration = Duration::from_secs(1);
/// When it is worth coming again: what is under way is over by then, as a rule.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How long a refusal is held back. A client that heeds `Retry-After` stays away for longer; one that sends again as soon as
/// it is answered sends ten a second over each of its connections, and not as many as the processor can refuse.
const HELD_BACK: Duration = Duration::from_millis(100);
/// How many are held back at once; who comes then is refused at once, so that refusing costs no more than this much memory.
static HOLDING: Semaphore = Semaphore::const_new(1_024);

/// What answers say of the rate, as draft-ietf-httpapi-ratelimit-headers-06 of December 2022 names it: the last revision
/// with a field for each number. Later ones pack them into one field, which no client in use reads yet.
const LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("ratelimit-reset");
const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// One that is being answered.
struct Entered {
    meter: Arc<Meter>,
    turn: Option<Turn>,
    /// Held until the answer is made; what a stream sends after that is not work of this request.
    _unit: Option<Unit>,
}

/// Lets a request into a tenant, or not. Either way it has been there, which the answer will say.
pub(crate) async fn enter(app: &App, tenant: &Tenant, place: Option<&Place>) -> (Visit, Result<(), Problem>) {
    let meter = Arc::clone(&tenant.meter);
    meter.request();
    let rate = tenant.limits.rate().filter(|_| app.throttles.are_on());
    let turn = rate.map(|rate| meter.turn(rate, app.clock.now()));
    let (unit, refused) = match turn.and_then(|turn| turn.wait) {
        Some(wait) => (None, Some((wait, Refusal::Rate))),
        None => match meter.unit(tenant.limits.concurrency.or(place.map(Place::share)), WAIT).await {
            // Without a limit of its own, a tenant has a share of what the process works on; and for as long as that: who
            // sends a body as slowly as he may, and need not even be of the tenant, shuts nobody out.
            Ok(unit) if tenant.limits.concurrency.is_none() => {
                if let Some((place, unit)) = place.zip(unit) {
                    place.keep(unit);
                }
                (None, None)
            }
            Ok(unit) => (unit, None),
            Err(Full) => (None, Some((RETRY_AFTER, Refusal::Concurrency))),
        },
    };
    let entered = match refused {
        None => Ok(()),
        Some((wait, why)) => {
            meter.throttled();
            app.metrics().refusals.count(why);
            if place.is_none_or(Place::is_calm)
                && let Ok(_held) = HOLDING.try_acquire()
            {
                tokio::time::sleep(wait.min(HELD_BACK)).await;
            }
            Err(Problem::throttled(wait))
        }
    };
    (Visit(Arc::new(Entered { meter, turn, _unit: unit })), entered)
}

impl Visited for Entered {
    fn end(&self, status: StatusCode, headers: &mut HeaderMap) {
        if status.is_server_error() {
            self.meter.error();
        }
        let Some(turn) = self.turn else { return };
        let Turn { rate, remaining, full_in, wait } = turn;
        // Who is refused may come again when there is room for one, and a client that heeds the later of two times would
        // wait until there is room for all.
        let reset = wait.unwrap_or(full_in);
        headers.insert(LIMIT, HeaderValue::from(rate.burst));
        headers.insert(REMAINING, HeaderValue::from(remaining));
        headers.insert(RESET, HeaderValue::from(whole_seconds(reset)));
        // A number and its window in seconds; `burst` is one of the parameters that the draft leaves to the server.
        let policy = format!("{};w=1;burst={}", rate.per_second, rate.burst);
        if let Ok(policy) = HeaderValue::from_str(&policy) {
            headers.insert(POLICY, policy);
        }
    }
}

fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}
