//! Migrations of all tenants: canaries, waves, failures, and what goes on meanwhile.

use migration::sea_orm_migration::{
    self, MigrationTrait, SchemaManager, async_trait, sea_orm::DbErr, sea_query,
};
use sea_query::{Alias, ColumnDef, Table};
use sqlx::{AssertSqlSafe, Executor as _, Row as _};
use tenantry::{audit::Actor, fleet, fleet::FleetError};
use tenants::{Canaries, Figures, Run, RunPlan, RunRefused, StopAfter, Tenancy};
use tokio::sync::watch;

use crate::support::{Fleet, Statements, TestApp, eventually, hasty, work};

fn no_canaries() -> RunPlan {
    RunPlan { canaries: Canaries::Count(0), parallel: 1, ..RunPlan::default() }
}

fn figures(run: &Run) -> (&str, i64, i64, i64, i64) {
    (run.status.as_str(), run.done, run.failed, run.skipped, run.pending())
}

fn named(status: &str, slugs: &[&str]) -> Vec<(String, String)> {
    slugs.iter().map(|slug| ((*slug).to_owned(), status.to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_migrates_everybody_who_is_behind_and_says_what_became_of_each() {
    let mut fleet = Fleet::behind(5).await;
    let tenancy = fleet.app.app.tenancy.clone();
    // Both can be back at any moment, and have to be what the program expects then.
    tenancy.set_suspended(&"t-1".parse().unwrap(), true).await.unwrap();
    fleet
        .run_sql(
            "UPDATE tenantry.tenants SET status = 'deleting', closed_at = now() WHERE slug = 't-2'".into(),
        )
        .await;
    fleet.make("new-one").await;

    let plan = RunPlan { canaries: Canaries::Count(2), wave: Some(2), ..RunPlan::default() };
    let run = fleet.migrate(&plan).await;
    assert_eq!(figures(&run), ("succeeded", 5, 0, 0, 0));
    assert_eq!((run.total, run.canaries, run.wave_size, run.target), (5, 2, Some(2), 4));
    assert_eq!((run.actor.as_str(), run.process), ("command line", i64::from(std::process::id())));
    let items = fleet.items(run.id).await;
    let turns: Vec<_> = items.iter().map(|item| (item.tenant_slug.as_str(), item.wave)).collect();
    // The youngest are the canaries; the others follow in their age.
    assert_eq!(turns, [("t-3", 0), ("t-4", 0), ("t-0", 1), ("t-1", 1), ("t-2", 2)]);
    for item in &items {
        assert_eq!((item.status.as_str(), item.attempts, item.error.as_deref()), ("done", 1, None));
        assert_eq!((item.from_version, item.to_version), (3, 4));
        assert!(item.duration_ms.is_some_and(|ms| ms > 0.0), "{item:?}");
    }
    assert_eq!(fleet.migrated().await.len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_nobody_behind_it_costs_one_query() {
    let app = TestApp::start().await;
    let statements = Statements::of(&app, &app.sign_up("acme").await).await;
    let process = app.beside().await;
    // A connection's first statement is not alone.
    process.app.tenancy.ping().await.unwrap();
    let mark = statements.mark();
    let refused =
        fleet::start(&process.app.tenancy, &app.clock, &RunPlan::default(), &Actor::command_line()).await;
    assert!(matches!(refused, Err(FleetError::UpToDate)), "{refused:?}");
    let executed = statements.executed_since(mark);
    assert_eq!(executed.len(), 1, "{executed:#?}");
    assert!(executed[0].contains("count(*)") && executed[0].contains("schema_version <"), "{executed:?}");

    let mark = statements.mark();
    fleet::start_if_untried(&process.app.tenancy, &app.clock).await.unwrap();
    assert_eq!(statements.executed_since(mark).len(), 1);
    assert_eq!(app.app.tenancy.count_runs().await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn those_that_fail_stay_as_they_were_and_are_retried_alone_once_they_are_mended() {
    let mut fleet = Fleet::behind(7).await;
    let broken = ["t-1", "t-3", "t-5"];
    for slug in broken {
        fleet.obstruct(slug).await;
    }
    let run = fleet.migrate(&RunPlan::default()).await;
    assert_eq!(figures(&run), ("failed", 4, 3, 0, 0));
    for item in fleet.items(run.id).await {
        let fails = broken.contains(&item.tenant_slug.as_str());
        let error = fails.then_some("PostgreSQL refused: relation \"audit\" already exists");
        assert_eq!(item.error.as_deref(), error, "{}", item.tenant_slug);
        assert_eq!(item.status, if fails { "failed" } else { "done" });
    }
    assert_eq!(fleet.migrated().await, ["t-0", "t-2", "t-4", "t-6"]);
    // What waits for an operator is not tried at each start.
    fleet::start_if_untried(&fleet.app.app.tenancy, &fleet.app.clock).await.unwrap();
    assert_eq!(fleet.app.app.tenancy.count_runs().await.unwrap(), 1);
    assert!(matches!(fleet.resume().await, Err(FleetError::Refused(RunRefused::NothingPending(_)))));

    fleet.mend("t-1").await;
    fleet.mend("t-5").await;
    // Behind, but not of those that failed.
    fleet.bring_back(Some("t-0")).await;
    let run = work(fleet.retry().await.unwrap()).await;
    assert_eq!(figures(&run), ("failed", 6, 1, 0, 0));
    fleet.mend("t-3").await;
    let run = work(fleet.retry().await.unwrap()).await;
    assert_eq!(figures(&run), ("succeeded", 7, 0, 0, 0));
    let attempts: Vec<_> = fleet.items(run.id).await.into_iter().map(|item| item.attempts).collect();
    assert_eq!(attempts, [1, 1, 2, 1, 3, 1, 2], "the canary t-6 first, then t-0 to t-5");
    assert_eq!(fleet.migrated().await, ["t-1", "t-2", "t-3", "t-4", "t-5", "t-6"]);
    assert!(matches!(fleet.retry().await, Err(FleetError::Refused(RunRefused::NothingFailed))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_that_fails_keeps_everybody_else_from_being_touched() {
    let mut fleet = Fleet::behind(4).await;
    fleet.obstruct("t-1").await;
    let unknown = RunPlan { canaries: "t-1,nobody".parse().unwrap(), ..RunPlan::default() };
    let refused = fleet.start(&unknown).await;
    assert!(matches!(&refused, Err(FleetError::NoSuchTenant(slug)) if slug == "nobody"), "{refused:?}");

    let plan = RunPlan { canaries: "t-1".parse().unwrap(), ..RunPlan::default() };
    let run = fleet.migrate(&plan).await;
    assert_eq!(figures(&run), ("stopped", 0, 1, 0, 3));
    assert_eq!(run.reason.as_deref(), Some("the canary t-1 failed"));
    assert_eq!(
        fleet.statuses(run.id).await,
        [named("failed", &["t-1"]), named("pending", &["t-0", "t-2", "t-3"])].concat()
    );
    assert_eq!(fleet.migrated().await, [""; 0]);

    // Tried again, only the canary is; then the others follow.
    fleet.mend("t-1").await;
    let run = work(fleet.retry().await.unwrap()).await;
    assert_eq!(figures(&run), ("stopped", 1, 0, 0, 3));
    assert_eq!(fleet.migrated().await, ["t-1"]);
    assert_eq!(figures(&work(fleet.resume().await.unwrap()).await), ("succeeded", 4, 0, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn so_many_failures_leave_the_others_alone() {
    let mut fleet = Fleet::behind(8).await;
    for slug in ["t-1", "t-2", "t-5"] {
        fleet.obstruct(slug).await;
    }
    let plan = RunPlan { stop_after: StopAfter::Failures(2), ..no_canaries() };
    let run = fleet.migrate(&plan).await;
    assert_eq!(figures(&run), ("stopped", 1, 2, 0, 5));
    assert_eq!(run.reason.as_deref(), Some("2 failed, and it was to stop after 2"));
    let expected = [
        named("done", &["t-0"]),
        named("failed", &["t-1", "t-2"]),
        named("pending", &["t-3", "t-4", "t-5", "t-6", "t-7"]),
    ];
    assert_eq!(fleet.statuses(run.id).await, expected.concat());
    // Whoever resumes knows of those.
    let run = work(fleet.resume().await.unwrap()).await;
    assert_eq!(figures(&run), ("failed", 5, 3, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_percentage_is_of_those_planned_up_to_the_end_of_the_wave() {
    let mut fleet = Fleet::behind(8).await;
    for slug in ["t-0", "t-5"] {
        fleet.obstruct(slug).await;
    }
    // One of four is less than 30 of a hundred, and so are two of eight.
    let plan = RunPlan { wave: Some(4), stop_after: StopAfter::Percent(30), ..no_canaries() };
    let run = fleet.migrate(&plan).await;
    assert_eq!(figures(&run), ("failed", 6, 2, 0, 0));
    fleet.run_sql("UPDATE tenantry.tenants SET schema_version = 4".into()).await;

    let mut fleet = Fleet::behind(8).await;
    fleet.obstruct("t-0").await;
    let plan = RunPlan { wave: Some(4), stop_after: StopAfter::Percent(25), ..no_canaries() };
    assert_eq!(figures(&fleet.migrate(&plan).await), ("stopped", 0, 1, 0, 7));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_run_goes_on_at_a_time_and_the_second_is_told_whose() {
    let mut fleet = Fleet::behind(3).await;
    let beside = fleet.app.beside().await;
    let plan = no_canaries();
    let under_way = fleet.start(&plan).await.unwrap();
    let id = under_way.run().id;
    let by = Actor::start();
    let second = fleet::start(&beside.app.tenancy, &beside.clock, &plan, &by).await;
    let Err(FleetError::Refused(RunRefused::UnderWay(told))) = second else { panic!("{second:?}") };
    let process = std::process::id();
    assert_eq!(
        told,
        format!(
            "the migration run {id} of command line goes on since 2026-01-02 03:04:05 UTC, in process {process}: 0 of 3 \
             tenants are done"
        )
    );
    let status = async || beside.app.tenancy.run(Some(id)).await.unwrap().unwrap().status;
    assert_eq!(status().await, "running");

    // Its end is noticed without anybody waiting for a lease.
    drop(under_way);
    eventually("it is interrupted", async || status().await == "interrupted").await;
    let (one, other) =
        tokio::join!(fleet::start(&beside.app.tenancy, &beside.clock, &plan, &by), fleet.start(&plan));
    assert!(one.is_ok() != other.is_ok(), "{one:?} {other:?}");
    assert_eq!(status().await, "abandoned", "who is behind is in the new one");
    let run = work(one.or(other).unwrap()).await;
    assert_eq!(figures(&run), ("succeeded", 3, 0, 0, 0));
    assert_eq!(fleet.migrated().await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_whose_table_is_locked_holds_up_nobody_and_is_tried_again() {
    let mut fleet = Fleet::behind(5).await;
    let schema = fleet.schema("t-1").await;
    let mut user = fleet.app.superuser().await;
    let lock = format!(r#"BEGIN; LOCK TABLE "{schema}".invitations IN ACCESS SHARE MODE"#);
    user.execute(AssertSqlSafe(lock)).await.unwrap();

    let (progress, watched) = watch::channel(Figures::default());
    let under_way = fleet.start(&no_canaries()).await.unwrap();
    let id = under_way.run().id;
    let mut pace = hasty();
    pace.attempts = 1_000;
    let running = tokio::spawn(async move { under_way.work(pace, &progress).await.unwrap() });
    eventually("the others are done", async || watched.borrow().done == 4).await;
    let waiting = async || fleet.items(id).await.into_iter().find(|item| item.tenant_slug == "t-1").unwrap();
    eventually("it was tried", async || waiting().await.attempts > 1).await;
    let item = waiting().await;
    assert_eq!(item.status, "running");
    let error = "PostgreSQL refused: canceling statement due to lock timeout";
    assert_eq!(item.error.as_deref(), Some(error));
    // An older program makes one meanwhile; it is appended.
    fleet.make("late").await;
    fleet.bring_back(Some("late")).await;
    user.execute("COMMIT").await.unwrap();

    let run = running.await.unwrap();
    assert_eq!((figures(&run), run.total), (("succeeded", 6, 0, 0, 0), 6));
    assert_eq!(fleet.migrated().await.len(), 6);

    // For ever is not tried: then it fails like any other.
    fleet.bring_back(Some("t-1")).await;
    let lock = format!(r#"BEGIN; LOCK TABLE "{schema}".invitations IN ACCESS SHARE MODE"#);
    user.execute(AssertSqlSafe(lock)).await.unwrap();
    let run = fleet.migrate(&no_canaries()).await;
    assert_eq!(figures(&run), ("failed", 0, 1, 0, 0));
    let [item] = fleet.items(run.id).await.try_into().unwrap();
    assert_eq!((item.attempts, item.error.as_deref()), (10, Some(error)));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_migrated_by_somebody_else_or_is_gone_is_skipped() {
    let mut fleet = Fleet::behind(4).await;
    let under_way = fleet.start(&no_canaries()).await.unwrap();
    fleet.run_sql("DELETE FROM tenantry.tenants WHERE slug = 't-1'".into()).await;
    fleet.run_sql("UPDATE tenantry.tenants SET schema_version = 4 WHERE slug = 't-2'".into()).await;
    let run = work(under_way).await;
    assert_eq!(figures(&run), ("succeeded", 2, 0, 2, 0));
    assert_eq!(
        fleet.statuses(run.id).await,
        [named("done", &["t-0"]), named("skipped", &["t-1", "t-2"]), named("done", &["t-3"])].concat()
    );
}

/// What lands tomorrow.
struct Tomorrow;

impl sea_orm_migration::MigrationName for Tomorrow {
    fn name(&self) -> &'static str {
        "m9999_tomorrow"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Tomorrow {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let column = ColumnDef::new(Alias::new("nickname")).text().null().to_owned();
        manager.alter_table(Table::alter().table(Alias::new("users")).add_column(column).to_owned()).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_notices_at_once_that_it_serves_a_tenant_no_more() {
    let app = TestApp::start().await;
    let (acme, beta) = (app.sign_up("acme").await, app.sign_up("beta").await);
    assert_eq!((acme.owner.me().await.status, beta.owner.me().await.status), (200, 200));
    let later = Tenancy::open_ahead(app.settings(), vec![Box::new(Tomorrow)]).await.unwrap();
    // One stays behind, and is served on.
    let mut superuser = app.superuser().await;
    let obstruct = format!(r#"ALTER TABLE "{}".users ADD COLUMN nickname text"#, beta.schema());
    superuser.execute(AssertSqlSafe(obstruct)).await.unwrap();
    let plan = RunPlan { canaries: Canaries::Count(0), ..RunPlan::default() };
    let run = work(fleet::start(&later, &app.clock, &plan, &Actor::command_line()).await.unwrap()).await;
    assert_eq!((figures(&run), run.target), (("failed", 1, 1, 0, 0), 5));

    eventually("acme is refused", async || acme.owner.me().await.status == 503).await;
    let answer = acme.owner.me().await;
    assert_eq!(answer.said(), (503, "service_unavailable".to_owned()));
    assert!(answer.headers.contains_key("retry-after"), "{:?}", answer.headers);
    assert_eq!(beta.owner.me().await.status, 200);
    // This program's runs do not go on with it.
    let refused = fleet::retry(&app.app.tenancy, &app.clock, None, &Actor::command_line()).await;
    let Err(FleetError::Refused(refused)) = refused else { panic!("{refused:?}") };
    assert_eq!(refused, RunRefused::OtherVersion { run: 5, program: 4 });
    let column = format!(
        "SELECT count(*) FROM information_schema.columns WHERE table_schema = '{}' AND column_name = 'nickname'",
        acme.schema()
    );
    assert_eq!(superuser.fetch_one(AssertSqlSafe(column)).await.unwrap().get::<i64, _>(0), 1);
}
