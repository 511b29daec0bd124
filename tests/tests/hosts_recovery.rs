//! Real hosts on which something fails that does not come back alone: what recovery does about it, what it
//! leaves alone, and what operators say to it (HLD §10.1, §10.2).

use std::error::Error;

use piccolo_testkit::{
    cluster::Result,
    podman::IMAGE,
    testbed::{
        cluster::{AGENT_UNIT, HostCluster},
        host::Host,
        witness::Witness,
    },
};
use serde_json::Value;

type Story = std::result::Result<(), Box<dyn Error>>;

const NODE: &str = "node-1";
const BROKEN: &str = "/etc/systemd/system/podman.service.d/broken.conf";

fn one_node() -> std::result::Result<(HostCluster, Witness), Box<dyn Error>> {
    let cluster = HostCluster::start(1)?;
    cluster.run_container(NODE, "web", &[])?;
    let witness = Witness::of(&cluster)?;
    Ok((cluster, witness))
}

/// A container that ends by itself, after a moment, as one that fails.
fn run_flaky(host: &Host, name: &str, options: &[&str]) -> Story {
    let base = ["podman", "run", "--detach", "--name", name];
    let dies = [IMAGE, "sh", "-c", "sleep 1; exit 3"];
    host.run(&[&base, options, &dies].concat())?;
    Ok(())
}

/// What `piccolo node recovery` says of this failure; `Null` where it says nothing.
fn failure(cluster: &HostCluster, name: &str) -> Result<Value> {
    let recovery = cluster.json(&["node", "recovery", NODE, "-o", "json"])?;
    let failures = recovery["failures"].as_array().cloned().unwrap_or_default();
    Ok(failures.into_iter().find(|line| line["failure"] == name).unwrap_or_default())
}

/// Events of this kind that are about this failure.
fn count(cluster: &HostCluster, kind: &str, name: &str) -> Result<usize> {
    let events = cluster.events()?;
    let about = |event: &&Value| event["kind"] == kind && event["fields"]["failure"] == name;
    Ok(events.iter().filter(about).count())
}

#[test]
fn podman_that_does_not_come_back_alone_is_restarted() -> Story {
    let (cluster, witness) = one_node()?;
    let host = cluster.host(NODE)?;
    // its service cannot start, until systemd gives up its socket too
    host.write(BROKEN, "[Service]\nExecStart=\nExecStart=/bin/false\n")?;
    host.shell(
        "set +e; systemctl daemon-reload; systemctl kill --signal=KILL podman.service; \
         for i in 1 2 3 4 5 6 7; do systemctl start podman.service; done; \
         curl --silent --unix-socket /run/podman/podman.sock http://podman/_ping; true",
    )?;
    cluster.wait("systemd has given up podman.socket", |_| {
        Ok(host.unit("podman.socket", "ActiveState")? == "failed")
    })?;
    // the cause is gone, and nothing else happens
    host.shell(&format!("rm {BROKEN}; systemctl daemon-reload"))?;
    let probed = cluster.piccolo(&["node", "probe", NODE])?;
    assert_eq!(probed.status.code(), Some(1), "Podman cannot prove itself");
    cluster.wait("recovery has restarted Podman", |c| {
        Ok(count(c, "RecoveryEnded", "podman")? == 1
            && host.unit("podman.socket", "ActiveState")? == "active")
    })?;
    cluster
        .wait("the node sees its Podman again", |c| Ok(failure(c, "podman")?["waits"] == "Well"))?;
    assert_eq!(count(&cluster, "RecoveryAttempted", "podman")?, 1, "once was enough");
    assert_eq!(failure(&cluster, "podman")?["attempts"], 1);
    let probed = cluster.piccolo(&["node", "probe", NODE])?;
    assert_eq!(probed.status.code(), Some(0), "{}", String::from_utf8_lossy(&probed.stderr));
    assert_eq!(cluster.count(NODE, "PersonNeeded")?, 0);
    witness.confirm(&cluster)?;
    Ok(cluster.end()?)
}

#[test]
fn podman_that_an_operator_has_stopped_stays_stopped() -> Story {
    let (cluster, witness) = one_node()?;
    let host = cluster.host(NODE)?;
    host.run(&["systemctl", "stop", "podman.socket", "podman.service"])?;
    cluster.piccolo(&["node", "probe", NODE])?;
    cluster.wait("recovery has looked, and left it alone", |c| {
        Ok(failure(c, "podman")?["waits"] == "LeftAlone")
    })?;
    assert_eq!(host.unit("podman.socket", "ActiveState")?, "inactive");
    // unless an operator says otherwise
    let forced = cluster.piccolo(&["node", "recovery", NODE, "--force", "restart-podman"])?;
    assert!(forced.status.success(), "{}", String::from_utf8_lossy(&forced.stderr));
    cluster.wait("Podman is back", |c| Ok(failure(c, "podman")?["waits"] == "Well"))?;
    witness.confirm(&cluster)?;
    Ok(cluster.end()?)
}

#[test]
fn a_container_that_asks_for_it_is_restarted_and_others_are_left_alone() -> Story {
    let (cluster, witness) = one_node()?;
    let host = cluster.host(NODE)?;
    run_flaky(host, "plain", &[])?;
    run_flaky(host, "flaky", &["--label", "piccolo.restart=on-failure"])?;
    cluster.run_container(NODE, "halted", &["--label", "piccolo.restart=always"])?;
    host.run(&["podman", "stop", "--time", "0", "halted"])?;
    cluster.wait("flaky was restarted twice, with back-off", |c| {
        Ok(count(c, "RecoveryEnded", "container/flaky")? >= 2)
    })?;
    cluster.wait("the one that an operator has stopped was left alone", |c| {
        Ok(failure(c, "container/halted")?["waits"] == "LeftAlone")
    })?;
    assert_eq!(count(&cluster, "RecoveryAttempted", "container/plain")?, 0);
    cluster.wait_for_container(NODE, "plain", "exited")?;
    cluster.wait_for_container(NODE, "halted", "exited")?;
    let line = failure(&cluster, "container/flaky")?;
    assert!(line["attempts"].as_u64() >= Some(2), "{line}");
    assert_eq!(line["ladder"], "restart-container x5 > alert");
    witness.confirm(&cluster)?;
    Ok(cluster.end()?)
}

#[test]
fn a_pause_holds_over_a_restart_of_the_agent_until_it_is_ended() -> Story {
    let (cluster, witness) = one_node()?;
    let host = cluster.host(NODE)?;
    let recovery = |arguments: &[&str]| {
        cluster.piccolo(&[&["node", "recovery", NODE][..], arguments].concat())
    };
    assert!(recovery(&["--pause", "--for", "10m"])?.status.success());
    run_flaky(host, "flaky", &["--label", "piccolo.restart=on-failure"])?;
    let paused = |c: &HostCluster| Ok(failure(c, "container/flaky")?["waits"] == "Paused");
    cluster.wait("flaky has died, and recovery is paused", paused)?;
    host.kill(AGENT_UNIT)?;
    cluster.wait_for_count(NODE, "NodeNotReady", 1)?;
    cluster.wait_until_in_session(NODE)?;
    cluster.wait("it still is", paused)?;
    assert_eq!(count(&cluster, "RecoveryAttempted", "container/flaky")?, 0);
    // a reboot is off in the configuration of this node, and nobody can force it
    assert_eq!(recovery(&["--force", "reboot"])?.status.code(), Some(1));
    assert!(recovery(&["--resume"])?.status.success());
    cluster
        .wait("flaky was restarted", |c| Ok(count(c, "RecoveryEnded", "container/flaky")? >= 1))?;
    assert_eq!(cluster.count(NODE, "RecoveryPaused")?, 1);
    assert_eq!(cluster.count(NODE, "RecoveryResumed")?, 1);
    witness.confirm(&cluster)?;
    Ok(cluster.end()?)
}
