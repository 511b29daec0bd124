//! How many clusters a second one core simulates. A second of CPU, not of the clock: this is plain
//! computing, and others on the machine are not to count.

use std::process::Command;

use anyhow::{Context as _, Result};

use crate::{
    figure::{Figure, Target},
    ground::Ground,
    usage,
};

const SEEDS: u32 = 1_000;
const REPEATS: usize = 5;

pub(crate) fn measure(ground: &Ground) -> Result<Vec<Figure>> {
    let name = "simulator";
    let target = Target::AtLeast(500.0);
    let program = ground.target.join("simulation/piccolo-sim");
    if !program.exists() {
        let why = "not built: cargo build --profile simulation -p piccolo-sim";
        return Ok(vec![Figure::missing(name, "seeds/s a core", why).target(target)]);
    }
    let mut rates = Vec::new();
    let mut note = String::new();
    for repeat in 0..REPEATS as u32 {
        let before = usage::cpu_seconds(std::process::id(), true)?;
        let mut command = Command::new(&program);
        command.args(["--seeds", &SEEDS.to_string(), "--from", &(repeat * SEEDS).to_string()]);
        let output =
            command.args(["--threads", "1"]).output().context("piccolo-sim cannot be started")?;
        let seconds = usage::cpu_seconds(std::process::id(), true)? - before;
        rates.push(f64::from(SEEDS) / seconds.max(0.01));
        let text = String::from_utf8_lossy(&output.stdout);
        note = text.lines().last().and_then(|line| amount(line, seconds)).unwrap_or_default();
    }
    Ok(vec![Figure::many(name, "seeds/s a core", rates).target(target).note(note)])
}

/// From `N seeds, D simulated days, S million steps in ...`.
fn amount(line: &str, seconds: f64) -> Option<String> {
    let number = |before: &str| -> Option<f64> {
        line.split_once(before)?.0.rsplit([' ', ',']).next()?.parse().ok()
    };
    let steps = number(" million steps")? * 1e6;
    let minutes = number(" simulated minutes")?;
    let a_seed = steps / f64::from(SEEDS);
    let rate = steps / seconds / 1e6;
    Some(format!("a seed: {minutes:.1} minutes, {a_seed:.0} steps; {rate:.2} million steps/s"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_seed_costs_is_read_from_the_simulators_last_line() {
        let line = "1000 seeds, 1.5 simulated days, 1.2 million steps in 6.8 s: 9 seeds/s a core, \
                    2.6 simulated minutes a seed; 0 failed";
        let expect = "a seed: 2.6 minutes, 1200 steps; 0.60 million steps/s";
        assert_eq!(amount(line, 2.0).as_deref(), Some(expect));
        assert_eq!(amount("nothing of the kind", 2.0), None);
    }
}
