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
/// Of this boot alone.
const SPOILT: &str = "/run/systemd/system/podman.service.d/spoilt.conf";
const STATE: &str = "/var/lib/piccolo/nodeagent";

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

/// A boot of a host: each has its own.
fn boot(host: &Host) -> Result<String> {
    host.run(&["cat", "/proc/sys/kernel/random/boot_id"])
}

/// Lines for the agent's configuration, which it reads by a new start.
fn configure(cluster: &HostCluster, recovery: &str) -> Story {
    let starts = cluster.count(NODE, "AgentStarted")?;
    cluster.host(NODE)?.shell(&format!(
        "printf 'recovery:\n{recovery}' >>/etc/piccolo/nodeagent.yaml; systemctl restart {AGENT_UNIT}"
    ))?;
    cluster.wait_for_count(NODE, "AgentStarted", starts + 1)?;
    Ok(cluster.wait_until_in_session(NODE)?)
}

/// A boot ends its container `web`, and starts `kept` again.
fn one_node_that_may_reboot(
    recovery: &str,
) -> std::result::Result<(HostCluster, Witness), Box<dyn Error>> {
    let (cluster, witness) = one_node()?;
    configure(&cluster, &format!("  reboot: true\n{recovery}"))?;
    cluster.run_container(NODE, "kept", &["--restart", "always"])?;
    Ok((cluster, witness.except(NODE, "web")))
}

/// What events of this kind say of this failure, the oldest first.
fn told(cluster: &HostCluster, kind: &str, name: &str) -> Result<Vec<String>> {
    let events = cluster.events()?;
    let about = |event: &&Value| event["kind"] == kind && event["fields"]["failure"] == name;
    let text = |event: &Value| event["message"].as_str().unwrap_or_default().to_owned();
    Ok(events.iter().filter(about).map(text).collect())
}

#[test]
fn a_forced_reboot_happens_once_is_told_once_and_brings_containers_back() -> Story {
    let (mut cluster, witness) = one_node_that_may_reboot("")?;
    let before = boot(cluster.host(NODE)?)?;
    let forced = cluster.done(&["node", "recovery", NODE, "--force", "reboot"])?;
    assert!(forced.contains("reboot of system has begun"), "{forced}");
    cluster.wait("the master knows why it is silent", |c| {
        let line = failure(c, "node")?;
        Ok(line["waits"] == "Reboot" && line["step"] == "reboot")
    })?;
    cluster.testbed.host_mut(NODE)?.reboots()?;
    assert_ne!(boot(cluster.host(NODE)?)?, before);
    cluster.wait_until_in_session(NODE)?;
    cluster.wait_for_container(NODE, "kept", "running")?;
    cluster.wait("what became of it is told", |c| {
        Ok(told(c, "RecoveryEnded", "system")? == ["recovery of system: reboot done"])
    })?;
    let attempts = told(&cluster, "RecoveryAttempted", "system")?;
    assert_eq!(attempts, ["recovery of system: reboot, an operator wants it"]);
    let recovery = cluster.json(&["node", "recovery", NODE, "-o", "json"])?;
    assert_eq!(recovery["spent"], 0, "it was an operator's: {recovery}");
    Ok(witness.conclude(cluster)?)
}

/// Its Podman cannot be reached, whatever is restarted; a boot heals that.
fn spoil_podman(host: &Host) -> Result<()> {
    host.write(SPOILT, "[Service]\nExecStart=\nExecStart=/bin/false\n")?;
    let end = "systemctl daemon-reload; systemctl kill --signal=KILL podman.service; \
               curl --silent --unix-socket /run/podman/podman.sock http://podman/_ping; true";
    host.shell(&format!("set +e; {end}")).map(drop)
}

#[test]
fn podman_that_no_restart_helps_has_its_node_rebooted_once_and_it_is_told_afterwards() -> Story {
    let (mut cluster, witness) = one_node_that_may_reboot("  back_off_max_s: 1\n")?;
    let host = cluster.testbed.host_mut(NODE)?;
    let before = boot(host)?;
    // nobody can be told meanwhile
    host.cut_link()?;
    spoil_podman(host)?;
    host.reboots()?;
    assert_ne!(boot(host)?, before);
    cluster.wait_until_in_session(NODE)?;
    cluster.wait_for_container(NODE, "kept", "running")?;
    cluster.wait("what became of it is told", |c| {
        Ok(told(c, "RecoveryEnded", "podman")?.contains(&"recovery of podman: reboot done".into()))
    })?;
    let attempts = [
        "recovery of podman: restart-podman, attempt 1",
        "recovery of podman: restart-podman, attempt 2",
        "recovery of podman: restart-podman, attempt 3",
        "recovery of podman: reboot, attempt 4",
    ];
    assert_eq!(told(&cluster, "RecoveryAttempted", "podman")?, attempts);
    let late =
        |event: &&Value| event["kind"] == "RecoveryAttempted" && event["delivered_late"] == true;
    assert_eq!(cluster.events()?.iter().filter(late).count(), attempts.len());
    let line = failure(&cluster, "podman")?;
    assert_eq!((&line["waits"], &line["attempts"]), (&"Well".into(), &4.into()), "{line}");
    let recovery = cluster.json(&["node", "recovery", NODE, "-o", "json"])?;
    assert_eq!(recovery["spent"], 4, "the boot gave no fresh budget: {recovery}");
    assert_eq!(count(&cluster, "PersonNeeded", "podman")?, 0);
    Ok(witness.conclude(cluster)?)
}

#[test]
fn a_node_that_may_not_reboot_never_does_and_a_person_is_told() -> Story {
    let (cluster, witness) = one_node()?;
    let host = cluster.host(NODE)?;
    configure(&cluster, "  back_off_max_s: 1\n")?;
    let before = boot(host)?;
    let forced = cluster.piccolo(&["node", "recovery", NODE, "--force", "reboot"])?;
    let why = String::from_utf8_lossy(&forced.stderr).into_owned();
    assert!(why.contains("reboot is off in the configuration of this node"), "{why}");
    assert!(why.contains("set recovery.reboot: true in its nodeagent.yaml"), "{why}");
    spoil_podman(host)?;
    cluster.piccolo(&["node", "probe", NODE])?;
    for attempts in 1..=3 {
        cluster.wait_for_count(NODE, "RecoveryAttempted", attempts)?;
    }
    cluster.wait_for_count(NODE, "PersonNeeded", 1)?;
    let line = failure(&cluster, "podman")?;
    assert_eq!(line["ladder"], "restart-podman x3 > reboot (off) > alert", "{line}");
    let attempts = cluster.events()?;
    let reboots =
        |event: &&Value| event["message"].as_str().is_some_and(|m| m.contains(": reboot"));
    assert_eq!(attempts.iter().filter(reboots).count(), 0);
    host.shell(&format!("rm {SPOILT}; systemctl daemon-reload"))?;
    let forced = cluster.piccolo(&["node", "recovery", NODE, "--force", "restart-podman"])?;
    assert!(forced.status.success(), "{}", String::from_utf8_lossy(&forced.stderr));
    cluster.wait("Podman is back", |c| Ok(failure(c, "podman")?["waits"] == "Well"))?;
    assert_eq!(boot(host)?, before);
    Ok(witness.conclude(cluster)?)
}

#[test]
fn a_reboot_that_a_full_disk_could_not_remember_is_not_done() -> Story {
    let (cluster, witness) = one_node()?;
    let host = cluster.host(NODE)?;
    configure(&cluster, "  reboot: true\n  back_off_max_s: 1\n")?;
    let before = boot(host)?;
    host.run(&["systemctl", "stop", AGENT_UNIT])?;
    host.small_disk(STATE, 4)?;
    host.run(&["systemctl", "start", AGENT_UNIT])?;
    cluster.wait_until_in_session(NODE)?;
    // as where it is full; a disk that is has room again for a moment whenever the journal is cut
    host.run(&["chattr", "+i", STATE])?;
    spoil_podman(host)?;
    cluster.piccolo(&["node", "probe", NODE])?;
    cluster.wait("the reboot was not done, and it is told why", |c| {
        let told = told(c, "RecoveryEnded", "podman")?;
        Ok(told.iter().any(|text| text.contains("this reboot could not be counted")))
    })?;
    cluster.wait("a person is told", |c| Ok(count(c, "PersonNeeded", "podman")? == 1))?;
    assert_eq!(boot(host)?, before);
    // writes that find room all the same, as where the journal is cut, do not end it
    let full = failure(&cluster, "state-folder")?;
    assert!(full.is_object() && full["waits"] != "Well", "{full}");
    host.shell(&format!("chattr -i {STATE}; rm {SPOILT}; systemctl daemon-reload"))?;
    cluster.done(&["node", "recovery", NODE, "--force", "restart-podman"])?;
    cluster.wait("Podman is back", |c| Ok(failure(c, "podman")?["waits"] == "Well"))?;
    cluster.wait("so is the disk", |c| Ok(failure(c, "state-folder")?["waits"] == "Well"))?;
    witness.confirm(&cluster)?;
    Ok(cluster.end()?)
}
