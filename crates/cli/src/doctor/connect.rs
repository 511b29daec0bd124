//! The way to a master, one step after the other, so that the one that fails can be named: name, TCP, TLS, and who
//! answers there.

use std::{
    io,
    time::{Duration, Instant},
};

use piccolo_rpc::tls::{PeerError, connector::ConnectError, names::PeerIdentity};
use prost_types::Timestamp;
use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};

use crate::{
    connection::{Cluster, DIAL_TIMEOUT, host_of},
    failure::Failure,
    fault::{CLOSED_BEFORE_TLS, WHY_CLOSED_BEFORE_TLS, is_closed_before_tls},
};

/// One master, as far as it was reached.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Master {
    pub address: String,
    pub took: Duration,
    pub trouble: Option<Trouble>,
    /// The end of the certificate that it serves with.
    pub certificate_expires_at: Option<Timestamp>,
    /// Connected, but it did not answer our call.
    pub refused: Option<Failure>,
}

/// The step that failed, why, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    pub step: Step,
    pub why: String,
    pub remedy: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Name,
    Tcp,
    Tls,
    Certificate,
}

impl Step {
    pub fn word(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Certificate => "certificate",
        }
    }
}

/// Goes as far as it gets. Nothing of the application is sent.
pub async fn probe(cluster: &Cluster, address: &str) -> Master {
    let begun = Instant::now();
    let mut master = Master { address: address.to_owned(), ..Master::default() };
    match steps(cluster, address).await {
        Ok(expires_at) => master.certificate_expires_at = expires_at,
        Err(trouble) => master.trouble = Some(trouble),
    }
    master.took = begun.elapsed();
    master
}

async fn steps(cluster: &Cluster, address: &str) -> Result<Option<Timestamp>, Trouble> {
    let host = host_of(address);
    let found = timeout(DIAL_TIMEOUT, lookup_host(address)).await.map_err(|_| no_answer());
    let addresses: Vec<_> = found.and_then(|found| found).map_err(|e| no_name(host, &e))?.collect();
    let mut refused = Trouble {
        step: Step::Name,
        why: format!("{host} has no address"),
        remedy: name_remedy(host),
    };
    for socket in addresses {
        let dialled = timeout(DIAL_TIMEOUT, TcpStream::connect(socket)).await;
        match dialled.map_err(|_| no_answer()).and_then(|stream| stream) {
            Ok(stream) => return handshake(cluster, stream).await,
            Err(error) => refused = no_connection(&socket.to_string(), &error),
        }
    }
    Err(refused)
}

async fn handshake(cluster: &Cluster, stream: TcpStream) -> Result<Option<Timestamp>, Trouble> {
    let shaken = timeout(DIAL_TIMEOUT, cluster.connector().handshake(stream)).await;
    let shaken = shaken.unwrap_or(Err(ConnectError::Timeout(DIAL_TIMEOUT)));
    let stream = shaken.map_err(|error| not_a_master(&error))?;
    let (_, session) = stream.get_ref();
    let own = session.peer_certificates().and_then(|chain| chain.first());
    let name = own.and_then(|own| PeerIdentity::from_certificate(own, 0).ok());
    Ok(name.and_then(|name| super::seconds(name.not_after)))
}

fn no_answer() -> io::Error {
    let limit = DIAL_TIMEOUT.as_secs();
    io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {limit} s"))
}

fn name_remedy(host: &str) -> String {
    format!(
        "look it up: getent hosts {host}; correct server: in the context, or /etc/hosts, or DNS"
    )
}

fn no_name(host: &str, error: &io::Error) -> Trouble {
    let why = format!("{host} cannot be resolved: {error}");
    Trouble { step: Step::Name, why, remedy: name_remedy(host) }
}

fn no_connection(socket: &str, error: &io::Error) -> Trouble {
    let remedy = if error.kind() == io::ErrorKind::ConnectionRefused {
        "the machine is there, and nobody listens on this port: systemctl status piccolo-master on it, and its listen:"
    } else if error.kind() == io::ErrorKind::TimedOut {
        "is the machine on, the cable in, and does a firewall let the port through? ping it"
    } else {
        "is there a route? ip route get ADDRESS"
    };
    let why = format!("{socket} cannot be connected to: {error}");
    Trouble { step: Step::Tcp, why, remedy: remedy.to_owned() }
}

fn not_a_master(error: &ConnectError) -> Trouble {
    let why = crate::fault::deepest(error);
    match error {
        ConnectError::Peer(peer) => {
            Trouble { step: Step::Certificate, why: peer.to_string(), remedy: of_peer(peer).to_owned() }
        }
        error if is_closed_before_tls(error) => Trouble {
            step: Step::Tls,
            why: CLOSED_BEFORE_TLS.to_owned(),
            remedy: format!("{WHY_CLOSED_BEFORE_TLS}: ss -ltnp on that machine"),
        },
        ConnectError::Timeout(_)
        | ConnectError::Tls(_)
        | ConnectError::Io(_)
        | ConnectError::NoAddress(_)
        | ConnectError::NoRoute { .. } => Trouble {
            step: Step::Tls,
            why: format!("no TLS there: {why}"),
            remedy: "another program may have this port: ss -ltnp on that machine; a master that hangs is restarted by \
                     systemd within 30 s"
                .to_owned(),
        },
    }
}

fn of_peer(peer: &PeerError) -> &'static str {
    match peer {
        PeerError::Expired => {
            "compare the clocks of both machines: date -u; the master renews its certificate by itself at two thirds of \
             its life, or at its next start"
        }
        PeerError::OtherCluster { .. } | PeerError::OtherAuthority => {
            "another cluster's master is there, or this one was set up anew: name its context with --context FILE"
        }
        PeerError::NotAMaster(_) | PeerError::OtherUse => {
            "something else serves there with a certificate of this cluster; look who: ss -ltnp on that machine"
        }
        PeerError::RefusedByPeer(_) => {
            "ask an admin for a new context: piccolo user create NAME --role viewer"
        }
        PeerError::Certificate(_) | PeerError::OtherCa | PeerError::PinnedNotCa => {
            "nothing that can be trusted is there; was the master's server.pem changed by hand?"
        }
    }
}
