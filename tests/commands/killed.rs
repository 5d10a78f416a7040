//! What is there after `kill -9` of real processes at random moments, while people write: all that was acknowledged, and
//! nothing by halves.

use std::{
    collections::{BTreeMap, HashMap},
    fs::Permissions,
    os::unix::fs::PermissionsExt as _,
    sync::{
        Arc, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor as _, PgConnection, Row as _};
use tenantry::embedded::{self, Cluster, Durability};

use super::support::{Serve, Workplace};
use crate::support::{PASSWORD, SmtpServer, eventually, http_client, say, superuser_of, wrong_counts};

const MASTER_KEY: &str = "CqsCSgiGFLRyy3VWTVnIvU51VEUwf5rU5CCK+SmNGbA=";
/// Both processes are the same service.
const PUBLIC_URL: &str = "http://localhost:8080";
/// How often one of two processes is killed.
const KILLS: usize = 6;
const WRITERS: usize = 6;
/// One write in so many invites somebody, which a mail goes out for; one in so many signs an organization up.
const INVITES: usize = 4;
const SIGNS_UP: usize = 15;

/// What writers were told, by what they wrote.
#[derive(Default)]
struct Told {
    requests: usize,
    statuses: BTreeMap<u16, usize>,
    /// Whether it was acknowledged; if not, nobody knows.
    comments: HashMap<String, bool>,
    invitations: HashMap<String, bool>,
    organizations: HashMap<String, bool>,
}

/// Where the processes listen. One that was killed comes back elsewhere.
type Ports = RwLock<[u16; 2]>;

struct Writer {
    client: reqwest::Client,
    number: usize,
    slug: &'static str,
    user: String,
    token: String,
    ports: Arc<Ports>,
    told: Told,
}

impl Writer {
    /// Whether this was acknowledged.
    async fn post(&mut self, slug: Option<&str>, path: &str, body: &Value) -> bool {
        self.told.requests += 1;
        let port = self.ports.read().unwrap()[rand::random_range(0..2)];
        let host = slug.map_or("localhost".to_owned(), |slug| format!("{slug}.localhost"));
        let request = self.client.post(format!("http://127.0.0.1:{port}{path}")).header("host", host);
        let sent = request.bearer_auth(&self.token).json(body).send().await;
        let (answer, text) = match sent {
            // What was cut off in the middle of its answer was acknowledged none the less.
            Ok(answer) => (answer.status().as_u16(), answer.text().await.unwrap_or_default()),
            // It was killed, or is not there again yet.
            Err(_) => (0, String::new()),
        };
        *self.told.statuses.entry(answer).or_default() += 1;
        assert!(matches!(answer, 0 | 201 | 503), "{path}: {answer} {text}");
        if answer != 201 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        answer == 201
    }

    async fn write(mut self, over: Arc<AtomicBool>) -> Told {
        for number in 0.. {
            if over.load(Ordering::Relaxed) {
                break;
            }
            let (slug, name) = (self.slug, format!("w{}n{number}", self.number));
            if number % SIGNS_UP == SIGNS_UP - 1 {
                let body = json!({"organization": name, "slug": name, "username": "ada", "password": PASSWORD,
                    "email": format!("ada@{name}.example")});
                let is_told = self.post(None, "/api/sign_up/tenant/", &body).await;
                self.told.organizations.insert(name, is_told);
            } else if number % INVITES == 0 {
                let email = format!("{name}@{slug}.example");
                let body = json!({"email": email, "role": "member"});
                let is_told = self.post(Some(slug), "/api/invitations/", &body).await;
                self.told.invitations.insert(email, is_told);
            } else {
                let (path, text) = (format!("/api/users/{}/comments/", self.user), format!("{slug} {name}"));
                let is_told = self.post(Some(slug), &path, &json!({"body": text})).await;
                self.told.comments.insert(text, is_told);
            }
        }
        self.told
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_there_after_kills_at_random_moments() {
    let permissions = Permissions::from_mode(0o711);
    let directory =
        tempfile::Builder::new().prefix("tenantry-test-").permissions(permissions).tempdir().unwrap();
    let options = embedded::Options {
        durability: Durability::Relaxed,
        max_connections: 100,
        ..embedded::Options::new(directory.path().join("data"))
    };
    let cluster = Cluster::start(&options).await.unwrap();
    let mut superuser = superuser_of(&cluster.superuser_url("postgres")).await;
    superuser.execute("CREATE ROLE ann LOGIN CREATEROLE PASSWORD 'secret'").await.unwrap();
    superuser.execute("CREATE DATABASE own OWNER ann").await.unwrap();
    let mails = SmtpServer::start().await;
    let place = Workplace::new()
        .with("TENANTRY_DATABASE_URL", cluster.url("ann", &"secret".into(), "own").expose_secret())
        .with("TENANTRY_MASTER_KEY", MASTER_KEY)
        .with("TENANTRY_PUBLIC_URL", PUBLIC_URL)
        .with("TENANTRY_SMTP_URL", mails.url("", ""))
        .with("TENANTRY_MAIL_FROM", "service@localhost")
        .with("TENANTRY_RATE_LIMITS", "off");
    place.run("migrate").ok();

    let mut processes = [place.serve(), place.serve()];
    let ports = Arc::new(RwLock::new([processes[0].port(), processes[1].port()]));
    let over = Arc::<AtomicBool>::default();
    let mut writers = Vec::new();
    for (number, slug) in ["alpha", "beta"].into_iter().cycle().take(WRITERS).enumerate() {
        let (user, token) = somebody(&processes[0], slug, number < 2).await;
        let (client, ports) = (http_client(), Arc::clone(&ports));
        writers.push(Writer { client, number, slug, user, token, ports, told: Told::default() });
    }
    let mut database = superuser_of(&cluster.superuser_url("own")).await;
    verify_owners(&mut database).await;
    let writers: Vec<_> =
        writers.into_iter().map(|writer| tokio::spawn(writer.write(Arc::clone(&over)))).collect();
    let mut back = Vec::new();
    for kill in 0..KILLS {
        tokio::time::sleep(Duration::from_millis(rand::random_range(200..700))).await;
        let killed = std::mem::replace(&mut processes[kill % 2], {
            // Another one in its place, before the first is gone: nobody waits longer than for its own request.
            let started = Instant::now();
            let process = place.serve();
            back.push(started.elapsed());
            process
        });
        killed.kill();
        ports.write().unwrap()[kill % 2] = processes[kill % 2].port();
    }
    over.store(true, Ordering::Relaxed);
    let mut told = Told::default();
    for writer in writers {
        told.add(writer.await.unwrap());
    }
    assert_written(&mut database, &told).await;
    assert_signed_up(&processes[0], &told).await;
    let twice = assert_mailed(&mut database, &mails, &told).await;
    let report = place.run("doctor --json");
    let report: Value = serde_json::from_str(&report.stdout).unwrap();
    assert_eq!(report["problems"], 0, "{report:#}");
    say(&format!(
        "faults | kill -9 of {KILLS} of two processes | {} requests | {:?} by status (0: no answer) | {} acknowledged, 0 \
         lost | {} in doubt | {twice} mails twice | another process in {:?} at most",
        told.requests,
        told.statuses,
        told.known(true),
        told.known(false),
        back.iter().max().unwrap()
    ));
    for process in processes {
        assert_eq!(process.terminate(), Some(0));
    }
}

/// The owner of an organization, which is made if it is new.
async fn somebody(serve: &Serve, slug: &str, is_new: bool) -> (String, String) {
    let email = format!("owner@{slug}.example");
    if is_new {
        let body = json!({"organization": slug, "slug": slug, "username": "owner", "email": email, "password": PASSWORD});
        serve.service("POST", "/api/sign_up/tenant/").json(&body).expect(201).await;
    }
    let login = json!({"email": email, "password": PASSWORD});
    let answer = serve.request(slug, "POST", "/api/login/").json(&login).expect(200).await;
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    (text(&answer["user"]["pk"]), text(&answer["token"]))
}

/// Only who has a verified owner may invite as many as are invited here.
async fn verify_owners(database: &mut PgConnection) {
    for row in database.fetch_all("SELECT schema_name FROM tenantry.tenants").await.unwrap() {
        let schema: String = row.get(0);
        let verify = format!(r#"UPDATE "{schema}".users SET email_verified_at = now()"#);
        database.execute(AssertSqlSafe(verify)).await.unwrap();
    }
}

impl Told {
    fn add(&mut self, other: Self) {
        self.requests += other.requests;
        for (status, count) in other.statuses {
            *self.statuses.entry(status).or_default() += count;
        }
        self.comments.extend(other.comments);
        self.invitations.extend(other.invitations);
        self.organizations.extend(other.organizations);
    }

    /// How many writes were acknowledged, or were not.
    fn known(&self, acknowledged: bool) -> usize {
        let all = [&self.comments, &self.invitations, &self.organizations];
        all.into_iter().flat_map(HashMap::values).filter(|told| **told == acknowledged).count()
    }
}

/// Each acknowledged comment is there once, in its own organization; one in doubt once or not at all, with all that it
/// counts; and there is nothing else.
async fn assert_written(database: &mut PgConnection, told: &Told) {
    let mut there: HashMap<String, usize> = HashMap::new();
    let tenants = database.fetch_all("SELECT slug, schema_name FROM tenantry.tenants").await.unwrap();
    for tenant in &tenants {
        let (slug, schema): (String, String) = (tenant.get(0), tenant.get(1));
        let select = format!(r#"SELECT body FROM "{schema}".comments"#);
        for row in database.fetch_all(AssertSqlSafe(select)).await.unwrap() {
            let body: String = row.get(0);
            assert!(body.starts_with(&format!("{slug} ")), "{slug} has {body}");
            *there.entry(body).or_default() += 1;
        }
        assert_eq!(wrong_counts(database, &schema).await, [""; 0], "{slug}");
    }
    for (body, acknowledged) in &told.comments {
        let times = there.remove(body).unwrap_or(0);
        assert!(times == 1 || times == 0 && !acknowledged, "{body} is there {times} times");
    }
    assert!(there.is_empty(), "nobody wrote {there:?}");
    assert!(told.comments.values().any(|told| *told));
}

/// Each organization that was acknowledged is there, and its owner can log in; one in doubt is there as a whole or not at
/// all.
async fn assert_signed_up(serve: &Serve, told: &Told) {
    for (slug, acknowledged) in &told.organizations {
        let login = json!({"username": "ada", "password": PASSWORD});
        let answer = serve.request(slug, "POST", "/api/login/").json(&login).send().await;
        let code = answer.json()["code"].clone();
        let is_there = answer.status == 200;
        assert!(is_there || (code == "tenant_not_found" && !acknowledged), "{slug}: {}", answer.text);
    }
}

/// Each invitation that was acknowledged is mailed; what a process was at when it was killed, another one does when its
/// lease has run out, which is now. How many went out twice: a process may be killed between the server's answer and the
/// note of it.
async fn assert_mailed(database: &mut PgConnection, mails: &SmtpServer, told: &Told) -> usize {
    database
        .execute("UPDATE tenantry.jobs SET leased_until = now() WHERE leased_until > now()")
        .await
        .unwrap();
    let open = "SELECT count(*) FROM tenantry.jobs WHERE kind = 'mail' AND status IN ('queued', 'running')";
    let mut open_jobs = async || database.fetch_one(open).await.unwrap().get::<i64, _>(0);
    eventually("all mails have gone out", async || open_jobs().await == 0).await;
    let mut times: HashMap<String, usize> = HashMap::new();
    for recipient in mails.recipients() {
        *times.entry(recipient).or_default() += 1;
    }
    for (email, acknowledged) in &told.invitations {
        assert!(!acknowledged || times.contains_key(email), "{email} got nothing");
    }
    let twice = times.values().filter(|times| **times > 1).count();
    // No more than were under way in a process when it was killed.
    assert!(twice <= KILLS * 8, "{twice} mails went out more than once");
    twice
}
