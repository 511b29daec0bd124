//! Does what the owner decided, in order: what is written is durable before anything after it is shown.
//!
//! Commits that wait behind one another become one: a burst costs one write to the disk, not one for each input.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use piccolo_core::{
    model::{AuditEnds, Event, NodeId, NodeName, NodeRole, SessionId, Severity},
    session::{GoodbyeReason, ToAgent},
    state_manager::{Effect, Transaction, keys},
    time::WallTime,
};
use piccolo_rpc::tls::names::Role;

use super::{
    Replies,
    board::Board,
    queue::EffectQueue,
    writer::{WriteError, Writer},
};
use crate::{
    alerts::{Notifier, board::AlertBoard},
    api_server::{connections::Connections, sessions::Sessions},
    certificate_authority::{CertificateAuthority, Subject},
    clock::MasterClock,
    monitoring_server::Monitoring,
};

/// Keys of one group of commits at most; the store takes 127 operations.
const GROUP_KEYS_MAX: usize = 120;
/// Bytes of one group of commits at most; the store takes 1 MiB.
const GROUP_BYTES_MAX: usize = 768 * 1024;
/// Effects of one group at most.
const GROUP_EFFECTS_MAX: usize = 1024;

pub(crate) struct Performer {
    pub(crate) queue: Arc<EffectQueue>,
    pub(crate) writer: Writer,
    pub(crate) board: Arc<Board>,
    pub(crate) monitoring: Arc<Monitoring>,
    pub(crate) alerts: Arc<AlertBoard>,
    pub(crate) notifier: Notifier,
    pub(crate) replies: Arc<Replies>,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) connections: Arc<Connections>,
    pub(crate) authority: Arc<CertificateAuthority>,
    pub(crate) clock: MasterClock,
}

impl Performer {
    /// Runs until the queue is closed and empty.
    pub(crate) async fn run(self) -> Result<(), WriteError> {
        loop {
            let mut group = Group::default();
            let Some(mut effects) = self.queue.next(|effect| group.takes(effect)).await else {
                return Ok(());
            };
            let mut writes = BTreeMap::new();
            for effect in &mut effects {
                if let Effect::Commit(Transaction { writes: more }) = effect {
                    // the later of two writes of one key is the one that counts
                    writes.append(more);
                }
            }
            if !writes.is_empty() {
                let audit = audit_ends(&writes);
                self.writer.commit(writes).await?;
                if let Some(ends) = audit {
                    self.board.audited(ends);
                }
            }
            for effect in effects {
                self.perform(effect);
            }
        }
    }

    fn perform(&self, effect: Effect) {
        match effect {
            // done already, before everything of this group
            Effect::Commit(_) => {}
            Effect::Send { session, message, .. } => self.sessions.send(&session, message),
            Effect::SendCertificate { node, name, role, session, csr, until } => {
                self.send_certificate(&node, &name, role, &session, &csr, until);
            }
            Effect::Close { node, session, goodbye } => {
                let removed = goodbye.reason == GoodbyeReason::Removed;
                self.sessions.close(&session, goodbye);
                if removed {
                    self.connections.close_node_soon(node);
                }
            }
            Effect::Reply { request, result } => self.replies.complete(request, result),
            Effect::Changed(view) => {
                self.monitoring.seen(&view);
                self.board.changed(*view);
            }
            Effect::Missed { node, figures } => self.monitoring.missed(&node, &figures),
            Effect::Removed { node, revision } => {
                self.monitoring.removed(&node);
                self.board.removed(&node, revision);
                self.connections.close_node_soon(node);
            }
            Effect::Happened(event) => {
                log(&event);
                self.board.happened(event);
            }
            Effect::Alerted(alert) => self.alerts.changed(*alert),
            Effect::AlertForgotten(id) => self.alerts.forgotten(id),
            Effect::Dispatch(dispatch) => self.notifier.dispatch(*dispatch),
        }
    }

    fn send_certificate(
        &self,
        node: &NodeId,
        name: &NodeName,
        role: NodeRole,
        session: &SessionId,
        csr: &[u8],
        until: WallTime,
    ) {
        let subject = Subject { role: tls_role(role), id: node.as_str(), label: name.as_str() };
        let now = self.clock.seconds();
        match self.authority.sign_node(csr, subject, life(until, now), now) {
            Ok(issued) => {
                let certificate = issued.chain_pem.into_bytes();
                let ca = self.authority.certificate_pem().into_bytes();
                self.sessions.send(session, ToAgent::Certificate { certificate, ca });
            }
            // the request's signature was checked before; the agent asks again
            Err(error) => tracing::error!(%node, %error, "a certificate could not be renewed"),
        }
    }
}

/// From now to `until`.
pub(crate) fn life(until: WallTime, now: u64) -> Duration {
    let now = WallTime::from_secs(i64::try_from(now).unwrap_or(i64::MAX));
    let life = until.since(now);
    // whole seconds: what is left of one counts as one
    Duration::from_secs(life.as_secs() + u64::from(life.subsec_nanos() > 0))
}

pub(crate) fn tls_role(role: NodeRole) -> Role {
    match role {
        NodeRole::Master => Role::Master,
        NodeRole::Sub => Role::Sub,
    }
}

/// Counts what a group holds.
#[derive(Debug, Default)]
struct Group {
    effects: usize,
    keys: usize,
    bytes: usize,
}

impl Group {
    fn takes(&mut self, effect: &Effect) -> bool {
        self.effects += 1;
        if let Effect::Commit(Transaction { writes }) = effect {
            self.keys += writes.len();
            let value = |value: &Option<Vec<u8>>| value.as_ref().map_or(0, Vec::len);
            self.bytes += writes.iter().map(|(key, v)| key.len() + value(v)).sum::<usize>();
        }
        self.effects <= GROUP_EFFECTS_MAX
            && self.keys <= GROUP_KEYS_MAX
            && self.bytes <= GROUP_BYTES_MAX
    }
}

/// The ends of the audit log, where they are among what is written.
fn audit_ends(writes: &BTreeMap<String, Option<Vec<u8>>>) -> Option<AuditEnds> {
    let value = writes.get(keys::AUDIT_ENDS)?.as_ref()?;
    keys::decode(keys::AUDIT_ENDS, value).ok()
}

/// Events are log lines too.
fn log(event: &Event) {
    let node = event.node_name.as_ref().map_or("", NodeName::as_str);
    let (id, kind, message) = (event.id, event.kind.name(), event.message.as_str());
    match event.severity {
        Severity::Info => tracing::info!(event = id, kind, node, "{message}"),
        Severity::Warning => tracing::warn!(event = id, kind, node, "{message}"),
        Severity::Critical => tracing::error!(event = id, kind, node, "{message}"),
    }
}
