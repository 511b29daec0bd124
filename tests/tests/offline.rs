//! Without a master: containers go on, events are kept, and nothing is lost or doubled (HLD §1.2.3, §4.2).

use std::error::Error;

use piccolo_testkit::{
    cluster::{Cluster, Options, PATIENCE},
    podman::PrivatePodman,
};

type Story = Result<(), Box<dyn Error>>;

fn with_podman(folder: &std::path::Path) -> Result<(Cluster, PrivatePodman), Box<dyn Error>> {
    let podman = PrivatePodman::start(folder.join("podman"))?;
    podman.run("web", &["sleep", "1000"])?;
    let mut cluster = Cluster::start(Options::new(&folder.join("cluster"))?)?;
    let config = format!("podman:\n  socket: {}\n", podman.socket().display());
    cluster.join_with("board-1", &config)?;
    cluster.wait_for_status("board-1", "Ready")?;
    cluster.wait("its container is seen running", |c| {
        Ok(container(&c.node("board-1")?, "web")["state"] == "running")
    })?;
    Ok((cluster, podman))
}

fn container(node: &serde_json::Value, name: &str) -> serde_json::Value {
    let containers = node["containers"].as_array().cloned().unwrap_or_default();
    containers.into_iter().find(|c| c["name"] == name).unwrap_or_default()
}

#[test]
fn a_container_that_dies_is_on_the_watchers() -> Story {
    let folder = tempfile::tempdir()?;
    let (cluster, podman) = with_podman(folder.path())?;
    let mut watch = cluster.watch(&["events", "--watch", "-n", "100"])?;
    watch.expect("board-1 is Ready", PATIENCE, |line| line.contains("NodeReady"))?;
    podman.kill("web")?;
    let (_, line) = watch.expect("web died", PATIENCE, |line| line.contains("ContainerDied"))?;
    assert!(line.contains("board-1") && line.contains("web"), "{line}");
    cluster.wait("the node shows it", |c| {
        Ok(container(&c.node("board-1")?, "web")["exit_code"] == 137)
    })?;
    Ok(())
}

#[test]
fn what_happens_without_a_master_is_told_once_when_it_is_back() -> Story {
    let folder = tempfile::tempdir()?;
    let (mut cluster, podman) = with_podman(folder.path())?;
    let pid = podman.pid("web")?;
    podman.run("job", &["sleep", "1000"])?;
    cluster.wait("the job is seen", |c| {
        Ok(container(&c.node("board-1")?, "job")["state"] == "running")
    })?;
    cluster.master.kill();
    podman.kill("job")?;
    // the agent itself says that it has the event, with nobody to tell it to
    cluster.wait("the event is in the journal", |c| {
        Ok(local_status(c)?["events_waiting"].as_u64().unwrap_or(0) >= 1)
    })?;
    // and it survives the agent
    cluster.agent("board-1")?.kill();
    cluster.start_agent("board-1")?;
    cluster.wait("the journal was read again", |c| {
        Ok(local_status(c)?["events_waiting"].as_u64().unwrap_or(0) >= 1)
    })?;
    cluster.start_master()?;
    cluster.wait("the journal is empty", |c| {
        let status = local_status(c)?;
        Ok(status["events_waiting"] == 0 && status["phase"] == "in session")
    })?;
    let events = cluster.json(&["events", "-n", "1000", "-o", "json"])?;
    let events =
        events.as_array().or_else(|| events["events"].as_array()).cloned().unwrap_or_default();
    let died: Vec<_> = events.iter().filter(|e| e["kind"] == "ContainerDied").collect();
    assert_eq!(died.len(), 1, "{died:?}");
    assert_eq!(died[0]["delivered_late"], true);
    assert_eq!(podman.pid("web")?, pid, "no container was touched");
    Ok(())
}

fn local_status(cluster: &Cluster) -> piccolo_testkit::cluster::Result<serde_json::Value> {
    let output = std::process::Command::new(&cluster.programs().agent)
        .arg("--config")
        .arg(cluster.agent_config("board-1"))
        .args(["status", "-o", "json"])
        .output()
        .map_err(|source| piccolo_testkit::cluster::Error::Io {
            what: "piccolo-nodeagent status".to_owned(),
            source,
        })?;
    serde_json::from_slice(&output.stdout).map_err(|error| {
        let error = format!("{error}: {}", String::from_utf8_lossy(&output.stderr));
        piccolo_testkit::cluster::Error::Unexpected(error)
    })
}
