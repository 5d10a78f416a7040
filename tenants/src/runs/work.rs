//! Working on a run.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use chrono::{DateTime, Utc};
use futures_util::future::try_join_all;
use sea_orm::Value;
use tokio::{
    sync::{Mutex, watch},
    time::{Instant, sleep_until},
};
use uuid::Uuid;

use super::{
    HeldFleet, Run, RunRefused, StopAfter,
    hold::{COUNT_AGAIN, GIVE_BACK},
    store::{FLEET, find, statement},
};
use crate::{
    Error, SchemaName, Tenancy,
    connection::{Connection, Login},
    error::{is_answer, query_error},
    listener::Change,
};

/// How many items are taken at once for each connection: taking them is one round trip, which each of them shares.
const TAKEN_AT_ONCE: i64 = 16;
/// How many tenants a connection migrates before there is a new one. Its backend remembers what it has made, and looks
/// through that at every change of the catalogs.
const CONNECTION_USES: u32 = 200;
/// After this long, whoever waits for a tenant's next attempt looks whether the run was stopped.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// How often the numbers of a run are written, where nothing else is to be.
const NOTED_EVERY: Duration = Duration::from_millis(500);

/// Which items of a run are worked on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// Those it has not come to yet.
    Pending,
    /// Those that failed.
    Failed,
}

impl Pass {
    fn status(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Failed => "failed",
        }
    }
}

/// How patient a run is with a tenant whose tables are in use, or which meets another transaction.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// How long a statement waits for a lock. Whoever comes to the table meanwhile waits behind it.
    pub lock_timeout: Duration,
    /// How often a tenant is tried.
    pub attempts: u32,
    /// How long it is left alone after the first attempt; each further one doubles it.
    pub first_pause: Duration,
    /// The longest that it is.
    pub longest_pause: Duration,
}

impl Default for Pace {
    /// Some 40 seconds in all: longer than a statement of a tenant may take.
    fn default() -> Self {
        Self {
            lock_timeout: Duration::from_millis(300),
            attempts: 10,
            first_pause: Duration::from_millis(250),
            longest_pause: Duration::from_secs(8),
        }
    }
}

impl Pace {
    /// Different ones for those that failed together: what they met is often each other.
    fn pause(&self, tries: u32) -> Duration {
        let doubled = self.first_pause.saturating_mul(1 << (tries.saturating_sub(1)).min(16));
        doubled.min(self.longest_pause).mul_f64(rand::random_range(0.5..=1.0))
    }
}

/// How far a run is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// How many tenants it is for.
    pub total: u64,
    /// How many are migrated.
    pub done: u64,
    /// How many failed.
    pub failed: u64,
    /// How many had nothing left to do, or are gone.
    pub skipped: u64,
}

impl Figures {
    /// Those of a run.
    #[must_use]
    pub fn of(run: &Run) -> Self {
        let [total, done, failed, skipped] =
            [run.total, run.done, run.failed, run.skipped].map(|number| u64::try_from(number).unwrap_or(0));
        Self { total, done, failed, skipped }
    }

    /// How many it has come to.
    #[must_use]
    pub fn tried(&self) -> u64 {
        self.done + self.failed + self.skipped
    }
}

/// A tenant that was taken.
#[derive(Debug)]
struct Task {
    position: i64,
    tenant: Uuid,
    slug: String,
    schema: SchemaName,
    version: i32,
    /// How often it was tried, in all passes.
    attempts: i32,
    /// How often in this one.
    tries: u32,
}

/// What a worker does next.
enum Next {
    Migrate(Task),
    /// Nothing before this time.
    Wait(Instant),
    /// The wave has ended for him.
    End,
}

/// What the workers share. What is noted here goes out on the connection that holds the fleet.
struct Desk {
    connection: Connection,
    ready: VecDeque<Task>,
    /// Those that are to be tried again, by when, and by their positions.
    later: BTreeMap<(Instant, i64), Task>,
    /// The last position that was taken.
    taken: i64,
    wave: i64,
    /// Whether all of the wave was taken.
    is_taken: bool,
    /// How many are planned up to the end of the wave.
    planned: u64,
    /// How many failed in this pass.
    failures: u64,
    figures: Figures,
    /// Those that the run's row has, and since when.
    noted: (Figures, Instant),
    stopped: Option<String>,
}

/// A connection that migrates, and how often it did.
#[derive(Default)]
struct Worker {
    connection: Option<Connection>,
    uses: u32,
}

struct Work<'a> {
    tenancy: Tenancy,
    run: Uuid,
    target: i32,
    pass: Pass,
    stop_after: StopAfter,
    take: i64,
    pace: Pace,
    login: Login,
    desk: Mutex<Desk>,
    progress: &'a watch::Sender<Figures>,
}

impl HeldFleet {
    /// Works on a run that was planned or taken up, until it ends, and lets go of the fleet.
    ///
    /// # Errors
    /// Those of the database: the run is interrupted then, and can be resumed.
    pub async fn work(
        self,
        run: &Run,
        pass: Pass,
        pace: Pace,
        now: impl Fn() -> DateTime<Utc> + Send,
        progress: &watch::Sender<Figures>,
    ) -> Result<Run, Error> {
        let Self { tenancy, connection } = self;
        let Login(options) = tenancy.run_login();
        let lock_timeout = format!("{}ms", pace.lock_timeout.as_millis());
        let figures = Figures::of(run);
        progress.send_replace(figures);
        let desk = Desk {
            connection,
            ready: VecDeque::new(),
            later: BTreeMap::new(),
            taken: -1,
            wave: 0,
            is_taken: true,
            planned: 0,
            failures: 0,
            figures,
            noted: (figures, Instant::now()),
            stopped: None,
        };
        let work = Work {
            run: run.id,
            target: tenancy.migrations().version(),
            pass,
            stop_after: run.stop_after.parse().map_err(|_| Error::Damaged("a run's threshold".into()))?,
            take: TAKEN_AT_ONCE * i64::from(run.parallel),
            pace,
            login: Login(options.options([("lock_timeout", lock_timeout)])),
            desk: Mutex::new(desk),
            tenancy,
            progress,
        };
        let mut workers: Vec<Worker> = (0..run.parallel.max(1)).map(|_| Worker::default()).collect();
        while work.begin_wave().await? {
            try_join_all(workers.iter_mut().map(|worker| work.follow(worker))).await?;
        }
        work.finish(now()).await
    }
}

impl Work<'_> {
    /// Turns to the next wave; whether there is one. Those whom an older program made behind meanwhile are the last.
    async fn begin_wave(&self) -> Result<bool, Error> {
        let mut desk = self.desk.lock().await;
        if desk.stopped.is_some() {
            return Ok(false);
        }
        loop {
            let next = statement(
                "SELECT wave, (SELECT count(*) FROM tenantry.migration_items WHERE run_id = $1 AND wave <= i.wave) AS planned \
                 FROM tenantry.migration_items i WHERE run_id = $1 AND status = $2 AND position > $3 ORDER BY position LIMIT 1",
                [self.run.into(), self.pass.status().into(), desk.taken.into()],
            );
            if let Some(row) = desk.rows(&next).await?.first() {
                desk.wave = row.try_get("", "wave")?;
                desk.planned = u64::try_from(row.try_get::<i64>("", "planned")?).unwrap_or(0);
                desk.is_taken = false;
                return Ok(true);
            }
            let append = statement(APPEND, [self.run.into(), self.target.into()]);
            let appended = match self.pass {
                Pass::Pending => desk.rows(&append).await?.len(),
                Pass::Failed => 0,
            };
            if appended == 0 {
                return Ok(false);
            }
            desk.figures.total += u64::try_from(appended).unwrap_or(0);
        }
    }

    async fn follow(&self, worker: &mut Worker) -> Result<(), Error> {
        loop {
            match self.next().await? {
                Next::Migrate(task) => self.migrate(worker, task).await?,
                Next::Wait(until) => sleep_until(until).await,
                Next::End => return Ok(()),
            }
        }
    }

    async fn next(&self) -> Result<Next, Error> {
        let mut desk = self.desk.lock().await;
        loop {
            if desk.stopped.is_some() {
                return Ok(Next::End);
            }
            if let Some(task) = desk.later.first_entry().filter(|task| task.key().0 <= Instant::now()) {
                return Ok(Next::Migrate(task.remove()));
            }
            if let Some(task) = desk.ready.pop_front() {
                return Ok(Next::Migrate(task));
            }
            if desk.is_taken {
                if !desk.later.is_empty() {
                    self.note_figures(&mut desk).await?;
                }
                let due = desk.later.keys().next().map(|(due, _)| (*due).min(Instant::now() + LOOK_AGAIN));
                return Ok(due.map_or(Next::End, Next::Wait));
            }
            self.take(&mut desk).await?;
        }
    }

    /// Takes some more of the wave.
    async fn take(&self, desk: &mut Desk) -> Result<(), Error> {
        self.note_figures(desk).await?;
        let take = statement(
            TAKE,
            [
                self.run.into(),
                desk.wave.into(),
                self.pass.status().into(),
                desk.taken.into(),
                self.take.into(),
            ],
        );
        let rows = desk.rows(&take).await?;
        desk.is_taken = i64::try_from(rows.len()).unwrap_or(i64::MAX) < self.take;
        for row in rows {
            desk.taken = row.try_get("", "position")?;
            if self.pass == Pass::Failed {
                desk.figures.failed = desk.figures.failed.saturating_sub(1);
            }
            let schema: Option<String> = row.try_get("", "schema_name")?;
            let version: Option<i32> = row.try_get("", "schema_version")?;
            let (Some(schema), Some(version)) = (schema, version.filter(|version| *version < self.target))
            else {
                let skip = "UPDATE tenantry.migration_items SET status = 'skipped', error = NULL \
                            WHERE run_id = $1 AND position = $2";
                desk.rows(&statement(skip, [self.run.into(), desk.taken.into()])).await?;
                desk.figures.skipped += 1;
                continue;
            };
            let schema = schema.parse().map_err(|_| Error::Damaged("a tenant's schema name".into()))?;
            let task = Task {
                position: desk.taken,
                tenant: row.try_get("", "tenant_id")?,
                slug: row.try_get("", "tenant_slug")?,
                schema,
                version,
                attempts: row.try_get("", "attempts")?,
                tries: 0,
            };
            desk.ready.push_back(task);
        }
        self.progress.send_replace(desk.figures);
        Ok(())
    }

    /// Writes down how far the run is, for whoever looks at it from elsewhere.
    async fn note_figures(&self, desk: &mut Desk) -> Result<(), Error> {
        let figures = desk.figures;
        if desk.noted.0 != figures {
            let Figures { total, done, failed, skipped } = figures;
            let numbers =
                [total, done, failed, skipped].map(|number| i64::try_from(number).unwrap_or(i64::MAX));
            let values = std::iter::once(self.run.into()).chain(numbers.map(Value::from));
            let note = "UPDATE tenantry.migration_runs SET total = $2, done = $3, failed = $4, skipped = $5 WHERE id = $1";
            desk.rows(&statement(note, values)).await?;
        }
        desk.noted = (figures, Instant::now());
        Ok(())
    }

    async fn migrate(&self, worker: &mut Worker, mut task: Task) -> Result<(), Error> {
        task.attempts += 1;
        task.tries += 1;
        let started = Instant::now();
        match worker.run(&self.login, &self.batch(&task)).await {
            Ok(()) => {
                self.tenancy.resolver().changed(task.tenant);
                let mut desk = self.desk.lock().await;
                desk.figures.done += 1;
                self.progress.send_replace(desk.figures);
                if desk.noted.1.elapsed() > NOTED_EVERY { self.note_figures(&mut desk).await } else { Ok(()) }
            }
            Err(error) => self.note(task, error, started.elapsed()).await,
        }
    }

    /// All that is done for a tenant: one message, and one transaction, which an error ends by itself.
    fn batch(&self, task: &Task) -> String {
        let Task { position, tenant, schema, version, attempts, .. } = task;
        let (run, target) = (self.run, self.target);
        let batch = self.tenancy.migrations().batch(schema, *version);
        let announcement = Change::Tenant(*tenant).announcement();
        // The tenant's own transactions, too, come to its rows first and to the catalog last.
        format!(
            r#"SELECT pg_advisory_xact_lock(hashtextextended('tenantry.schema {schema}', 0));
            SET LOCAL search_path TO "{schema}", pg_temp;
            {batch}
            UPDATE tenantry.tenants SET schema_version = {target} WHERE id = '{tenant}';
            UPDATE tenantry.migration_items SET status = 'done', attempts = {attempts}, error = NULL,
                duration_ms = round(extract(epoch FROM clock_timestamp() - now()) * 1000, 3)::float8
                WHERE run_id = '{run}' AND position = {position};
            {announcement}"#
        )
    }

    /// What passes is tried again later; anything else stays.
    async fn note(&self, mut task: Task, error: sqlx::Error, took: Duration) -> Result<(), Error> {
        let passes = is_passing(&error) && task.tries < self.pace.attempts;
        let text = Error::from(query_error(error)).to_string();
        let mut desk = self.desk.lock().await;
        let key: [Value; 2] = [self.run.into(), task.position.into()];
        if passes {
            tracing::debug!(tenant = %task.tenant, error = text, "a tenant's migration is put off");
            let [run, position] = key;
            let note = "UPDATE tenantry.migration_items SET attempts = $3, error = $4 WHERE run_id = $1 AND position = $2";
            desk.rows(&statement(note, [run, position, task.attempts.into(), text.into()])).await?;
            let due = Instant::now() + self.pace.pause(task.tries);
            task.version = desk.version_of(task.tenant).await?.unwrap_or(task.version);
            desk.later.insert((due, task.position), task);
            return Ok(());
        }
        let [run, position] = key;
        let took = took.as_secs_f64() * 1_000.0;
        let values = [run, position, task.attempts.into(), text.clone().into(), took.into()];
        let rows = desk.rows(&statement(END, values)).await?;
        let status: Option<String> = rows.first().map(|row| row.try_get("", "status")).transpose()?;
        match status.as_deref() {
            Some("done") => desk.figures.done += 1,
            Some("failed") => {
                tracing::info!(tenant = %task.tenant, error = text, "a tenant could not be migrated");
                desk.figures.failed += 1;
                desk.failures += 1;
                desk.stopped = desk.stopped.take().or_else(|| self.reason_to_stop(&desk, &task));
            }
            _ => desk.figures.skipped += 1,
        }
        self.progress.send_replace(desk.figures);
        Ok(())
    }

    fn reason_to_stop(&self, desk: &Desk, task: &Task) -> Option<String> {
        if desk.wave == 0 {
            return Some(format!("the canary {} failed", task.slug));
        }
        let enough = self.stop_after.is_reached(desk.failures, desk.planned);
        enough.then(|| format!("{} failed, and it was to stop after {}", desk.failures, self.stop_after))
    }

    async fn finish(self, now: DateTime<Utc>) -> Result<Run, Error> {
        let mut desk = self.desk.into_inner();
        desk.rows(&statement(GIVE_BACK, [self.run.into()])).await?;
        desk.rows(&statement(COUNT_AGAIN, [self.run.into()])).await?;
        let stopped = desk.stopped.take();
        desk.rows(&statement(
            format!("WITH ended AS ({FINISH}) SELECT pg_advisory_unlock({FLEET})"),
            [self.run.into(), stopped.into(), now.into()],
        ))
        .await?;
        let run = find(self.tenancy.catalog(), Some(self.run)).await?.ok_or(RunRefused::Unknown)?;
        self.progress.send_replace(Figures::of(&run));
        Ok(run)
    }
}

impl Desk {
    async fn rows(&mut self, statement: &sea_orm::Statement) -> Result<Vec<sea_orm::QueryResult>, Error> {
        let rows = self.connection.fetch(statement).await.map_err(query_error)?;
        Ok(rows.into_iter().map(Into::into).collect())
    }

    /// Where a tenant is by now: nobody knows what became of a batch whose connection broke.
    async fn version_of(&mut self, tenant: Uuid) -> Result<Option<i32>, Error> {
        let version = "SELECT schema_version FROM tenantry.tenants WHERE id = $1";
        let rows = self.rows(&statement(version, [tenant.into()])).await?;
        Ok(rows.first().map(|row| row.try_get("", "schema_version")).transpose()?)
    }
}

impl Worker {
    async fn run(&mut self, login: &Login, sql: &str) -> Result<(), sqlx::Error> {
        if self.uses >= CONNECTION_USES || self.connection.as_ref().is_some_and(|open| !open.is_usable()) {
            self.connection = None;
        }
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => {
                self.uses = 0;
                none.insert(Connection::open(login).await?)
            }
        };
        self.uses += 1;
        connection.batch(sql).await
    }
}

/// Whether the same may go well a moment later: a lock was not to be had in time (also one of the catalogs' own rows,
/// which have no error of their own), transactions met, or the connection broke.
fn is_passing(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(answer) => match answer.code().as_deref() {
            Some("55P03" | "40001" | "40P01" | "57P01" | "57P02" | "57P03" | "53300") => true,
            Some("XX000") => answer.message() == "tuple concurrently updated",
            _ => false,
        },
        error => !is_answer(error),
    }
}

const TAKE: &str = "WITH taken AS (\
         UPDATE tenantry.migration_items SET status = 'running' WHERE run_id = $1 AND position IN (\
             SELECT position FROM tenantry.migration_items \
             WHERE run_id = $1 AND wave = $2 AND status = $3 AND position > $4 ORDER BY position LIMIT $5) \
         RETURNING position, tenant_id, tenant_slug, attempts) \
     SELECT taken.position, taken.tenant_id, taken.tenant_slug, taken.attempts, t.schema_name, t.schema_version \
     FROM taken LEFT JOIN tenantry.tenants t ON t.id = taken.tenant_id AND t.status <> 'purging' \
     ORDER BY taken.position";

const APPEND: &str = "INSERT INTO tenantry.migration_items \
         (run_id, position, wave, tenant_id, tenant_slug, from_version, to_version, status) \
     SELECT $1, last.position + row_number() OVER (ORDER BY t.id), last.wave + 1, t.id, t.slug, t.schema_version, $2, 'pending' \
     FROM tenantry.tenants t, (SELECT max(position) AS position, max(wave) AS wave \
         FROM tenantry.migration_items WHERE run_id = $1) AS last \
     WHERE t.schema_version < $2 AND t.status <> 'purging' AND NOT EXISTS (\
         SELECT FROM tenantry.migration_items i WHERE i.run_id = $1 AND i.tenant_id = t.id) \
     RETURNING position";

/// What a tenant that was not migrated is now: that somebody else did it, or that it is gone or going, is no failure.
const END: &str = "UPDATE tenantry.migration_items i SET attempts = $3, duration_ms = round($5::numeric, 3)::float8, \
         status = found.status, error = CASE WHEN found.status = 'failed' THEN $4 END, \
         failures = failures + CASE WHEN found.status = 'failed' THEN 1 ELSE 0 END \
     FROM (SELECT CASE WHEN s.status = 'done' THEN 'done' \
             WHEN t.id IS NULL OR t.schema_version >= s.to_version THEN 'skipped' ELSE 'failed' END AS status \
         FROM tenantry.migration_items s LEFT JOIN tenantry.tenants t ON t.id = s.tenant_id AND t.status <> 'purging' \
         WHERE s.run_id = $1 AND s.position = $2) AS found \
     WHERE i.run_id = $1 AND i.position = $2 RETURNING i.status";

const FINISH: &str = "UPDATE tenantry.migration_runs SET finished_at = $3, \
         status = CASE WHEN $2::text IS NOT NULL OR done + failed + skipped < total THEN 'stopped' \
             WHEN failed > 0 THEN 'failed' ELSE 'succeeded' END, \
         reason = CASE WHEN $2::text IS NOT NULL THEN $2 \
             WHEN done + failed + skipped < total THEN 'only those that had failed were to be tried again' END \
     WHERE id = $1 RETURNING id";
