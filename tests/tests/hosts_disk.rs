//! Real hosts whose disk is full, or takes no more writes: the node stays a node, and says what happened once
//! that is over (HLD §4.2, §10.1, §13.3).

use std::error::Error;

use piccolo_testkit::{
    cluster::{Programs, Result as Told},
    podman::IMAGE,
    testbed::{
        cluster::{AGENT_UNIT, HostCluster, INSTALLER, MASTER, MASTER_UNIT},
        folder_beside_this_test,
        host::Host,
        witness::Witness,
    },
};

use serde_json::Value;

type Story = Result<(), Box<dyn Error>>;

const STATE: &str = "/var/lib/piccolo/nodeagent";

/// The agent's state moves to a file system of one MiB, of which `dd` takes the rest.
fn fill(cluster: &HostCluster) -> Story {
    let host = cluster.host("node-1")?;
    host.shell(&format!(
        "systemctl stop {AGENT_UNIT}; cp -a {STATE} /root/state; \
         mount -t tmpfs -o size=1m,mode=0700 none {STATE}; cp -aT /root/state {STATE}; \
         dd if=/dev/zero of={STATE}/filler bs=4k 2>/dev/null || true; \
         systemctl start {AGENT_UNIT}"
    ))?;
    Ok(())
}

#[test]
fn a_full_state_folder_costs_a_node_neither_its_session_nor_its_containers() -> Story {
    let cluster = HostCluster::start(1)?;
    cluster.run_container("node-1", "web", &[])?;
    let witness = Witness::of(&cluster)?;
    fill(&cluster)?;
    cluster.wait_until_in_session("node-1")?;
    let host = cluster.host("node-1")?;
    assert!(host.shell(&format!("df --output=avail {STATE} | tail -1"))?.trim() == "0");
    // what happens meanwhile is seen all the same
    host.run(&["podman", "run", "--detach", "--name", "job", IMAGE, "false"])?;
    cluster.wait_for_container("node-1", "job", "exited")?;
    // a new start finds no room either
    host.kill(AGENT_UNIT)?;
    cluster
        .wait("systemd has started it again", |_| Ok(host.unit(AGENT_UNIT, "NRestarts")? == "1"))?;
    cluster.wait_until_in_session("node-1")?;
    // room again: events are told once more
    host.run(&["rm", &format!("{STATE}/filler")])?;
    host.run(&["podman", "run", "--detach", "--name", "late", IMAGE, "false"])?;
    cluster.wait("an event of now is told", |c| {
        Ok(c.events()?.iter().any(|event| {
            event["kind"] == "ContainerDied"
                && event["message"].as_str().is_some_and(|m| m.contains("late"))
        }))
    })?;
    // the check goes on to complain of a disk of one MiB
    witness.confirm(&cluster)?;
    Ok(cluster.end()?)
}

const STORAGE: &str = "/var/lib/containers/storage";

#[test]
fn a_full_container_storage_is_a_condition_until_there_is_room() -> Story {
    let cluster = HostCluster::start(1)?;
    let host = cluster.host("node-1")?;
    host.shell(&format!(
        "systemctl stop podman.socket podman.service; mount -t tmpfs -o size=24m none {STORAGE}; \
         podman import /usr/share/testbed-image.tar {IMAGE}; systemctl start podman.socket; \
         printf 'disks: [{STORAGE}]\\nsampling_interval_s: 1\\n' >>/etc/piccolo/nodeagent.yaml; \
         sed -i /DISK/d /usr/local/lib/systemd/system/{AGENT_UNIT}.d/shared-machine.conf; \
         systemctl daemon-reload; systemctl restart {AGENT_UNIT}"
    ))?;
    cluster.run_container("node-1", "web", &[])?;
    let witness = Witness::of(&cluster)?;
    let (not_ready, agent) =
        (cluster.count("node-1", "NodeNotReady")?, host.unit(AGENT_UNIT, "MainPID")?);
    host.shell(&format!("dd if=/dev/zero of={STORAGE}/filler bs=4k 2>/dev/null || true"))?;
    cluster.wait_for_condition("node-1", "ResourcePressure")?;
    let node = cluster.node("node-1")?;
    assert_eq!(node["conditions"][0]["message"], "over the limit: disk", "{node}");
    // nothing new can be started, and what runs runs on
    assert!(host.run(&["podman", "run", "--detach", "--name", "new", IMAGE, "true"]).is_err());
    cluster.wait_for_container("node-1", "web", "running")?;
    assert_eq!(cluster.node("node-1")?["connected"], true);
    host.run(&["rm", &format!("{STORAGE}/filler")])?;
    cluster.wait_for_status("node-1", "Ready")?;
    // whatever became of it while there was no room
    host.shell("podman rm --force --ignore new")?;
    host.run(&["podman", "run", "--detach", "--name", "late", IMAGE, "false"])?;
    cluster.wait_for_container("node-1", "late", "exited")?;
    assert_eq!(cluster.count("node-1", "NodeNotReady")?, not_ready + 1);
    assert_eq!(host.unit(AGENT_UNIT, "MainPID")?, agent, "the agent ran on");
    Ok(witness.conclude(cluster)?)
}

/// Certificates that are renewed every few seconds: each renewal wants to be written.
const SHORT_LIVES: &str =
    "certificate_lifetime: 15s\ntiming:\n  beat_silence: 10s\n  session_grace: 5s\n";

#[test]
fn a_state_folder_that_becomes_read_only_ends_no_session_and_a_new_start_says_why_not() -> Story {
    let cluster = HostCluster::start_with(1, SHORT_LIVES)?;
    cluster.run_container("node-1", "web", &[])?;
    let witness = Witness::of(&cluster)?;
    let host = cluster.host("node-1")?;
    host.run(&["systemctl", "stop", AGENT_UNIT])?;
    host.small_disk(STATE, 100)?;
    host.run(&["systemctl", "start", AGENT_UNIT])?;
    cluster.wait_until_in_session("node-1")?;
    let agent = host.unit(AGENT_UNIT, "MainPID")?;
    host.break_disk(STATE)?;
    assert!(host.run(&["touch", &format!("{STATE}/new")]).is_err());
    // the certificate of now ends, and another takes its place: in memory
    for _ in 0..2 {
        let before = cluster.node("node-1")?["certificate_expires_at"].clone();
        cluster.wait("the certificate is renewed", |c| {
            Ok(c.node("node-1")?["certificate_expires_at"] != before)
        })?;
    }
    // a session that begins with it tells the master that older keys are worth nothing
    cluster.host(MASTER)?.run(&["systemctl", "restart", MASTER_UNIT])?;
    cluster.wait_until_in_session("node-1")?;
    host.run(&["podman", "run", "--detach", "--name", "job", IMAGE, "false"])?;
    cluster.wait_for_count("node-1", "ContainerDied", 1)?;
    assert_eq!(host.unit(AGENT_UNIT, "MainPID")?, agent, "the agent ran on");
    assert_eq!(cluster.node("node-1")?["status"], "Ready");
    // one that starts could promise nothing: it says so, and is tried again until it can
    host.run(&["systemctl", "restart", "--no-block", AGENT_UNIT])?;
    cluster.wait("the agent says what is wrong", |_| {
        Ok(host.journal(AGENT_UNIT).contains("Read-only file system"))
    })?;
    cluster.wait_for_status("node-1", "NotReady")?;
    host.run(&["systemctl", "stop", AGENT_UNIT])?;
    host.mend_disk(STATE)?;
    // what its lives without a master see has the numbers of what was told and not kept: none of it is lost
    cluster.host(MASTER)?.run(&["systemctl", "stop", MASTER_UNIT])?;
    for name in ["late", "later"] {
        host.run(&["systemctl", "restart", AGENT_UNIT])?;
        wait_until_seen(&cluster, host, "web")?;
        host.run(&["podman", "run", "--detach", "--name", name, IMAGE, "false"])?;
        wait_until_seen(&cluster, host, name)?;
    }
    cluster.host(MASTER)?.run(&["systemctl", "start", MASTER_UNIT])?;
    cluster.wait_until_in_session("node-1")?;
    assert_eq!(cluster.count("node-1", "NodeRegistered")?, 1);
    for name in ["job", "late", "later"] {
        cluster.wait("its end is told", |c| Ok(told_ends(c, name)? > 0))?;
    }
    cluster.wait_for_status("node-1", "Ready")?;
    for name in ["job", "late", "later"] {
        assert_eq!(told_ends(&cluster, name)?, 1, "{name}");
    }
    witness.confirm_containers(&cluster)?;
    Ok(cluster.end()?)
}

/// By the agent, which has no master perhaps.
fn wait_until_seen(cluster: &HostCluster, host: &Host, container: &str) -> Story {
    cluster.wait(&format!("the agent sees {container}"), |_| {
        let status = host.agent_status()?;
        let containers = status["containers"].as_array();
        Ok(containers.is_some_and(|all| all.iter().any(|one| one["name"] == container)))
    })?;
    Ok(())
}

fn told_ends(cluster: &HostCluster, container: &str) -> Told<usize> {
    let is_its = |event: &&Value| {
        event["kind"] == "ContainerDied" && event["fields"]["container"] == container
    };
    Ok(cluster.events()?.iter().filter(is_its).count())
}

/// Where the check looks for a board: all of the host's own, but for one disk that its kernel does not have.
const BOARD: &str = "mkdir -p /srv/board/sys/block/nvme0n1 /srv/board/dev && cd /srv/board
ln -s /proc /etc /run /usr /var . && ln -s /sys/fs /sys/class /sys/devices sys
echo 0 >sys/block/nvme0n1/removable
mkdir -p /etc/systemd/system/piccolo-nodeagent.service.d
printf '[Service]\\nEnvironment=PICCOLO_CHECK_ROOT=/srv/board\\n' >/etc/systemd/system/piccolo-nodeagent.service.d/board.conf
systemctl daemon-reload && systemctl restart piccolo-nodeagent.service";

/// As smartctl would, it needs a right that the agent's unit has not: CAP_SYS_ADMIN is bit 21.
const SMARTCTL: &str = "#!/bin/bash
caps=$(sed -n 's/^CapEff:[[:space:]]*//p' /proc/self/status)
(((16#$caps >> 21) & 1)) || { echo 'Smartctl open device: failed: Permission denied'; exit 2; }
cat /srv/board/smart
";

#[test]
fn the_agent_has_systemd_ask_a_disk_for_its_health() -> Story {
    let cluster = HostCluster::start(1)?;
    let host = cluster.host("node-1")?;
    host.write("/usr/local/sbin/smartctl", SMARTCTL)?;
    host.run(&["chmod", "755", "/usr/local/sbin/smartctl"])?;
    host.shell(BOARD)?;
    host.write("/srv/board/smart", include_str!("smart/nvme.txt"))?;
    cluster.wait_until_in_session("node-1")?;
    let check = || cluster.json(&["--timeout", "40s", "node", "check", "node-1", "-o", "json"]);
    let value = |check: &Value, name: &str| {
        let findings = check["system_check"]["findings"].as_array();
        findings.into_iter().flatten().find(|finding| finding["name"] == name).cloned()
    };
    let found = check()?;
    let wear = value(&found, "disk_wear nvme0n1").unwrap_or_default();
    assert_eq!(
        (&wear["value"], &wear["level"]),
        (&"7 % of its life used".into(), &"ok".into()),
        "{found:#}"
    );
    // the disk gives up: the node says so, and goes on
    host.write("/srv/board/smart", include_str!("smart/failing.txt"))?;
    let found = check()?;
    let health = value(&found, "disk_health nvme0n1").unwrap_or_default();
    assert_eq!(health["level"], "error", "{found:#}");
    cluster.wait_for_condition("node-1", "SystemCheckTolerated")?;
    // one that hangs holds up nobody, is said, and leaves nothing that runs
    let hangs = "#!/bin/sh\ntrap '' TERM\nwhile :; do sleep 600; done\n";
    host.write("/usr/local/sbin/smartctl", hangs)?;
    host.run(&["chmod", "755", "/usr/local/sbin/smartctl"])?;
    let found = check()?;
    let health = value(&found, "disk_health nvme0n1").unwrap_or_default();
    assert_eq!(
        (&health["value"], &health["level"]),
        (&"not read: no answer within 1.5 s".into(), &"ok".into()),
        "{found:#}"
    );
    cluster.wait("systemd has ended it", |_| {
        Ok(host.unit("piccolo-disks.service", "ActiveState")? == "inactive"
            && host.shell("pgrep -f '[s]bin/smartctl' || true")?.trim().is_empty())
    })?;
    Ok(cluster.end()?)
}

#[test]
fn a_root_that_is_read_only_takes_an_installation_an_upgrade_and_its_removal() -> Story {
    let programs = Programs::beside_this_test()?;
    let cluster = HostCluster::with_bare_nodes(&folder_beside_this_test()?, &programs, 1)?;
    let host = cluster.host("node-1")?;
    host.run(&["podman", "run", "--detach", "--name", "web", IMAGE, "sleep", "100000"])?;
    let witness = Witness::of(&cluster)?;
    cluster.bring_release("node-1")?;
    let before =
        host.shell("find /etc /var/lib -xdev -path /var/lib/containers -prune -o -print | sort")?;
    // `/etc` and `/var` are file systems of their own; so is /root, where the release lies, as a stick would
    // who writes to /var does so by its own mount from now on
    host.shell(
        "for folder in /etc /var /root; do mount --rbind $folder $folder; done; \
         systemctl restart systemd-journald; mount -o remount,bind,ro /",
    )?;
    assert!(host.run(&["touch", "/opt/new"]).is_err() && host.run(&["touch", "/var/new"]).is_ok());
    host.run(&["rm", "/var/new"])?;
    cluster.install_agents()?;
    cluster.wait_for_container("node-1", "web", "running")?;
    let first = host.run(&["readlink", "/var/lib/piccolo/current"])?;
    cluster.upgrade("node-1")?;
    assert_ne!(host.run(&["readlink", "/var/lib/piccolo/current"])?, first);
    cluster.wait_until_in_session("node-1")?;
    witness.confirm(&cluster)?;
    host.run(&[INSTALLER, "--uninstall", "--purge"])?;
    cluster.wait_for_status("node-1", "NotReady")?;
    let after =
        host.shell("find /etc /var/lib -xdev -path /var/lib/containers -prune -o -print | sort")?;
    assert_eq!(after, before, "nothing is left of it");
    witness.confirm(&cluster)?;
    Ok(cluster.end()?)
}
