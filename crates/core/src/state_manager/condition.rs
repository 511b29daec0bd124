//! Changes that are asked for on a condition: only if what they change is still as whoever asks has read it.
//!
//! It is decided where the change is, in one go with it: nothing can come between.

use super::{Answer, Effect, Request, StateManager};
use crate::{
    api_server::{Code, Refusal},
    session::AgentCommand,
};

impl StateManager {
    pub(super) fn check_unchanged(
        &self,
        versions: &[u64],
        request: &Request,
    ) -> Result<(), Refusal> {
        let now = self.version_of(request)?;
        if now.is_some_and(|now| versions.contains(&now)) {
            return Ok(());
        }
        let message = match now {
            Some(now) => format!("it is not what was read any more: {now} is the newest"),
            None => "it is nothing whose versions are counted".to_owned(),
        };
        Err(Refusal::new(Code::Aborted, "GenerationOutdated", message)
            .help("get it again, and apply the change to that"))
    }

    /// Of what the request changes: a revision or a generation, as a reader is told it.
    fn version_of(&self, request: &Request) -> Result<Option<u64>, Refusal> {
        Ok(match request {
            Request::ApproveNode(node)
            | Request::RejectNode { node, .. }
            | Request::SetMaintenance { node, .. }
            | Request::RemoveNode(node)
            | Request::LabelNode { node, .. }
            | Request::ResetNodeIdentity(node)
            | Request::PauseRecovery { node, .. }
            | Request::Command {
                node,
                command:
                    AgentCommand::RestartContainer { .. }
                    | AgentCommand::CheckSystem
                    | AgentCommand::Recover { .. }
                    | AgentCommand::Probe
                    | AgentCommand::SetLogLevel { .. },
            } => self.nodes.get(&self.find(node)?).map(|node| node.revision),
            Request::UpdateTopology(_) => Some(self.topology.generation),
            Request::Alert(request) => self.alerts.version_of(request),
            Request::Register(_)
            | Request::Heartbeat { .. }
            | Request::ReportStatus { .. }
            | Request::ReceiveConfig { .. }
            | Request::GetNodes(_)
            | Request::GetNode(_)
            | Request::GetTopology
            | Request::GetClusterStatus
            | Request::Allow { .. }
            | Request::CreateToken(_)
            | Request::ListTokens
            | Request::RevokeToken(_)
            | Request::CreateUser { .. }
            | Request::ListUsers
            | Request::RevokeUser(_)
            | Request::CreateApiToken { .. }
            | Request::ListApiTokens
            | Request::RevokeApiToken(_)
            | Request::OpenConsole { .. }
            | Request::OpenSession { .. }
            | Request::CloseSession
            | Request::OnlyAt { .. } => None,
        })
    }

    /// A node that was changed has a new revision once all of the change is known: whoever changed it is told that one,
    /// and can go on from there.
    pub(super) fn tell_new_revisions(&self, effects: &mut [Effect]) {
        for effect in effects {
            if let Effect::Reply { result: Ok(Answer::Node(view)), .. } = effect
                && let Some(node) = self.nodes.get(&view.record.id)
            {
                view.revision = node.revision;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::{
        Settings,
        fixtures::{Cluster, admin},
    };
    use super::*;
    use crate::{api_server::Call, model::Labels};

    fn label(value: &str) -> Request {
        let set = Labels::from(BTreeMap::from([("zone".to_owned(), value.to_owned())]));
        Request::LabelNode { node: "n1".to_owned(), set, remove: Vec::new() }
    }

    fn only_at(versions: &[u64], request: Request) -> Request {
        Request::OnlyAt { versions: versions.to_vec(), request: Box::new(request) }
    }

    /// The revision of the node after the change, or why it was not made.
    fn change(
        cluster: &mut Cluster,
        versions: &[u64],
        request: Request,
    ) -> Result<u64, &'static str> {
        match cluster.ask(100, admin(), only_at(versions, request)) {
            Ok(Answer::Node(view)) => Ok(view.revision),
            Ok(Answer::Done) => Ok(0),
            Ok(answer) => panic!("{answer:?}"),
            Err(refusal) => Err(refusal.reason),
        }
    }

    fn read(cluster: &mut Cluster) -> (u64, Labels) {
        let node = cluster.ask(100, admin(), Request::GetNode("n1".to_owned()));
        let Ok(Answer::Node(view)) = node else { panic!("{node:?}") };
        (view.revision, view.record.labels)
    }

    fn cluster() -> Cluster {
        let mut cluster = Cluster::new(Settings::default());
        let token = cluster.token(10, 1, None);
        cluster.join(20, "n1", &token).unwrap();
        cluster
    }

    #[test]
    fn a_node_is_changed_only_as_it_was_read_and_whoever_did_can_go_on_from_there() {
        let mut cluster = cluster();
        let (first, _) = read(&mut cluster);
        let second = change(&mut cluster, &[first], label("a")).unwrap();
        assert_eq!(read(&mut cluster).0, second);
        assert_eq!(change(&mut cluster, &[first], label("b")), Err("GenerationOutdated"));
        assert_eq!(change(&mut cluster, &[], label("b")), Err("GenerationOutdated"));
        assert_eq!(read(&mut cluster).1["zone"], "a", "what was refused has changed nothing");
        let third = change(&mut cluster, &[first, second], label("b")).unwrap();
        let remove = Request::RemoveNode("n1".to_owned());
        assert_eq!(change(&mut cluster, &[second], remove.clone()), Err("GenerationOutdated"));
        assert_eq!(change(&mut cluster, &[third], remove), Ok(0));
        let gone = Request::RemoveNode("n2".to_owned());
        assert_eq!(change(&mut cluster, &[third], gone), Err("NoSuchNode"));
    }

    #[test]
    fn what_has_no_versions_is_not_changed_on_one() {
        let token = Request::RevokeToken("0".repeat(12));
        assert_eq!(change(&mut cluster(), &[1], token), Err("GenerationOutdated"));
        let level = Request::Allow { call: Call::SetLogLevel, target: "master".to_owned() };
        assert_eq!(change(&mut cluster(), &[1], level), Err("GenerationOutdated"));
    }

    #[test]
    fn the_log_level_of_a_node_is_changed_only_as_the_node_was_read() {
        let mut cluster = cluster();
        let (now, _) = read(&mut cluster);
        let command = AgentCommand::SetLogLevel { filter: "debug".to_owned(), span: None };
        let level = Request::Command { node: "n1".to_owned(), command };
        assert_eq!(change(&mut cluster, &[now + 1], level), Err("GenerationOutdated"));
    }

    #[test]
    fn a_refusal_on_a_condition_is_in_the_audit_log_as_the_change_would_be() {
        let mut cluster = cluster();
        change(&mut cluster, &[7], label("a")).unwrap_err();
        let last = cluster.audit().pop().unwrap();
        assert_eq!((last.call.as_str(), last.target.as_str()), ("LabelNode", "n1"));
    }

    #[test]
    fn no_revision_comes_again_after_a_restart() {
        let mut cluster = cluster();
        let (before, _) = read(&mut cluster);
        cluster.restart(Settings::default(), 100);
        assert!(read(&mut cluster).0 > before);
        assert_eq!(change(&mut cluster, &[before], label("a")), Err("GenerationOutdated"));
    }
}
