//! A master with ten idle nodes and the embedded store.

use std::{thread::sleep, time::Duration};

use anyhow::Result;

use crate::{
    figure::Figure,
    ground::{Ground, cpu_percent, metric},
    usage,
};

const NODES: usize = 10;
/// For joins to be over and buffers to be freed.
const SETTLES_WITHIN: Duration = Duration::from_secs(20);
/// Heartbeat times are written once a minute: some of those must fall into it.
const MEASURED_FOR: Duration = Duration::from_secs(180);

pub(crate) fn measure(ground: &Ground) -> Result<Vec<Figure>> {
    let cluster = ground.cluster("master", NODES, false)?;
    sleep(SETTLES_WITHIN);
    let pid = cluster.master.pid();
    let commits = "piccolo_store_commit_seconds_count";
    let before = metric(&cluster, commits)?;
    let cpu = cpu_percent(&[(pid, false)], MEASURED_FOR)?[0];
    let rss = usage::rss_kib(pid)? / 1024.0;
    let written = metric(&cluster, commits)? - before;
    let hour = Duration::from_secs(3600).as_secs_f64() / MEASURED_FOR.as_secs_f64();
    let minutes = MEASURED_FOR.as_secs() / 60;
    Ok(vec![
        Figure::one("master, 10 idle nodes: RSS", "MiB", rss).at_most(12.0).note(ground.build()),
        Figure::one("master, 10 idle nodes: CPU", "% of a core", cpu).at_most(0.5),
        Figure::one("durable writes, idle cluster of 10", "per hour", written * hour)
            .at_most(120.0)
            .note(format!("{written} in {minutes} minutes, scaled")),
    ])
}
