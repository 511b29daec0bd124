//! A deterministic simulator of the real cores, never shipped (docs/adr/0007-mutants.md; ARCHITECTURE.md).
//!
//! A seed draws a cluster and its misfortunes ([`plan`]), a [`world`] lets both real machines live through
//! them, and a [`judge`] asks after every step whether what must hold does hold. Then faults stop, and the
//! cluster must come to rest. The same seed gives the same story, byte by byte.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "an invariant looks at what it is about; never shipped"
)]

mod clock;
mod judge;
mod mutants;
mod plan;
mod rng;
mod scenario;
mod shell_mutants;
mod store;
mod world;

pub use judge::Violation;
pub use mutants::{Mutant, mutants};
pub use scenario::play;

use crate::{
    clock::{MINUTE, SECOND},
    plan::Plan,
    rng::Rng,
    world::World,
};

/// Simulated time within which a healed cluster must be at rest, beside what finding back takes at its pace.
const REST_WITHIN: u64 = 3 * MINUTE;

/// What became of one seed.
#[derive(Debug)]
pub struct Outcome {
    pub seed: u64,
    pub violation: Option<Violation>,
    /// What happened, line by line, where it was asked for.
    pub story: String,
    pub steps: u64,
    /// Microseconds.
    pub simulated: u64,
}

/// Lets one seed's cluster live. `mutant` names what is to be wrong with it.
pub fn run(seed: u64, mutant: Option<&Mutant>, tell: bool) -> Outcome {
    let plan = Plan::of(&mut Rng::new(seed).fork("plan"));
    let _active = mutant.map(Mutant::activate);
    let shell = mutant.and_then(Mutant::shell);
    let mut world = World::new(seed, plan, shell, tell);
    if tell {
        let plan = format!("{:?}", world.plan);
        world.tell(|| plan);
    }
    let violation = live(&mut world).err();
    Outcome { seed, violation, story: world.take_story(), steps: world.steps, simulated: world.now }
}

fn live(world: &mut World) -> Result<(), Violation> {
    world.run(20 * SECOND)?;
    world.unleash();
    world.run(world.now + world.plan.chaos)?;
    world.heal();
    let healed = world.now;
    let rest_within = REST_WITHIN + world.judge.recovery_takes();
    world.tidy();
    // people come by again: what they asked for may have been refused at a bad moment
    let mut unrest = None;
    while world.now < healed + rest_within {
        world.run(world.now + 10 * SECOND)?;
        world.tidy();
        unrest = world.unrest();
        if unrest.is_none() {
            break;
        }
    }
    match unrest {
        None => Ok(()),
        Some(what) => Err(Violation { invariant: "a_healed_cluster_comes_to_rest", what }),
    }
}

/// The first line of any failure: what to type to see it again.
pub fn headline(seed: u64) -> String {
    format!("SEED={seed} COMMIT={}", commit())
}

/// Of the sources that are about, where git knows.
fn commit() -> String {
    let asked = std::process::Command::new("git").args(["rev-parse", "--short", "HEAD"]).output();
    match asked {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        }
        Ok(_) | Err(_) => "unknown".to_owned(),
    }
}
