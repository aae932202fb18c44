//! Which records open, and which do not.

#![expect(
    clippy::indexing_slicing,
    reason = "a failed expectation is how a test fails"
)]

use super::*;
use crate::secrets::secret::Secret;

/// The place where a record is written.
fn first(seals: &Seals, kind: Kind, name: &[u8]) -> String {
    seals.names(kind, name).remove(0)
}

fn key(id: &str, secret: &str) -> MasterKey {
    MasterKey {
        id: id.to_owned(),
        secret: Secret::new(secret),
    }
}

fn seals(keys: &[MasterKey]) -> Seals {
    Seals::new(keys, "test").expect("keys")
}

const OLD: &str = "an old secret that is long enough for anything";
const NEW: &str = "a new secret that is long enough for anything";

#[test]
fn a_record_opens_under_its_own_name_and_kind_only() {
    let seals = seals(&[key("k1", OLD)]);
    let name = first(&seals, Kind::KeySet, b"a");
    let record = seals
        .seal(Kind::KeySet, &name, 7, 1_800_000_000, b"value")
        .expect("sealed");
    let opened = seals.open(Kind::KeySet, &name, &record).expect("opened");
    assert_eq!(
        (opened.seq, opened.expires, opened.value.as_slice()),
        (7, 1_800_000_000, b"value".as_slice())
    );
    let other = first(&seals, Kind::KeySet, b"b");
    for (kind, name) in [(Kind::KeySet, &other), (Kind::Revocation, &name)] {
        assert_eq!(seals.open(kind, name, &record), Err(Broken::Tampered));
    }
}

#[test]
fn a_record_with_a_changed_missing_or_added_byte_does_not_open() {
    let seals = seals(&[key("k1", OLD)]);
    let record = seals
        .seal(Kind::KeySet, "n", 0, 1, b"value")
        .expect("sealed");
    for at in 0..record.len() {
        for flip in [1, 0x80] {
            let mut changed = record.clone();
            changed[at] ^= flip;
            assert!(seals.open(Kind::KeySet, "n", &changed).is_err(), "{at}");
        }
        assert!(
            seals.open(Kind::KeySet, "n", &record[..at]).is_err(),
            "{at}"
        );
    }
    let longer = [record.as_slice(), b"x"].concat();
    assert_eq!(
        seals.open(Kind::KeySet, "n", &longer),
        Err(Broken::Tampered)
    );
}

#[test]
fn two_seals_of_one_value_differ_and_hide_it() {
    let seals = seals(&[key("k1", OLD)]);
    let seal = || seals.seal(Kind::KeySet, "n", 0, 1, b"someone@example.com");
    let (one, two) = (seal().expect("sealed"), seal().expect("sealed"));
    let head = 2 + 2 + MARK;
    assert_eq!(one[..head], two[..head]);
    assert_ne!(one[head..], two[head..]);
    assert!(!one.windows(7).any(|window| window == b"example"));
}

#[test]
fn after_a_rotation_old_records_are_found_and_open() {
    let before = seals(&[key("k1", OLD)]);
    let name = first(&before, Kind::KeySet, b"a");
    let record = before
        .seal(Kind::KeySet, &name, 0, 1, b"value")
        .expect("sealed");
    let after = seals(&[key("k2", NEW), key("k1", OLD)]);
    assert_ne!(first(&after, Kind::KeySet, b"a"), name);
    assert!(after.names(Kind::KeySet, b"a").contains(&name));
    assert!(after.open(Kind::KeySet, &name, &record).is_ok());
    let fresh = after
        .seal(Kind::KeySet, "n", 0, 1, b"value")
        .expect("sealed");
    assert_eq!(
        before.open(Kind::KeySet, "n", &fresh),
        Err(Broken::UnknownKey)
    );
}

#[test]
fn another_secret_under_the_same_id_is_an_unknown_key() {
    let (one, two) = (seals(&[key("k", OLD)]), seals(&[key("k", NEW)]));
    let record = one.seal(Kind::KeySet, "n", 0, 1, b"value").expect("sealed");
    assert_eq!(
        two.open(Kind::KeySet, "n", &record),
        Err(Broken::UnknownKey)
    );
}

#[test]
fn different_names_and_kinds_have_different_stored_names() {
    let seals = seals(&[key("k1", OLD)]);
    assert_ne!(
        first(&seals, Kind::KeySet, b"ab"),
        first(&seals, Kind::KeySet, b"a")
    );
    assert_ne!(
        first(&seals, Kind::KeySet, b"a"),
        first(&seals, Kind::Revocation, b"a")
    );
}

proptest::proptest! {
    #[test]
    fn arbitrary_bytes_do_not_open_and_do_not_panic(record: Vec<u8>, id in 0..40_u8) {
        let seals = seals(&[key("k1", OLD)]);
        proptest::prop_assert!(seals.open(Kind::KeySet, "n", &record).is_err());
        let begun = [&[VERSION, id][..], b"k1", &record].concat();
        proptest::prop_assert!(seals.open(Kind::KeySet, "n", &begun).is_err());
    }
}
