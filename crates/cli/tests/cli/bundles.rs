//! Support bundles: what is in them, what is not, and that a part which is not there stops nothing.

use std::{collections::BTreeMap, fs, io::Read as _};

use flate2::read::GzDecoder;

use crate::{
    calls::{check, start},
    support::{Home, stderr},
};

/// Makes one, and unpacks it: files by their names in its folder.
fn bundle(home: &Home, context: &str, config: &str) -> BTreeMap<String, String> {
    let words = ["support-bundle", "--context", context, "-o", "b.tar.gz", "--yes"];
    let output = home.piccolo(&[&words[..], &["--config", config]].concat());
    check(&output, 0, &["without secrets", "b.tar.gz"]);
    let file = fs::File::open(home.path("b.tar.gz")).unwrap();
    let mut archive = tar::Archive::new(GzDecoder::new(file));
    let mut files = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        assert_eq!(entry.header().mode().unwrap(), 0o600);
        let path = entry.path().unwrap().into_owned();
        let (folder, name) = path.to_str().unwrap().split_once('/').unwrap();
        assert!(folder.starts_with("piccolo-support-"), "{folder}");
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        files.insert(name.to_owned(), text);
    }
    files
}

#[test]
fn a_bundle_holds_what_is_there_names_what_is_not_and_has_no_secret() {
    let (home, _peer, context) = start();
    // the whole context, with its key, stands where a configuration is expected
    let key = fs::read_to_string(&context).unwrap();
    let config = format!("listen: 0.0.0.0:1\nstore:\n  password: hunter2\n{key}");
    fs::write(home.path("master.yaml"), config).unwrap();
    let files = bundle(&home, &context, "master.yaml");
    for name in ["status.json", "nodes.json", "topology.yaml", "events.json", "doctor.json"] {
        assert!(files.contains_key(name), "{name} is not in {:?}", files.keys());
    }
    let (_, key) = key.split_once("PRIVATE KEY-----").unwrap();
    // the lines behind these two are of its public half, which the certificate has too
    for line in key.lines().map(str::trim).filter(|line| line.len() > 40).take(2) {
        assert!(files.values().all(|text| !text.contains(line)), "a line of the key");
    }
    assert!(files.values().all(|text| !text.contains("hunter2")));
    assert!(files["config/master.yaml"].starts_with("listen: 0.0.0.0:1\nstore:\n"));
    let list = &files["LIST.txt"];
    assert!(files.contains_key("metrics/cpu_percent.json"));
    assert!(list.contains("metrics/memory_available_bytes.json: no node has told it"), "{list}");
    for part in ["status.json", "config/master.yaml", "audit-verified.json: exit status: 1"] {
        assert!(list.contains(part), "{list}");
    }
    assert!(list.contains("no test asks for logs"), "each log has its own reason: {list}");
}

#[test]
fn where_nothing_can_be_had_the_bundle_says_so() {
    let (home, mut peer, context) = start();
    peer.end();
    let files = bundle(&home, &context, "gone.yaml");
    let list = &files["LIST.txt"];
    for part in ["status.json: exit status: 4", "config/gone.yaml: gone.yaml: No such file"] {
        assert!(list.contains(part), "{list}");
    }
    assert!(files.contains_key("version.json") && files.contains_key("doctor.json"), "{list}");
}

#[test]
fn a_bundle_takes_no_other_files_place_and_nobody_is_asked_without_a_terminal() {
    let (home, _peer, context) = start();
    fs::write(home.path("there.tar.gz"), "mine").unwrap();
    let words = ["support-bundle", "--context", &context, "-o", "there.tar.gz"];
    check(&home.piccolo(&words), 2, &["no terminal", "--yes"]);
    let output = home.piccolo(&[&words[..], &["--yes"]].concat());
    check(&output, 1, &["there.tar.gz was not written", "choose another file"]);
    assert_eq!(
        fs::read_to_string(home.path("there.tar.gz")).unwrap(),
        "mine",
        "{}",
        stderr(&output)
    );
}
