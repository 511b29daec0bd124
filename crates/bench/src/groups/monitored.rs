//! What an agent takes whose board is made use of: ten containers that write to their logs, figures every ten seconds, and
//! people who read the logs or look at the figures.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::Result;
use piccolo_testkit::{cluster::Cluster, podman::PrivatePodman};

use super::agent::{bytes_of, count_bytes_of, wait_for_containers};
use crate::{
    figure::Figure,
    ground::{Ground, board_name, cpu_percent},
    usage,
};

const CONTAINERS: usize = 10;
const SAMPLING_S: u32 = 10;
/// What each container says, once a second.
const TALKS: &str = "while sleep 1; do echo the lens is clean, and the picture is sharp; done";
const SETTLES_WITHIN: Duration = Duration::from_secs(20);
const MEASURED_FOR: Duration = Duration::from_secs(60);
/// As `piccolo top` is drawn on a terminal.
const LOOKS_EVERY: Duration = Duration::from_secs(2);

pub(crate) fn measure(ground: &Ground) -> Result<Vec<Figure>> {
    let podman = PrivatePodman::start(ground.folder("podman-monitored"))?;
    for number in 1..=CONTAINERS {
        let name = format!("work-{number}");
        podman.run_with(&name, &["--log-driver", "k8s-file"], &["sh", "-c", TALKS])?;
    }
    let mut cluster = ground.empty_cluster("monitored", true, "")?;
    let board = board_name(1);
    count_bytes_of(&cluster, &board)?;
    let socket = podman.socket();
    let config =
        format!("podman:\n  socket: {}\nsampling_interval_s: {SAMPLING_S}\n", socket.display());
    cluster.join_with(&board, &config)?;
    cluster.wait_for_status(&board, "Ready")?;
    wait_for_containers(&cluster, &board, CONTAINERS)?;
    sleep(SETTLES_WITHIN);
    let agent = cluster.agent(&board)?.pid();

    let unseen = rate(&cluster, || {
        sleep(MEASURED_FOR);
        Ok(())
    })?;
    let watched = rate(&cluster, || look(&cluster))?;

    let mut logs = cluster.watch(&["logs", "--all", "-f", "-n", "1"])?;
    sleep(SETTLES_WITHIN);
    let before = logs.so_far().len();
    let mut cpu = 0.0;
    let read = rate(&cluster, || {
        cpu = cpu_percent(&[(agent, false)], MEASURED_FOR)?[0];
        Ok(())
    })?;
    let rss = usage::rss_kib(agent)? / 1024.0;
    let lines = (logs.so_far().len() - before) as f64 / MEASURED_FOR.as_secs_f64();

    let rss_max = if ground.as_shipped { 8.0 } else { 10.0 };
    let read_note = format!("{lines:.1} lines a second are read, {read:.0} B/s on the wire");
    let name = |what: &str| format!("NodeAgent, {CONTAINERS} containers, {what}");
    Ok(vec![
        Figure::one(name("logs followed: RSS"), "MiB", rss).at_most(rss_max).note(ground.build()),
        Figure::one(name("logs followed: CPU"), "% of a core", cpu).at_most(0.4).note(read_note),
        Figure::one(name("nobody looks: wire, both ways"), "B/s", unseen).at_most(1000.0),
        Figure::one(name("watched at 1 s: wire, both ways"), "B/s", watched).at_most(5000.0),
    ])
}

/// Bytes a second on the wire while `meanwhile` goes on.
fn rate(cluster: &Cluster, meanwhile: impl FnOnce() -> Result<()>) -> Result<f64> {
    let (begun, before) = (Instant::now(), bytes_of(cluster)?);
    meanwhile()?;
    Ok((bytes_of(cluster)? - before) / begun.elapsed().as_secs_f64())
}

/// As somebody does who has `piccolo top` open.
fn look(cluster: &Cluster) -> Result<()> {
    let until = Instant::now() + MEASURED_FOR;
    while Instant::now() < until {
        cluster.json(&["top", "-o", "json"])?;
        sleep(LOOKS_EVERY);
    }
    Ok(())
}
