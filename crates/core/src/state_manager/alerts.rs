//! The alerts' place in the machine: they see what changes, and what comes of it is part of the same commit.

use super::{Answer, Effect, RequestId, StateManager, log::Draft, node::Node, outbox::Outbox};
use crate::{
    api_server::{Caller, Refusal},
    model::{JournalEntry, NodeId, NodeStatus, NodeView},
    monitoring_server::alerts::{
        Alerts, Out, Told,
        alert::{Alert, Id},
        facts::ClusterFacts,
        outbox::{DeliveryError, OutboxExtent},
        requests::AlertRequest,
    },
    time::Now,
};

/// Nodes that one look at everything takes at most; the next begins where it ended.
const NODES_PER_LOOK_MAX: usize = 512;

impl StateManager {
    /// Alerts that fire, and those that were over lately.
    pub fn alerts(&self) -> impl Iterator<Item = &Alert> {
        self.alerts.alerts()
    }

    /// Notifications that are on their way, and those that were given up.
    pub fn notifications(&self) -> OutboxExtent {
        self.alerts.outbox_extent()
    }

    /// How these nodes look now; none where one is gone.
    pub(super) fn views(
        &self,
        nodes: impl IntoIterator<Item = NodeId>,
    ) -> Vec<(NodeId, Option<NodeView>)> {
        let view = |id: NodeId| {
            let view = self.nodes.get(&id).map(Node::view);
            (id, view)
        };
        nodes.into_iter().map(view).collect()
    }

    pub(super) fn look_at(
        &mut self,
        now: Now,
        out: &mut Outbox,
        nodes: &[(NodeId, Option<NodeView>)],
    ) {
        if nodes.is_empty() {
            return;
        }
        self.with_alerts(now, out, |alerts, told| {
            for (id, view) in nodes {
                match view {
                    Some(view) => alerts.seen(now, view, told),
                    None => alerts.gone(now, id, told),
                }
            }
        });
    }

    pub(super) fn alerts_due(&mut self, now: Now, out: &mut Outbox) {
        if self.alerts.deadline().at > now.at {
            return;
        }
        let mut nodes = self.alerts.due_nodes(now);
        if self.alerts.is_tick_due(now) {
            let after = self.looked_at.take();
            let rest =
                self.nodes.keys().filter(|id| after.as_ref().is_none_or(|after| *id > after));
            let some: Vec<_> = rest.take(NODES_PER_LOOK_MAX).cloned().collect();
            self.looked_at = some.last().filter(|_| some.len() == NODES_PER_LOOK_MAX).cloned();
            nodes.extend(some);
            let mut of_alerts = Out { writes: std::mem::take(&mut out.writes), ..Out::default() };
            let there = |node: &NodeId| self.nodes.contains_key(node);
            self.alerts.end_gone(now, there, &mut of_alerts);
            self.take_in(now, out, of_alerts);
        }
        let counts = self.node_counts();
        self.with_alerts(now, out, |alerts, told| alerts.at_deadline(now, counts, told));
        let nodes = self.views(nodes);
        self.look_at(now, out, &nodes);
    }

    pub(super) fn take_cluster_facts(&mut self, now: Now, out: &mut Outbox, facts: ClusterFacts) {
        let facts = ClusterFacts { name: self.topology.name.to_string(), ..facts };
        let counts = self.node_counts();
        self.with_alerts(now, out, |alerts, told| alerts.told(now, facts, counts, told));
    }

    /// What a node that was alone has judged by itself, in the commit of the events that say so.
    pub(super) fn take_past_alerts(
        &mut self,
        now: Now,
        out: &mut Outbox,
        id: &NodeId,
        over: &[JournalEntry],
    ) {
        let Some(node) = self.nodes.get(id).filter(|_| !over.is_empty()) else { return };
        let view = node.view();
        self.with_alerts(now, out, |alerts, told| alerts.journaled(now, &view, over, told));
    }

    pub(super) fn delivered(
        &mut self,
        now: Now,
        out: &mut Outbox,
        delivery: Id,
        result: Result<(), DeliveryError>,
    ) {
        self.with_alerts(now, out, |alerts, told| alerts.delivered(now, delivery, result, told));
    }

    pub(super) fn alert_request(
        &mut self,
        now: Now,
        out: &mut Outbox,
        id: RequestId,
        by: &Caller,
        request: AlertRequest,
    ) -> Result<(), Refusal> {
        let by = by.who();
        let answer =
            self.with_alerts(now, out, |alerts, told| alerts.request(now, id, &by, request, told))?;
        if let Some(answer) = answer {
            out.reply(id, Ok(Answer::Alert(Box::new(answer))));
        }
        Ok(())
    }

    fn with_alerts<T>(
        &mut self,
        now: Now,
        out: &mut Outbox,
        work: impl FnOnce(&mut Alerts, &mut Out) -> T,
    ) -> T {
        let mut of_alerts = Out { writes: std::mem::take(&mut out.writes), ..Out::default() };
        let result = work(&mut self.alerts, &mut of_alerts);
        self.take_in(now, out, of_alerts);
        result
    }

    fn take_in(&mut self, now: Now, out: &mut Outbox, of_alerts: Out) {
        let Out { writes, events, changed, removed, dispatches, tested } = of_alerts;
        out.writes = writes;
        for told in events {
            let Told { severity, kind, node, message, alert } = told;
            let draft = Draft { severity, kind, node, message, fields: Default::default() };
            let draft = match alert {
                Some(id) => draft.field("alert", id.to_string()),
                None => draft,
            };
            self.happened(now, out, draft);
        }
        out.effects.extend(changed.into_iter().map(|alert| Effect::Alerted(Box::new(alert))));
        out.effects.extend(removed.into_iter().map(Effect::AlertForgotten));
        out.effects.extend(dispatches.into_iter().map(|d| Effect::Dispatch(Box::new(d))));
        for (request, result) in tested {
            let result = result.map(|()| Answer::Done).map_err(not_delivered);
            out.reply(request, result);
        }
    }

    fn node_counts(&self) -> (usize, usize) {
        let ready = self.nodes.values().filter(|node| node.record.status == NodeStatus::Ready);
        (self.nodes.len(), ready.count())
    }
}

fn not_delivered(problem: String) -> Refusal {
    use crate::api_server::Code;
    let message = format!("the test was not delivered: {problem}");
    Refusal::new(Code::FailedPrecondition, "NotDelivered", message)
        .help("correct the channel, and apply it again")
}
