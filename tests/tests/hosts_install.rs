//! An upgrade of a real host that is killed at its steps, while its agent and its containers run: the next run
//! repairs it. Every single step, without services, is killed in tests/installation (HLD §12.1, §12.2).

use std::error::Error;

use piccolo_testkit::testbed::{
    cluster::{AGENT_UNIT, HostCluster, INSTALLER},
    host::Host,
    witness::Witness,
};

type Story = Result<(), Box<dyn Error>>;

const KILLER: &str = "/root/killer";
/// Programs that change something; one of them is the last that an upgrade calls.
const CHANGING: [&str; 8] = ["mkdir", "cp", "mv", "ln", "rm", "chmod", "sync", "systemctl"];
/// How an upgrade is cut into parts: one kill at the end of each.
const KILLS: u32 = 5;

/// In front of the search path stand programs of those names, which count, and the one whose turn it is kills the
/// whole process group instead of doing its work.
fn bring_killer(host: &Host) -> Story {
    let script = "here=${0%/*}; read n <$here/count; read at <$here/at; n=$((n + 1)); echo $n >$here/count\n\
                  [ $n -ne $at ] || kill -9 0\nPATH=/usr/sbin:/usr/bin:/sbin:/bin exec ${0##*/} \"$@\"";
    host.write(&format!("{KILLER}/killer"), format!("#!/bin/sh\n{script}\n"))?;
    host.shell(&format!(
        "chmod 0755 {KILLER}/killer; for name in {}; do ln -s killer {KILLER}/$name; done",
        CHANGING.join(" ")
    ))?;
    Ok(())
}

/// Kills an upgrade at that step; says how many there were.
fn upgrade_killed_at(host: &Host, step: u32) -> Result<u32, Box<dyn Error>> {
    let steps = host.shell(&format!(
        "echo 0 >{KILLER}/count; echo {step} >{KILLER}/at; \
         PATH={KILLER}:$PATH setsid --wait {INSTALLER} >/root/said 2>&1 || true; cat {KILLER}/count"
    ))?;
    Ok(steps.trim().parse()?)
}

#[test]
fn an_upgrade_that_is_killed_anywhere_costs_no_container_and_is_finished_by_the_next_run() -> Story
{
    let cluster = HostCluster::start(1)?;
    cluster.run_container("node-1", "web", &[])?;
    let witness = Witness::of(&cluster)?;
    let id = cluster.node("node-1")?["id"].clone();
    let host = cluster.host("node-1")?;
    bring_killer(host)?;
    cluster.bring_newer_release("node-1")?;
    // counts only: no upgrade has so many steps
    let steps = upgrade_killed_at(host, 100_000)?;
    assert!(steps >= 20, "{steps} steps, of which it said {}", host.run(&["cat", "/root/said"])?);
    for part in 1..=KILLS {
        let release = host.run(&["readlink", "/opt/piccolo/current"])?;
        cluster.bring_newer_release("node-1")?;
        let step = steps * part / KILLS;
        assert_eq!(upgrade_killed_at(host, step)?, step, "it was killed there");
        // whatever is installed now, an agent runs or is started again by what is there
        cluster.wait(&format!("an agent runs after step {step} of {steps}"), |c| {
            Ok(c.node("node-1")?["connected"] == true)
        })?;
        host.run(&[INSTALLER])?;
        assert_ne!(host.run(&["readlink", "/opt/piccolo/current"])?, release, "step {step}");
        let left = host.shell(
            "find /opt/piccolo /etc -name '*piccolo-new' -o -name 'transaction*' -o -name .partial",
        )?;
        assert_eq!(left, "", "nothing half made is left after step {step}");
        cluster.wait_until_in_session("node-1")?;
        let runs = host.shell(&format!(
            "readlink /proc/$(systemctl show --value -p MainPID {AGENT_UNIT})/exe"
        ))?;
        let current = host.run(&["readlink", "--canonicalize", "/opt/piccolo/current"])?;
        assert!(runs.starts_with(&current), "step {step}: {runs} runs, {current} is installed");
    }
    assert_eq!(cluster.node("node-1")?["id"], id, "it is the node that it was");
    assert_eq!(cluster.count("node-1", "NodeRegistered")?, 1);
    assert_eq!(cluster.count("node-1", "ContainerDied")?, 0);
    Ok(witness.conclude(cluster)?)
}
