//! Secrets: sealed for one place, opened only there, with keys that only their owner can read.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use piccolo_store::{Error, KeyRing, ResealReport, Store, Transaction, is_sealed};

use crate::{
    contract::{put, value},
    embedded::{Folder, create},
};

const KEY: &str = "/piccolo/v1/sealed/alert/smtp";
const OTHER: &str = "/piccolo/v1/sealed/alert/mqtt";
const SECRET: &[u8] = b"correct horse battery staple";

#[test]
fn what_is_sealed_opens_again_and_looks_like_noise() {
    let folder = Folder::new();
    let ring = KeyRing::create(&folder.path).unwrap();
    for secret in [SECRET, b"", &[0; 100_000]] {
        let sealed = ring.seal(KEY, secret).unwrap();
        assert!(is_sealed(&sealed));
        assert_ne!(sealed, ring.seal(KEY, secret).unwrap(), "each time with another nonce");
        assert_eq!(ring.open(KEY, &sealed).unwrap(), secret);
        assert_eq!(KeyRing::load(&folder.path).unwrap().open(KEY, &sealed).unwrap(), secret);
    }
    let sealed = ring.seal(KEY, SECRET).unwrap();
    assert!(!sealed.windows(7).any(|window| window == b"correct"));
    assert!(
        !format!("{ring:?}")
            .contains(fs::read_to_string(&folder.path).unwrap().lines().nth(1).unwrap())
    );
}

#[test]
fn a_sealed_value_that_was_changed_or_moved_does_not_open() {
    let folder = Folder::new();
    let ring = KeyRing::create(&folder.path).unwrap();
    let sealed = ring.seal(KEY, SECRET).unwrap();
    for at in 0..sealed.len() {
        let mut changed = sealed.clone();
        changed[at] ^= 1;
        let error = ring.open(KEY, &changed).unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }), "byte {at}: {error:?}");
        assert!(!error.to_string().contains("horse"));
    }
    for (key, sealed, part) in [
        (OTHER, sealed.as_slice(), "belongs to another key"),
        (KEY, &sealed[..sealed.len() - 1], "was changed"),
        (KEY, b"plain", "not a sealed value"),
        (KEY, b"", "not a sealed value"),
    ] {
        let error = ring.open(key, sealed).unwrap_err();
        assert!(error.to_string().contains(part), "{error} does not say {part}");
    }
    let elsewhere = Folder::new();
    let error = KeyRing::create(&elsewhere.path).unwrap().open(KEY, &sealed).unwrap_err();
    assert!(error.to_string().contains("which is not in"), "{error}");
}

#[test]
fn secrets_are_sealed_only_where_they_belong() {
    let folder = Folder::new();
    let ring = KeyRing::create(&folder.path).unwrap();
    let error = ring.seal("/piccolo/v1/nodes/a", SECRET).unwrap_err();
    assert!(matches!(error, Error::Invalid { .. }), "{error:?}");
}

#[test]
fn a_key_file_that_others_can_read_is_refused() {
    let folder = Folder::new();
    KeyRing::create(&folder.path).unwrap();
    for (mode, accepted) in [
        (0o600, true),
        (0o400, true),
        (0o640, false),
        (0o604, false),
        (0o620, false),
        (0o644, false),
    ] {
        fs::set_permissions(&folder.path, fs::Permissions::from_mode(mode)).unwrap();
        match KeyRing::load(&folder.path) {
            Ok(_) => assert!(accepted, "{mode:o} was accepted"),
            Err(Error::Denied { problem }) => {
                assert!(!accepted, "{mode:o}: {problem}");
                assert!(
                    problem.contains(&format!("{mode:o}")) && problem.contains("0600"),
                    "{problem}"
                );
            }
            Err(other) => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_key_file_is_never_replaced_and_a_wrong_line_is_named() {
    let folder = Folder::new();
    KeyRing::create(&folder.path).unwrap();
    let error = KeyRing::create(&folder.path).unwrap_err();
    assert!(matches!(error, Error::Io { .. }) && error.to_string().contains("exists"), "{error:?}");

    let good = fs::read_to_string(&folder.path).unwrap();
    let key = good.lines().nth(1).unwrap();
    for (text, part) in [
        (String::new(), "line 1"),
        ("piccolo-seal-keys 2\n".to_owned(), "line 1"),
        ("piccolo-seal-keys 1\n".to_owned(), "no key"),
        (format!("{good}abc\n"), "line 3"),
        (good.replace(key, &key.replacen(|_| true, "g", 1)), "line 2"),
        (format!("{good}{}", format!("{key}\n").repeat(16)), "at most 16"),
        (good.replacen('\n', "\n\n", 1), "line 2"),
    ] {
        fs::write(&folder.path, &text).unwrap();
        let error = KeyRing::load(&folder.path).unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }), "{error:?}");
        assert!(error.to_string().contains(part), "{error} does not say {part}");
        assert!(error.to_string().contains("backup"), "{error}");
    }
    fs::write(&folder.path, [0xff; 10]).unwrap();
    KeyRing::load(&folder.path).unwrap_err();
}

#[tokio::test]
async fn keys_are_rotated_without_losing_a_value() {
    let folder = Folder::new();
    let keys = folder.path.with_extension("keys");
    let store = create(&folder.path);
    let mut ring = KeyRing::create(&keys).unwrap();
    for key in [KEY, OTHER] {
        put(&store, key, &ring.seal(key, SECRET).unwrap()).await;
    }
    let lease = store.grant(std::time::Duration::from_secs(60)).await.unwrap();
    let leased = "/piccolo/v1/sealed/leased";
    let transaction =
        Transaction::new().put_leased(leased, ring.seal(leased, SECRET).unwrap(), lease);
    store.txn(&transaction).await.unwrap();

    ring.add_key().unwrap();
    assert_eq!(KeyRing::load(&keys).unwrap().key_count(), 2);
    let error = ring.drop_old_keys(&store).await.unwrap_err();
    assert!(error.to_string().contains("still sealed with an old key"), "{error}");
    let report = ring.reseal_all(&store).await.unwrap();
    assert_eq!(report, ResealReport { values: 3, resealed: 3 });
    let report = ring.reseal_all(&store).await.unwrap();
    assert_eq!(report, ResealReport { values: 3, resealed: 0 });
    ring.drop_old_keys(&store).await.unwrap();

    let loaded = KeyRing::load(&keys).unwrap();
    assert_eq!((ring.key_count(), loaded.key_count()), (1, 1));
    for key in [KEY, OTHER, leased] {
        assert_eq!(loaded.open(key, &value(&store, key).await).unwrap(), SECRET);
    }
    assert_eq!(store.get(leased).await.unwrap().unwrap().lease, Some(lease));
    assert_eq!(mode(&keys), 0o600);
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}
