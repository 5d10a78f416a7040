//! `tenantry keys rotate-master`

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use serde_json::json;
use tenants::SecretKey;

use super::{
    output::Exit,
    run::{Context, Failure},
};
use crate::{
    audit::{self, Action, Actor},
    backend::{Use, owner_password},
    config::Database,
    master_key,
    state::App,
};

/// The arguments of `keys rotate-master`.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
#[command(after_help = "\
Examples:
  tenantry keys rotate-master --to-file /etc/tenantry/master.key.2
  tenantry keys rotate-master      # embedded database, while `tenantry serve` is stopped")]
pub struct KeysRotateMaster {
    /// The file with the new key; made if it is not there.
    #[arg(
        long,
        value_name = "FILE",
        help = "The file with the new key; made if it is not there [default: the data directory's own]"
    )]
    pub to_file: Option<PathBuf>,
}

/// What was done.
#[derive(Serialize)]
struct Rotated {
    /// The file with the new key.
    file: PathBuf,
    /// Whether the settings have to name it from now on.
    to_be_named: bool,
}

pub(super) async fn rotate(context: &Context, arguments: KeysRotateMaster) -> Result<Exit, Failure> {
    let rotated = match (context.config.database(), arguments.to_file) {
        (Database::Embedded { data_dir }, None) if context.config.master_key.is_none() => {
            let next = master_key::next_in(data_dir);
            rotate_to(context, next, true).await?;
            master_key::take_next(data_dir)?;
            Rotated { file: master_key::file_in(data_dir), to_be_named: false }
        }
        (Database::Embedded { .. }, Some(_)) if context.config.master_key.is_none() => {
            return Err(
                "the key is in the data directory: --to-file is for one that the settings name".into()
            );
        }
        (_, None) => {
            return Err("the settings name the master key: --to-file has to say where the new one is".into());
        }
        (database, Some(file)) => {
            let is_embedded = matches!(database, Database::Embedded { .. });
            rotate_to(context, file.clone(), is_embedded).await?;
            Rotated { file, to_be_named: true }
        }
    };
    context.output.answer(&rotated, |Rotated { file, to_be_named }| {
        let file = file.display();
        if *to_be_named {
            format!(
                "The keys in the catalog are wrapped with the key in {file}.\nSet TENANTRY_MASTER_KEY_FILE={file} for \
                 every process that is started from now on; those that run go on.\nThe key before opens nothing but \
                 backups made until now: keep it as long as those."
            )
        } else {
            format!(
                "The keys in the catalog are wrapped with a new key, in {file}.\nBackups made until now open with the \
                 key before it only."
            )
        }
    })?;
    Ok(Exit::Ok)
}

/// Wraps the data keys with the key in this file. The login of an embedded database has a password that comes from the key,
/// so nobody else may be at work there.
async fn rotate_to(context: &Context, file: PathBuf, is_embedded: bool) -> Result<(), Failure> {
    let usage = if is_embedded { Use::Exclusive } else { Use::Shared };
    let (app, before) = context.open_app_for(usage).await?;
    let rotated = async {
        master_key::drop_abandoned(&file)?;
        let key = master_key::read_or_make(&file)?;
        rewrap(&app, &before, &key, is_embedded).await
    };
    let rotated = rotated.await;
    app.finish(rotated).await
}

async fn rewrap(app: &App, from: &SecretKey, to: &SecretKey, is_embedded: bool) -> Result<(), Failure> {
    if from.expose() == to.expose() {
        return Err("the file has the present key in it".into());
    }
    let password = is_embedded.then(|| owner_password(to));
    let tx = app.tenancy.rewrap(from, to, password.as_ref()).await?;
    audit::record(app, &tx, &Actor::command_line(), Action::MasterKeyRotated, json!({})).await?;
    Ok(tx.commit().await?)
}
