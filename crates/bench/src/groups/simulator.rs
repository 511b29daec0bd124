//! How many clusters a second one core simulates.

use std::{process::Command, time::Instant};

use anyhow::{Context as _, Result};

use crate::{
    figure::{Figure, Target},
    ground::Ground,
};

const SEEDS: u32 = 300;
const REPEATS: usize = 5;

pub(crate) fn measure(ground: &Ground) -> Result<Vec<Figure>> {
    let name = "simulator";
    let target = Target::AtLeast(500.0);
    let program = ground.target.join("release/piccolo-sim");
    if !program.exists() {
        let why = "not built: cargo build --release -p piccolo-sim";
        return Ok(vec![Figure::missing(name, "seeds/s a core", why).target(target)]);
    }
    let mut rates = Vec::new();
    let mut note = String::new();
    for _ in 0..REPEATS {
        let begun = Instant::now();
        let mut command = Command::new(&program);
        command.args(["--seeds", &SEEDS.to_string(), "--threads", "1"]);
        let output = command.output().context("piccolo-sim cannot be started")?;
        rates.push(f64::from(SEEDS) / begun.elapsed().as_secs_f64());
        if !output.status.success() {
            "a seed failed; see cargo xtask sim".clone_into(&mut note);
        }
    }
    Ok(vec![Figure::many(name, "seeds/s a core", rates).target(target).note(note)])
}
