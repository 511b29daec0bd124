//! Floods: whoever may connect does what he can, and the master's memory, its audit log and everybody else's service stay
//! what they were (HLD §9.2, §9.3; limits in docs/operations/security.md).
//!
//! `http2` speaks the protocol as nobody should; `frames`, `requests`,
//! `watches` and `refusals` are the stories.

mod frames;
mod http2;
mod refusals;
mod requests;
mod watches;

use std::{error::Error, fs, path::Path};

use piccolo_rpc::tls::{
    clock::Clock,
    connector::{ClientOptions, Connector, Trust},
    identity::Identity,
};
use piccolo_testkit::cluster::{Cluster, Options};

pub(crate) type Story = Result<(), Box<dyn Error>>;

/// Calls and streams of one connection that the master takes at once.
const STREAMS_MAX: u32 = 64;
/// In these stories no node fails: a busy machine must not be taken for a failure.
const PATIENT: &str = "timing:\n  beat_silence: 10s\n  session_grace: 5s\n";

/// What one connection may make the master hold: 64 heads of 16 KiB, windows of 128 KiB, frames and answers that
/// wait for the network, and what TLS buffers; twice that, for memory comes in larger pieces.
const CONNECTION_KIB_MAX: u64 = 2 * (64 * 16 + 128 + 512);

/// A master with two boards that are Ready.
fn cluster(folder: &Path) -> Result<Cluster, Box<dyn Error>> {
    let options = Options { master: PATIENT.to_owned(), ..Options::new(folder)? };
    let mut cluster = Cluster::start(options)?;
    for name in ["board-1", "board-2"] {
        cluster.join(name)?;
        cluster.wait_for_status(name, "Ready")?;
    }
    Ok(cluster)
}

/// The same boards are Ready still, and always were; the master lives.
fn nobody_noticed(cluster: &mut Cluster) -> Story {
    assert!(cluster.master.ended()?.is_none(), "{}", cluster.master.log_tail());
    for name in ["board-1", "board-2"] {
        cluster.wait_for_status(name, "Ready")?;
    }
    let events = cluster.piccolo(&["events", "-n", "1000"])?;
    let events = String::from_utf8_lossy(&events.stdout).into_owned();
    assert!(events.contains("NodeReady") && !events.contains("NodeNotReady"), "{events}");
    Ok(())
}

fn list_works(cluster: &Cluster) -> Story {
    let listed = cluster.piccolo(&["node", "list"])?;
    assert!(listed.status.success(), "{listed:?}");
    Ok(())
}

/// A new user's identity, and where its context is.
fn user(cluster: &Cluster, name: &str) -> Result<(Identity, String), Box<dyn Error>> {
    let path = cluster.folder().join(format!("{name}.yaml")).display().to_string();
    let made = cluster.piccolo(&["user", "create", name, "--role", "viewer", "--file", &path])?;
    assert!(made.status.success(), "{made:?}");
    let context: serde_json::Value = serde_saphyr::from_str(&fs::read_to_string(&path)?)?;
    let part = |key: &str| context[key].as_str().map(str::trim).unwrap_or_default().to_owned();
    let pem = format!("{}\n{}\n{}\n", part("key"), part("certificate"), part("ca"));
    Ok((Identity::from_pem(&pem)?, path))
}

fn options() -> ClientOptions {
    ClientOptions::new(Clock::default())
}

/// Dials without a certificate, and trusts the cluster of `identity`.
fn stranger(identity: &Identity) -> Result<Connector, Box<dyn Error>> {
    Ok(Connector::with_trust(&Trust::of(identity), None, options())?)
}

/// Memory of a process, from a line of its status.
fn memory_kib(pid: u32, line: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let found = status.lines().find_map(|text| text.strip_prefix(line)?.strip_prefix(':'));
    found.and_then(|text| text.trim().trim_end_matches(" kB").parse().ok()).expect("a number")
}
