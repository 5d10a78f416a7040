//! Clients that write and read as long as they are let, remember what they were told, and compare it with what is there.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::json;
use sqlx::{AssertSqlSafe, Executor as _, Row as _};
use tokio::task::JoinHandle;

use crate::support::{Answer, Organization, TestApp, assert_counts};

/// After a refusal a client waits, though not as long as it is told: a test has less time than people have.
const PAUSE: Duration = Duration::from_millis(20);

/// What clients were told.
#[derive(Debug, Default)]
pub(super) struct Toll {
    pub(super) requests: u32,
    pub(super) statuses: BTreeMap<u16, u32>,
    /// The texts of comments that were said to be there.
    pub(super) acknowledged: Vec<String>,
    /// Those that nobody knows of.
    pub(super) in_doubt: Vec<String>,
    /// The longest that a request took.
    pub(super) slowest: Duration,
}

impl Toll {
    fn add(&mut self, other: Self) {
        self.requests += other.requests;
        for (status, count) in other.statuses {
            *self.statuses.entry(status).or_default() += count;
        }
        self.acknowledged.extend(other.acknowledged);
        self.in_doubt.extend(other.in_doubt);
        self.slowest = self.slowest.max(other.slowest);
    }

    fn note(&mut self, answer: &Answer, took: Duration) {
        self.requests += 1;
        *self.statuses.entry(answer.status).or_default() += 1;
        self.slowest = self.slowest.max(took);
    }

    /// How many requests were refused.
    pub(super) fn refused(&self) -> u32 {
        self.statuses.get(&503).copied().unwrap_or(0)
    }
}

/// The one refusal there is for all of this.
pub(super) fn assert_unavailable(answer: &Answer) {
    assert_eq!(answer.status, 503, "{}", answer.text);
    assert_eq!(answer.header("retry-after"), "1");
    assert_eq!(answer.problem()["status"], 503);
}

/// Clients at work.
pub(super) struct Load {
    over: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Toll>>,
}

impl Load {
    /// Writers and readers of each organization.
    pub(super) fn start(organizations: &[&Arc<Organization>], writers: usize, readers: usize) -> Self {
        let over = Arc::<AtomicBool>::default();
        let mut clients = Vec::new();
        for organization in organizations {
            for writer in 0..writers {
                clients.push(tokio::spawn(write(Arc::clone(organization), writer, Arc::clone(&over))));
            }
            for _ in 0..readers {
                clients.push(tokio::spawn(read(Arc::clone(organization), Arc::clone(&over))));
            }
        }
        Self { over, clients }
    }

    /// Lets them end, and adds up.
    pub(super) async fn end(self) -> Toll {
        self.over.store(true, Ordering::Relaxed);
        let mut toll = Toll::default();
        for client in self.clients {
            toll.add(client.await.unwrap());
        }
        toll
    }
}

async fn write(organization: Arc<Organization>, writer: usize, over: Arc<AtomicBool>) -> Toll {
    let mut toll = Toll::default();
    let path = format!("/api/users/{}/comments/", organization.owner.pk);
    for number in 0_u32.. {
        if over.load(Ordering::Relaxed) {
            break;
        }
        let body = format!("{} {writer} {number}", organization.slug);
        let start = Instant::now();
        let answer = organization.owner.request("POST", &path).json(&json!({"body": body})).send().await;
        toll.note(&answer, start.elapsed());
        if answer.status == 201 {
            assert_eq!(answer.json()["body"], body);
            toll.acknowledged.push(body);
        } else {
            assert_unavailable(&answer);
            toll.in_doubt.push(body);
            tokio::time::sleep(PAUSE).await;
        }
    }
    toll
}

async fn read(organization: Arc<Organization>, over: Arc<AtomicBool>) -> Toll {
    let mut toll = Toll::default();
    while !over.load(Ordering::Relaxed) {
        let start = Instant::now();
        let answer = organization.owner.request("GET", "/api/users/").send().await;
        toll.note(&answer, start.elapsed());
        if answer.status == 200 {
            assert_eq!(answer.json()["results"][0]["username"], organization.owner.username.as_str());
        } else {
            assert_unavailable(&answer);
            tokio::time::sleep(PAUSE).await;
        }
    }
    toll
}

/// Each write that was acknowledged is there once; one that nobody knows of is there once, with all that it counts, or
/// not at all; and there is nothing else.
pub(super) async fn assert_kept(app: &TestApp, organizations: &[&Arc<Organization>], toll: &Toll) {
    let mut there: HashMap<String, u32> = HashMap::new();
    for organization in organizations {
        let sql = format!(r#"SELECT body FROM "{}".comments"#, organization.schema());
        for row in app.superuser().await.fetch_all(AssertSqlSafe(sql)).await.unwrap() {
            let body: String = row.get(0);
            assert!(body.starts_with(&organization.slug), "{body} is of another organization");
            *there.entry(body).or_default() += 1;
        }
        assert_counts(app, organization).await;
    }
    for body in &toll.acknowledged {
        assert_eq!(there.remove(body), Some(1), "{body} was acknowledged");
    }
    for body in &toll.in_doubt {
        assert!(there.remove(body).unwrap_or(1) == 1, "{body} is there twice");
    }
    assert!(there.is_empty(), "nobody wrote {there:?}");
}
