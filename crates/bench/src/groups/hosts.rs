//! PICCOLO as boards have it: installed on hosts whose PID 1 is systemd (`piccolo_testkit::testbed`).

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use piccolo_testkit::{
    cluster::Watch,
    testbed::{
        self,
        cluster::{AGENT_UNIT, HostCluster, MASTER, MASTER_UNIT},
    },
};

use crate::{
    figure::Figure,
    ground::{Ground, becomes_ready, first},
};

const NODES: usize = 10;
const CONTAINERS: usize = 10;
/// Each takes all hosts for a while.
const MASTER_KILLS: usize = 5;
const BOOTS: usize = 5;
const DEPLOYMENTS: usize = 5;
const DEPLOYED: usize = 3;
/// Longer than the allowance after a restart: whoever is lost by mistake is lost by then.
const LOST_WITHIN: Duration = Duration::from_secs(9);
/// For the memory of an agent with its containers.
const REST: Duration = Duration::from_secs(60);
const CHECK: &str = "/opt/piccolo/current/system_check.sh";

pub(crate) fn measure(ground: &Ground) -> Result<Vec<Figure>> {
    let folder = testbed::folder_in(&ground.target);
    let mut cluster = HostCluster::of(&folder, &ground.programs, NODES)?;
    let mut figures = vec![system_check(ground, &cluster)?];
    figures.push(boot(&mut cluster)?);
    figures.extend(killed_master(&cluster)?);
    figures.push(memory(&cluster)?);
    cluster.end()?;
    figures.push(deployment(ground)?);
    Ok(figures)
}

/// Three bare hosts by one command, which returns when all are Ready; taken away again in between.
fn deployment(ground: &Ground) -> Result<Figure> {
    let folder = testbed::folder_in(&ground.target);
    let cluster = HostCluster::with_bare_nodes(&folder, &ground.programs, DEPLOYED)?;
    let release = cluster.executables();
    let release =
        release.parent().context("the executables are in no release")?.display().to_string();
    let ssh = cluster.testbed.ssh_config().display().to_string();
    let hosts: Vec<String> = cluster.nodes().map(|host| format!("root@{}", host.name())).collect();
    let node = |verb: &[&str]| {
        let hosts = hosts.iter().map(String::as_str);
        let words: Vec<_> = ["node"]
            .iter()
            .chain(verb)
            .copied()
            .chain(["--ssh-config", &ssh])
            .chain(hosts)
            .collect();
        let output = cluster.piccolo(&words)?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        anyhow::Ok(())
    };
    let mut times = Vec::new();
    for _ in 0..DEPLOYMENTS {
        let begun = Instant::now();
        node(&["deploy", "--release", &release])?;
        times.push(begun.elapsed().as_secs_f64());
        node(&["undeploy", "--purge"])?;
    }
    cluster.end()?;
    Ok(Figure::many("piccolo node deploy: 3 bare hosts -> all Ready", "s", times).at_most(15.0))
}

fn system_check(ground: &Ground, cluster: &HostCluster) -> Result<Figure> {
    let host = cluster.host("node-1")?;
    let mut times = Vec::new();
    for _ in 0..ground.runs {
        let begun = Instant::now();
        // 1 and 2 are what it found; the time is the same
        host.shell(&format!("{CHECK} --json --master {MASTER} >/dev/null || [ $? -le 2 ]"))?;
        times.push(begun.elapsed().as_secs_f64());
    }
    Ok(Figure::many("system check of a board", "s", times).at_most(2.0))
}

/// From the start of the agent's unit, as systemd noted it, to Ready at a watcher.
fn boot(cluster: &mut HostCluster) -> Result<Figure> {
    let mut times = Vec::new();
    for _ in 0..BOOTS {
        cluster.testbed.host_mut("node-1")?.power_off()?;
        cluster.wait_for_status("node-1", "NotReady")?;
        let mut watch = watch(cluster)?;
        cluster.testbed.host_mut("node-1")?.boot()?;
        let (ready, _) = watch.expect("node-1 is Ready again", LOST_WITHIN * 4, |line| {
            line.contains("node-1") && becomes_ready(line)
        })?;
        let started =
            cluster.host("node-1")?.unit(AGENT_UNIT, "ExecMainStartTimestampMonotonic")?;
        let started = started.parse().context("systemd does not say when the agent started")?;
        times.push((uptime()? - ready.elapsed()).saturating_sub(Duration::from_micros(started)));
    }
    let times = times.iter().map(Duration::as_secs_f64).collect();
    Ok(Figure::many("boot: start of the agent's unit -> Ready", "s", times).at_most(2.0))
}

/// Hosts share this kernel, and so its monotonic clock, which is that of systemd's timestamps.
fn uptime() -> Result<Duration> {
    let text = std::fs::read_to_string("/proc/uptime").context("/proc/uptime")?;
    let seconds = text.split_whitespace().next().context("/proc/uptime is empty")?;
    Ok(Duration::from_secs_f64(seconds.parse().context("/proc/uptime")?))
}

fn watch(cluster: &HostCluster) -> Result<Watch> {
    let mut watch = cluster.watch(&["node", "list", "--watch"])?;
    first(&mut watch, "node-2", "listed", |_| true)?;
    Ok(watch)
}

fn killed_master(cluster: &HostCluster) -> Result<Vec<Figure>> {
    let name = "master killed -> 10 nodes in session again";
    let host = cluster.host(MASTER)?;
    let (mut times, mut wrongly) = (Vec::new(), 0);
    for _ in 0..MASTER_KILLS {
        let before = not_ready(cluster)?;
        let begun = Instant::now();
        host.kill(MASTER_UNIT)?;
        for node in cluster.nodes() {
            cluster.wait_until_in_session(node.name())?;
        }
        times.push(begun.elapsed().as_secs_f64());
        std::thread::sleep(LOST_WITHIN);
        wrongly += not_ready(cluster)? - before;
    }
    Ok(vec![
        Figure::many(name, "s", times).at_most(5.0),
        #[allow(clippy::cast_precision_loss, reason = "a handful")]
        Figure::one("of them NotReady wrongly", "count", wrongly as f64).at_most(0.0),
    ])
}

fn not_ready(cluster: &HostCluster) -> Result<usize> {
    let events = cluster.events()?;
    Ok(events.iter().filter(|event| event["kind"] == "NodeNotReady").count())
}

/// What the kernel has counted at most for the unit's control group.
fn memory(cluster: &HostCluster) -> Result<Figure> {
    for number in 1..=CONTAINERS {
        cluster.run_container("node-2", &format!("app-{number}"), &[])?;
    }
    let host = cluster.host("node-2")?;
    host.run(&["systemctl", "restart", AGENT_UNIT])?;
    cluster.wait_until_in_session("node-2")?;
    std::thread::sleep(REST);
    let group = host.unit(AGENT_UNIT, "ControlGroup")?;
    let peak = host.shell(&format!(
        "cat /sys/fs/cgroup{group}/memory.peak 2>/dev/null || \
         cat /sys/fs/cgroup/memory{group}/memory.max_usage_in_bytes"
    ))?;
    let bytes: f64 = peak.trim().parse().context("the kernel does not say the agent's memory")?;
    ensure!(bytes > 0.0, "the agent has no memory of its own");
    let name = "agent under systemd, 10 containers: memory at most";
    Ok(Figure::one(name, "MiB", bytes / f64::from(1 << 20)).at_most(12.0))
}
