//! The test surroundings themselves, on the real Podman of the machine.

#![allow(clippy::unwrap_used, reason = "a test ends by a panic and prints what it measured")]

use std::path::Path;

use piccolo_testkit::podman::PrivatePodman;

#[test]
fn a_private_podman_runs_containers_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let mut podman = PrivatePodman::start(dir.path()).unwrap();
    let id = podman.run("one", &["sleep", "1000"]).unwrap();
    assert_eq!(id.len(), 64);
    assert_eq!(podman.exec("one", &["echo", "here"]).unwrap(), "here");
    let pid = podman.pid("one").unwrap();
    podman.stop_service();
    assert!(Path::new(&format!("/proc/{pid}")).exists(), "containers outlive the service");
    podman.start_service().unwrap();
    drop(podman);
    let alive = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    assert!(alive.is_err() || alive.is_ok_and(|stat| stat.contains(") Z ")));
}

#[test]
fn a_podman_that_was_left_running_is_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let podman = PrivatePodman::start(dir.path()).unwrap();
    podman.run("kept", &["sleep", "1000"]).unwrap();
    let service = podman.service_pid();
    podman.leave_running().unwrap();
    let again = PrivatePodman::attach(dir.path()).unwrap();
    assert_eq!(again.service_pid(), service);
    assert_eq!(again.podman(&["ps", "--format", "{{.Names}}"]).unwrap(), "kept");
    drop(again);
    assert!(PrivatePodman::attach(dir.path()).is_none());
}
