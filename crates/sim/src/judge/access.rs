//! Who may, and who is not let in any more.

use piccolo_core::{
    api_server::{Call, Refusal, Role},
    model::NodeStatus,
    session::{GoodbyeReason, ToAgent},
    state_manager::{Answer, Effect, Transaction, keys},
};

use super::{About, Judge};
use crate::{store::Store, world::Asked};

/// Written down a second time, for the calls that people make here.
fn may(role: Role, call: Call) -> bool {
    match call {
        Call::GetNode | Call::GetNodes | Call::GetTopology | Call::GetClusterStatus => {
            matches!(
                role,
                Role::Master | Role::Cluster | Role::Viewer | Role::Operator | Role::Admin
            )
        }
        Call::ApproveNode
        | Call::RejectNode
        | Call::SetMaintenance
        | Call::LabelNode
        | Call::RestartContainer
        | Call::CheckNode
        | Call::PauseRecovery
        | Call::ForceRecovery
        | Call::ProbeNode
        | Call::SetLogLevel
        | Call::AcknowledgeAlerts
        | Call::SilenceAlerts
        | Call::UnsilenceAlerts
        | Call::ListAlertChannels
        | Call::ResendDeadLetters
        | Call::ClearDeadLetters
        | Call::ListTokens => matches!(role, Role::Operator | Role::Admin),
        Call::RegisterNode => !role.is_user(),
        Call::Session | Call::Heartbeat => matches!(role, Role::Master | Role::Sub),
        _ => role == Role::Admin,
    }
}

impl Judge {
    pub(super) fn no_call_without_its_role(
        &self,
        effects: &[Effect],
        about: Option<&About>,
    ) -> Result<(), String> {
        let Some(About { call: Some(call), role, expired, known_user, .. }) = about else {
            return Ok(());
        };
        let known = !role.is_user() || *known_user;
        let allowed = may(*role, *call) && known && (!expired || *call == Call::RegisterNode);
        let done = effects.iter().any(|effect| match effect {
            Effect::Reply { result, .. } => result.is_ok(),
            Effect::Send { message, .. } => matches!(message, ToAgent::Welcome(_)),
            _ => false,
        });
        if done && !allowed {
            return Err(format!("{role} did {call:?}"));
        }
        Ok(())
    }

    pub(super) fn a_token_admits_no_more_than_it_was_made_for(
        &mut self,
        store: &Store,
        transaction: &Transaction,
    ) -> Result<(), String> {
        let written = transaction.writes.keys().filter_map(|key| key.strip_prefix(keys::TOKENS));
        for token in written.filter_map(|hash| store.tokens.get(hash)) {
            let hash = &token.hash;
            let uses = usize::try_from(token.uses_left).unwrap_or(usize::MAX);
            let uses = uses.saturating_add(token.used_by.len());
            let made_for = *self.token_uses.entry(hash.clone()).or_insert(uses);
            if uses > made_for {
                return Err(format!("{made_for} uses became {uses}: {token:?}"));
            }
        }
        Ok(())
    }

    /// Once it is said that a node was removed, nothing goes to it any more.
    pub(super) fn a_removed_node_is_refused(
        &mut self,
        effect: &Effect,
        store: &Store,
    ) -> Result<(), String> {
        let known = |node| {
            store.nodes.get(node).is_some_and(|record| record.status != NodeStatus::Terminating)
        };
        match effect {
            Effect::Send { node, message, .. }
                if !matches!(message, ToAgent::Beat | ToAgent::Goodbye(_)) && !known(node) =>
            {
                Err(format!("{node} gets {message:?}"))
            }
            Effect::SendCertificate { node, .. } if !known(node) => {
                Err(format!("{node} gets a certificate"))
            }
            Effect::Removed { node, .. } => {
                if let Some(hash) = self.joined_with.remove(node) {
                    self.removed.insert((node.clone(), hash));
                }
                self.events_of_a_removed_node(node);
                Ok(())
            }
            Effect::Reply { result: Ok(Answer::Registered(registered)), .. } => {
                let record = store.nodes.get(&registered.node);
                let hash = record.map(|r| r.joined_with.clone()).unwrap_or_default();
                self.joined_with.insert(registered.node.clone(), hash.clone());
                if self.removed.contains(&(registered.node.clone(), hash)) {
                    return Err(format!("{} is a member again, by its old token", registered.node));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Who is in the registry, and is what it says, is not told that it was removed.
    pub(super) fn a_member_is_not_turned_away(
        &self,
        effect: &Effect,
        store: &Store,
    ) -> Result<(), String> {
        let Effect::Close { node, session, goodbye } = effect else { return Ok(()) };
        if goodbye.reason != GoodbyeReason::Removed || self.cloned.contains(node) {
            return Ok(());
        }
        match store.nodes.get(node) {
            Some(record) if record.status != NodeStatus::Terminating => {
                let by = self.sessions.get(session).map(|(_, by)| by);
                Err(format!("{node} is told: {}; {by:?}, {record:?}", goodbye.message))
            }
            Some(_) | None => Ok(()),
        }
    }

    pub(super) fn at_most_one_session_per_node(&mut self, effect: &Effect) -> Result<(), String> {
        match effect {
            Effect::Send { node, session, message: ToAgent::Welcome(_) }
                if self.sessions.contains_key(session) =>
            {
                let open = self.open.insert(node.clone(), session.clone());
                match open {
                    Some(other) if other != *session => {
                        Err(format!("{node} has {other:?} and {session:?}"))
                    }
                    Some(_) | None => Ok(()),
                }
            }
            Effect::Close { node, session, .. } => {
                if self.open.get(node) == Some(session) {
                    self.open.remove(node);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// What people were answered.
    pub(crate) fn answered(&mut self, asked: &Asked, result: &Result<Answer, Refusal>) {
        if result.is_ok() && !may(asked.role, asked.call) {
            self.fail("no_call_without_its_role", format!("{} did {:?}", asked.role, asked.call));
        }
    }
}
