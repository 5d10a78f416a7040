//! A fleet that is behind: as if the last tenant migration had just landed.

use std::collections::BTreeMap;

use sqlx::{AssertSqlSafe, Executor as _, PgConnection, Row as _};
use tenantry::{
    audit::Actor,
    fleet::{self, FleetError, UnderWay},
};
use tenants::{Figures, Item, ItemFilter, NewTenant, Pace, Run, RunPlan, SchemaName, SlugChoice};
use tokio::sync::watch;
use uuid::Uuid;

use super::TestApp;

/// The version that the fleet comes from.
pub(crate) const BEFORE: i32 = 3;
/// The version that the program has.
pub(crate) const NOW: i32 = 4;

pub(crate) struct Fleet {
    pub(crate) app: TestApp,
    pub(crate) superuser: PgConnection,
}

impl Fleet {
    /// So many tenants that are behind, `t-0` the oldest.
    pub(crate) async fn behind(count: usize) -> Self {
        let app = TestApp::start().await;
        let superuser = app.superuser().await;
        let mut fleet = Self { app, superuser };
        for number in 0..count {
            fleet.make(&format!("t-{number}")).await;
        }
        fleet.bring_back(None).await;
        fleet
    }

    pub(crate) async fn make(&self, slug: &str) {
        let (id, now) = (self.app.clock.uuid_v7(), self.app.clock.now());
        let new = NewTenant { id, slug: SlugChoice::Exactly(slug.parse().unwrap()), name: slug.into(), now };
        self.app.app.tenancy.provision(new).await.unwrap().commit().await.unwrap();
    }

    pub(crate) async fn schema(&mut self, slug: &str) -> SchemaName {
        let sql = "SELECT id FROM tenantry.tenants WHERE slug = $1";
        let row = sqlx::query(sql).bind(slug).fetch_one(&mut self.superuser).await.unwrap();
        SchemaName::of(row.get(0))
    }

    pub(crate) async fn run_sql(&mut self, sql: String) {
        self.superuser.execute(AssertSqlSafe(sql)).await.unwrap();
    }

    /// Undoes the last migration in one tenant, or in all of them.
    pub(crate) async fn bring_back(&mut self, slug: Option<&str>) {
        let sql = "SELECT schema_name FROM tenantry.tenants WHERE $1::text IS NULL OR slug = $1";
        let rows = sqlx::query(sql).bind(slug).fetch_all(&mut self.superuser).await.unwrap();
        for row in rows {
            let schema: String = row.get(0);
            self.run_sql(format!(
                r#"SET search_path TO "{schema}"; DROP TABLE audit; ALTER TABLE invitations DROP COLUMN by_operator;
                DELETE FROM {} WHERE version LIKE 'm0004%'; RESET search_path;
                UPDATE tenantry.tenants SET schema_version = {BEFORE} WHERE schema_name = '{schema}'"#,
                migration::VERSION_TABLE
            ))
            .await;
        }
    }

    /// Puts something into a tenant's schema that the migration does not expect.
    pub(crate) async fn obstruct(&mut self, slug: &str) {
        let schema = self.schema(slug).await;
        self.run_sql(format!(r#"CREATE TABLE "{schema}".audit (id int)"#)).await;
    }

    pub(crate) async fn mend(&mut self, slug: &str) {
        let schema = self.schema(slug).await;
        self.run_sql(format!(r#"DROP TABLE "{schema}".audit"#)).await;
    }

    /// What the catalog says of each, and what its schema says.
    pub(crate) async fn versions(&mut self) -> BTreeMap<String, (i32, usize)> {
        let sql = "SELECT slug, schema_version, schema_name FROM tenantry.tenants";
        let mut versions = BTreeMap::new();
        for row in self.superuser.fetch_all(sql).await.unwrap() {
            let schema: String = row.get(2);
            let sql = format!(
                r#"SELECT (SELECT count(*) FROM "{schema}".{}),
                (SELECT count(*) FROM pg_attribute WHERE attrelid = '"{schema}".invitations'::regclass
                    AND attname = 'by_operator' AND NOT attisdropped)"#,
                migration::VERSION_TABLE
            );
            let inside = self.superuser.fetch_one(AssertSqlSafe(sql)).await.unwrap();
            let applied = usize::try_from(inside.get::<i64, _>(0)).unwrap();
            // The column comes and goes with its version row, or the schema is half-way.
            assert_eq!(applied >= 4, inside.get::<i64, _>(1) == 1, "{schema}");
            versions.insert(row.get(0), (row.get(1), applied));
        }
        versions
    }

    /// Who is at the program's version.
    pub(crate) async fn migrated(&mut self) -> Vec<String> {
        let versions = self.versions().await;
        for (slug, (noted, applied)) in &versions {
            assert_eq!(usize::try_from(*noted).unwrap(), *applied, "{slug} is noted otherwise than it is");
        }
        versions.into_iter().filter(|(_, (version, _))| *version >= NOW).map(|(slug, _)| slug).collect()
    }

    pub(crate) async fn start(&self, plan: &RunPlan) -> Result<UnderWay, FleetError> {
        fleet::start(&self.app.app.tenancy, &self.app.clock, plan, &Actor::command_line()).await
    }

    pub(crate) async fn migrate(&self, plan: &RunPlan) -> Run {
        work(self.start(plan).await.unwrap()).await
    }

    pub(crate) async fn retry(&self) -> Result<UnderWay, FleetError> {
        fleet::retry(&self.app.app.tenancy, &self.app.clock, None, &Actor::command_line()).await
    }

    pub(crate) async fn resume(&self) -> Result<UnderWay, FleetError> {
        fleet::resume(&self.app.app.tenancy, &self.app.clock, None, &Actor::command_line()).await
    }

    pub(crate) async fn items(&self, run: Uuid) -> Vec<Item> {
        self.app.app.tenancy.run_items(run, ItemFilter::default(), (0, 1_000)).await.unwrap()
    }

    /// The statuses of a run's tenants, in the order of their turns.
    pub(crate) async fn statuses(&self, run: Uuid) -> Vec<(String, String)> {
        self.items(run).await.into_iter().map(|item| (item.tenant_slug, item.status)).collect()
    }
}

pub(crate) async fn work(under_way: UnderWay) -> Run {
    under_way.work(hasty(), &watch::Sender::new(Figures::default())).await.unwrap()
}

/// Tries as often as a run does, and faster.
pub(crate) fn hasty() -> Pace {
    let millis = std::time::Duration::from_millis;
    Pace { lock_timeout: millis(50), first_pause: millis(10), longest_pause: millis(100), ..Pace::default() }
}
