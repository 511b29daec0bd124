//! An identity's file: private, one matching pair, and whole whatever happens.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use piccolo_rpc::tls::identity::{Identity, PrivateKey, certificate_pem, load_pair, save_pair};
use piccolo_rpc::tls::names::{PeerIdentity, Principal};

use crate::support::{Authority, PATIENCE, Spec, told};

/// Set for the child that writes: the file to write.
const WRITER_FILE: &str = "PICCOLO_TEST_WRITER_FILE";
const KILLS: u32 = 100;

fn saved() -> (tempfile::TempDir, PathBuf, Identity) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("identity.pem");
    let identity = Authority::new().dialler("sub", "hpc-1");
    identity.save(&path).unwrap();
    (folder, path, identity)
}

#[track_caller]
fn not_loaded(path: &Path, reason: &str) {
    let told = told(&Identity::load(path).expect_err("it was loaded"));
    assert!(told.contains(reason), "{told}");
}

#[test]
fn what_is_saved_is_loaded_and_private() {
    let (_folder, path, identity) = saved();
    let loaded = Identity::load(&path).unwrap();
    assert_eq!(loaded.name(), identity.name());
    assert_eq!(loaded.chain(), identity.chain());
    assert_eq!(loaded.ca(), identity.ca());
    assert_eq!(loaded.key().pkcs8(), identity.key().pkcs8());
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
}

#[test]
fn a_file_that_others_may_read_is_refused_with_the_remedy() {
    let (_folder, path, _) = saved();
    for mode in [0o640, 0o604, 0o644, 0o660, 0o700, 0o4600, 0o666] {
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        not_loaded(&path, &format!("has mode {mode:04o}"));
        not_loaded(&path, &format!("chmod 0600 {}", path.display()));
    }
    fs::set_permissions(&path, Permissions::from_mode(0o400)).unwrap();
    assert!(Identity::load(&path).is_ok());
}

#[test]
fn saving_over_an_open_file_makes_it_private_again() {
    let (_folder, path, identity) = saved();
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    identity.save(&path).unwrap();
    assert!(Identity::load(&path).is_ok());
}

#[test]
fn what_is_no_pair_is_refused_with_the_reason() {
    let (folder, path, identity) = saved();
    let authority = Authority::new();
    let put = |content: &str| fs::write(&path, content).unwrap();
    let pem = identity.expose_pem();
    let key_end = pem.find("-----BEGIN CERTIFICATE").unwrap();
    let (key, certificates) = pem.split_at(key_end);

    put("");
    not_loaded(&path, "no private key");
    put(certificates);
    not_loaded(&path, "no private key");
    put(key);
    not_loaded(&path, "no certificate");
    put(&[key, &pem].concat());
    not_loaded(&path, "more than one private key");
    put(&pem[..pem.len() / 2]);
    not_loaded(&path, "not PEM");
    put(&[key, &certificate_pem(&authority.dialler("sub", "hpc-1").chain()[0])].concat());
    not_loaded(&path, "for another private key");
    put(&[key, &certificate_pem(b"no certificate at all")].concat());
    not_loaded(&path, "cannot be read");
    put(&[&pem[..], &certificate_pem(&authority.certificate).repeat(20)].concat());
    not_loaded(&path, "more than 16 certificates");
    put(&[&pem[..], "-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n"]
        .concat());
    not_loaded(&path, "no place beside a key");
    put(&"x".repeat(100_000));
    not_loaded(&path, "100000 bytes, far too many");
    not_loaded(folder.path(), "is not a regular file");
    not_loaded(&folder.path().join("absent"), "cannot be read");
}

#[test]
fn an_authoritys_own_certificate_names_nobody_and_is_kept_as_a_pair() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    let authority = Authority::new();
    let key = PrivateKey::generate().unwrap();
    let certificate = authority.sign(&key, &Spec { uris: vec![], ..Spec::master() });
    save_pair(&path, &key, std::slice::from_ref(&certificate)).unwrap();
    not_loaded(&path, "carries no piccolo:// name");
    let (loaded, certificates) = load_pair(&path).unwrap();
    assert_eq!(loaded.pkcs8(), key.pkcs8());
    assert_eq!(certificates, [certificate]);
}

#[test]
fn nothing_that_is_printed_holds_the_key() {
    let identity = Authority::new().dialler("sub", "hpc-1");
    let pem = identity.expose_pem();
    let secret_line = pem.lines().nth(1).unwrap();
    let shown = format!("{identity:?} {:?} {:?}", identity.key(), identity.chain().len());
    assert!(!shown.contains(secret_line), "{shown}");
    assert!(shown.contains("PrivateKey(..)"), "{shown}");
}

#[test]
fn two_writers_at_once_leave_one_matching_pair() {
    let (_folder, path, identity) = saved();
    let authority = Authority::new();
    let other = authority.dialler("sub", "hpc-2");
    std::thread::scope(|scope| {
        for writer in [&identity, &other] {
            let path = &path;
            scope.spawn(move || (0..100).for_each(|_| writer.save(path).unwrap()));
        }
        for _ in 0..500 {
            assert!(Identity::load(&path).is_ok());
        }
    });
}

#[test]
fn a_certificate_with_a_wrong_byte_names_somebody_well_formed_or_nobody() {
    let identity = Authority::new().dialler("sub", "hpc-1");
    let certificate = &identity.chain()[0];
    let mut read = 0;
    for at in 0..certificate.len() {
        for bit in 0..8 {
            let mut forged = certificate.to_vec();
            forged[at] ^= 1 << bit;
            if let Ok(name) = PeerIdentity::from_certificate(&forged, 0) {
                assert!(Principal::new(&name.cluster_id, name.role, &name.id).is_ok(), "{name:?}");
                assert!(name.not_before <= name.not_after, "{name:?}");
                read += 1;
            }
        }
    }
    // Most of a certificate is keys, dates and a signature, which only the verifier understands.
    assert!(read > 0, "nothing could be read: the test tests nothing");
}

/// Two identities in turn, for ever, each whole under the same name.
fn write_for_ever(path: &Path) -> ! {
    let authority = Authority::new();
    let pair = [authority.dialler("sub", "even"), authority.dialler("sub", "odd")];
    loop {
        for identity in &pair {
            identity.save(path).unwrap();
        }
    }
}

fn writer(path: &Path) -> Child {
    let own_name = "files::a_writer_killed_at_any_moment_leaves_one_matching_pair";
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", own_name, "--nocapture"])
        .env(WRITER_FILE, path)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Waits until this writer has replaced the file that was there before it.
fn wait_until_replaced(path: &Path, before: Option<&str>) {
    let started = Instant::now();
    while fs::read_to_string(path).ok().as_deref() == before {
        assert!(started.elapsed() < PATIENCE, "the writer writes nothing");
        std::thread::yield_now();
    }
}

#[test]
fn a_writer_killed_at_any_moment_leaves_one_matching_pair() {
    if let Some(path) = std::env::var_os(WRITER_FILE) {
        write_for_ever(Path::new(&path));
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("identity.pem");
    let mut names = std::collections::BTreeSet::new();
    for kill in 0..KILLS {
        let before = fs::read_to_string(&path).ok();
        let mut child = writer(&path);
        wait_until_replaced(&path, before.as_deref());
        // From the first write on, somewhere in the next few.
        std::thread::sleep(Duration::from_micros(u64::from(kill) * 97 % 3_000));
        child.kill().unwrap();
        child.wait().unwrap();
        names.insert(Identity::load(&path).expect("a torn file").name().id.clone());
    }
    // Both halves of the loop were met, and crashes left at most one file beside the good one.
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(fs::read_dir(folder.path()).unwrap().count() <= 2);
}
