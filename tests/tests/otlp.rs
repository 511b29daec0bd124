//! Figures that are sent to a receiver of OpenTelemetry: one that is away, hangs, refuses and comes back (HLD §11.1).

use std::{
    error::Error,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use piccolo_testkit::cluster::{Cluster, Options, Process, free_port};
use serde_json::Value;

type Story = Result<(), Box<dyn Error>>;

struct Receiver {
    process: Process,
    told: PathBuf,
}

impl Receiver {
    /// With a log of its own.
    fn start(port: u16, key: &str, told: PathBuf) -> Result<Self, Box<dyn Error>> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let python = root.join("target/tools/python/bin/python");
        assert!(python.exists(), "the receiver needs Python packages: cargo xtask setup");
        let mut command = Command::new(python);
        command.arg(root.join("tests/wire/otlp_receiver.py"));
        command.args([&port.to_string(), &format!("Bearer {key}")]);
        Ok(Self { process: Process::start("receiver", command, &told)?, told })
    }

    /// Whether a list has come in which the node is up.
    fn has_seen(&self, node: &str) -> bool {
        let told = fs::read_to_string(&self.told).unwrap_or_default();
        let sample = format!("piccolo_node_up{{node=\"{node}\"}}");
        let lists = told.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lists.filter(|list| list["samples"][&sample] == 1.0).count() > 0
    }
}

fn give(headers: &Path, key: &str) -> Story {
    fs::write(headers, format!("# of the receiver\nAuthorization: Bearer {key}\n"))?;
    Ok(fs::set_permissions(headers, fs::Permissions::from_mode(0o600))?)
}

/// Waits until `piccolo status` tells this of the receiver; empty: that it takes everything.
fn wait_for(cluster: &Cluster, problem: &str) -> Story {
    Ok(cluster.wait(&format!("figures are not sent because: {problem}"), |cluster| {
        let status = cluster.json(&["status", "-o", "json"])?;
        // whatever becomes of the figures, the nodes are well
        let ready = status["nodes_by_status"]["Ready"].as_u64().unwrap_or(0);
        assert_eq!(ready, cluster.agents.len() as u64, "{status}");
        let told = status["otlp"]["problem"].as_str().unwrap_or("none are sent");
        Ok(if problem.is_empty() { told.is_empty() } else { told.contains(problem) })
    })?)
}

#[test]
fn figures_are_exported_past_a_receiver_that_is_away_hangs_refuses_and_comes_back() -> Story {
    let folder = tempfile::tempdir()?;
    let (port, headers) = (free_port()?, folder.path().join("headers"));
    give(&headers, "k3y-of-before")?;
    let cluster = folder.path().join("cluster");
    fs::create_dir(&cluster)?;
    let mut options = Options::new(&cluster)?;
    options.master = format!(
        "otlp:\n  endpoint: http://127.0.0.1:{port}\n  interval: 1s\n  headers_file: {}\n",
        headers.display()
    );
    let mut cluster = Cluster::start(options)?;
    wait_for(&cluster, "Connection refused")?;
    cluster.join("board-1")?;
    cluster.wait_for_status("board-1", "Ready")?;

    let mut receiver = Receiver::start(port, "k3y-of-before", folder.path().join("first.log"))?;
    cluster.wait("the figures arrive", |_| Ok(receiver.has_seen("board-1")))?;
    wait_for(&cluster, "")?;
    let status = String::from_utf8(cluster.piccolo(&["status"])?.stdout)?;
    assert!(
        status.lines().any(|line| line.starts_with("OTLP") && line.ends_with("every 1s")),
        "{status}"
    );

    // it takes connections, and nothing that comes on them
    receiver.process.freeze();
    wait_for(&cluster, "no answer within 10 s")?;
    receiver.process.kill();

    // it is back with another key, and repeats the one that it is given in its refusal
    let receiver = Receiver::start(port, "k3y-of-now", folder.path().join("second.log"))?;
    wait_for(&cluster, "the receiver answered 401 Unauthorized")?;
    assert!(!receiver.has_seen("board-1"));
    give(&headers, "k3y-of-now")?;
    cluster.wait("the figures arrive again", |_| Ok(receiver.has_seen("board-1")))?;
    wait_for(&cluster, "")?;

    cluster.master.terminate()?;
    let log = fs::read_to_string(cluster.folder().join("master.log"))?;
    assert!(log.contains("figures are exported again") && !log.contains("k3y"), "{log}");
    Ok(())
}
