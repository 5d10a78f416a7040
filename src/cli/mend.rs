//! What `tenantry doctor` puts right: what follows from the catalog, and what belongs to nobody.

use serde::Serialize;
use serde_json::json;
use tenants::{
    Orphan, Purged, SchemaName,
    doctor::{self, Mended, Refused},
};

use super::{
    key_files,
    output::Exit,
    run::{Context, Failure},
};
use crate::{
    audit::{self, Action, Actor},
    backend::{Backend, Use},
    state::App,
};

/// How many statements an entry of the log names: after a restore there are some for each tenant.
const NAMED: usize = 100;

/// Makes anew what follows from the catalog and the migrations, and drops orphans without rows. What was done is in the log.
pub(super) async fn mend(context: &Context) -> Result<Mended, Failure> {
    if !Backend::exists(&context.config) {
        return Ok(Mended::default());
    }
    // Opened otherwise, what PUBLIC must not have would be taken without a word.
    let backend = context.open_backend(Use::AsItIs).await?;
    let mended = doctor::mend(&backend.settings, backend.superuser().as_ref()).await;
    let mut mended = super::run::finish(backend, mended).await?;
    if mended.is_cut_short() {
        return Ok(mended);
    }
    mended.done.extend(key_files::mend(&context.config)?);
    // Only now everybody can log in who has to.
    let app = context.open_app().await?;
    let result = finish(&app, &mut mended).await;
    app.finish(result).await?;
    Ok(mended)
}

async fn finish(app: &App, mended: &mut Mended) -> Result<(), Failure> {
    let orphans = app.tenancy.orphans().await?;
    let is_busy = !orphans.is_empty() && app.tenancy.has_operations().await?;
    for orphan in orphans {
        let Orphan { name, has_rows, .. } = &orphan;
        let statement = format!("DROP {} {name}", if orphan.has_schema { "SCHEMA" } else { "ROLE" });
        let refused = |reason: String| {
            let statement = statement.clone();
            Refused { code: None, statement, reason, needs_superuser: false }
        };
        if *has_rows {
            let how =
                format!("there are rows in it; `tenantry doctor --drop-orphan {name} --yes` drops them, too");
            mended.refused.push(refused(how));
        } else if is_busy {
            // A tenant that is being imported may not have its row yet.
            mended.refused.push(refused("an operation is under way: try again when it has ended".to_owned()));
        } else {
            match app.tenancy.drop_orphan(name).await {
                Ok(_) => mended.done.push(statement),
                Err(error) => mended.refused.push(refused(error.to_string())),
            }
        }
    }
    if !mended.done.is_empty() {
        let named: Vec<_> = mended.done.iter().take(NAMED).collect();
        let detail = json!({"statements": mended.done.len(), "first": named});
        let by = Actor::command_line();
        audit::record(app, app.tenancy.catalog(), &by, Action::InstallationMended, detail).await?;
    }
    Ok(())
}

/// What was dropped.
#[derive(Serialize)]
struct Dropped<'a> {
    schema: &'a str,
    tables: u64,
    rows: u64,
}

/// Drops a schema that belongs to no tenant, whatever is in it.
pub(super) async fn drop_orphan(context: &Context, name: &SchemaName) -> Result<Exit, Failure> {
    let app = context.open_app().await?;
    let dropped = async {
        let Purged { tables, rows, .. } = app.tenancy.drop_orphan(name).await?;
        let detail = json!({"schema": name.as_str(), "tables": tables, "rows": rows});
        let by = Actor::command_line();
        audit::record(&app, app.tenancy.catalog(), &by, Action::OrphanDropped, detail).await?;
        Ok::<_, Failure>(Dropped { schema: name.as_str(), tables, rows })
    };
    let dropped = dropped.await;
    let dropped = app.finish(dropped).await?;
    context.output.answer(&dropped, |Dropped { schema, tables, rows }| {
        format!("Dropped {schema}: {tables} tables with {rows} rows.")
    })?;
    Ok(Exit::Ok)
}
