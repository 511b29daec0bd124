//! Whom the system check keeps out: what the master was told last, and what it made of it.

use piccolo_core::{
    model::{ConditionKind, NodeId, NodeRecord, NodeStatus, SessionId, SystemCheck},
    session::{Hello, ToAgent, ToMaster},
    state_manager::{Effect, Input},
    topology::Readiness,
};

use super::{Judge, nodes::Account};

/// What a node said last of its system check.
#[derive(Debug, Clone, Default)]
pub(crate) struct Told {
    has_errors: bool,
    /// It has not said yet what the first check of its process found.
    pending: bool,
    /// It has said something since its process began.
    said: bool,
    /// The session on which the machine hears it; not over before the machine has heard that it is.
    session: Option<SessionId>,
}

impl Told {
    pub(super) fn by(hello: &Hello) -> Self {
        let said = hello.system_check.is_some() || !hello.system_check_pending;
        let has_errors = hello.system_check.as_ref().is_some_and(SystemCheck::has_errors);
        Self { has_errors, pending: hello.system_check_pending, said, session: None }
    }

    /// What a restarted master knows.
    pub(super) fn stored(record: &NodeRecord) -> Self {
        let of_check = |kind| {
            matches!(kind, ConditionKind::SystemCheckFailed | ConditionKind::SystemCheckTolerated)
        };
        let has_errors = record.conditions.iter().any(|c| of_check(c.kind));
        Self { has_errors, ..Self::default() }
    }
}

impl Judge {
    /// What a node says of it on its session.
    pub(crate) fn takes_input(&mut self, input: &Input) {
        if let Input::Delivered { delivery, result: Ok(()) } = input {
            self.note_taken(*delivery);
        }
        self.note_ending(input);
        self.note_letters(input);
        let Input::FromAgent { node, session, message: ToMaster::Status(report) } = input else {
            return;
        };
        let Some(check) = &report.system_check else { return };
        if let Some(account) = self.accounts.get_mut(node)
            && account.told.session.as_ref() == Some(session)
        {
            account.told.has_errors = check.has_errors();
            account.told.pending = false;
            account.told.said = true;
        }
    }

    /// A Hello that was welcomed counts. One that does not know yet leaves what was known.
    pub(super) fn note_checks(&mut self, effects: &[Effect]) {
        for effect in effects {
            if let Effect::Close { node, session, .. } = effect
                && let Some(account) = self.accounts.get_mut(node)
            {
                account.told.session.take_if(|open| open == session);
            }
            let Effect::Send { node, session, message: ToAgent::Welcome(_) } = effect else {
                continue;
            };
            let (Some(account), Some(told)) =
                (self.accounts.get_mut(node), self.greeted.remove(session))
            else {
                continue;
            };
            let has_errors = if told.said { told.has_errors } else { account.told.has_errors };
            account.told = Told { has_errors, session: Some(session.clone()), ..told };
        }
    }

    pub(super) fn keeps_out(&self, account: &Account) -> bool {
        self.readiness == Readiness::Enforce && account.told.has_errors
    }

    pub(super) fn ready_implies_fit_where_that_is_enforced(
        &self,
        node: &NodeId,
        after: NodeStatus,
    ) -> Result<(), String> {
        let Some(account) = self.accounts.get(node) else { return Ok(()) };
        let first = account.status == NodeStatus::Initializing;
        let unseen = self.readiness == Readiness::Enforce && first && account.told.pending;
        if after == NodeStatus::Ready && (self.keeps_out(account) || unseen) {
            return Err(format!("{node} is Ready, and has told: {:?}", account.told));
        }
        Ok(())
    }
}
