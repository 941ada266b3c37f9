//! What is encrypted is read back under its name and by its key alone.

use super::*;

const NAME: &str = "demo/one/attempt/00000000.chunk";

fn keys(first: &[u8]) -> Keys {
    let keys: Vec<[u8; 32]> = first.iter().map(|byte| [*byte; 32]).collect();
    Keys::of(&keys)
}

fn plain(bytes: usize) -> Bytes {
    (0..bytes).map(|at| (at % 251) as u8).collect()
}

#[test]
fn what_is_encrypted_is_read_back_whatever_its_length() {
    let keys = keys(&[1]);
    for bytes in [
        0,
        1,
        FRAME_BYTES - 1,
        FRAME_BYTES,
        FRAME_BYTES + 1,
        3 * FRAME_BYTES,
    ] {
        let plain = plain(bytes);
        let stored = keys.encrypt(NAME, plain.clone());
        assert_eq!(stored.len() as u64, encrypted_len(bytes as u64), "{bytes}");
        assert!(bytes < 64 || !stored.windows(64).any(|window| window == &plain[..64]));
        assert_eq!(keys.decrypt(NAME, stored.clone()), Ok(plain.clone()));
        assert_ne!(
            stored,
            keys.encrypt(NAME, plain),
            "each has a salt of its own"
        );
    }
}

#[test]
fn the_beginning_is_read_alone() {
    let keys = keys(&[1]);
    let wanted = FRAME_BYTES as u64;
    for bytes in [
        10,
        FRAME_BYTES - 1,
        FRAME_BYTES,
        FRAME_BYTES + 1,
        5 * FRAME_BYTES,
    ] {
        let whole = plain(bytes);
        let stored = keys.encrypt(NAME, whole.clone());
        let asked = encrypted_head(wanted);
        let there = stored.slice(..stored.len().min(asked as usize));
        let head = keys.decrypt_head(NAME, there, asked).expect("it is sound");
        assert_eq!(head, whole.slice(..bytes.min(FRAME_BYTES)), "{bytes}");
    }
}

#[test]
fn every_flipped_byte_every_truncation_and_another_name_are_noticed() {
    let keys = keys(&[1]);
    let stored = keys.encrypt(NAME, plain(200));
    for at in MAGIC.len()..stored.len() {
        let mut bytes = stored.to_vec();
        bytes[at] ^= 0x40;
        let refused = keys.decrypt(NAME, bytes.into());
        assert!(refused.is_err(), "byte {at}");
    }
    for length in MAGIC.len()..stored.len() {
        let refused = keys.decrypt(NAME, stored.slice(..length)).expect_err("cut");
        assert!(refused.is_damage(), "{length} bytes");
    }
    let moved = keys
        .decrypt("demo/two/attempt/00000000.chunk", stored)
        .expect_err("moved");
    assert!(moved.is_damage(), "{moved}");
    // At the end of a frame, too.
    let stored = keys.encrypt(NAME, plain(2 * FRAME_BYTES));
    let one = stored.slice(..HEADER_BYTES + FRAME_BYTES + TAG_BYTES);
    assert!(keys.decrypt(NAME, one).expect_err("cut").is_damage());
}

#[test]
fn the_first_key_writes_and_each_of_them_reads() {
    let (old, both, new) = (keys(&[1]), keys(&[2, 1]), keys(&[2]));
    let before = old.encrypt(NAME, plain(9));
    let after = both.encrypt(NAME, plain(9));
    assert_eq!(both.decrypt(NAME, before.clone()), Ok(plain(9)));
    assert_eq!(new.decrypt(NAME, after.clone()), Ok(plain(9)));
    assert_eq!(key_of(&after), Ok(new.writing()));
    let missing = new.decrypt(NAME, before).expect_err("another key");
    assert!(!missing.is_damage());
    let (said, known) = (missing.to_string(), old.writing().expect("a key"));
    let other = new.writing().expect("a key");
    for part in [known.as_ref(), other.as_ref(), "--encryption-key-file"] {
        assert!(said.contains(part), "{said}");
    }
    let none = Keys::default().decrypt(NAME, after).expect_err("no key");
    assert!(none.to_string().contains("no key is given"), "{none}");
}

#[test]
fn what_is_not_encrypted_is_what_it_is() {
    let stored = Keys::default().encrypt(NAME, plain(9));
    assert_eq!(stored, plain(9));
    assert_eq!(keys(&[1]).decrypt(NAME, stored.clone()), Ok(plain(9)));
    assert_eq!(key_of(&stored), Ok(None));
}

/// What this one writes is read by those after it: header, derivation, nonces and tags, byte by byte.
#[test]
fn an_object_of_format_1_reads_as_it_did() {
    let golden = include_bytes!("../../goldens/format-1.encrypted");
    let plain = Bytes::from_static(b"every revision is in it");
    let keys = keys(&[7]);
    let key = keys.first().expect("a key");
    let written = encrypt_with(key, [9; SALT_BYTES], NAME, &plain);
    assert_eq!(written, golden[..], "{written:?}");
    assert_eq!(keys.decrypt(NAME, written), Ok(plain));
}

#[test]
fn a_key_is_read_as_people_write_it_and_nothing_else_is_one() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("key");
    let read = |text: &[u8]| {
        std::fs::write(&path, text).expect("written");
        Keys::read(&[&path]).map(|keys| keys.ids())
    };
    let id = keys(&[0xab]).ids();
    let hex = "ab".repeat(32);
    assert_eq!(read(hex.as_bytes()).expect("hexadecimal"), id);
    assert_eq!(
        read(format!("{hex}\n").as_bytes()).expect("hexadecimal"),
        id
    );
    let base64 = "q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s=\n";
    assert_eq!(read(base64.as_bytes()).expect("base64"), id);
    for bad in [&b""[..], b"secret", &[0xab; 32], &[b'a'; 63], &[b'a'; 4096]] {
        let error = read(bad).expect_err("no key").to_string();
        assert!(error.contains("openssl rand -base64 32"), "{error}");
    }
    let away = Keys::read(&[directory.path().join("away")]).expect_err("not there");
    assert!(away.to_string().contains("away"), "{away}");
    assert_eq!(format!("{:?}", keys(&[0xab])).matches("abab").count(), 0);
}
