//! From the start of an agent's process to Ready at a watcher that was there before.

use std::time::Instant;

use anyhow::Result;

use crate::{
    figure::Figure,
    ground::{Ground, becomes_ready, board_name, first, watch_nodes},
};

pub(crate) fn measure(ground: &Ground) -> Result<Vec<Figure>> {
    let mut cluster = ground.empty_cluster("join", false, "")?;
    let mut watch = watch_nodes(&cluster, 0)?;
    let (mut joining, mut returning) = (Vec::new(), Vec::new());
    for number in 1..=ground.runs {
        let board = board_name(number);
        let token = cluster.token(&["--uses", "1"])?;
        cluster.prepare_agent(&board, "", &token)?;
        let started = Instant::now();
        cluster.start_agent(&board)?;
        let ready = first(&mut watch, &board, "Ready", becomes_ready)?;
        joining.push((ready - started).as_secs_f64());

        cluster.agent(&board)?.terminate()?;
        first(&mut watch, &board, "NotReady", |news| news.contains("-> NotReady"))?;
        let started = Instant::now();
        cluster.start_agent(&board)?;
        let ready = first(&mut watch, &board, "Ready", becomes_ready)?;
        returning.push((ready - started).as_secs_f64());
        // one at a time, or the others' beats would be in the way of ever fewer
        cluster.agent(&board)?.terminate()?;
    }
    Ok(vec![
        Figure::many("agent start -> Ready, joining with a token", "s", joining).at_most(0.3),
        Figure::many("agent start -> Ready, returning", "s", returning).at_most(0.15),
    ])
}
