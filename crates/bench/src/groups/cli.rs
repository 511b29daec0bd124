//! `piccolo node list` as a whole process: start, TLS, answer, table, end.

use std::time::Instant;

use anyhow::{Result, ensure};

use crate::{figure::Figure, ground::Ground};

const NODES: usize = 10;
/// It is short, and a few more runs cost nothing.
const RUNS_FACTOR: usize = 5;

pub(crate) fn measure(ground: &Ground) -> Result<Vec<Figure>> {
    let cluster = ground.cluster("cli", NODES, false)?;
    let mut times = Vec::new();
    for _ in 0..ground.runs * RUNS_FACTOR {
        let begun = Instant::now();
        let output = cluster.piccolo(&["node", "list"])?;
        times.push(begun.elapsed().as_secs_f64() * 1000.0);
        ensure!(output.status.success(), "piccolo node list failed: {output:?}");
    }
    Ok(vec![Figure::many("piccolo node list, 10 nodes", "ms", times).at_most(10.0)])
}
