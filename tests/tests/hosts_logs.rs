//! Real hosts whose logs are read through the master: a unit's from journald, containers' from Podman, followed over a
//! cut, beside a reader that has stopped reading (HLD §11.2).

use std::{error::Error, time::Duration};

use piccolo_testkit::{cluster::Watch, podman::IMAGE, testbed::cluster::HostCluster};

type Story = Result<(), Box<dyn Error>>;

/// Longer than the product waits for whoever follows and does not read.
const LONG: Duration = Duration::from_secs(60);

/// A container that counts, twenty times a second, and says once something on its stderr.
fn start_counting(cluster: &HostCluster, node: &str) -> Story {
    let script = "echo first complaint >&2; i=0; \
                  while :; do i=$((i+1)); echo count $i of many; sleep 0.05; done";
    let command = ["podman", "run", "--detach", "--name", "talker", IMAGE, "sh", "-c", script];
    cluster.host(node)?.run(&command)?;
    Ok(cluster.wait_for_container(node, "talker", "running")?)
}

/// A unit of node-1 whose important lines the master keeps.
fn keep_lines_of_a_unit(cluster: &HostCluster) -> Story {
    let host = cluster.host("node-1")?;
    let add = "printf 'logs:\\n  units: [fan.service]\\n' >> /etc/piccolo/nodeagent.yaml";
    host.shell(add)?;
    host.run(&["systemctl", "restart", "piccolo-nodeagent"])?;
    cluster.wait_until_in_session("node-1")?;
    complain(cluster, "the fan is slow")?;
    cluster.wait("its complaint is kept", |cluster| Ok(kept(cluster)? == 1))?;
    Ok(())
}

/// A warning of that unit, beside a line that is none.
fn complain(cluster: &HostCluster, warning: &str) -> Story {
    let say = format!("echo '<4>{warning}'; echo '<6>all is well'");
    let unit = ["systemd-run", "--quiet", "--wait", "--collect", "--unit=fan.service"];
    cluster.host("node-1")?.run(&[&unit[..], &["sh", "-c", &say]].concat())?;
    Ok(())
}

/// Lines of that unit that are kept: warnings alone, each once.
fn kept(cluster: &HostCluster) -> piccolo_testkit::cluster::Result<usize> {
    let text = cluster.done(&["logs", "--kept", "node-1:fan.service"])?;
    let mut lines: Vec<_> = text.lines().collect();
    assert!(lines.iter().all(|line| line.contains("the fan ")), "{text}");
    lines.dedup();
    assert_eq!(lines.len(), text.lines().count(), "{text}");
    Ok(lines.len())
}

/// The number in a line of it.
fn count(line: &str) -> Option<u64> {
    line.split_once("count ")?.1.split(' ').next()?.parse().ok()
}

/// Lines of a node until the count is beyond `enough`; says where it came to.
fn read_beyond(watch: &mut Watch, node: &str, enough: u64) -> Result<u64, Box<dyn Error>> {
    let source = format!("{node}/talker");
    let (_, line) = watch.expect(&format!("{source} counts beyond {enough}"), LONG, |line| {
        line.contains(&source) && count(line).is_some_and(|count| count > enough)
    })?;
    Ok(count(&line).unwrap_or_default())
}

#[test]
fn logs_of_units_and_containers_are_read_and_followed_over_a_cut_beside_a_frozen_reader() -> Story {
    let cluster = HostCluster::start(2)?;
    let of_unit = cluster.done(&["logs", "node-1"])?;
    assert!(of_unit.contains("in session with the master"), "{of_unit}");
    let refused = cluster.piccolo(&["logs", "node-1", "--unit", "sshd.service"])?;
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && why.contains("logs.units"), "{why}");
    for node in ["node-1", "node-2"] {
        start_counting(&cluster, node)?;
    }
    keep_lines_of_a_unit(&cluster)?;
    let both = ["logs", "node-1/talker", "node-2/talker"];
    let ambiguous = cluster.piccolo(&["logs", "talker"])?;
    assert_eq!(ambiguous.status.code(), Some(2), "{ambiguous:?}");
    cluster.wait("both have counted", |cluster| {
        let text = cluster.done(&[&both[..], &["--grep", "count 20 "]].concat())?;
        Ok(text.contains("node-1/talker") && text.contains("node-2/talker"))
    })?;
    let complaint = cluster.done(&["logs", "node-2/talker", "-n", "10000", "--level", "err"])?;
    assert!(complaint.lines().count() == 1 && complaint.contains("first complaint"), "{complaint}");
    let merged = cluster.done(&[&both[..], &["-n", "20"]].concat())?;
    let times: Vec<_> = merged.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(times.len() == 40 && times.is_sorted(), "{merged}");

    let mut watch = cluster.watch(&[&both[..], &["-f", "-n", "5"]].concat())?;
    let mut frozen = cluster.watch(&["logs", "node-2/talker", "-f", "-n", "5"])?;
    let before = read_beyond(&mut watch, "node-1", 0)?;
    read_beyond(&mut frozen, "node-2", 0)?;
    frozen.freeze();
    let at_cut = read_beyond(&mut watch, "node-2", 0)?;
    let host = cluster.host("node-1")?;
    host.cut_link()?;
    cluster.wait_for_status("node-1", "NotReady")?;
    complain(&cluster, "the fan stands still")?;
    assert_eq!(kept(&cluster)?, 1, "what was kept before is there without the node");
    // the other node goes on, and is not held up for long
    read_beyond(&mut watch, "node-2", at_cut + 60)?;
    host.heal_link()?;
    cluster.wait_until_in_session("node-1")?;
    cluster.wait("what was said alone is kept too", |cluster| Ok(kept(cluster)? == 2))?;
    let after = read_beyond(&mut watch, "node-1", before + 60)?;
    let seen = watch.so_far();
    let of_node_1 = seen.iter().filter(|line| line.contains("node-1/talker"));
    let mut counts: Vec<_> = of_node_1.filter_map(|line| count(line)).collect();
    // those that were expected by name are not among the others
    counts.extend([before, after]);
    counts.sort_unstable();
    let gap = counts.windows(2).find(|pair| pair[1] != pair[0] + 1);
    assert_eq!(gap, None, "every line once, up to {after}");
    assert_eq!(cluster.count("node-2", "NodeNotReady")?, 0, "a frozen reader stops nobody");
    frozen.thaw();
    read_beyond(&mut frozen, "node-2", at_cut + 60)?;

    drop((watch, frozen));
    cluster.wait("nothing reads on the boards any more", |cluster| {
        let host = cluster.host("node-1")?;
        Ok(host.shell("pgrep -c journalctl || true")?.trim() == "0")
    })?;
    Ok(cluster.end()?)
}
