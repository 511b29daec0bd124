//! A node that is alone tells of itself: by a program of its own at once, and to the master when it is back (HLD §10.1).

use std::{error::Error, os::unix::fs::PermissionsExt, path::Path};

use piccolo_testkit::{
    cluster::{Cluster, Options},
    podman::PrivatePodman,
};
use serde_json::Value;

type Story = Result<(), Box<dyn Error>>;

/// A program that writes each alert into a file of its own, named by its kind and rule.
fn channel(folder: &Path) -> Result<std::path::PathBuf, std::io::Error> {
    let program = folder.join("channel");
    let told = folder.join("told");
    std::fs::create_dir_all(&told)?;
    let file = "$PICCOLO_ALERT_KIND-$PICCOLO_ALERT_RULE";
    let script = format!("#!/bin/sh\ncat >> {}/{file}\necho >> {0}/{file}\n", told.display());
    std::fs::write(&program, script)?;
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o700))?;
    Ok(program)
}

/// What the channel was told, once for each line.
fn told(folder: &Path, what: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.join("told").join(what)).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

#[test]
fn what_began_and_ended_while_the_node_was_alone_is_told_there_and_shown_when_it_is_back() -> Story
{
    let folder = tempfile::tempdir()?;
    let mut podman = PrivatePodman::start(folder.path().join("podman"))?;
    let mut cluster = Cluster::start(Options::new(&folder.path().join("cluster"))?)?;
    let config = format!(
        "podman:\n  socket: {}\nalerts:\n  command: {}\n  for_s: 2\n  clear_for_s: 2\n",
        podman.socket().display(),
        channel(folder.path())?.display()
    );
    cluster.join_with("board-1", &config)?;
    cluster.wait_for_status("board-1", "Ready")?;
    cluster.master.kill();
    podman.stop_service();
    let waits = |cluster: &Cluster, what: &str| {
        cluster.wait(what, |_| Ok(!told(folder.path(), what).is_empty()))
    };
    waits(&cluster, "firing-MasterLost")?;
    waits(&cluster, "firing-PodmanUnavailable")?;
    podman.start_service()?;
    waits(&cluster, "resolved-PodmanUnavailable")?;
    cluster.start_master()?;
    waits(&cluster, "resolved-MasterLost")?;
    let [firing] = told(folder.path(), "firing-PodmanUnavailable")
        .try_into()
        .map_err(|all| format!("it was told once: {all:?}"))?;
    assert_eq!(firing["alert"]["subjects"][0], "board-1", "{firing}");
    assert_eq!(firing["alert"]["severity"], "critical", "{firing}");

    let alerts = cluster.json(&["alert", "list", "--all", "-o", "json"])?;
    let alerts = alerts.as_array().or_else(|| alerts["alerts"].as_array()).cloned();
    let alerts = alerts.unwrap_or_default();
    let past: Vec<_> = alerts.iter().filter(|a| a["rule"] == "PodmanUnavailable").collect();
    assert_eq!(past.len(), 1, "{alerts:?}");
    assert_eq!(past[0]["state"], "resolved", "{past:?}");
    let events = cluster.json(&["events", "-n", "1000", "-o", "json"])?;
    let events = events.as_array().or_else(|| events["events"].as_array()).cloned();
    let events = events.unwrap_or_default();
    for kind in ["LocalAlertFiring", "LocalAlertResolved"] {
        let told = |event: &&Value| {
            event["kind"] == kind && event["fields"]["rule"] == "PodmanUnavailable"
        };
        let told: Vec<_> = events.iter().filter(told).collect();
        assert_eq!(told.len(), 1, "{kind}: {events:?}");
        assert_eq!(told[0]["delivered_late"], true, "{told:?}");
    }
    Ok(())
}
