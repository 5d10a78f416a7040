//! Notifications as they come: each once, in order, to whom they belong, and for as long as he may see them.

use std::{collections::HashSet, time::Duration};

use serde_json::json;
use sqlx::{AssertSqlSafe, Executor as _, Row as _, postgres::PgListener};
use tenantry::{
    entity::users::Role,
    notifications::{self, Event, Kind},
    references::Reference,
    streams::StreamOptions,
};
use tenants::TenantTx;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpSocket,
    task::JoinSet,
    time::{Instant, timeout},
};
use uuid::Uuid;

use crate::support::{
    EventStream, Frame, Options, Organization, PASSWORD, Person, TestApp, User, eventually,
};

const PATH: &str = "/api/notifications/stream/";
/// Longer than a heartbeat may be away, so that what comes within it did not wait for one.
const NO_HEARTBEAT: StreamOptions = StreamOptions {
    heartbeat: Duration::from_mins(10),
    patience: Duration::from_secs(30),
    most: 1_000,
    most_of_user: 100,
};

async fn without_heartbeats() -> TestApp {
    TestApp::with(options(NO_HEARTBEAT)).await
}

fn options(streams: StreamOptions) -> Options {
    Options { streams, ..Options::default() }
}

fn with_heartbeat(heartbeat: Duration) -> Options {
    options(StreamOptions { heartbeat, ..NO_HEARTBEAT })
}

/// Two processes on one database that hear of each other.
async fn two_processes() -> (TestApp, TestApp) {
    let app = without_heartbeats().await;
    let other = app.beside_with(options(NO_HEARTBEAT)).await;
    for app in [&app, &other] {
        eventually("it listens", async || app.app.tenancy.signals().is_listening()).await;
    }
    (app, other)
}

/// Tells a user of something in this transaction, and says of which event.
async fn tell_in(app: &TestApp, tx: &TenantTx, user: &User, actor: Option<&User>) -> Uuid {
    let id = Uuid::new_v4();
    let object = Reference::user(user.pk.parse().unwrap());
    let event = Event { id, actor: actor.map(|actor| actor.pk.parse().unwrap()), object };
    notifications::notify(&app.app, tx, &event, &[(user.pk.parse().unwrap(), Kind::RoleChanged)])
        .await
        .unwrap();
    id
}

/// Tells a user of something.
async fn tell(app: &TestApp, organization: &Organization, user: &User) {
    let tx = organization.db(app).await.begin().await.unwrap();
    tell_in(app, &tx, user, None).await;
    tx.commit().await.unwrap();
}

async fn resume(user: &User, last: i64) -> EventStream {
    user.request("GET", PATH).header("last-event-id", &last.to_string()).open().await
}

/// A stream that has begun.
async fn open(user: &User) -> EventStream {
    let mut stream = user.request("GET", PATH).open().await;
    stream.comment("welcome").await;
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_committed_is_told_at_once_and_nothing_else() {
    let app = without_heartbeats().await;
    let acme = app.sign_up("acme").await;
    let ann = acme.add_user(&app, Person { first_name: "Ann", ..Person::named("ann") }).await;
    tell(&app, &acme, &acme.owner).await;
    let mut stream = acme.owner.request("GET", PATH).open().await;
    for (name, value) in [
        ("content-type", "text/event-stream"),
        ("cache-control", "no-store, no-transform"),
        ("x-accel-buffering", "no"),
        ("transfer-encoding", "chunked"),
    ] {
        assert_eq!(stream.headers[name], value, "{name}");
    }
    assert!(!stream.headers.contains_key("etag"));
    // Nothing has happened yet, and the client hears that it is connected.
    stream.comment("welcome").await;
    match stream.frame().await {
        Some(Frame::Retry(millis)) => assert!((2_000..=5_000).contains(&millis), "{millis}"),
        other => panic!("{other:?}"),
    }

    let db = acme.db(&app).await;
    let undone = db.begin().await.unwrap();
    tell_in(&app, &undone, &acme.owner, None).await;
    drop(undone);
    let tx = db.begin().await.unwrap();
    tell_in(&app, &tx, &acme.owner, Some(&ann)).await;
    tx.commit().await.unwrap();
    let event = stream.next().await.unwrap();
    assert_eq!((event.id, event.name.as_str()), (2, "notification"));
    let (id, created_at) = (&event.data["id"], &event.data["created_at"]);
    assert_eq!(
        event.data,
        json!({
            "id": id, "kind": "role_changed",
            "actor": {"pk": ann.pk, "username": "ann", "first_name": "Ann", "last_name": ""},
            "object": {"type": "user", "id": acme.owner.pk, "display": "acme-owner"},
            "text": event.data["text"], "read_at": null, "created_at": created_at,
        })
    );
    assert!(created_at.as_str().unwrap().ends_with('Z'), "{created_at}");
    let sql = format!(r#"SELECT id::text FROM "{}".notifications WHERE number = 2"#, acme.schema());
    let row = app.superuser().await.fetch_one(AssertSqlSafe(sql)).await.unwrap();
    assert_eq!(*id, row.get::<String, _>(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_comes_again_misses_nothing_and_gets_nothing_twice_while_eight_write() {
    const WRITERS: usize = 8;
    const EACH: usize = 25;
    let app = without_heartbeats().await;
    let acme = app.sign_up("acme").await;
    let mut writers = JoinSet::new();
    for _ in 0..WRITERS {
        let (service, db) = (app.app.clone(), acme.db(&app).await);
        let user: Uuid = acme.owner.pk.parse().unwrap();
        writers.spawn(async move {
            for _ in 0..EACH {
                let tx = db.begin().await.unwrap();
                let event = Event { id: Uuid::new_v4(), actor: None, object: Reference::user(user) };
                notifications::notify(&service, &tx, &event, &[(user, Kind::NewDevice)]).await.unwrap();
                tx.commit().await.unwrap();
            }
        });
    }
    let all = i64::try_from(WRITERS * EACH).unwrap();
    let (mut last, mut ids) = (0, HashSet::new());
    // Each time it hangs up in the middle of what comes.
    for most in [1, 2, 3, 5, 17, 40].into_iter().cycle() {
        let mut stream = resume(&acme.owner, last).await;
        for _ in 0..most {
            let event = stream.next().await.unwrap();
            assert_eq!(event.id, last + 1, "numbers come without a gap, each once");
            assert!(ids.insert(event.data["id"].to_string()));
            last = event.id;
            if last == all {
                break;
            }
        }
        if last == all {
            break;
        }
    }
    writers.join_all().await;
    let mut stream = resume(&acme.owner, last).await;
    tell(&app, &acme, &acme.owner).await;
    assert_eq!(stream.number().await, all + 1, "there was nothing more");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_last_event_id_is_a_number_that_was_given() {
    let app = without_heartbeats().await;
    let acme = app.sign_up("acme").await;
    for _ in 0..4 {
        tell(&app, &acme, &acme.owner).await;
    }
    for wrong in ["x", "-1", "1.5", "9223372036854775808", "1,2"] {
        let answer = acme.owner.request("GET", PATH).header("last-event-id", wrong).send().await;
        assert_eq!(answer.said(), (400, "invalid".into()), "{wrong}");
        assert_eq!(answer.json()["Last-Event-ID"], json!(["A valid integer is required."]));
    }
    let delete = format!(r#"DELETE FROM "{}".notifications WHERE number = 3"#, acme.schema());
    app.superuser().await.execute(AssertSqlSafe(delete)).await.unwrap();
    let mut some = resume(&acme.owner, 1).await;
    assert_eq!([some.number().await, some.number().await], [2, 4], "what is deleted is left out");
    // One of before a restore. Waiting for it would miss all that comes until then.
    let mut never_given = resume(&acme.owner, i64::MAX).await;
    never_given.comment("welcome").await;
    let mut now = open(&acme.owner).await;
    tell(&app, &acme, &acme.owner).await;
    assert_eq!([never_given.number().await, now.number().await, some.number().await], [5, 5, 5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_on_one_process_is_told_on_the_other() {
    let (app, other) = two_processes().await;
    let acme = app.sign_up("acme").await;
    let mut here = open(&acme.owner).await;
    let mut there = open(&acme.owner.at(&other)).await;
    for number in 1..=20 {
        let writer = if number % 2 == 0 { &app } else { &other };
        tell(writer, &acme, &acme.owner).await;
        assert_eq!([here.number().await, there.number().await], [number, number]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_told_what_somebody_else_is() {
    let app = TestApp::with(with_heartbeat(Duration::from_millis(200))).await;
    let (acme, beta) = (app.sign_up("acme").await, app.sign_up("beta").await);
    let ann = acme.add_user(&app, Person::named("ann")).await;
    // The same user in the other organization, as after a restore: only the schema tells them apart.
    let copy = format!(
        r#"INSERT INTO "{}".users SELECT * FROM "{}".users WHERE pk = '{}'"#,
        beta.schema(),
        acme.schema(),
        ann.pk
    );
    app.superuser().await.execute(AssertSqlSafe(copy)).await.unwrap();
    let mut of_ann = resume(&ann, 0).await;
    let mut of_owner = resume(&acme.owner, 0).await;
    let mut of_beta = resume(&beta.owner, 0).await;
    tell(&app, &beta, &ann).await;
    tell(&app, &acme, &ann).await;
    let event = of_ann.next().await.unwrap();
    assert_eq!((event.id, &event.data["object"]["id"]), (1, &json!(ann.pk)));
    // They have looked again by now.
    for stream in [&mut of_ann, &mut of_owner, &mut of_beta] {
        for _ in 0..2 {
            stream.comment("heartbeat").await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_ends_with_its_session_at_once_on_every_process() {
    let (app, other) = two_processes().await;
    let acme = app.sign_up("acme").await;
    let both = async |user: &User| (open(user).await, open(&user.at(&other)).await);
    let ended = async |mut streams: (EventStream, EventStream), what: &str| {
        let ends = async { tokio::join!(streams.0.ends(), streams.1.ends()) };
        timeout(Duration::from_secs(10), ends).await.unwrap_or_else(|_| panic!("late: {what}"));
    };
    let mut stays = both(&acme.owner).await;

    let phone = acme.sign_in(&app).await;
    let streams = both(&phone).await;
    phone.request("POST", "/api/logout/").expect(200).await;
    ended(streams, "logout").await;

    let phone = acme.sign_in(&app).await;
    let streams = both(&phone).await;
    let sessions = phone.get("/api/sessions/").await;
    let current = sessions["results"].as_array().unwrap().iter().find(|session| session["current"] == true);
    let path = format!("/api/sessions/{}/", current.unwrap()["id"].as_str().unwrap());
    acme.owner.request("DELETE", &path).expect(204).await;
    ended(streams, "the end of a session").await;

    let phone = acme.sign_in(&app).await;
    let streams = both(&phone).await;
    let rotated = phone.refresh().expect(200).await;
    phone.with(&rotated).refresh().expect(200).await;
    phone.refresh().expect(401).await;
    ended(streams, "a refresh token used twice").await;

    let phone = acme.sign_in(&app).await;
    let streams = both(&phone).await;
    let body = json!({"old_password": PASSWORD, "new_password": "another horse battery"});
    acme.owner.request("POST", "/api/password/change/").json(&body).expect(200).await;
    ended(streams, "a change of the password").await;

    let ann = acme.add_user(&app, Person { role: Role::Admin, ..Person::named("ann") }).await;
    let streams = both(&ann).await;
    let path = format!("/api/users/{}/", ann.pk);
    acme.owner.request("PATCH", &path).json(&json!({"is_active": false})).expect(200).await;
    ended(streams, "deactivation").await;

    let bob = acme.add_user(&app, Person::named("bob")).await;
    let streams = both(&bob).await;
    acme.owner.request("DELETE", &format!("/api/users/{}/", bob.pk)).expect(204).await;
    ended(streams, "removal").await;

    let again = both(&acme.owner).await;
    tell(&app, &acme, &acme.owner).await;
    assert_eq!([stays.0.number().await, stays.1.number().await], [1, 1], "the others go on");
    let body = json!({"everywhere": true});
    acme.owner.request("POST", "/api/logout/").json(&body).expect(200).await;
    ended(stays, "logout everywhere").await;
    let (mut here, mut there) = again;
    assert_eq!([here.number().await, there.number().await], [1, 1]);
    ended((here, there), "logout everywhere, of another stream").await;
    eventually("nothing is left", async || app.app.streams.count() + other.app.streams.count() == 0).await;
    assert_eq!(app.app.tenancy.live().watchers() + other.app.tenancy.live().watchers(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_ends_when_the_organization_is_suspended_or_closed_on_every_process() {
    let (app, other) = two_processes().await;
    let (acme, beta) = (app.sign_up("acme").await, app.sign_up("beta").await);
    let mut acmes = [open(&acme.owner).await, open(&acme.owner.at(&other)).await];
    let mut betas = [open(&beta.owner).await, open(&beta.owner.at(&other)).await];
    app.app.tenancy.set_suspended(&acme.slug.parse().unwrap(), true).await.unwrap();
    for stream in &mut acmes {
        stream.ends().await;
    }
    let answer = acme.owner.request("GET", PATH).send().await;
    assert_eq!(answer.said(), (403, "tenant_suspended".into()));
    app.app.tenancy.set_suspended(&acme.slug.parse().unwrap(), false).await.unwrap();
    let mut resumed = open(&acme.owner).await;
    tell(&other, &acme, &acme.owner).await;
    assert_eq!(resumed.number().await, 1, "after it, sessions go on");

    tell(&app, &beta, &beta.owner).await;
    for stream in &mut betas {
        assert_eq!(stream.number().await, 1, "the other organization goes on");
    }
    beta.owner.request("DELETE", "/api/tenant/").json(&json!({"password": PASSWORD})).expect(204).await;
    for stream in &mut betas {
        stream.ends().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_outlives_the_token_and_not_the_session() {
    let app = TestApp::with(with_heartbeat(Duration::from_millis(100))).await;
    let acme = app.sign_up("acme").await;
    let mut stream = open(&acme.owner).await;
    app.clock.advance(Duration::from_hours(1));
    assert_eq!(acme.owner.me().await.said(), (401, "token_not_valid".into()));
    stream.comment("heartbeat").await;
    tell(&app, &acme, &acme.owner).await;
    assert_eq!(stream.number().await, 1);
    app.clock.advance(Duration::from_hours(30 * 24));
    // Nothing tells of it: it is found out at a heartbeat.
    stream.ends().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_heartbeat_comes_now_and_then_and_finds_what_nobody_told_of() {
    let app = TestApp::with(with_heartbeat(Duration::from_millis(100))).await;
    let acme = app.sign_up("acme").await;
    let mut stream = open(&acme.owner).await;
    let started = Instant::now();
    for _ in 0..5 {
        stream.comment("heartbeat").await;
    }
    assert!(started.elapsed() >= Duration::from_millis(450), "{:?}", started.elapsed());
    // Written by a process that tells nobody.
    let mute = app.beside_with(Options { listens: false, ..options(NO_HEARTBEAT) }).await;
    tell(&mute, &acme, &acme.owner).await;
    assert_eq!(stream.number().await, 1);
}

/// Ends the connections of this kind, and says how many there were.
async fn cut(app: &TestApp, name: &str) -> i64 {
    let sql = format!(
        "SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity \
         WHERE datname = current_database() AND application_name = 'tenantry {name}'"
    );
    app.superuser().await.fetch_one(AssertSqlSafe(sql)).await.unwrap().get(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn it_survives_the_loss_of_the_connections_that_listen_and_announce() {
    let (app, other) = two_processes().await;
    let acme = app.sign_up("acme").await;
    let mut stream = open(&acme.owner.at(&other)).await;
    tell(&app, &acme, &acme.owner).await;
    assert_eq!(stream.number().await, 1);
    for number in [2, 4, 6] {
        assert_eq!(cut(&app, "listener").await, 2);
        // Perhaps while nobody hears of it.
        tell(&app, &acme, &acme.owner).await;
        assert_eq!(stream.number().await, number);
        eventually("it listens", async || other.app.tenancy.signals().is_listening()).await;
        assert_eq!(cut(&app, "announcer").await, 1);
        tell(&app, &acme, &acme.owner).await;
        assert_eq!(stream.number().await, number + 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_sense_wakes_nobody_and_what_is_forged_shows_nothing() {
    let app = without_heartbeats().await;
    let acme = app.sign_up("acme").await;
    eventually("it listens", async || app.app.tenancy.signals().is_listening()).await;
    let mut stream = open(&acme.owner).await;
    let (tenant, user, nobody) = (&acme.id, &acme.owner.pk, Uuid::nil());
    for payload in [
        "wake".to_owned(),
        "wake *".to_owned(),
        format!("wake {nobody} {tenant}"),
        format!("wake {nobody} {tenant}/{user}"),
        format!("wake {nobody} {nobody}/{nobody}"),
        format!("wake {nobody} *"),
    ] {
        app.superuser().await.execute(AssertSqlSafe(format!("NOTIFY tenantry, '{payload}'"))).await.unwrap();
    }
    tell(&app, &acme, &acme.owner).await;
    assert_eq!(stream.number().await, 1);
    assert!(app.app.tenancy.signals().is_listening());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_of_writes_makes_few_announcements() {
    const WRITES: u32 = 100;
    let app = without_heartbeats().await;
    let acme = app.sign_up("acme").await;
    let mut people = vec![acme.owner.clone()];
    for name in ["ann", "bob", "cid"] {
        people.push(acme.add_user(&app, Person::named(name)).await);
    }
    let url = secrecy::ExposeSecret::expose_secret(app.superuser_url());
    let mut listener = PgListener::connect(url).await.unwrap();
    listener.listen("tenantry").await.unwrap();
    let started = Instant::now();
    for n in 0..WRITES {
        let user = &people[n as usize % people.len()];
        tell(&app, &acme, user).await;
    }
    let took = started.elapsed();
    app.superuser().await.execute("NOTIFY tenantry, 'end'").await.unwrap();
    let (mut announcements, mut named) = (0, HashSet::new());
    let everybody: HashSet<&str> = people.iter().map(|user| user.pk.as_str()).collect();
    // The last ones may come after the end.
    let mut ended = false;
    while !ended || named.len() < everybody.len() {
        let heard = timeout(Duration::from_secs(10), listener.recv()).await.unwrap().unwrap();
        ended |= heard.payload() == "end";
        if heard.payload().starts_with("wake ") {
            announcements += 1;
            let is_named = |user: &&User| heard.payload().contains(&user.pk.replace('-', ""));
            named.extend(people.iter().filter(is_named).map(|user| user.pk.as_str()));
        }
    }
    assert_eq!(named, everybody);
    let most = took.as_millis() / 50 + 2;
    assert!(announcements <= most, "{announcements} announcements in {took:?}");
    assert!(announcements < u128::from(WRITES), "one for each write");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_user_has_so_many_and_a_process_so_many() {
    let streams = StreamOptions { most: 3, most_of_user: 2, ..NO_HEARTBEAT };
    let app = TestApp::with(options(streams)).await;
    let acme = app.sign_up("acme").await;
    let ann = acme.add_user(&app, Person::named("ann")).await;
    let first = open(&acme.owner).await;
    let _second = open(&acme.owner).await;
    let refused = acme.owner.request("GET", PATH).send().await;
    assert_eq!((refused.said(), refused.header("retry-after")), ((429, "throttled".into()), "30"));
    let _third = open(&ann).await;
    let refused = ann.request("GET", PATH).send().await;
    assert_eq!((refused.said(), refused.header("retry-after")), ((503, "service_unavailable".into()), "30"));
    drop(first);
    eventually("one is given back", async || app.app.streams.count() == 2).await;
    open(&ann).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn head_tells_what_get_would_and_keeps_nothing() {
    let app = without_heartbeats().await;
    let acme = app.sign_up("acme").await;
    let answer = acme.owner.request("HEAD", PATH).send().await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "text/event-stream"));
    assert_eq!((answer.header("x-accel-buffering"), answer.text.as_str()), ("no", ""));
    eventually("it is given back", async || app.app.streams.count() == 0).await;
    assert_eq!(app.app.tenancy.live().watchers(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_ends_in_order_when_the_process_stops() {
    let app = without_heartbeats().await;
    let acme = app.sign_up("acme").await;
    let mut streams = Vec::new();
    for _ in 0..10 {
        streams.push(open(&acme.owner).await);
    }
    drop(app);
    for stream in &mut streams {
        stream.ends().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_is_dropped_and_little_is_kept_for_him() {
    const ROWS: i64 = 400;
    const LENGTH: i64 = 100_000;
    let streams = StreamOptions { patience: Duration::from_millis(500), ..NO_HEARTBEAT };
    let app = TestApp::with(options(streams)).await;
    let acme = app.sign_up("acme").await;
    let (schema, user) = (acme.schema(), &acme.owner.pk);
    // More than all buffers on the way hold together.
    let fill = format!(
        "INSERT INTO \"{schema}\".notifications (id, user_pk, number, event, kind, object_type, object_text, created_at)
         SELECT gen_random_uuid(), '{user}', n, gen_random_uuid(), 'new_device', 'session', repeat('x', {LENGTH}), now()
         FROM generate_series(1, {ROWS}) n;
         INSERT INTO \"{schema}\".lists (kind, owner, numbered, numbered_at) VALUES ('inbox', '{user}', {ROWS}, now())"
    );
    sqlx::raw_sql(AssertSqlSafe(fill)).execute(&mut app.superuser().await).await.unwrap();
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let mut wire = socket.connect(app.address).await.unwrap();
    let request = format!(
        "GET {PATH} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nLast-Event-ID: 0\r\n\r\n",
        acme.host(&app),
        acme.owner.token
    );
    wire.write_all(request.as_bytes()).await.unwrap();
    eventually("it is there", async || app.app.streams.count() == 1).await;
    // Nothing is read from here on.
    eventually("it is dropped", async || app.app.streams.count() == 0).await;
    let mut rest = Vec::new();
    // The connection may be reset, which is an end, too.
    wire.read_to_end(&mut rest).await.ok();
    assert!(rest.starts_with(b"HTTP/1.1 200 OK"), "{}", rest.len());
    assert!(i64::try_from(rest.len()).unwrap() < ROWS * LENGTH / 2, "all was sent: {}", rest.len());
    // Who reads gets it all; from a service that gives him time, for this machine may be slower than its patience is long.
    let patient = app.beside_with(options(NO_HEARTBEAT)).await;
    let mut stream = resume(&acme.owner.at(&patient), 0).await;
    for number in 1..=ROWS {
        assert_eq!(stream.number().await, number);
    }
}
