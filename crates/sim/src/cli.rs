//! What the binary is asked for: many seeds, one seed's story, or the mutants.

use std::{
    process::ExitCode,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use piccolo_sim::{Mutant, Outcome, mutants, run as run_seed};

/// Seeds that a mutant may live through before it counts as a survivor.
const MUTANT_SEEDS: u64 = 20_000;

#[derive(Debug)]
pub(crate) struct Arguments {
    seeds: Option<u64>,
    from: u64,
    seed: Option<u64>,
    log: bool,
    mutants: bool,
    /// Only the mutants whose name has this in it.
    only: Option<String>,
    threads: usize,
}

impl Arguments {
    pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let mut parsed = Self {
            seeds: None,
            from: 0,
            seed: None,
            log: false,
            mutants: false,
            only: None,
            threads,
        };
        while let Some(argument) = arguments.next() {
            let mut number = || {
                let text = arguments.next().ok_or(format!("{argument} needs a number"))?;
                text.parse::<u64>().map_err(|_| format!("{argument}: {text:?} is not a number"))
            };
            match argument.as_str() {
                "--seeds" => parsed.seeds = Some(number()?),
                "--from" => parsed.from = number()?,
                "--seed" => parsed.seed = Some(number()?),
                "--threads" => {
                    parsed.threads = usize::try_from(number()?.max(1)).unwrap_or(1);
                }
                "--log" => parsed.log = true,
                "--mutants" => parsed.mutants = true,
                "--only" => parsed.only = arguments.next(),
                other => return Err(format!("{other:?} is not an argument")),
            }
        }
        Ok(parsed)
    }
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    if arguments.mutants {
        return kill_mutants(arguments);
    }
    if let Some(seed) = arguments.seed {
        return tell_one(seed, arguments);
    }
    let seeds = arguments.seeds.unwrap_or(20_000);
    let began = Instant::now();
    let (failures, simulated, steps) = many(arguments, seeds, None, 5);
    let seconds = began.elapsed().as_secs_f64();
    for outcome in &failures {
        print_failure(outcome);
    }
    let per_core = seeds as f64 / seconds / arguments.threads as f64;
    println!(
        "{seeds} seeds, {:.1} simulated days, {:.1} million steps in {seconds:.1} s: \
         {per_core:.0} seeds/s a core, {:.1} simulated minutes a seed; {} failed",
        simulated as f64 / 86_400e6,
        steps as f64 / 1e6,
        simulated as f64 / seeds as f64 / 60e6,
        failures.len(),
    );
    if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn tell_one(seed: u64, arguments: &Arguments) -> ExitCode {
    let all = mutants();
    let mutant = all.iter().find(|m| arguments.only.as_deref() == Some(m.name));
    let outcome = run_seed(seed, mutant, arguments.log);
    let failed = outcome.violation.is_some();
    if failed {
        print_failure(&outcome);
    }
    print!("{}", outcome.story);
    if failed {
        print_failure(&outcome);
        return ExitCode::FAILURE;
    }
    println!(
        "SEED={seed} holds: {} steps, {} simulated s",
        outcome.steps,
        outcome.simulated / 1_000_000
    );
    ExitCode::SUCCESS
}

fn print_failure(outcome: &Outcome) {
    if let Some(violation) = &outcome.violation {
        println!("{}", piccolo_sim::headline(outcome.seed));
        println!("  {} after {} simulated s", violation.invariant, outcome.simulated / 1_000_000);
        println!("  {}", violation.what);
    }
}

/// Failures (some), simulated microseconds and steps.
fn many(
    arguments: &Arguments,
    seeds: u64,
    mutant: Option<&Mutant>,
    enough: usize,
) -> (Vec<Outcome>, u64, u64) {
    let next = AtomicU64::new(arguments.from);
    let end = arguments.from + seeds;
    let (simulated, steps) = (AtomicU64::new(0), AtomicU64::new(0));
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..arguments.threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    let outcome = run_seed(seed, mutant, false);
                    simulated.fetch_add(outcome.simulated, Ordering::Relaxed);
                    steps.fetch_add(outcome.steps, Ordering::Relaxed);
                    if outcome.violation.is_some()
                        && let Ok(mut failures) = failures.lock()
                    {
                        failures.push(outcome);
                        if failures.len() >= enough {
                            next.store(end, Ordering::Relaxed);
                        }
                    }
                }
            });
        }
    });
    let mut failures = failures.into_inner().unwrap_or_default();
    failures.sort_by_key(|outcome: &Outcome| outcome.seed);
    (failures, simulated.into_inner(), steps.into_inner())
}

fn kill_mutants(arguments: &Arguments) -> ExitCode {
    if !cfg!(feature = "mutants") {
        println!("error: this build has no mutants");
        println!("help: cargo run -p piccolo-sim --features mutants -- --mutants");
        return ExitCode::from(2);
    }
    let seeds = arguments.seeds.unwrap_or(MUTANT_SEEDS);
    let mut survivors = 0;
    for mutant in mutants() {
        if arguments.only.as_ref().is_some_and(|only| !mutant.name.contains(only.as_str())) {
            continue;
        }
        let known = mutant.rare_seed().map(|seed| run_seed(seed, Some(&mutant), false));
        let failures = match known.filter(|outcome| outcome.violation.is_some()) {
            Some(outcome) => vec![outcome],
            None => many(arguments, seeds, Some(&mutant), 1).0,
        };
        match failures.first().and_then(|o| Some((o.seed, o.violation.as_ref()?))) {
            Some((seed, violation)) => {
                println!("killed    {:<44} {} (seed {seed})", mutant.name, violation.invariant);
            }
            None => match mutant.excuse() {
                Some(why) => println!("survived  {:<44} explained: {why}", mutant.name),
                None => {
                    survivors += 1;
                    println!("SURVIVED  {:<44} {seeds} seeds", mutant.name);
                }
            },
        }
    }
    if survivors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
