//! Archives of tenants.

use std::sync::LazyLock;

use tenants::{
    SecretKey,
    archive::{Manifest, forge},
};

static KEY: LazyLock<SecretKey> = LazyLock::new(|| SecretKey::from_bytes([7; 32]));
static HEADER: LazyLock<Vec<u8>> = LazyLock::new(|| forge::header().expect("a header"));

/// The first byte says what the rest is: bytes of a file, frames that somebody links as he should, or pieces of tables.
pub(super) fn archive(input: &[u8]) {
    let Some((mode, rest)) = input.split_first() else { return };
    match mode % 4 {
        0 => {
            look(rest, true);
            assert!(forge::unpacked(rest, false, &KEY).is_err(), "nobody without the key seals one of ours");
        }
        1 => frames(rest, true),
        2 => frames(rest, false),
        _ => pieces(rest),
    }
}

/// A letter, a length of two bytes and a payload, again and again; behind a header of an archive that there may be, or not.
fn frames(mut rest: &[u8], with_header: bool) {
    let mut frames: Vec<(u8, &[u8])> = Vec::new();
    if with_header {
        frames.push((b'H', &HEADER));
    }
    while let Some((&[letter, high, low], more)) = rest.split_first_chunk::<3>() {
        let length = usize::from(u16::from_be_bytes([high, low])).min(more.len());
        let (payload, more) = more.split_at(length);
        frames.push((letter, payload));
        rest = more;
    }
    if let Ok(bytes) = forge::forged(&frames) {
        look(&bytes, true);
        assert!(forge::unpacked(&bytes, false, &KEY).is_err(), "another installation's");
    }
}

/// What is taken of an archive is what it says of itself, is bounded by its size, and reads the same when packed anew.
fn look(bytes: &[u8], trusts: bool) {
    let Ok((manifest, pieces)) = forge::unpacked(bytes, trusts, &KEY) else { return };
    let rows: usize =
        pieces.iter().map(|(_, piece)| piece.iter().filter(|byte| **byte == b'\n').count()).sum();
    let length: usize = pieces.iter().map(|(_, piece)| piece.len()).sum();
    assert_eq!((manifest.rows(), manifest.bytes()), (rows as u64, length as u64));
    assert!(length <= bytes.len().saturating_mul(1 << 12), "more than an honest archive could hold");
    again(&manifest, &pieces);
}

fn again(manifest: &Manifest, pieces: &[(usize, Vec<u8>)]) {
    let named: Vec<(u16, &[u8])> =
        pieces.iter().map(|(table, piece)| (u16::try_from(*table).expect("a table"), &piece[..])).collect();
    let packed = forge::packed(&named, true, &KEY).expect("packed anew");
    let (same, unpacked) = forge::unpacked(&packed, false, &KEY).expect("unpacked anew");
    assert_eq!((&same.tables, unpacked.as_slice()), (&manifest.tables, pieces));
}

/// What is packed is unpacked, whoever packs it; and no single byte can be changed.
fn pieces(rest: &[u8]) {
    let mut tables: Vec<(u16, &[u8])> = Vec::new();
    let mut rest = rest;
    let mut table = 0_u16;
    while let Some((&[step, length], more)) = rest.split_first_chunk::<2>() {
        let (piece, more) = more.split_at(usize::from(length).min(more.len()));
        table += u16::from(step % 3);
        if !piece.is_empty() {
            tables.push((table, piece));
        }
        rest = more;
    }
    let Ok(mut packed) = forge::packed(&tables, true, &KEY) else { return };
    let (manifest, unpacked) = forge::unpacked(&packed, false, &KEY).expect("what was packed is unpacked");
    let expected: Vec<(usize, Vec<u8>)> =
        tables.iter().map(|(table, piece)| (usize::from(*table), piece.to_vec())).collect();
    assert_eq!(unpacked, expected);
    again(&manifest, &unpacked);
    let at = tables.iter().map(|(_, piece)| piece.len() * 31).sum::<usize>() % packed.len();
    packed[at] ^= 1;
    assert!(forge::unpacked(&packed, true, &KEY).is_err(), "byte {at} was changed");
}
