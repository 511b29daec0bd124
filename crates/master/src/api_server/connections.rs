//! Ends the connections of those who may not be connected any more.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use piccolo_core::model::NodeId;
use piccolo_rpc::tls::{
    acceptor::{Acceptor, PeerInfo},
    names::Role,
};

/// For whoever was removed to read why, before the connection ends.
const FAREWELL: Duration = Duration::from_secs(1);

/// The acceptors of both ports, as soon as they listen.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    acceptors: OnceLock<Vec<Arc<Acceptor>>>,
    https_port: OnceLock<u16>,
}

impl Connections {
    pub(crate) fn set(&self, acceptors: Vec<Arc<Acceptor>>) {
        // set once, at the start
        self.acceptors.set(acceptors).ok();
    }

    pub(crate) fn set_https_port(&self, port: u16) {
        self.https_port.set(port).ok();
    }

    /// 0 where there is none.
    pub(crate) fn https_port(&self) -> u16 {
        self.https_port.get().copied().unwrap_or(0)
    }

    pub(crate) fn close_node_soon(self: &Arc<Self>, node: NodeId) {
        self.close_soon(move |peer| {
            let Some(identity) = &peer.identity else { return false };
            is_node(identity.role) && identity.id == node.as_str()
        });
    }

    pub(crate) fn close_user_soon(self: &Arc<Self>, name: String) {
        self.close_soon(move |peer| {
            let Some(identity) = &peer.identity else { return false };
            !is_node(identity.role) && identity.id == name
        });
    }

    pub(crate) fn close_one(&self, connection: u64) {
        self.close_where(|peer| peer.connection == connection);
    }

    pub(crate) fn count(&self) -> usize {
        self.acceptors.get().into_iter().flatten().map(|acceptor| acceptor.connections()).sum()
    }

    fn close_soon(self: &Arc<Self>, matches: impl Fn(&PeerInfo) -> bool + Send + 'static) {
        let connections = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(FAREWELL).await;
            connections.close_where(matches);
        });
    }

    fn close_where(&self, matches: impl Fn(&PeerInfo) -> bool) {
        for acceptor in self.acceptors.get().into_iter().flatten() {
            acceptor.close_where(&matches);
        }
    }
}

fn is_node(role: Role) -> bool {
    match role {
        Role::Master | Role::Sub => true,
        Role::Admin | Role::Operator | Role::Viewer | Role::Cluster => false,
    }
}
