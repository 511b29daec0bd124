//! The hardware of a board: what a look finds, and what must never be told of it.

use piccolo_core::{
    model::{ConditionKind, EventKind, JournalEntry},
    node_agent::{
        Effect, Input,
        hardware::{LOOKS_TO_CLEAR, Reading, Sign},
    },
};

use super::{World, board::Board};

impl Board {
    /// The supply sags while the memory is full, and trembles as it does. Old errors of the memory stay what they are.
    fn hardware(&mut self) -> Vec<Reading> {
        let is_low = self.memory_percent > 90.0 && !(self.trembles && self.well_looks == 0);
        self.well_looks = if is_low { 0 } else { self.well_looks.saturating_add(1) };
        let reading =
            |sign, part: &str, value| Reading { sign, part: part.to_owned(), value, limit: None };
        vec![
            reading(Sign::VoltageLow, "board", u64::from(is_low)),
            reading(Sign::EccCorrected, "mc0", 5000),
        ]
    }

    /// A supply that was low is trusted again after a while only.
    pub(crate) fn explains(&self, condition: ConditionKind) -> bool {
        condition == ConditionKind::PowerLow && self.well_looks < LOOKS_TO_CLEAR
    }
}

impl World {
    pub(crate) fn looks(&mut self, b: usize) {
        let board = &mut self.boards[b];
        let readings = board.hardware();
        if let Some(agent) = &mut board.agent {
            agent.inbox.push_back(Input::HardwareSeen(readings));
        }
    }

    pub(super) fn pressure_is_raised_by_two_samples(&mut self, b: usize, entry: &JournalEntry) {
        let board = &self.boards[b];
        if entry.kind == EventKind::PressureRaised
            && board.sampled.iter().any(|percent| *percent < 95.0)
            && board.sampling
        {
            self.judge.fail("pressure_is_raised_by_two_samples", format!("{:?}", board.sampled));
        }
    }

    /// A problem is over when the hardware was well for long enough, and what was counted before is none.
    pub(crate) fn judge_hardware(&mut self, b: usize, effect: &Effect) {
        let Effect::JournalAppend(entry) = effect else { return };
        if !self.boards[b].looking {
            return;
        }
        let well_looks = self.boards[b].well_looks;
        if entry.kind == EventKind::HardwareProblemOver && well_looks < LOOKS_TO_CLEAR {
            let after = format!("board-{b}, after {well_looks} looks");
            self.judge.fail("a_problem_is_over_when_it_was_well_for_long", after);
        }
        if entry.kind == EventKind::HardwareProblem && entry.message.contains("mc0") {
            self.judge.fail("old_errors_are_no_news", entry.message.clone());
        }
    }
}
