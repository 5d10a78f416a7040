//! The frames an archive consists of, and the chain that holds them together.
//!
//! ```text
//! magic (13 bytes) | format (u32)
//! frame*:   kind (1 byte) | length (u32) | payload | link (32 bytes)
//! ```
//!
//! Numbers are big-endian. A *link* is the BLAKE3 hash of the link before it (of magic and format, for the first) and of
//! the frame's kind, length and payload: so a frame that was changed, left out, moved, repeated or taken from another
//! archive is noticed where it stands, before its payload is looked at. Whoever changes an archive on purpose can compute
//! links as well; the last frame, the seal, has the MAC of the last link but one, under a key of the installation.

use std::io::{self, ErrorKind, Read, Write};

use super::error::ArchiveError;

/// As PNG does it: what changes line ends, or clears the eighth bit, breaks it.
const MAGIC: [u8; 13] = *b"\x89TENANTRY\r\n\x1a\n";
/// How many bytes tell whether something may be an archive.
pub const PREFIX: usize = MAGIC.len();
/// The format that is written, and the only one so far.
const FORMAT: u32 = 1;

/// How much of a table stands in one frame, before compression: as much as is in memory at once, some few times. Larger
/// frames compress hardly better.
pub(super) const CHUNK: usize = 512 * 1024;
/// The most that is read of header and trailer. Ours have a few KiB.
const MAX_TEXT: usize = 64 * 1024;
/// The most that zstd makes of an incompressible chunk (`ZSTD_COMPRESSBOUND`), and the frame's own fields.
const MAX_DATA: usize = CHUNK + (CHUNK >> 8) + 64;

/// Whether these are the first [`PREFIX`] bytes of an archive, of whatever format.
#[must_use]
pub fn is_prefix(bytes: &[u8]) -> bool {
    bytes.get(..PREFIX) == Some(&MAGIC[..])
}

/// A link of the chain.
pub(super) type Link = [u8; blake3::OUT_LEN];

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// What is exported, as JSON. The first.
    Header,
    /// A piece of a table: its place in the header (u16), the length of the piece (u32), the piece as a zstd frame.
    Data,
    /// What the tables came to, as JSON. Comes after all data.
    Trailer,
    /// The MAC. The last.
    Seal,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Header, Self::Data, Self::Trailer, Self::Seal];

    fn byte(self) -> u8 {
        match self {
            Self::Header => b'H',
            Self::Data => b'D',
            Self::Trailer => b'T',
            Self::Seal => b'S',
        }
    }

    fn max_length(self) -> usize {
        match self {
            Self::Header | Self::Trailer => MAX_TEXT,
            Self::Data => MAX_DATA,
            Self::Seal => 32,
        }
    }
}

fn first_link() -> Link {
    *blake3::Hasher::new().update(&MAGIC).update(&FORMAT.to_be_bytes()).finalize().as_bytes()
}

/// The five bytes in front of a payload.
fn head_of(kind: Kind, payload: &[u8]) -> Result<[u8; 5], ArchiveError> {
    let length = u32::try_from(payload.len()).ok().filter(|_| payload.len() <= kind.max_length());
    let [a, b, c, d] = length
        .ok_or_else(|| ArchiveError::Damaged(format!("a frame of {} bytes", payload.len())))?
        .to_be_bytes();
    Ok([kind.byte(), a, b, c, d])
}

fn next_link(link: &Link, head: [u8; 5], payload: &[u8]) -> Link {
    *blake3::Hasher::new().update(link).update(&head).update(payload).finalize().as_bytes()
}

/// Writes frames.
#[derive(Debug)]
pub(super) struct FrameWriter<W> {
    out: W,
    link: Link,
}

impl<W: Write> FrameWriter<W> {
    pub(super) fn begin(mut out: W) -> Result<Self, ArchiveError> {
        out.write_all(&MAGIC)?;
        out.write_all(&FORMAT.to_be_bytes())?;
        Ok(Self { out, link: first_link() })
    }

    pub(super) fn write(&mut self, kind: Kind, payload: &[u8]) -> Result<(), ArchiveError> {
        let head = head_of(kind, payload)?;
        self.link = next_link(&self.link, head, payload);
        for part in [&head[..], payload, &self.link] {
            self.out.write_all(part)?;
        }
        Ok(())
    }

    /// The link after what was written so far.
    pub(super) fn link(&self) -> &Link {
        &self.link
    }

    pub(super) fn end(mut self) -> Result<W, ArchiveError> {
        self.out.flush()?;
        Ok(self.out)
    }
}

/// Reads frames. Each has passed its link when it is handed out.
#[derive(Debug)]
pub(super) struct FrameReader<R> {
    input: R,
    link: Link,
    payload: Vec<u8>,
    /// How many bytes were read.
    read: u64,
}

impl<R: Read> FrameReader<R> {
    pub(super) fn begin(input: R) -> Result<Self, ArchiveError> {
        let mut reader = Self { input, link: first_link(), payload: Vec::new(), read: 0 };
        let mut magic = [0; MAGIC.len()];
        reader.fill(&mut magic).map_err(|error| match error {
            ArchiveError::Damaged(_) => ArchiveError::NotAnArchive,
            error => error,
        })?;
        if magic != MAGIC {
            return Err(ArchiveError::NotAnArchive);
        }
        let mut format = [0; 4];
        reader.fill(&mut format)?;
        match u32::from_be_bytes(format) {
            FORMAT => Ok(reader),
            other => Err(ArchiveError::UnknownFormat(other)),
        }
    }

    /// The next frame, which has to be of one of these kinds, and its payload.
    pub(super) fn next(&mut self, expected: &[Kind]) -> Result<(Kind, &[u8]), ArchiveError> {
        let mut head = [0; 5];
        self.fill(&mut head)?;
        let [kind, length @ ..] = head;
        let kind = Kind::ALL.into_iter().find(|known| known.byte() == kind && expected.contains(known));
        let kind = kind.ok_or_else(|| self.damaged("a frame of the wrong kind"))?;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        // Before any room is made for it.
        if length > kind.max_length() {
            return Err(self.damaged("a frame that is longer than any"));
        }
        let mut payload = std::mem::take(&mut self.payload);
        payload.resize(length, 0);
        self.fill(&mut payload)?;
        let mut link = Link::default();
        self.fill(&mut link)?;
        self.link = next_link(&self.link, head, &payload);
        // Not a secret: whoever can try can compute it.
        if link != self.link {
            return Err(self.damaged("a frame is not what was written"));
        }
        self.payload = payload;
        Ok((kind, &self.payload))
    }

    /// The link after what was read so far.
    pub(super) fn link(&self) -> &Link {
        &self.link
    }

    /// How many bytes were read so far.
    pub(super) fn position(&self) -> u64 {
        self.read
    }

    /// That nothing follows.
    pub(super) fn end(mut self) -> Result<(), ArchiveError> {
        match self.input.read(&mut [0]) {
            Ok(0) => Ok(()),
            Ok(_) => Err(self.damaged("something follows its end")),
            Err(error) => Err(error.into()),
        }
    }

    /// What is wrong, and where.
    pub(super) fn damaged(&self, what: &str) -> ArchiveError {
        ArchiveError::Damaged(format!("{what} (before byte {})", self.read))
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), ArchiveError> {
        match self.input.read_exact(buffer) {
            Ok(()) => {
                self.read += buffer.len() as u64;
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                Err(self.damaged("it ends before its end"))
            }
            Err(error) => Err(io::Error::into(error)),
        }
    }
}
