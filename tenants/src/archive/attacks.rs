//! Archives as they must not be.

use std::collections::HashMap;

use super::*;

const INSTALLATION: &str = "aaaaaaaa";

fn key() -> SecretKey {
    SecretKey::from_bytes([7; 32])
}

fn header_at(schema_version: i32, installation: &str) -> Header {
    let tables = tables::contents_of(schema_version)
        .into_iter()
        .map(|(name, columns)| (name.to_owned(), columns.into_iter().map(str::to_owned).collect()));
    Header {
        installation: installation.to_owned(),
        tenant: ArchivedTenant { id: Uuid::from_u128(7), slug: "acme".into(), name: "Acme".into() },
        schema_version,
        created_at: "2026-01-02T03:04:05Z".parse().unwrap(),
        tables: tables.collect(),
    }
}

fn header() -> Header {
    header_at(current_version(), INSTALLATION)
}

/// The archive of a header and pieces of tables.
fn packed(header: Header, pieces: &[(u16, &[u8])]) -> Vec<u8> {
    let mut packer = Packer::begin(Vec::new(), header).unwrap();
    for (table, piece) in pieces {
        packer.add(*table, piece).unwrap();
    }
    packer.end(&key()).unwrap().0
}

fn ours() -> Vec<u8> {
    packed(header(), &[(0, b"1\tAcme\n"), (1, b"a\tb\nc\td\n"), (1, b"e\tf\n"), (3, b"x\n")])
}

fn reader(trusts: bool, key: &SecretKey) -> Reader<'_> {
    Reader { installation: INSTALLATION, key, trusts }
}

/// What an archive unpacks to, by table, as an import reads it.
fn unpacked(bytes: &[u8], trusts: bool) -> Result<HashMap<usize, Vec<u8>>, ArchiveError> {
    let key = key();
    let checked = check(bytes, reader(trusts, &key))?;
    unpack(bytes, checked)
}

fn unpack(bytes: &[u8], checked: Checked) -> Result<HashMap<usize, Vec<u8>>, ArchiveError> {
    let mut unpacker = Unpacker::begin(bytes, checked)?;
    let mut tables: HashMap<usize, Vec<u8>> = HashMap::new();
    while let Some(piece) = unpacker.next()? {
        tables.entry(piece.table).or_default().extend(piece.bytes);
    }
    Ok(tables)
}

/// Where each frame of an archive begins, and where the last one ends.
fn borders(bytes: &[u8]) -> Vec<usize> {
    let mut borders = vec![17];
    while let Some(head) = bytes.get(borders[borders.len() - 1]..).filter(|rest| !rest.is_empty()) {
        let length = u32::from_be_bytes(head[1..5].try_into().unwrap());
        borders.push(borders[borders.len() - 1] + 5 + usize::try_from(length).unwrap() + 32);
    }
    borders
}

/// An archive that somebody wrote who knows the format and has no key: frames as he likes, linked as they should be.
fn forged(frames: &[(Kind, Vec<u8>)]) -> Vec<u8> {
    let mut writer = FrameWriter::begin(Vec::new()).unwrap();
    for (kind, payload) in frames {
        writer.write(*kind, payload).unwrap();
    }
    writer.end().unwrap()
}

/// The frames of an archive, without their links.
fn frames_of(bytes: &[u8]) -> Vec<(Kind, Vec<u8>)> {
    let mut reader = FrameReader::begin(bytes).unwrap();
    let mut frames = Vec::new();
    for _ in 1..borders(bytes).len() {
        let (kind, payload) = reader.next(&[Kind::Header, Kind::Data, Kind::Trailer, Kind::Seal]).unwrap();
        frames.push((kind, payload.to_vec()));
    }
    frames
}

/// The same archive, as another installation would have written it, changed before it was linked.
fn foreign(change: impl FnOnce(&mut Vec<(Kind, Vec<u8>)>)) -> Vec<u8> {
    let pieces: [(u16, &[u8]); 3] = [(0, b"1\tAcme\n"), (1, b"a\tb\nc\td\n"), (3, b"x\n")];
    let mut frames = frames_of(&packed(header_at(current_version(), "bbbbbbbb"), &pieces));
    change(&mut frames);
    forged(&frames)
}

#[track_caller]
fn assert_refused(bytes: &[u8], trusts: bool, sentence: &str) {
    let error = unpacked(bytes, trusts).unwrap_err().to_string();
    assert!(error.contains(sentence), "{error:?} does not say {sentence:?}");
}

#[test]
fn what_was_packed_is_unpacked() {
    let tables = unpacked(&ours(), false).unwrap();
    assert_eq!(tables[&0], b"1\tAcme\n");
    assert_eq!(tables[&1], b"a\tb\nc\td\ne\tf\n");
    assert_eq!(tables[&3], b"x\n");
    assert_eq!(tables.len(), 3);
    let key = key();
    let manifest = check(&ours()[..], reader(false, &key)).unwrap().manifest;
    assert_eq!((manifest.rows(), manifest.bytes()), (5, 21));
    assert_eq!(manifest.tenant.slug, "acme");
    let rows: Vec<u64> = manifest.tables.iter().map(|table| table.rows).collect();
    assert_eq!(rows[..4], [1, 3, 0, 1]);
}

#[test]
fn no_byte_can_be_changed() {
    let archive = ours();
    for at in 0..archive.len() {
        let mut changed = archive.clone();
        changed[at] ^= 1;
        assert!(unpacked(&changed, false).is_err(), "byte {at}");
        // Nor by accident in one that nobody can check the seal of.
        assert!(unpacked(&changed, true).is_err(), "byte {at}, trusted");
    }
}

#[test]
fn it_can_be_cut_off_nowhere_and_nothing_can_follow() {
    let archive = ours();
    for length in 0..archive.len() {
        assert!(unpacked(&archive[..length], true).is_err(), "{length} bytes");
    }
    for border in &borders(&archive)[..borders(&archive).len() - 1] {
        assert_refused(&archive[..*border], false, "it ends before its end");
    }
    assert_refused(&[&archive[..], b"x"].concat(), false, "something follows its end");
    assert_refused(&[&archive[..], &archive[..]].concat(), false, "something follows its end");
}

#[test]
fn frames_can_be_neither_moved_nor_repeated_nor_left_out_nor_taken_from_elsewhere() {
    let archive = ours();
    let borders = borders(&archive);
    let frame = |n: usize| &archive[borders[n]..borders[n + 1]];
    let of = |frames: &[&[u8]]| [&archive[..17], &frames.concat()].concat();
    let all: Vec<&[u8]> = (0..borders.len() - 1).map(frame).collect();
    assert_eq!(of(&all), archive);
    for n in 0..all.len() {
        let mut fewer = all.clone();
        fewer.remove(n);
        assert!(unpacked(&of(&fewer), true).is_err(), "without frame {n}");
        let mut more = all.clone();
        more.insert(n, all[n]);
        assert!(unpacked(&of(&more), true).is_err(), "frame {n} twice");
        if n > 0 {
            let mut moved = all.clone();
            moved.swap(n - 1, n);
            assert!(unpacked(&of(&moved), true).is_err(), "frame {n} earlier");
        }
    }
    let other = packed(header(), &[(0, b"2\tEvil\n"), (1, b"y\tz\nc\td\n"), (1, b"e\tf\n"), (3, b"x\n")]);
    for (n, pair) in borders.windows(2).enumerate().filter(|(_, pair)| other.len() >= pair[1]) {
        let mut replayed = archive.clone();
        replayed[pair[0]..pair[1]].copy_from_slice(&other[pair[0]..pair[1]]);
        // The header is the same in both, and the first piece the first that differs.
        assert_eq!(unpacked(&replayed, true).is_err(), n > 0, "frame {n} of another archive");
    }
}

#[test]
fn who_has_no_key_cannot_change_it_and_link_it_anew() {
    let mut frames = frames_of(&ours());
    frames[1].1[0] = 0;
    frames.swap(2, 3);
    assert_refused(&forged(&frames), true, "its seal is broken");
    // Nor seal what the same installation has sealed otherwise.
    assert!(unpacked(&forged(&frames_of(&ours())), false).is_ok());
    let mut sealed = frames_of(&ours());
    sealed[0].1 = to_json(&Header { created_at: DateTime::UNIX_EPOCH, ..header() }).unwrap();
    assert_refused(&forged(&sealed), true, "its seal is broken");
}

#[test]
fn another_installations_is_refused_unless_it_is_trusted() {
    let archive = foreign(|_| {});
    assert_refused(&archive, false, "another installation, bbbbbbbb");
    assert_eq!(unpacked(&archive, true).unwrap()[&0], b"1\tAcme\n");
    // To say that it is another's does not help: nobody trusts it by himself.
    let mut frames = frames_of(&ours());
    frames[0].1 = to_json(&header_at(current_version(), "bbbbbbbb")).unwrap();
    assert_refused(&forged(&frames), false, "another installation");
}

#[test]
fn names_that_nobody_has_are_refused() {
    let renamed = |header: Header| foreign(|frames| frames[0].1 = to_json(&header).unwrap());
    let header = || header_at(current_version(), "bbbbbbbb");
    assert!(unpacked(&renamed(header()), true).is_ok());
    for installation in ["", "evil\u{0}", "../../etc", "bbbbbbbbb"] {
        let installation = installation.to_owned();
        assert_refused(&renamed(Header { installation, ..header() }), true, "names that nobody has");
    }
    for (slug, name) in [("ac\u{0}me", "Acme"), ("acme", "Acme\u{1b}[2J")] {
        let mut header = header();
        (header.tenant.slug, header.tenant.name) = (slug.to_owned(), name.to_owned());
        assert_refused(&renamed(header), true, "names that nobody has");
    }
}

#[test]
fn what_is_not_of_the_format_is_told_apart() {
    assert_refused(b"", false, "this is no archive");
    assert_refused(b"PK\x03\x04 and so on and on", false, "this is no archive");
    let mut later = ours();
    later[16] = 2;
    assert_refused(&later, false, "format 2");
    assert_refused(&packed(header_at(0, "bbbbbbbb"), &[]), true, "there is no version 0");
    let newer = Header { schema_version: current_version() + 1, ..header() };
    assert_refused(&packed(newer, &[]), false, "newer than");
}

#[test]
fn a_length_that_is_claimed_takes_no_room() {
    for (frame, length) in [(0, 64 * 1024 + 1), (1, u32::MAX), (1, 600 * 1024)] {
        let mut archive = ours();
        let at = borders(&archive)[frame] + 1;
        archive[at..at + 4].copy_from_slice(&u32::to_be_bytes(length));
        assert_refused(&archive, true, "a frame that is longer than any");
    }
}

#[test]
fn tables_and_columns_are_ours_whoever_wrote_it() {
    let with = |change: &dyn Fn(&mut Header)| {
        let mut header = header_at(current_version(), "bbbbbbbb");
        change(&mut header);
        packed(header, &[])
    };
    let renamed = |to: &'static str| with(&move |header| to.clone_into(&mut header.tables[1].0));
    for name in ["sessions", "users; DROP SCHEMA public", "tenantry.operators", "settings", ""] {
        assert_refused(&renamed(name), true, "does not hold what a schema of its version has");
    }
    let columns = "does not hold what a schema of its version has";
    assert_refused(&with(&|header| header.tables[1].1.swap(0, 1)), true, columns);
    assert_refused(&with(&|header| header.tables[1].1.push("xmin".into())), true, columns);
    assert_refused(&with(&|header| header.tables.truncate(2)), true, columns);
    assert_refused(&with(&|header| header.tables.swap(0, 1)), true, columns);
    assert_refused(&with(&|header| header.tables.clear()), true, columns);
    let unknown = foreign(|frames| {
        let header = String::from_utf8(frames[0].1.clone()).unwrap();
        frames[0].1 = header.replacen('{', r#"{"extra":1,"#, 1).into_bytes();
    });
    assert_refused(&unknown, true, "unknown field `extra`");
}

/// The payload of a piece.
fn piece(table: u16, length: u32, text: &[u8]) -> Vec<u8> {
    let packed = zstd::bulk::compress(text, 19).unwrap();
    [&table.to_be_bytes()[..], &length.to_be_bytes(), &packed].concat()
}

#[test]
fn a_piece_unpacks_to_no_more_than_it_may() {
    let zeros = vec![0_u8; 64 << 20];
    for (length, sentence) in [
        (u32::MAX, "a piece of no possible length"),
        (0, "a piece of no possible length"),
        (512 * 1024 + 1, "a piece of no possible length"),
        (512 * 1024, "a piece that does not unpack"),
        (8, "a piece that does not unpack"),
    ] {
        assert_refused(&foreign(|frames| frames[1].1 = piece(0, length, &zeros)), true, sentence);
    }
    assert_refused(
        &foreign(|frames| frames[1].1 = piece(0, 9, b"1\tAcme\n")),
        true,
        "a piece that does not unpack",
    );
    assert_refused(&foreign(|frames| frames[1].1.truncate(5)), true, "a piece without its length");
    assert_refused(&foreign(|frames| frames[1].1[6] ^= 0xff), true, "a piece that does not unpack");
}

#[test]
fn an_archive_that_unpacks_to_far_more_than_its_size_is_not_unpacked() {
    let chunk = vec![b'\n'; CHUNK];
    let pieces: Vec<(u16, &[u8])> = (0..20).map(|_| (1, &chunk[..])).collect();
    let bomb = packed(header_at(current_version(), "bbbbbbbb"), &pieces);
    assert_refused(&bomb, true, "more than 100 times its size");
    // One that does not say so is found out before more is unpacked than it said.
    let mut frames = frames_of(&bomb);
    let at = frames.len() - 2;
    let mut trailer: Trailer = serde_json::from_slice(&frames[at].1).unwrap();
    trailer.tables[1].bytes = 1_000;
    frames[at].1 = to_json(&trailer).unwrap();
    assert_refused(&forged(&frames), true, "more data than its trailer says");
}

#[test]
fn what_a_table_comes_to_is_what_its_trailer_says() {
    let lies = |change: &dyn Fn(&mut ArchivedTable)| {
        foreign(|frames| {
            let at = frames.len() - 2;
            let mut trailer: Trailer = serde_json::from_slice(&frames[at].1).unwrap();
            change(&mut trailer.tables[1]);
            frames[at].1 = to_json(&trailer).unwrap();
        })
    };
    let sentence = "a table is not what its trailer says";
    assert_refused(&lies(&|table| table.rows += 1), true, sentence);
    assert_refused(&lies(&|table| table.bytes += 1), true, sentence);
    assert_refused(&lies(&|table| table.checksum = "00".repeat(32)), true, sentence);
    assert_refused(&lies(&|table| "lists".clone_into(&mut table.name)), true, "about other tables");
    assert_refused(&foreign(|frames| frames.swap(1, 2)), true, "its trailer says");
    assert_refused(&foreign(|frames| frames[1].1[1] = 99), true, "its trailer says");
    assert_refused(&foreign(|frames| drop(frames.remove(1))), true, sentence);
    let twice = foreign(|frames| frames.insert(3, frames[1].clone()));
    assert_refused(&twice, true, "a table that comes twice");
}

#[test]
fn what_was_checked_is_what_is_unpacked() {
    let key = key();
    let checked = check(&ours()[..], reader(false, &key)).unwrap();
    // Well sealed, and put in its place after it was checked.
    let other = packed(
        Header { created_at: DateTime::UNIX_EPOCH, ..header() },
        &[(0, b"1\tAcme\n"), (1, b"a\tb\nc\td\n"), (1, b"e\tf\n"), (3, b"x\n")],
    );
    assert!(matches!(unpack(&other, checked), Err(ArchiveError::Tampered)));
}

#[test]
fn no_bytes_at_all_make_the_reader_panic() {
    use proptest::prelude::*;
    let archive = ours();
    proptest!(|(noise in proptest::collection::vec(any::<u8>(), 0..400), at in 0..archive.len())| {
        let mut archive = archive.clone();
        archive.truncate(at);
        archive.extend(&noise);
        prop_assert!(unpacked(&archive, true).is_err());
        prop_assert!(unpacked(&noise, true).is_err());
    });
}
