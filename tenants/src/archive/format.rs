//! What stands in an archive: a header, the tables in pieces, a trailer with what they came to, and the seal.
//!
//! What is known at the end only, how many rows there are, stands at the end: so an archive is written in one go. It is
//! read twice: [`check`] goes through all of it without unpacking anything, and knows then whether the archive is whole,
//! whose it is and what it will come to; [`Unpacker`] reads it again, and finds that it is still the same.

use std::{
    collections::HashSet,
    io::{Read, Write},
};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    error::ArchiveError,
    frames::{CHUNK, FrameReader, FrameWriter, Kind, Link},
    tables,
};
use crate::{InstallationId, SecretKey, render::current_version};

/// zstd's own default: a level more takes a fifth longer for a hundredth less.
const LEVEL: i32 = 3;
/// How many times its size another installation's archive may unpack to. Rows are made of random ids: ours unpack to three
/// to five times their size.
const MAX_RATIO: u64 = 100;
/// What the seal's MAC is for.
const SEAL: &[u8] = b"tenantry archive seal 1 ";

/// A tenant, as an archive names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArchivedTenant {
    /// Its id.
    pub id: Uuid,
    /// Its slug at that time.
    pub slug: String,
    /// The organization's name, as operators saw it.
    pub name: String,
}

/// What is exported: the first frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    pub(super) installation: String,
    pub(super) tenant: ArchivedTenant,
    pub(super) schema_version: i32,
    pub(super) created_at: DateTime<Utc>,
    /// The tables and their columns.
    pub(super) tables: Vec<(String, Vec<String>)>,
}

/// What a table came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArchivedTable {
    /// Its name.
    pub name: String,
    /// How many rows it has.
    pub rows: u64,
    /// How many bytes these are, unpacked.
    pub bytes: u64,
    /// The BLAKE3 hash of those, in hexadecimal.
    pub checksum: String,
}

/// What the tables came to: the last frame but the seal.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Trailer {
    tables: Vec<ArchivedTable>,
}

/// What an archive says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Manifest {
    /// The installation that wrote it.
    pub installation: String,
    /// The tenant that it is of.
    pub tenant: ArchivedTenant,
    /// How many tenant migrations its schema had had.
    pub schema_version: i32,
    /// When its snapshot was taken.
    pub created_at: DateTime<Utc>,
    /// The tables, and what they came to.
    pub tables: Vec<ArchivedTable>,
}

impl Manifest {
    fn of(header: Header, trailer: Trailer) -> Self {
        let Header { installation, tenant, schema_version, created_at, .. } = header;
        Self { installation, tenant, schema_version, created_at, tables: trailer.tables }
    }

    /// How many rows it has, in all tables.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.tables.iter().map(|table| table.rows).sum()
    }

    /// How many bytes its rows are, unpacked.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.tables.iter().map(|table| table.bytes).fold(0, u64::saturating_add)
    }
}

/// What a table comes to, while it is read or written.
#[derive(Clone, Debug, Default)]
struct Sum {
    rows: u64,
    bytes: u64,
    hash: blake3::Hasher,
}

impl Sum {
    fn add(&mut self, piece: &[u8]) -> u64 {
        // In COPY's text format a line end within a value is written as `\n`: each byte 10 ends a row.
        let rows = piece.split(|byte| *byte == b'\n').count() as u64 - 1;
        self.rows += rows;
        self.bytes += piece.len() as u64;
        self.hash.update(piece);
        rows
    }

    fn table(&self, name: &str) -> ArchivedTable {
        let checksum = self.hash.finalize().to_hex().to_string();
        ArchivedTable { name: name.to_owned(), rows: self.rows, bytes: self.bytes, checksum }
    }
}

/// Writes an archive.
pub(super) struct Packer<W> {
    frames: FrameWriter<W>,
    header: Header,
    sums: Vec<Sum>,
    zstd: zstd::bulk::Compressor<'static>,
    payload: Vec<u8>,
}

impl<W: Write> Packer<W> {
    pub(super) fn begin(out: W, header: Header) -> Result<Self, ArchiveError> {
        let mut frames = FrameWriter::begin(out)?;
        frames.write(Kind::Header, &to_json(&header)?)?;
        let sums = vec![Sum::default(); header.tables.len()];
        Ok(Self { frames, header, sums, zstd: zstd::bulk::Compressor::new(LEVEL)?, payload: Vec::new() })
    }

    /// Adds a piece of a table, a [`CHUNK`] at most, and says how many rows end in it.
    pub(super) fn add(&mut self, table: u16, piece: &[u8]) -> Result<u64, ArchiveError> {
        let sum = self.sums.get_mut(usize::from(table));
        let rows = sum.ok_or_else(|| ArchiveError::Contents("a table too many".into()))?.add(piece);
        let length = u32::try_from(piece.len()).unwrap_or(u32::MAX);
        self.payload.clear();
        self.payload.extend_from_slice(&table.to_be_bytes());
        self.payload.extend_from_slice(&length.to_be_bytes());
        self.payload.extend_from_slice(&self.zstd.compress(piece)?);
        self.frames.write(Kind::Data, &self.payload)?;
        Ok(rows)
    }

    /// Ends and seals it.
    pub(super) fn end(mut self, key: &SecretKey) -> Result<(W, Manifest), ArchiveError> {
        let named = self.header.tables.iter().zip(&self.sums);
        let trailer = Trailer { tables: named.map(|((name, _), sum)| sum.table(name)).collect() };
        self.frames.write(Kind::Trailer, &to_json(&trailer)?)?;
        let seal = key.mac(&sealed(self.frames.link()));
        self.frames.write(Kind::Seal, &seal)?;
        Ok((self.frames.end()?, Manifest::of(self.header, trailer)))
    }
}

pub(super) fn to_json(value: &impl Serialize) -> Result<Vec<u8>, ArchiveError> {
    serde_json::to_vec(value).map_err(|error| ArchiveError::Damaged(error.to_string()))
}

fn sealed(link: &Link) -> Vec<u8> {
    [SEAL, link].concat()
}

/// Whose archives are taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    /// This installation's name.
    pub(super) installation: &'a str,
    /// Its key for seals.
    pub(super) key: &'a SecretKey,
    /// Whether another installation's archive is taken, whose seal cannot be checked.
    pub(super) trusts: bool,
}

/// An archive that is whole and may be taken, and what it ends in: whatever is unpacked later has to end in the same.
#[derive(Clone, Debug)]
pub(super) struct Checked {
    pub(super) manifest: Manifest,
    end: Link,
}

/// Reads the header of an archive, whoever's it is, and believes it: for lists.
pub(super) fn header(input: impl Read) -> Result<Header, ArchiveError> {
    read_header(&mut FrameReader::begin(input)?)
}

fn read_header<R: Read>(frames: &mut FrameReader<R>) -> Result<Header, ArchiveError> {
    let (_, header) = frames.next(&[Kind::Header])?;
    let header: Header = serde_json::from_slice(header)
        .map_err(|error| ArchiveError::Damaged(format!("its header: {error}")))?;
    // They go into the log, which keeps no NUL, and onto terminals.
    let texts = [&header.tenant.slug, &header.tenant.name];
    if header.installation.parse::<InstallationId>().is_err()
        || texts.iter().any(|text| text.contains(char::is_control))
    {
        return Err(ArchiveError::Damaged("its header: names that nobody has".to_owned()));
    }
    Ok(header)
}

/// Goes through an archive: that no byte of it is another than was written, that it is one of this installation or is
/// trusted, and that it holds what a schema of its version has. Nothing is unpacked.
pub(super) fn check(input: impl Read, reader: Reader<'_>) -> Result<Checked, ArchiveError> {
    let mut frames = FrameReader::begin(input)?;
    let header = read_header(&mut frames)?;
    let ours = header.installation == reader.installation;
    if !ours && !reader.trusts {
        return Err(ArchiveError::Foreign(header.installation));
    }
    let trailer: Trailer = loop {
        let (kind, payload) = frames.next(&[Kind::Data, Kind::Trailer])?;
        if kind == Kind::Trailer {
            break serde_json::from_slice(payload)
                .map_err(|error| ArchiveError::Damaged(format!("its trailer: {error}")))?;
        }
    };
    let link = *frames.link();
    let (_, seal) = frames.next(&[Kind::Seal])?;
    if ours && !reader.key.verifies(&sealed(&link), seal) {
        return Err(ArchiveError::Tampered);
    }
    let (end, size) = (*frames.link(), frames.position());
    frames.end()?;
    check_contents(&header, &trailer)?;
    let manifest = Manifest::of(header, trailer);
    if !ours && manifest.bytes() > size.saturating_mul(MAX_RATIO) {
        return Err(ArchiveError::Bomb(MAX_RATIO));
    }
    Ok(Checked { manifest, end })
}

/// That it holds exactly the tables and columns that a schema of its version has.
fn check_contents(header: &Header, trailer: &Trailer) -> Result<(), ArchiveError> {
    let (found, known) = (header.schema_version, current_version());
    if found > known {
        return Err(ArchiveError::SchemaTooNew { found, known });
    }
    let expected = tables::contents_of(found);
    if expected.is_empty() {
        return Err(ArchiveError::Contents(format!("there is no version {found}")));
    }
    let wrong = |name: &str| Err(ArchiveError::Contents(format!("the table {name:?}")));
    for (name, columns) in &header.tables {
        if !expected.iter().any(|(known, known_columns)| known == name && columns == known_columns) {
            return wrong(name);
        }
    }
    if header.tables.len() != expected.len()
        || header.tables.iter().zip(&expected).any(|((name, _), (known, _))| name != known)
    {
        return Err(ArchiveError::Contents("its tables are not all, or in another order".into()));
    }
    let summed: Vec<&str> = trailer.tables.iter().map(|table| table.name.as_str()).collect();
    let named: Vec<&str> = header.tables.iter().map(|(name, _)| name.as_str()).collect();
    if summed != named || HashSet::<&str>::from_iter(named).len() != summed.len() {
        return Err(ArchiveError::Contents("its trailer is about other tables".into()));
    }
    Ok(())
}

/// A piece of a table.
pub(super) struct Piece {
    /// The table's place in the header.
    pub(super) table: usize,
    /// How many rows end in it.
    pub(super) rows: u64,
    pub(super) bytes: Vec<u8>,
}

/// Unpacks an archive that was checked, piece by piece.
pub(super) struct Unpacker<R> {
    frames: FrameReader<R>,
    checked: Checked,
    /// The table that is being read, and what of it was read.
    table: usize,
    sum: Sum,
    zstd: zstd::bulk::Decompressor<'static>,
}

impl<R: Read> Unpacker<R> {
    pub(super) fn begin(input: R, checked: Checked) -> Result<Self, ArchiveError> {
        let mut frames = FrameReader::begin(input)?;
        read_header(&mut frames)?;
        let zstd = zstd::bulk::Decompressor::new()?;
        Ok(Self { frames, checked, table: 0, sum: Sum::default(), zstd })
    }

    /// The next piece. `None` at the end, which is the one that was checked: every table
    /// came to what the trailer says.
    pub(super) fn next(&mut self) -> Result<Option<Piece>, ArchiveError> {
        let (kind, payload) = self.frames.next(&[Kind::Data, Kind::Trailer])?;
        if kind == Kind::Trailer {
            self.frames.next(&[Kind::Seal])?;
            if *self.frames.link() != self.checked.end {
                return Err(ArchiveError::Tampered);
            }
            self.go_on_to(self.checked.manifest.tables.len())?;
            return Ok(None);
        }
        let Some((&[a, b, lengths @ ..], packed)) = payload.split_first_chunk::<6>() else {
            return Err(self.frames.damaged("a piece without its length"));
        };
        let (table, length) = (usize::from(u16::from_be_bytes([a, b])), u32::from_be_bytes(lengths));
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > CHUNK || length == 0 {
            return Err(self.frames.damaged("a piece of no possible length"));
        }
        // No more is written than there is room for, whatever the piece says of itself.
        let mut piece = vec![0; length];
        match self.zstd.decompress_to_buffer(packed, &mut piece[..]) {
            Ok(unpacked) if unpacked == length => {}
            Ok(_) | Err(_) => return Err(self.frames.damaged("a piece that does not unpack")),
        }
        self.go_on_to(table)?;
        let expected = self.checked.manifest.tables.get(table);
        let rows = self.sum.add(&piece);
        if expected.is_none_or(|expected| self.sum.bytes > expected.bytes) {
            return Err(self.frames.damaged("more data than its trailer says"));
        }
        Ok(Some(Piece { table, rows, bytes: piece }))
    }

    /// Leaves the tables before this one behind, each of which came to what it should.
    fn go_on_to(&mut self, table: usize) -> Result<(), ArchiveError> {
        if table < self.table {
            return Err(self.frames.damaged("a table that comes twice"));
        }
        while self.table < table {
            let sum = std::mem::take(&mut self.sum);
            let expected = self.checked.manifest.tables.get(self.table);
            if expected.is_none_or(|expected| sum.table(&expected.name) != *expected) {
                return Err(self.frames.damaged("a table is not what its trailer says"));
            }
            self.table += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "attacks.rs"]
mod attacks;
