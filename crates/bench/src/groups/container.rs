//! From the death of a container's process to the event at a watcher.

use std::time::{Duration, Instant};

use anyhow::Result;
use piccolo_testkit::{cluster::PATIENCE, podman::PrivatePodman};
use rustix::process::{Pid, Signal, kill_process};

use crate::{
    figure::Figure,
    ground::{Ground, board_name},
};

pub(crate) fn measure(ground: &Ground) -> Result<Vec<Figure>> {
    let podman = PrivatePodman::start(ground.folder("podman-deaths"))?;
    let mut cluster = ground.empty_cluster("deaths", false, "")?;
    let board = board_name(1);
    let config = format!("podman:\n  socket: {}\n", podman.socket().display());
    cluster.join_with(&board, &config)?;
    cluster.wait_for_status(&board, "Ready")?;
    let mut watch = cluster.watch(&["events", "--watch"])?;
    let mut times = Vec::new();
    for number in 0..ground.runs {
        let name = format!("mortal-{number}");
        podman.run(&name, &["sleep", "100000"])?;
        cluster.wait("it is seen running", |cluster| {
            let node = cluster.node(&board)?;
            let containers = node["containers"].as_array().cloned().unwrap_or_default();
            Ok(containers.iter().any(|c| c["name"] == *name && c["state"] == "running"))
        })?;
        // the agent is at rest again
        std::thread::sleep(Duration::from_millis(1500));
        let pid = i32::try_from(podman.pid(&name)?).ok().and_then(Pid::from_raw);
        let begun = Instant::now();
        if let Some(pid) = pid {
            kill_process(pid, Signal::KILL)?;
        }
        let told = watch.expect("it died", PATIENCE, |line| {
            line.contains("ContainerDied") && line.contains(&name)
        })?;
        times.push((told.0 - begun).as_secs_f64());
        podman.rm(&name)?;
    }
    Ok(vec![Figure::many("container dies -> event at a watcher", "s", times).at_most(0.3)])
}
