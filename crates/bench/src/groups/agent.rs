//! What one idle agent takes: memory and bytes on the wire with three containers, CPU with ten, and
//! what it makes Podman take.

use std::{process::Command, thread::sleep, time::Duration};

use anyhow::{Context as _, Result, ensure};
use piccolo_testkit::{cluster::Cluster, podman::PrivatePodman};

use crate::{
    figure::Figure,
    ground::{Ground, board_name, cpu_percent},
    usage,
};

const FEW: usize = 3;
const MANY: usize = 10;
const SETTLES_WITHIN: Duration = Duration::from_secs(20);
const MEASURED_FOR: Duration = Duration::from_secs(60);
const KIB: f64 = 1024.0;

pub(crate) fn measure(ground: &Ground) -> Result<Vec<Figure>> {
    let podman = PrivatePodman::start(ground.folder("podman"))?;
    for number in 1..=FEW {
        podman.run(&format!("work-{number}"), &["sleep", "100000"])?;
    }
    let service = podman.service_pid().context("the podman service does not run")?;
    sleep(Duration::from_secs(5));
    let podman_before = usage::rss_kib(service)? / KIB;

    let mut cluster = ground.empty_cluster("agent", true, "")?;
    let board = board_name(1);
    count_bytes_of(&cluster, &board)?;
    let config = format!("podman:\n  socket: {}\n", podman.socket().display());
    cluster.join_with(&board, &config)?;
    cluster.wait_for_status(&board, "Ready")?;
    wait_for_containers(&cluster, &board, FEW)?;
    sleep(SETTLES_WITHIN);

    let agent = cluster.agent(&board)?.pid();
    let bytes = bytes_of(&cluster)?;
    sleep(MEASURED_FOR);
    let wire = (bytes_of(&cluster)? - bytes) / MEASURED_FOR.as_secs_f64();
    let rss = usage::rss_kib(agent)? / KIB;

    for number in FEW + 1..=MANY {
        podman.run(&format!("work-{number}"), &["sleep", "100000"])?;
    }
    wait_for_containers(&cluster, &board, MANY)?;
    sleep(SETTLES_WITHIN);
    let cpu = cpu_percent(&[(agent, true), (service, true)], MEASURED_FOR)?;
    let podman_after = usage::rss_kib(service)? / KIB;

    let rss_max = if ground.as_shipped { 5.0 } else { 7.0 };
    let podman_note = format!(
        "{podman_before:.1} MiB before, {podman_after:.1} with us; none where its socket starts it"
    );
    Ok(vec![
        Figure::one("NodeAgent, idle, 3 containers: RSS", "MiB", rss)
            .at_most(rss_max)
            .note(ground.build()),
        Figure::one("NodeAgent, idle, 3 containers: wire, both ways", "B/s", wire)
            .at_most(600.0)
            .note("with IP and TCP headers"),
        Figure::one("CPU over 60 s, agent alone, 10 containers", "% of a core", cpu[0])
            .at_most(0.2),
        Figure::one(
            "CPU over 60 s, agent and Podman, 10 containers",
            "% of a core",
            cpu[0] + cpu[1],
        )
        .at_most(0.5),
        Figure::one("memory that Podman keeps because of us", "MiB", podman_after - podman_before)
            .note(podman_note),
    ])
}

pub(super) fn wait_for_containers(cluster: &Cluster, board: &str, count: usize) -> Result<()> {
    cluster.wait("the containers are seen", |cluster| {
        let node = cluster.node(board)?;
        let containers = node["containers"].as_array();
        let running = |c: &&serde_json::Value| c["state"] == "running";
        Ok(containers.is_some_and(|all| all.iter().filter(running).count() == count))
    })?;
    Ok(())
}

/// Rules that do nothing but count.
pub(super) fn count_bytes_of(cluster: &Cluster, board: &str) -> Result<()> {
    let address = cluster.agent_address(board);
    for direction in ["-s", "-d"] {
        iptables(cluster, &["-A", "OUTPUT", direction, &address])?;
    }
    Ok(())
}

pub(super) fn bytes_of(cluster: &Cluster) -> Result<f64> {
    let table = iptables(cluster, &["-L", "OUTPUT", "-v", "-x", "-n"])?;
    // two lines of heading, then packets and bytes of each rule
    let bytes = table.lines().skip(2).filter_map(|line| line.split_whitespace().nth(1));
    let bytes: Vec<f64> = bytes.filter_map(|bytes| bytes.parse().ok()).collect();
    ensure!(bytes.len() == 2, "not the counters that were set up: {table}");
    Ok(bytes.iter().sum())
}

fn iptables(cluster: &Cluster, arguments: &[&str]) -> Result<String> {
    let namespace = cluster.namespace().context("no network of its own")?;
    let mut command = namespace.command(Command::new("iptables").arg("-w").args(arguments));
    let output = command.output().context("iptables cannot be started")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
