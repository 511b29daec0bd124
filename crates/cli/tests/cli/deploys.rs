//! `piccolo node deploy`: what is refused before any host is touched, and what a host is that ssh does not
//! reach. Real hosts are deployed to by `tests/tests/hosts_deploy.rs` of the workspace.

use std::{
    fs,
    io::Read as _,
    process::{Output, Stdio},
    sync::Arc,
};

use crate::{
    support::{Authority, Home, Peer, code, exit_code, stderr, stdout},
    watches::terminal,
};

/// A home with an admin's context, and a release; the peer has nodes.
struct Place {
    home: Home,
    authority: Arc<Authority>,
    peer: Peer,
    release: String,
}

impl Place {
    fn new() -> Self {
        let authority = Arc::new(Authority::new());
        let peer = Peer::start(&authority);
        let home = Home::new();
        home.context("c.yaml", &peer.address.to_string(), &authority.identity("admin", "first"));
        let release = home.path("release");
        fs::create_dir(&release).unwrap();
        let mut sums = String::new();
        for name in ["install.sh", "system_check.sh", "findings.sh", "RELEASE"] {
            fs::write(release.join(name), "version=9.9.9\narch=x86_64\n").unwrap();
            sums.push_str(&format!("{}  {name}\n", "0".repeat(64)));
        }
        fs::write(release.join("SHA256SUMS"), sums).unwrap();
        let release = release.to_str().unwrap().to_owned();
        Self { home, authority, peer, release }
    }

    fn path(&self) -> String {
        format!("{}:/usr/bin:/bin", self.home.path("bin").display())
    }

    /// `ssh` is whatever the test has put there.
    fn deploy(&self, words: &[&str]) -> Output {
        let mut command = self.home.command();
        command.env("PATH", self.path()).args(["--context", "c.yaml", "node", "deploy"]);
        command.args(["--release", &self.release]).args(words).output().unwrap()
    }

    fn undeploy(&self, words: &[&str]) -> Output {
        let mut command = self.home.command();
        command.env("PATH", self.path()).args(["--context", "c.yaml", "node", "undeploy"]);
        command.args(words).output().unwrap()
    }

    /// From now on with another one's context.
    fn role(&mut self, role: &str) {
        let identity = self.authority.identity(role, "first");
        self.home.context("c.yaml", &self.peer.address.to_string(), &identity);
    }

    fn ssh(&self, script: &str) {
        self.home.script("bin/ssh", &format!("#!/bin/sh\necho \"$@\" >>ssh.log\n{script}\n"));
    }
}

#[track_caller]
fn check(output: &Output, exit: i32, parts: &[&str]) {
    assert_eq!(code(output), exit, "{}", stderr(output));
    for part in parts {
        assert!(stderr(output).contains(part), "{:?} lacks {part:?}", stderr(output));
    }
}

#[test]
fn what_is_wrong_is_told_before_any_host_is_touched() {
    let place = Place::new();
    place.ssh("exit 255");
    let inventory = |text: &str| fs::write(place.home.path("inventory.yaml"), text).unwrap();
    let master = ["--master", "192.0.2.1"];
    let file = [&master[..], &["--file", "inventory.yaml"]].concat();
    inventory("hosts:\n  - address: a\n    colour: red\n");
    let parts = [
        "inventory.yaml: line 3: there is no key `colour`; expected one of address",
        "nothing was done",
    ];
    check(&place.deploy(&file), 2, &parts);
    inventory("hosts:\n  - address: a\n  - address: b\n");
    check(&place.deploy(&[&file[..], &["--name", "x"]].concat()), 2, &["--name is for one host"]);
    check(&place.deploy(&[&file[..], &["b"]].concat()), 2, &["b is there twice"]);
    let missing = [&master[..], &["--file", "nowhere.yaml"]].concat();
    check(&place.deploy(&missing), 3, &["nowhere.yaml cannot be read"]);
    let local = ["by which address the hosts reach the master", "help: name it: --master"];
    check(&place.deploy(&["root@a"]), 2, &local);
    let nowhere = [&master[..], &["--release", "nowhere", "root@a"]].concat();
    check(&place.deploy(&nowhere), 3, &["nowhere is no release"]);
    assert!(!place.home.path("ssh.log").exists(), "ssh was run");
}

#[test]
fn without_a_master_no_host_is_touched() {
    let mut place = Place::new();
    place.ssh("exit 255");
    place.peer.end();
    check(&place.deploy(&["--master", "192.0.2.1", "root@a"]), 4, &["no master answers"]);
    assert!(!place.home.path("ssh.log").exists(), "ssh was run");
}

#[test]
fn hosts_that_cannot_be_reached_are_told_with_step_cause_and_remedy() {
    let place = Place::new();
    place.ssh("echo 'Host key verification failed.' >&2; exit 255");
    let words = ["--master", "192.0.2.1", "root@a", "-J", "gate", "-i", "key", "b"];
    check(&place.deploy(&words), 3, &["the key key cannot be read; nothing was done"]);
    assert!(!place.home.path("ssh.log").exists(), "ssh was run");
    fs::write(place.home.path("key"), "").unwrap();
    let output = place.deploy(&words);
    let parts = [
        "root@a  connect\n",
        "error: root@a: step connect failed\ncause: Host key verification failed.\nhelp: this machine does \
         not know the host yet",
        "error: b: step connect failed",
    ];
    check(&output, 1, &parts);
    let table = stdout(&output);
    assert_eq!(table.matches("failed").count(), 2, "{table}");
    assert!(table.starts_with("HOST    NODE  RESULT"), "{table}");
    let called = fs::read_to_string(place.home.path("ssh.log")).unwrap();
    for part in ["BatchMode=yes", "-J gate", "-i key", "-- root@a exec sh -c"] {
        assert!(called.contains(part), "{called}");
    }
    let output = place.deploy(&[&words[..], &["-o", "json"]].concat());
    assert_eq!(code(&output), 1);
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["hosts"][1]["problem"]["step"], "connect");
}

#[test]
fn a_terminal_shows_a_line_for_each_host_and_how_it_ended() {
    let place = Place::new();
    let (mut ours, theirs) = terminal(100, 24);
    // an option that ssh itself refuses: nothing is sent anywhere
    let config = place.home.path("config");
    fs::write(&config, "NoSuchOption yes\n").unwrap();
    let config = config.to_str().unwrap();
    let words = ["--context", "c.yaml", "node", "deploy", "--release", &place.release, "--master"];
    let words = [&words[..], &["192.0.2.1", "-F", config, "board-1", "b"]].concat();
    let mut child = place.home.start_on(&words, Stdio::piped(), theirs.into());
    assert_eq!(exit_code(&mut child), 1);
    let (mut seen, mut buffer) = (Vec::new(), [0; 4096]);
    while let Ok(count @ 1..) = ours.read(&mut buffer) {
        seen.extend_from_slice(&buffer[..count]);
    }
    let seen = String::from_utf8_lossy(&seen);
    let parts =
        ["board-1    failed at step connect", "b          failed at step connect", "nosuchoption"];
    for part in parts {
        assert!(seen.contains(part), "{seen:?} lacks {part:?}");
    }
}

/// What `probe.sh` says of a bare host, and nothing but that of anything else.
const BARE: &str = "case $* in *ControlMaster=yes*)
  printf 'folder=/tmp/piccolo-deploy.abc\\nroot=yes\\narch=x86_64\\nhost=b\\nmachine=m\\nfacts=end\\n'
  cat >/dev/null;; esac";

#[test]
fn who_is_refused_by_another_installer_removes_nothing_that_is_not_of_this_run() {
    let place = Place::new();
    let locked = "case $* in *--token-file*) echo 'error: another install.sh is at work here' >&2; exit 1;; esac";
    place.ssh(&format!("{BARE}\n{locked}"));
    let output = place.deploy(&["--master", "192.0.2.1", "b"]);
    check(&output, 1, &["b: step install failed", "another install.sh is at work here"]);
    let called = fs::read_to_string(place.home.path("ssh.log")).unwrap();
    for action in ["--token-file - --first", "--uninstall --purge --first"] {
        let line = called.lines().find(|line| line.contains(action)).unwrap_or(&called);
        let after = line.split(action).nth(1).unwrap_or_default();
        assert!(after.contains("piccolo-deploy.abc"), "{line}");
    }
}

#[test]
fn who_interrupts_it_while_a_token_is_made_leaves_none_that_is_good() {
    let place = Place::new();
    place.ssh(BARE);
    place.peer.script.lock().unwrap().tokens_held = true;
    let words = ["--context", "c.yaml", "node", "deploy", "--release", &place.release];
    let words = [&words[..], &["--master", "192.0.2.1", "b"]].concat();
    let mut deploying = place.home.start_with_path(&words, &place.path());
    place.peer.eventually("a token is asked for", |script| script.tokens_asked == 1);
    deploying.interrupt();
    while !deploying.stderr.next().contains("its token is awaited, and then revoked") {}
    place.peer.script.lock().unwrap().tokens_held = false;
    assert_eq!(deploying.exit_code(), 1);
    assert_eq!(place.peer.script.lock().unwrap().revoked, ["3f2a91c04b7d"]);
}

#[test]
fn what_an_undeploy_without_purge_has_left_is_purged_by_an_installer_that_is_sent() {
    let place = Place::new();
    let facts = "folder=/tmp/x\\nroot=yes\\nhost=b\\nconfigured=yes\\nstate=yes\\nfacts=end\\n";
    place.ssh(&format!(
        "case $* in *ControlMaster=yes*) printf '{facts}'; cat >/dev/null;; *) cat >sent;; esac"
    ));
    let output = place.undeploy(&["root@b"]);
    assert!(stdout(&output).contains("unchanged"), "{}", stdout(&output));
    assert!(!place.home.path("sent").exists());
    let output = place.undeploy(&["root@b", "--purge"]);
    check(&output, 0, &[]);
    assert!(stdout(&output).contains("undeployed"), "{}", stdout(&output));
    let called = fs::read_to_string(place.home.path("ssh.log")).unwrap();
    assert!(called.contains("bash -s -- --uninstall --purge"), "{called}");
    let sent = fs::read_to_string(place.home.path("sent")).unwrap();
    assert!(sent.starts_with("#!/usr/bin/env bash") && sent.ends_with("main \"$@\"; exit\n"));
}

#[test]
fn whose_role_may_not_is_told_before_a_host_changes() {
    let mut place = Place::new();
    place.role("viewer");
    place.ssh(BARE);
    let output = place.deploy(&["--master", "192.0.2.1", "--dry-run", "b"]);
    check(&output, 1, &["b: step look failed", "first (viewer) may not create tokens"]);
    let called = fs::read_to_string(place.home.path("ssh.log")).unwrap();
    let output = place.undeploy(&["root@b"]);
    check(&output, 5, &["first (viewer) may not remove nodes; nothing was done"]);
    assert_eq!(fs::read_to_string(place.home.path("ssh.log")).unwrap(), called);
}

#[test]
fn a_machine_that_is_named_twice_is_installed_once() {
    let place = Place::new();
    place.ssh(&format!("{BARE}\ncase $* in *--token-file*) exit 1;; esac"));
    let output = place.deploy(&["--master", "192.0.2.1", "--parallel", "1", "b", "192.0.2.2"]);
    let parts = [
        "error: 192.0.2.2: step look failed\ncause: it is the same machine as b\n\
         help: name it once; 192.0.2.2 was left alone",
        "error: b: step install failed",
    ];
    check(&output, 1, &parts);
    let called = fs::read_to_string(place.home.path("ssh.log")).unwrap();
    assert_eq!(called.matches("192.0.2.2 exec").count(), 1, "more than the connection: {called}");
}

#[test]
fn a_host_that_is_for_another_processor_is_left_alone() {
    let place = Place::new();
    place.ssh(
        "printf 'folder=/tmp/x\\nroot=yes\\narch=riscv64\\nhost=b\\nfacts=end\\n'; cat >/dev/null",
    );
    let output = place.deploy(&["--master", "192.0.2.1", "b"]);
    check(&output, 1, &["b: step look failed", "it is riscv64, and the release is for x86_64"]);
    let called = fs::read_to_string(place.home.path("ssh.log")).unwrap();
    assert_eq!(called.matches("BatchMode").count(), 1, "more than the connection: {called}");
}
