//! What a seed means: the cluster, its pace, and which faults it meets how often (swarm testing).
//!
//! Each seed leaves some faults out altogether and has too much of others: what only shows where one fault
//! is alone, or where two are frequent, is found sooner than with one mixture for all.

use std::{collections::BTreeMap, time::Duration};

use piccolo_core::{failure_detector::Timing, state_manager::Approval, topology::Readiness};

use crate::{
    clock::{MINUTE, SECOND},
    rng::Rng,
};

macro_rules! faults {
    ($($name:ident),* $(,)?) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Fault { $($name),* }

        impl Fault {
            pub(crate) const ALL: &'static [Self] = &[$(Self::$name),*];
        }
    };
}

faults! {
    CutUp, CutDown, CutBoth, CutAll, Reset, HalfClose, SlowLink,
    AgentCrash, ColdBoot, Reflash, Clone, JournalLost, AgentSuspend, WallJump,
    MasterCrash, MasterPowerCut, MasterSuspend, StoreStall, StoreFailure,
    Container, PodmanDown, Pressure, Burst, Unfit,
    Maintenance, Label, Topology, TokenRevoked, Remove, Reject, Trespass, Command, Leave,
    SetBack, StateFolder,
}

/// Faults that cost nobody a session.
const GENTLE: &[Fault] = &[
    Fault::Container,
    Fault::PodmanDown,
    Fault::Pressure,
    Fault::Unfit,
    Fault::Label,
    Fault::Topology,
    Fault::TokenRevoked,
    Fault::Trespass,
    Fault::WallJump,
    Fault::StoreStall,
    Fault::StateFolder,
];

/// Of all seeds.
const LONG_LIVES_PERCENT: u64 = 2;
const SET_BACK_PERCENT: u64 = 5;
const STATE_FOLDERS_PERCENT: u64 = 10;
const CONTAINER_RULES_PERCENT: u64 = 30;
const MINDED_PERCENT: u64 = 30;
/// Microseconds.
const SHORT_LIFE_MAX: u64 = 2 * MINUTE;

#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) nodes: usize,
    pub(crate) timing: Timing,
    pub(crate) approval: Approval,
    pub(crate) readiness: Readiness,
    pub(crate) certificate_lifetime: Duration,
    /// One token for all, or one for each.
    pub(crate) shared_token: bool,
    pub(crate) chaos: u64,
    /// Microseconds one way.
    pub(crate) delay: (u64, u64),
    /// Of messages that meet a loss, in a thousand.
    pub(crate) loss: u64,
    /// Microseconds between two faults of a kind, on average.
    pub(crate) faults: BTreeMap<Fault, u64>,
    /// Clock rates differ from the true one by so many parts in a million at most.
    pub(crate) drift: u64,
    /// Boards without a clock of their own, in percent.
    pub(crate) clockless: u64,
    pub(crate) journal_entries_max: usize,
    pub(crate) events_max: usize,
    pub(crate) audit_max: usize,
    /// Batches of events that are sent twice, in percent.
    pub(crate) duplicates: u64,
    /// Microseconds that a commit takes where the store is well.
    pub(crate) commit_takes: u64,
    /// Microseconds until Podman has answered an agent that has just started, at most.
    pub(crate) podman_answers: u64,
    /// Microseconds that a system check takes at most.
    pub(crate) check_takes: u64,
    /// People have a rule over containers.
    pub(crate) container_rule: bool,
    /// Of seconds in which they acknowledge and silence alerts, end silences, or see to dead letters, percent.
    pub(crate) alerts_minded: u64,
    /// What each channel bears.
    pub(crate) notices_per_minute: u32,
}

impl Plan {
    pub(crate) fn of(rng: &mut Rng) -> Self {
        let chaos = chaos(rng);
        // one second is the default, and costs most to simulate; a slow pace needs a long life
        let beats = if chaos > SHORT_LIFE_MAX { [5, 10, 20, 30] } else { [1, 2, 5, 10] };
        let beat = beats[rng.index(4)];
        let timing = Timing {
            beat_interval: Duration::from_secs(beat),
            beat_silence: Duration::from_secs(beat * rng.between(2, 4)),
            session_grace: Duration::from_millis(rng.between(500, 2000)),
            heartbeat_interval: Duration::from_secs((beat * 2).max(10)),
            heartbeats_missed: 3,
        };
        let timing = Timing {
            beat_silence: timing.beat_silence.min(timing.heartbeat_timeout() * 2 / 3),
            ..timing
        };
        let mut faults = BTreeMap::new();
        let busy = rng.between(10, 70);
        // where nothing costs anybody a session, nobody may be lost at all
        let gentle = rng.chance(15);
        let drawn =
            Fault::ALL.iter().filter(|fault| !matches!(fault, Fault::SetBack | Fault::StateFolder));
        for fault in drawn {
            let often = rng.scale(15, 900) * SECOND;
            if if gentle { GENTLE.contains(fault) } else { rng.chance(busy) } {
                faults.insert(*fault, often);
            }
        }
        // rare, and drawn apart: it changes no other seed's life
        let mut rare = rng.fork("set back");
        if !gentle && rare.chance(SET_BACK_PERCENT) {
            faults.insert(Fault::SetBack, rare.scale(5, 40) * SECOND);
        }
        // drawn apart too
        let mut disks = rng.fork("state folders");
        if disks.chance(STATE_FOLDERS_PERCENT) {
            faults.insert(Fault::StateFolder, disks.scale(10, 90) * SECOND);
        }
        let mut alerts = rng.fork("alerts");
        let container_rule = alerts.chance(CONTAINER_RULES_PERCENT);
        let is_minded = alerts.chance(MINDED_PERCENT);
        Self {
            nodes: usize::try_from(rng.between(2, 10)).unwrap_or(2),
            timing,
            approval: if rng.chance(30) { Approval::Manual } else { Approval::Auto },
            certificate_lifetime: Duration::from_secs(rng.scale(60, 86_400)),
            shared_token: rng.chance(50),
            chaos,
            delay: [(200, 2_000), (1_000, 20_000), (20_000, 200_000)][rng.index(3)],
            loss: if rng.chance(50) { rng.between(1, 50) } else { 0 },
            faults,
            drift: [0, 100, 5_000][rng.index(3)],
            clockless: [0, 30, 100][rng.index(3)],
            journal_entries_max: [8, 64, 1000][rng.index(3)],
            events_max: [60, 300, 10_000][rng.index(3)],
            audit_max: [20, 10_000][rng.index(2)],
            duplicates: [0, 20][rng.index(2)],
            commit_takes: [0, 0, 500, 30_000][rng.index(4)],
            podman_answers: [0, 50_000, 4 * SECOND][rng.index(3)],
            readiness: [Readiness::Enforce, Readiness::Warn][rng.index(2)],
            check_takes: [0, 500_000, 15 * SECOND][rng.index(3)],
            container_rule,
            alerts_minded: if is_minded { alerts.scale(5, 40) } else { 0 },
            notices_per_minute: if is_minded && alerts.chance(50) { 30 } else { 600 },
        }
    }

    /// For scripts: nothing happens but what the script says.
    pub(crate) fn quiet(nodes: usize) -> Self {
        Self {
            nodes,
            timing: Timing::default(),
            approval: Approval::Auto,
            certificate_lifetime: Duration::from_secs(90 * 86_400),
            shared_token: true,
            chaos: 0,
            delay: (1_000, 1_000),
            loss: 0,
            faults: BTreeMap::new(),
            drift: 0,
            clockless: 0,
            journal_entries_max: 1000,
            events_max: 10_000,
            audit_max: 10_000,
            duplicates: 0,
            commit_takes: 0,
            podman_answers: 0,
            readiness: Readiness::Warn,
            check_takes: 0,
            container_rule: false,
            alerts_minded: 0,
            notices_per_minute: 600,
        }
    }
}

/// How long faults go on. Most of what can go wrong needs a few faults and not many minutes: in the same time,
/// short lives kill more mutants than long ones. Some faults only grow old with the cluster, so few live long.
fn chaos(rng: &mut Rng) -> u64 {
    if rng.chance(LONG_LIVES_PERCENT) {
        rng.between(10, 30) * MINUTE
    } else {
        rng.between(SECOND * 20, SHORT_LIFE_MAX)
    }
}
