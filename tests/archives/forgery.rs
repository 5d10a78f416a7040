//! Archives by somebody who knows the format and has no key: read and written here by what `deploy/archives.md` says alone.

use serde_json::{Value, json};

const PREFIX: usize = 17;

/// An archive, open to changes.
#[derive(Clone)]
pub(super) struct Forgery {
    pub(super) header: Value,
    /// The rows of each table, as COPY has them.
    pub(super) tables: Vec<Vec<u8>>,
    prefix: Vec<u8>,
}

impl Forgery {
    /// What an archive holds, as if another installation had written it.
    pub(super) fn of(archive: &[u8]) -> Self {
        let (prefix, mut rest) = archive.split_at(PREFIX);
        let (mut header, mut tables) = (Value::Null, Vec::new());
        while let Some((&kind, frame)) = rest.split_first() {
            let length = usize::try_from(u32::from_be_bytes(frame[..4].try_into().unwrap())).unwrap();
            let payload = &frame[4..4 + length];
            rest = &frame[4 + length + 32..];
            match kind {
                b'H' => {
                    header = serde_json::from_slice(payload).unwrap();
                    tables = vec![Vec::new(); header["tables"].as_array().unwrap().len()];
                }
                b'D' => {
                    let table: &mut Vec<u8> = &mut tables[usize::from(payload[1])];
                    table.extend(zstd::bulk::decompress(&payload[6..], 1 << 20).unwrap());
                }
                _ => {}
            }
        }
        header["installation"] = json!("bbbbbbbb");
        Self { header, tables, prefix: prefix.to_vec() }
    }

    /// The place of a table.
    pub(super) fn place(&self, table: &str) -> usize {
        let tables = self.header["tables"].as_array().unwrap();
        tables.iter().position(|named| named[0] == table).unwrap()
    }

    /// The rows of a table.
    pub(super) fn rows(&mut self, table: &str) -> &mut Vec<u8> {
        let place = self.place(table);
        &mut self.tables[place]
    }

    /// Puts a value, as COPY has it, into a column of the rows that have this text in them.
    pub(super) fn set(&mut self, table: &str, column: &str, of: &str, value: &str) {
        let place = self.place(table);
        let columns = self.header["tables"][place][1].as_array().unwrap();
        let at = columns.iter().position(|named| named == column).unwrap();
        let rows = String::from_utf8(std::mem::take(&mut self.tables[place])).unwrap();
        let mut changed = 0;
        for row in rows.lines() {
            let mut values: Vec<&str> = row.split('\t').collect();
            if row.contains(of) {
                values[at] = value;
                changed += 1;
            }
            self.tables[place].extend(format!("{}\n", values.join("\t")).into_bytes());
        }
        assert!(changed > 0, "no row of {table} has {of:?} in it");
    }

    /// The archive, linked as it should be, and sealed with what nobody can check.
    pub(super) fn written(&self) -> Vec<u8> {
        let mut link = blake3::hash(&self.prefix);
        let mut archive = self.prefix.clone();
        let mut frame = |kind: u8, payload: &[u8]| {
            let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
            let frame = [&[kind][..], &length, payload].concat();
            link = blake3::hash(&[link.as_bytes(), &frame[..]].concat());
            archive.extend(frame);
            archive.extend(link.as_bytes());
        };
        frame(b'H', self.header.to_string().as_bytes());
        let mut sums = Vec::new();
        for ((place, rows), named) in
            (0_u16..).zip(&self.tables).zip(self.header["tables"].as_array().unwrap())
        {
            for piece in rows.chunks(512 * 1024) {
                let length = u32::try_from(piece.len()).unwrap().to_be_bytes();
                let packed = zstd::bulk::compress(piece, 1).unwrap();
                frame(b'D', &[&place.to_be_bytes()[..], &length, &packed].concat());
            }
            sums.push(json!({
                "name": named[0], "rows": rows.split(|byte| *byte == b'\n').count() - 1,
                "bytes": rows.len(), "checksum": blake3::hash(rows).to_hex().as_str(),
            }));
        }
        frame(b'T', json!({ "tables": sums }).to_string().as_bytes());
        frame(b'S', &[0; 32]);
        archive
    }
}
