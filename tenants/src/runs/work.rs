//! Working on a run.

use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::future::try_join_all;
use sea_orm::Value;
use tokio::{
    sync::{Mutex, watch},
    time::{Instant, sleep_until},
};
use uuid::Uuid;

use super::{
    Figures, HeldFleet, Pace, Pass, Run, RunRefused, StopAfter,
    desk::{APPEND, Desk, END, FINISH, TAKE, Task},
    hold::GIVE_BACK,
    store::{FLEET, count_again, find, statement},
    worker::{Worker, is_passing},
};
use crate::{Error, SchemaName, Tenancy, connection::Login, error::query_error, listener::Change};

/// How many items are taken at once for each connection: taking them is one round trip, which each of them shares.
const TAKEN_AT_ONCE: i64 = 16;
/// After this long, whoever waits for a tenant's next attempt looks whether the run was stopped.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// How often the numbers of a run are written, where nothing else is to be.
const NOTED_EVERY: Duration = Duration::from_millis(500);

/// What a worker does next.
enum Next {
    Migrate(Task),
    /// Nothing before this time.
    Wait(Instant),
    /// The wave has ended for him.
    End,
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
        let work = Work {
            run: run.id,
            target: tenancy.migrations().version(),
            pass,
            stop_after: run.stop_after.parse().map_err(|_| Error::Damaged("a run's threshold".into()))?,
            take: TAKEN_AT_ONCE * i64::from(run.parallel),
            pace,
            login: Login(options.options([("lock_timeout", lock_timeout)])),
            desk: Mutex::new(Desk::new(connection, figures)),
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
            let tenant = row.try_get("", "tenant_id")?;
            // One that names another's schema is not served, and told by `doctor`.
            let schema = schema.and_then(|schema| SchemaName::own(&schema, tenant).ok());
            let version: Option<i32> = row.try_get("", "schema_version")?;
            let (Some(schema), Some(version)) = (schema, version.filter(|version| *version < self.target))
            else {
                let skip = "UPDATE tenantry.migration_items SET status = 'skipped', error = NULL \
                            WHERE run_id = $1 AND position = $2";
                desk.rows(&statement(skip, [self.run.into(), desk.taken.into()])).await?;
                desk.figures.skipped += 1;
                continue;
            };
            let task = Task {
                position: desk.taken,
                tenant,
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
        desk.rows(&count_again(self.run)).await?;
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
