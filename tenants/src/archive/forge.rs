//! Archives as anybody may write them, and what the reader makes of them: for whoever tries to get something past it.
//! Neither needs a database.

use chrono::DateTime;
use uuid::Uuid;

use super::{
    error::ArchiveError,
    format::{ArchivedTenant, Header, Manifest, Packer, Reader, Unpacker, check},
    frames::{FrameWriter, Kind},
    tables,
};
use crate::{SecretKey, render::current_version};

/// The installation that reads.
const OURS: &str = "aaaaaaaa";
/// The installation that wrote what is forged: nobody can check its seal.
const OTHERS: &str = "bbbbbbbb";

/// Frames as somebody likes them, each by the letter of its kind, linked as they should be.
///
/// # Errors
/// A frame is longer than one may be.
pub fn forged(frames: &[(u8, &[u8])]) -> Result<Vec<u8>, ArchiveError> {
    let mut writer = FrameWriter::begin(Vec::new())?;
    for (letter, payload) in frames {
        let kind = match letter {
            b'H' => Kind::Header,
            b'D' => Kind::Data,
            b'T' => Kind::Trailer,
            _ => Kind::Seal,
        };
        writer.write(kind, payload)?;
    }
    writer.end()
}

/// The header of an archive that another installation would write.
///
/// # Errors
/// None that is known.
pub fn header() -> Result<Vec<u8>, ArchiveError> {
    super::format::to_json(&header_of(OTHERS))
}

fn header_of(installation: &str) -> Header {
    let version = current_version();
    let tables = tables::contents_of(version)
        .into_iter()
        .map(|(name, columns)| (name.to_owned(), columns.into_iter().map(str::to_owned).collect()));
    Header {
        installation: installation.to_owned(),
        tenant: ArchivedTenant { id: Uuid::from_u128(7), slug: "acme".into(), name: "Acme".into() },
        schema_version: version,
        created_at: DateTime::UNIX_EPOCH,
        tables: tables.collect(),
    }
}

/// An archive of pieces of tables, by their places in the header, sealed by this installation or linked as another one's.
///
/// # Errors
/// A table that there is not.
pub fn packed(pieces: &[(u16, &[u8])], is_ours: bool, key: &SecretKey) -> Result<Vec<u8>, ArchiveError> {
    let mut packer = Packer::begin(Vec::new(), header_of(if is_ours { OURS } else { OTHERS }))?;
    for (table, piece) in pieces {
        packer.add(*table, piece)?;
    }
    Ok(packer.end(key)?.0)
}

/// Pieces of tables, by the tables' places in the header.
pub type Pieces = Vec<(usize, Vec<u8>)>;

/// What an archive unpacks to, piece by piece, as an import reads it, and what it says of itself.
///
/// # Errors
/// As an import would refuse it.
pub fn unpacked(bytes: &[u8], trusts: bool, key: &SecretKey) -> Result<(Manifest, Pieces), ArchiveError> {
    let checked = check(bytes, Reader { installation: OURS, key, trusts })?;
    let manifest = checked.manifest.clone();
    let mut unpacker = Unpacker::begin(bytes, checked)?;
    let mut pieces = Vec::new();
    while let Some(piece) = unpacker.next()? {
        pieces.push((piece.table, piece.bytes));
    }
    Ok((manifest, pieces))
}
