//! Joining, leaving, and who is who, with the real executables (HLD §9; issue: trust).

use std::{error::Error, fs};

use piccolo_testkit::cluster::{Cluster, Options};

type Story = Result<(), Box<dyn Error>>;

fn cluster(folder: &std::path::Path, master: &str) -> Result<Cluster, Box<dyn Error>> {
    Ok(Cluster::start(Options { master: master.to_owned(), ..Options::new(folder)? })?)
}

/// For stories in which nothing fails: a busy machine must not be taken for a failure.
const PATIENT: &str = "timing:\n  beat_silence: 10s\n  session_grace: 5s\n";

#[test]
fn a_node_waits_until_it_is_approved() -> Story {
    let folder = tempfile::tempdir()?;
    let mut cluster = cluster(folder.path(), "approval: manual\n")?;
    cluster.join("board-1")?;
    cluster.wait_for_status("board-1", "Pending")?;
    let approved = cluster.piccolo(&["node", "approve", "board-1"])?;
    assert!(approved.status.success(), "{approved:?}");
    cluster.wait_for_status("board-1", "Ready")?;
    Ok(())
}

#[test]
fn a_removed_node_stays_out_until_it_joins_again() -> Story {
    let folder = tempfile::tempdir()?;
    let mut cluster = cluster(folder.path(), "")?;
    cluster.join("board-1")?;
    cluster.wait_for_status("board-1", "Ready")?;
    let removed = cluster.piccolo(&["node", "remove", "board-1", "--yes"])?;
    assert!(removed.status.success(), "{removed:?}");
    cluster.wait("it is gone", |c| Ok(c.node("board-1")?.is_null()))?;
    // with the old certificate it may try as often as it likes
    cluster.agent("board-1")?.kill();
    cluster.start_agent("board-1")?;
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert!(cluster.node("board-1")?.is_null());
    // a new token lets it in
    cluster.agent("board-1")?.kill();
    for file in ["identity.pem", "node-id"] {
        fs::remove_file(cluster.agent_folder("board-1").join(file))?;
    }
    cluster.join("board-1")?;
    cluster.wait_for_status("board-1", "Ready")?;
    Ok(())
}

#[test]
fn a_cloned_disk_is_refused_while_the_original_lives() -> Story {
    let folder = tempfile::tempdir()?;
    let mut cluster = cluster(folder.path(), "")?;
    cluster.join("board-1")?;
    cluster.wait_for_status("board-1", "Ready")?;
    cluster.prepare_agent("clone-2", "", "PICCOLO1-none")?;
    fs::remove_file(cluster.agent_folder("clone-2").join("token"))?;
    for file in ["identity.pem", "node-id"] {
        fs::copy(
            cluster.agent_folder("board-1").join(file),
            cluster.agent_folder("clone-2").join(file),
        )?;
    }
    cluster.start_agent("clone-2")?;
    cluster.wait("the clone is told of", |c| {
        let events = c.piccolo(&["events", "-n", "100"])?;
        Ok(String::from_utf8_lossy(&events.stdout).contains("DuplicateIdentity"))
    })?;
    let node = cluster.node("board-1")?;
    assert_eq!((node["status"].as_str(), node["name"].as_str()), (Some("Ready"), Some("board-1")));
    assert!(cluster.node("clone-2")?.is_null());
    Ok(())
}

#[test]
fn a_reflashed_board_takes_its_name_back_with_a_bound_token() -> Story {
    let folder = tempfile::tempdir()?;
    let mut cluster = cluster(folder.path(), "")?;
    cluster.join("board-1")?;
    cluster.wait_for_status("board-1", "Ready")?;
    let before = cluster.node("board-1")?["id"].clone();
    cluster.agent("board-1")?.kill();
    fs::remove_dir_all(cluster.agent_folder("board-1"))?;
    // any token will not do: the name is somebody's
    cluster.join("board-1")?;
    cluster.wait("the name is defended", |c| {
        let events = c.piccolo(&["events", "-n", "100"])?;
        Ok(String::from_utf8_lossy(&events.stdout).contains("DuplicateName"))
    })?;
    cluster.agent("board-1")?.kill();
    let token = cluster.token(&["--node", "board-1"])?;
    cluster.prepare_agent("board-1", "", &token)?;
    cluster.start_agent("board-1")?;
    cluster.wait("it is Ready with a new identity", |c| {
        let node = c.node("board-1")?;
        Ok(node["status"] == "Ready" && node["id"] != before)
    })?;
    Ok(())
}

#[test]
fn certificates_of_seconds_are_renewed_without_a_reconnect() -> Story {
    let folder = tempfile::tempdir()?;
    let mut cluster = cluster(folder.path(), &format!("certificate_lifetime: 12s\n{PATIENT}"))?;
    cluster.join("board-1")?;
    cluster.wait_for_status("board-1", "Ready")?;
    let first = cluster.node("board-1")?["certificate_expires_at"].clone();
    let mut renewals = 0;
    let mut last = first;
    for _ in 0..2 {
        let before = last.clone();
        cluster.wait("it is renewed", |c| {
            Ok(c.node("board-1")?["certificate_expires_at"] != before)
        })?;
        last = cluster.node("board-1")?["certificate_expires_at"].clone();
        renewals += 1;
    }
    assert_eq!(renewals, 2);
    let events = cluster.piccolo(&["events", "-n", "100"])?;
    let events = String::from_utf8_lossy(&events.stdout).into_owned();
    assert!(!events.contains("NodeNotReady") && !events.contains("Reissued"), "{events}");
    Ok(())
}

#[test]
fn a_board_that_slept_past_its_certificate_comes_back() -> Story {
    let folder = tempfile::tempdir()?;
    let mut cluster = cluster(folder.path(), "certificate_lifetime: 6s\n")?;
    cluster.join("board-1")?;
    cluster.wait_for_status("board-1", "Ready")?;
    cluster.agent("board-1")?.kill();
    std::thread::sleep(std::time::Duration::from_secs(9));
    cluster.start_agent("board-1")?;
    cluster.wait_for_status("board-1", "Ready")?;
    let events = cluster.piccolo(&["events", "-n", "100"])?;
    let events = String::from_utf8_lossy(&events.stdout).into_owned();
    assert!(events.contains("CertificateReissued"), "{events}");
    Ok(())
}

#[test]
fn a_viewer_may_look_and_not_touch_and_both_are_on_record() -> Story {
    let folder = tempfile::tempdir()?;
    let mut cluster = cluster(folder.path(), "")?;
    cluster.join("board-1")?;
    cluster.wait_for_status("board-1", "Ready")?;
    let context = folder.path().join("viewer.yaml");
    let path = context.display().to_string();
    let made = cluster.piccolo(&["user", "create", "eve", "--role", "viewer", "--file", &path])?;
    assert!(made.status.success(), "{made:?}");
    let look = cluster.piccolo(&["--context", &path, "node", "list"])?;
    assert!(look.status.success(), "{look:?}");
    let touch = cluster.piccolo(&["--context", &path, "node", "remove", "board-1", "--yes"])?;
    assert_eq!(touch.status.code(), Some(5), "{touch:?}");
    let audit = cluster.piccolo(&["audit", "list"])?;
    let audit = String::from_utf8_lossy(&audit.stdout).into_owned();
    assert!(audit.contains("viewer:eve") && audit.contains("refused"), "{audit}");
    let verified = cluster.piccolo(&["audit", "verify"])?;
    assert!(verified.status.success(), "{verified:?}");
    // a revoked user is out at once
    assert!(cluster.piccolo(&["user", "revoke", "eve"])?.status.success());
    let out = cluster.piccolo(&["--context", &path, "node", "list"])?;
    assert_eq!(out.status.code(), Some(5), "{out:?}");
    Ok(())
}
