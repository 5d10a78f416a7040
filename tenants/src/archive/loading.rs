//! The rows of an archive into the tables of a schema: one COPY for each table, fed while the file is unpacked.

use std::{io::BufReader, sync::Arc};

use tokio::sync::{
    mpsc,
    oneshot::{self, error::TryRecvError},
};

use super::{
    error::ArchiveError,
    export::WAITING,
    format::Unpacker,
    import::{BUFFER, CheckedArchive},
    meter::Meter,
    tables,
};
use crate::db::CatalogTx;

/// Loads all tables.
pub(super) async fn load(
    transaction: &CatalogTx,
    archive: CheckedArchive,
    meter: &Arc<Meter>,
) -> Result<(), ArchiveError> {
    let (manifest, version) = (archive.manifest().clone(), archive.manifest().schema_version);
    let (senders, receivers): (Vec<_>, Vec<_>) =
        manifest.tables.iter().map(|_| mpsc::channel::<Option<Vec<u8>>>(WAITING)).unzip();
    // Dropped with this future: whoever unpacks notices.
    let (_waits, waits) = oneshot::channel::<()>();
    let counted = Arc::clone(meter);
    let unpacking = tokio::task::spawn_blocking(move || unpack(archive, senders, waits, &counted));
    let mut copied = Ok(());
    for ((table, pieces), expected) in tables::kept(version).zip(receivers).zip(&manifest.tables) {
        copied = match transaction.copy_in(table.copy_in(version), pieces).await {
            // `\.` on a line ends a COPY, and PostgreSQL is silent about what comes after it.
            Ok(rows) if rows != expected.rows => Err(ArchiveError::Contents(format!(
                "of {} rows of {}, PostgreSQL took {rows}",
                expected.rows, expected.name
            ))),
            Ok(_) => Ok(()),
            Err(error) => Err(ArchiveError::of_contents(error)),
        };
        if copied.is_err() {
            break;
        }
    }
    // What was loaded counts once the file has come to its end, and that is the end it had.
    match unpacking.await.map_err(|_| ArchiveError::GivenUp)? {
        // It could not go on because the copy had failed.
        Err(ArchiveError::GivenUp) if copied.is_err() => copied,
        Err(error) => Err(error),
        Ok(()) => copied,
    }
}

/// Sends the pieces of each table to its COPY. What fails is told to the COPY that is going on: it must not end well.
fn unpack(
    archive: CheckedArchive,
    tables: Vec<mpsc::Sender<Option<Vec<u8>>>>,
    mut waits: oneshot::Receiver<()>,
    meter: &Meter,
) -> Result<(), ArchiveError> {
    let CheckedArchive { file, checked } = archive;
    let mut unpacker = Unpacker::begin(BufReader::with_capacity(BUFFER, file), checked)?;
    // Those that are still to come. Dropping one ends its COPY.
    let mut tables = tables.into_iter().enumerate().peekable();
    loop {
        let piece = match unpacker.next() {
            Ok(Some(piece)) => piece,
            Ok(None) => return Ok(()),
            Err(error) => {
                for (_, table) in tables {
                    table.blocking_send(None).ok();
                }
                return Err(error);
            }
        };
        while tables.next_if(|(index, _)| *index < piece.table).is_some() {}
        let sent = tables.peek().and_then(|(_, table)| table.blocking_send(Some(piece.bytes)).ok());
        if sent.is_none() || waits.try_recv() == Err(TryRecvError::Closed) {
            return Err(ArchiveError::GivenUp);
        }
        meter.advance(piece.rows);
    }
}
