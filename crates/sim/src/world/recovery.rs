//! Steps of recovery on a board: they take their time, help or fail, or hang.

use std::time::Duration;

use piccolo_core::{
    action_controller::recovery::{Failure, Outcome, Step},
    model::ContainerReport,
    node_agent::{Input, recover::why_no_reboot},
};

use super::{Due, World, chaos::start};
use crate::clock::SECOND;

impl World {
    pub(super) fn recovery_begins(&mut self, b: usize, failure: Failure, step: Step, forced: bool) {
        if step == Step::Reboot && !self.may_reboot(b, &failure, forced) {
            return;
        }
        let takes = self.randoms.shell.scale(SECOND / 10, 90 * SECOND);
        let number = self.name_next();
        let board = &mut self.boards[b];
        board.steps.insert(number, (failure, step));
        let due = Due::RecoveryEnds { board: b, boot: board.boot, step: number };
        self.push(self.now + takes, due);
    }

    /// The shell asks at once; where the answer is no, that was the attempt.
    fn may_reboot(&mut self, b: usize, failure: &Failure, forced: bool) -> bool {
        let board = &mut self.boards[b];
        let refuses = board.folder.refuses;
        let up_for = Duration::from_micros(self.now - board.clock.booted_at);
        let why_not = why_no_reboot(failure, !refuses || forced, Some(up_for));
        if let Some(why) = why_not {
            let outcome = Outcome::Failed(why);
            if let Some(agent) = &mut board.agent {
                agent.inbox.push_back(Input::Recovered { failure: failure.clone(), outcome });
            }
            return false;
        }
        if !forced {
            self.judge.reboots(b, failure, refuses, up_for);
        }
        true
    }

    /// A step has ended; or it hangs, and nobody hears of it.
    pub(crate) fn recovery_ends(&mut self, b: usize, boot: u32, step: u64) {
        let (helps, hangs) = (self.randoms.shell.chance(50), self.randoms.shell.chance(10));
        let at = self.boards[b].clock.now(self.now).wall;
        let board = &mut self.boards[b];
        let Some((failure, step)) = board.steps.remove(&step) else { return };
        if board.boot != boot || board.agent.is_none() || hangs {
            return;
        }
        let helps = helps && !board.stubborn;
        let outcome = if helps { Outcome::Done } else { Outcome::Failed("it fails".to_owned()) };
        if helps && let Failure::Container(name) = &failure {
            let ended = |c: &&mut ContainerReport| c.name == *name && c.has_ended();
            board.containers.iter_mut().filter(ended).for_each(|c| start(c, at));
        }
        board.podman_down &= !(helps && failure == Failure::Podman);
        if helps && step == Step::Reboot {
            return self.board_reboots(b);
        }
        self.podman_stirs(b);
        self.agent_input(b, Input::Recovered { failure, outcome });
    }

    /// In order: the agent says goodbye to nobody, but what it has on the disk is there.
    fn board_reboots(&mut self, b: usize) {
        self.agent_dies(b, false);
        self.boards[b].powered = false;
        let takes = self.randoms.shell.scale(SECOND, 60 * SECOND);
        self.push(self.now + takes, Due::AgentBoots(b));
    }

    /// The runtime's event stream wakes the agent's shell, where there is one.
    pub(crate) fn podman_stirs(&mut self, b: usize) {
        let boot = self.boards[b].boot;
        let at = self.now + self.randoms.shell.between(1_000, 50_000);
        self.push(at, Due::Observe { board: b, boot });
    }

    pub(crate) fn podman_returns(&mut self, b: usize) {
        self.boards[b].podman_down = false;
        self.podman_stirs(b);
    }
}
