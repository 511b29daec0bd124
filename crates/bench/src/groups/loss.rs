//! Ten nodes behind links that lose every tenth packet each way: nobody is lost who lives.

use std::{thread::sleep, time::Duration};

use anyhow::{Context as _, Result};

use crate::{
    figure::Figure,
    ground::{Ground, board_name, watch_nodes},
};

const NODES: usize = 10;
const SHARE: f32 = 0.1;
const MEASURED_FOR: Duration = Duration::from_secs(600);

pub(crate) fn measure(ground: &Ground) -> Result<Vec<Figure>> {
    let cluster = ground.cluster("loss", NODES, true)?;
    let mut watch = watch_nodes(&cluster, NODES)?;
    let network = cluster.namespace().context("no network of its own")?;
    for board in 1..=NODES {
        network.lose(&cluster.agent_address(&board_name(board)), SHARE)?;
    }
    sleep(MEASURED_FOR);
    let lines = watch.so_far();
    // by the condition: a board that is NotReady for another reason has no second way to be lost
    let is_lost =
        |line: &&String| ["  SessionLost:", "  HeartbeatTimeout:"].iter().any(|c| line.contains(c));
    let lost: Vec<_> = lines.iter().filter(is_lost).collect();
    let suspected = lines.iter().filter(|line| line.contains("  Suspect:")).count();
    let first = lost.first().map_or_else(String::new, |line| format!("; first: {line}"));
    Ok(vec![
        Figure::one("false NotReady in 10 min at 10 % loss each way", "count", lost.len() as f64)
            .at_most(0.0)
            .note(format!("{NODES} nodes; Suspect for a moment {suspected} times{first}")),
    ])
}
