//! Mutants: each rule of the cores, broken on purpose. A simulator that does not notice asks too little.

use crate::shell_mutants::ShellMutant;

/// One rule that can be broken.
#[derive(Debug, Clone, Copy)]
pub struct Mutant {
    pub name: &'static str,
    kind: Kind,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Core,
    Shell(ShellMutant),
}

/// Every mutant that this build can be made to.
pub fn mutants() -> Vec<Mutant> {
    let core = piccolo_core::mutant::ALL.iter().map(|name| Mutant { name, kind: Kind::Core });
    let shell = ShellMutant::ALL.iter().map(|(name, m)| Mutant { name, kind: Kind::Shell(*m) });
    core.chain(shell).collect()
}

/// The mutant is active on this thread while this lives.
#[derive(Debug)]
pub(crate) struct Active;

impl Drop for Active {
    fn drop(&mut self) {
        piccolo_core::mutant::activate(None);
    }
}

impl Mutant {
    pub(crate) fn activate(&self) -> Active {
        if matches!(self.kind, Kind::Core) {
            piccolo_core::mutant::activate(Some(self.name));
        }
        Active
    }

    pub(crate) fn shell(&self) -> Option<ShellMutant> {
        match self.kind {
            Kind::Core => None,
            Kind::Shell(mutant) => Some(mutant),
        }
    }
}

/// Mutants that no seed can show, and why that is right.
const EXCUSES: &[(&str, &str)] = &[
    (
        "an older generation is accepted",
        "no master sends one: what is restored goes on beyond all; node_agent's tests kill it",
    ),
    (
        "a dropped session stays live",
        "it takes a master that stands still just after it dropped one: few seeds have that; \
         failure_detector's tests kill it",
    ),
    (
        "a probe changes the pace",
        "found by a seed while agents probed before each beat; since they do not, it takes a lost beat \
         during a slow commit of a new pace; state_manager's tests kill it",
    ),
    (
        "a new pace waits for the next beat",
        "it takes a pace that is much shorter than the one before, and two minutes without another fault; \
         node_agent's tests kill it",
    ),
    (
        "an agent trusts its own clock",
        "a board with a wrong clock joins again and again until it is mended, and then all is well; \
         node_agent's tests kill it",
    ),
    (
        "back-off may shrink",
        "only at its cap, which takes longer than most lives; recovery's own tests kill it",
    ),
    (
        "the oldest gives way whatever it is",
        "it takes two hundred notifications that wait for one channel, which few lives have; the outbox's tests \
         kill it",
    ),
    (
        "who was removed since the restore is believed",
        "it takes an agent that was told of its removal and tries once more, in one of the few lives with a \
         restore; restoration's tests kill it",
    ),
];

/// Mutants that few seeds show, and one that does: it is tried first.
const RARE: &[(&str, u64)] = &[("what fires is not kept", 28_591)];

impl Mutant {
    /// A seed that is known to show it.
    pub fn rare_seed(&self) -> Option<u64> {
        RARE.iter().find(|(name, _)| *name == self.name).map(|(_, seed)| *seed)
    }

    /// Why it may survive, where it may.
    pub fn excuse(&self) -> Option<&'static str> {
        EXCUSES.iter().find(|(name, _)| *name == self.name).map(|(_, why)| *why)
    }
}
