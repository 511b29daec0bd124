//! What a watcher sees when something fails, and when it comes back (HLD §4.2, §8.1, §10.1).
//!
//! Deadlines here are the product's promises (5 s, HLD §4.2), with room for a busy machine on top; how fast
//! it really is, `cargo xtask bench` measures.

use std::{error::Error, time::Duration};

use piccolo_testkit::cluster::{Cluster, Namespace, Options, PATIENCE, Watch};

type Story = Result<(), Box<dyn Error>>;

fn two_nodes(
    folder: &std::path::Path,
    namespace: Option<Namespace>,
) -> Result<Cluster, Box<dyn Error>> {
    let mut cluster = Cluster::start(Options { namespace, ..Options::new(folder)? })?;
    for name in ["board-1", "board-2"] {
        cluster.join(name)?;
        cluster.wait_for_status(name, "Ready")?;
    }
    Ok(cluster)
}

fn watch(cluster: &Cluster) -> Result<Watch, Box<dyn Error>> {
    let mut watch = cluster.watch(&["node", "list", "--watch"])?;
    watch.expect("board-1 is Ready", PATIENCE, |l| l.contains("board-1") && l.contains("Ready"))?;
    Ok(watch)
}

fn expect(watch: &mut Watch, status: &str) -> Result<String, Box<dyn Error>> {
    let what = format!("board-1 is {status}");
    let line = watch.expect(&what, PATIENCE, |line| {
        line.contains("board-1") && line.split_whitespace().any(|word| word == status)
    })?;
    Ok(line.1)
}

#[test]
fn a_killed_agent_is_not_ready_with_its_reason_and_comes_back() -> Story {
    let folder = tempfile::tempdir()?;
    let mut cluster = two_nodes(folder.path(), None)?;
    let mut watch = watch(&cluster)?;
    cluster.agent("board-1")?.kill();
    expect(&mut watch, "NotReady")?;
    let node = cluster.node("board-1")?;
    assert_eq!(node["conditions"][0]["kind"], "SessionLost", "{node}");
    assert_eq!(cluster.node("board-2")?["status"], "Ready");
    cluster.start_agent("board-1")?;
    expect(&mut watch, "Ready")?;
    Ok(())
}

#[test]
fn a_frozen_agent_is_not_ready_although_its_connection_stands() -> Story {
    let folder = tempfile::tempdir()?;
    let mut cluster = two_nodes(folder.path(), None)?;
    let mut watch = watch(&cluster)?;
    cluster.agent("board-1")?.freeze();
    expect(&mut watch, "NotReady")?;
    cluster.agent("board-1")?.thaw();
    expect(&mut watch, "Ready")?;
    Ok(())
}

#[test]
fn a_silent_cut_is_seen_and_healed() -> Story {
    let folder = tempfile::tempdir()?;
    let cluster = two_nodes(folder.path(), Some(Namespace::create("cut")?))?;
    let mut watch = watch(&cluster)?;
    let address = cluster.agent_address("board-1");
    let network = cluster.namespace().ok_or("no namespace")?;
    network.cut(&address)?;
    expect(&mut watch, "NotReady")?;
    assert_eq!(cluster.node("board-2")?["status"], "Ready");
    network.heal(&address)?;
    expect(&mut watch, "Ready")?;
    Ok(())
}

#[test]
fn a_cut_in_one_direction_is_seen_too() -> Story {
    let folder = tempfile::tempdir()?;
    let cluster = two_nodes(folder.path(), Some(Namespace::create("oneway")?))?;
    let mut watch = watch(&cluster)?;
    let address = cluster.agent_address("board-1");
    let network = cluster.namespace().ok_or("no namespace")?;
    network.cut_from(&address)?;
    expect(&mut watch, "NotReady")?;
    network.heal_from(&address)?;
    expect(&mut watch, "Ready")?;
    Ok(())
}

#[test]
fn a_killed_master_comes_back_and_no_status_changes() -> Story {
    let folder = tempfile::tempdir()?;
    let mut cluster = two_nodes(folder.path(), None)?;
    let before = events_of_kind(&cluster, "NodeNotReady")?;
    let since = cluster.node("board-1")?["status_since"].clone();
    for _ in 0..3 {
        cluster.master.kill();
        cluster.start_master()?;
        cluster.wait("both are connected again", |c| {
            Ok(["board-1", "board-2"].iter().all(|name| {
                c.node(name).is_ok_and(|n| n["connected"] == true && n["status"] == "Ready")
            }))
        })?;
    }
    // longer than the allowance after a restart: whoever is lost by mistake is lost by then
    std::thread::sleep(Duration::from_secs(9));
    assert_eq!(events_of_kind(&cluster, "NodeNotReady")?, before, "{}", story(&cluster)?);
    assert_eq!(cluster.node("board-1")?["status_since"], since);
    Ok(())
}

#[test]
fn a_frozen_master_is_left_and_found_again() -> Story {
    let folder = tempfile::tempdir()?;
    let cluster = two_nodes(folder.path(), None)?;
    let before = events_of_kind(&cluster, "NodeNotReady")?;
    cluster.master.freeze();
    std::thread::sleep(Duration::from_secs(8));
    cluster.master.thaw();
    cluster.wait("both are connected again", |c| {
        Ok(["board-1", "board-2"]
            .iter()
            .all(|name| c.node(name).is_ok_and(|n| n["connected"] == true)))
    })?;
    assert_eq!(events_of_kind(&cluster, "NodeNotReady")?, before, "{}", story(&cluster)?);
    Ok(())
}

/// What happened, for a failure's message.
fn story(cluster: &Cluster) -> Result<String, Box<dyn Error>> {
    Ok(String::from_utf8(cluster.piccolo(&["events", "-n", "1000", "-o", "wide"])?.stdout)?)
}

fn events_of_kind(cluster: &Cluster, kind: &str) -> Result<usize, Box<dyn Error>> {
    let events = cluster.json(&["events", "-n", "1000", "-o", "json"])?;
    let events = events.as_array().or_else(|| events["events"].as_array()).cloned();
    Ok(events.ok_or("no list of events")?.iter().filter(|event| event["kind"] == kind).count())
}
