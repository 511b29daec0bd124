//! The processes of the cluster: how each is configured and started.

use std::fs;
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use piccolo_testkit::kept::Kept;
use piccolo_testkit::podman::PrivatePodman;

use super::place::{Place, node_name};
use super::stop::Stop;
use crate::run;
use crate::workspace::which;

/// For the master or etcd to answer. A slow disk is slow at the first start.
const ANSWERS_WITHIN: Duration = Duration::from_secs(60);
/// The ports that PICCOLO has everywhere, taken here too where they are free.
const GRPC_PORT: u16 = 47098;
const HTTPS_PORT: u16 = 47099;
/// What runs on every node: a name and a command of the test image.
const CONTAINERS: [(&str, &[&str]); 2] = [
    ("gauge", &["httpd", "-f", "-p", "127.0.0.1:8080"]),
    ("logger", &["sh", "-c", "while true; do echo here; sleep 10; done"]),
];

pub(crate) struct Parts<'p> {
    place: &'p Place,
    executables: PathBuf,
}

impl<'p> Parts<'p> {
    /// # Errors
    /// An executable is missing.
    pub(crate) fn new(place: &'p Place, executables: PathBuf) -> Result<Self> {
        for name in ["piccolo-master", "piccolo-nodeagent", "piccolo"] {
            let path = executables.join(name);
            if !path.is_file() {
                bail!("{} is not built", path.display());
            }
        }
        Ok(Self { place, executables })
    }

    /// Starts an etcd and returns where its clients connect to.
    pub(crate) fn start_etcd(&self, stop: &Stop) -> Result<String> {
        let etcd =
            which("etcd").context("etcd is not installed: `cargo xtask setup --for etcd`")?;
        let (client, peer) = (free_port(None)?, free_port(None)?);
        let peer_url = format!("http://127.0.0.1:{peer}");
        let client_url = format!("http://127.0.0.1:{client}");
        let mut command = Command::new(etcd);
        command.args(["--name", "up", "--data-dir"]).arg(self.place.state("etcd"));
        command.args(["--listen-client-urls", &client_url, "--advertise-client-urls", &client_url]);
        command.args(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url]);
        command.args(["--initial-cluster", &format!("up={peer_url}"), "--log-outputs", "stderr"]);
        let mut process = self.start("etcd", &mut command)?;
        let address = format!("127.0.0.1:{client}");
        self.wait_for_port("etcd", &mut process, &address, stop)?;
        Ok(client_url)
    }

    /// Starts the master and waits until it answers. Returns its addresses: gRPC and HTTPS.
    pub(crate) fn start_master(&self, etcd: Option<&str>, stop: &Stop) -> Result<(String, String)> {
        let address = format!("127.0.0.1:{}", free_port(Some(GRPC_PORT))?);
        let https = format!("127.0.0.1:{}", free_port(Some(HTTPS_PORT))?);
        let state = self.place.state("master");
        let store = etcd.map_or(String::new(), |url| {
            format!("store:\n  kind: etcd\n  endpoints: [\"{url}\"]\n")
        });
        let text = format!(
            "state_dir: {}\nlisten: {address}\nhttps_listen: {https}\n{store}",
            state.display()
        );
        fs::write(self.place.config("master"), text).context("the master's configuration")?;
        let mut process = self.start_master_process()?;
        self.wait_for_port("master", &mut process, &address, stop)?;
        let deadline = Instant::now() + ANSWERS_WITHIN;
        while self.piccolo().arg("status").output().is_ok_and(|o| !o.status.success()) {
            self.still_alive("master", &mut process)?;
            if Instant::now() > deadline {
                bail!("the master does not answer:\n{}", run::tail(&self.place.log("master")));
            }
            stop.pause()?;
        }
        Ok((address, https))
    }

    pub(crate) fn start_master_process(&self) -> Result<Kept> {
        let mut command = Command::new(self.executables.join("piccolo-master"));
        command.arg("run").arg("--config").arg(self.place.config("master"));
        self.start("master", &mut command)
    }

    /// A Podman for `node` with its containers running; returns their names.
    pub(crate) fn start_podman(&self, node: u8) -> Result<Vec<&'static str>> {
        let dir = self.place.podman(node);
        // Noted down before the containers start, so that an end in between leaves nothing behind.
        PrivatePodman::start(&dir)?.leave_running()?;
        let podman = PrivatePodman::attach(&dir).context("the podman service ended at once")?;
        for (name, command) in CONTAINERS {
            podman.run(name, command)?;
        }
        podman.leave_running()?;
        Ok(CONTAINERS.map(|(name, _)| name).to_vec())
    }

    /// A token for all nodes, for ten minutes, in a file that only we can read.
    pub(crate) fn write_token(&self, nodes: u8) -> Result<()> {
        let mut command = self.piccolo();
        command.args(["token", "create", "--role", "sub", "--ttl", "10m", "--output", "json"]);
        let output = command.args(["--uses", &nodes.to_string()]).output().context("piccolo")?;
        let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let Some(token) = answer["token"].as_str().filter(|_| output.status.success()) else {
            let problem = String::from_utf8_lossy(&output.stderr).into_owned();
            bail!("`{}` gave no token: {problem}", run::shown(&command));
        };
        fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(self.place.token())
            .and_then(|mut file| file.write_all(token.as_bytes()))
            .context("the join token cannot be written")
    }

    /// Configures and starts a NodeAgent that joins with the token.
    pub(crate) fn start_node(&self, master: &str, node: u8) -> Result<()> {
        let name = node_name(node);
        let state = self.place.state(&name);
        fs::create_dir_all(&state).context("a node's folder")?;
        // Without a Podman there is nothing at the socket, and the node says so.
        let text = format!(
            "masters: [\"{master}\"]\nname: {name}\naddress: 127.0.1.{node}\n\
             bind_address: 127.0.1.{node}\nstate_dir: {}\ncontrol_socket: {}\n\
             podman:\n  socket: {}\n",
            state.join("agent").display(),
            state.join("agent.sock").display(),
            self.place.podman(node).join("podman.sock").display(),
        );
        fs::write(self.place.config(&name), text).context("a node's configuration")?;
        self.start_node_process(node).map(drop)
    }

    pub(crate) fn start_node_process(&self, node: u8) -> Result<Kept> {
        let name = node_name(node);
        let mut command = Command::new(self.executables.join("piccolo-nodeagent"));
        command.arg("--config").arg(self.place.config(&name)).arg("run");
        if self.place.token().exists() {
            command.arg("--token-file").arg(self.place.token());
        }
        self.start(&name, &mut command)
    }

    /// `piccolo` as the first administrator.
    pub(crate) fn piccolo(&self) -> Command {
        let mut command = Command::new(self.executables.join("piccolo"));
        command.arg("--context").arg(self.place.context()).env("NO_COLOR", "1");
        command.stdin(Stdio::null());
        command
    }

    fn start(&self, name: &str, command: &mut Command) -> Result<Kept> {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.place.log(name));
        let log = log.with_context(|| format!("the log of {name} cannot be written"))?;
        let both = log.try_clone().context("a log cannot be shared")?;
        // A group of its own: Ctrl-C is for us, and we end things in order.
        let child = command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(both)
            .spawn()
            .with_context(|| format!("cannot run `{}`", run::shown(command)))?;
        let mut process = Kept::of(child);
        if let Err(error) = process.write_down(&self.place.pid(name)) {
            process.end();
            let tail = run::tail(&self.place.log(name));
            bail!("{name} ended at once ({error}):\n{tail}");
        }
        Ok(process)
    }

    fn wait_for_port(
        &self,
        name: &str,
        process: &mut Kept,
        address: &str,
        stop: &Stop,
    ) -> Result<()> {
        let deadline = Instant::now() + ANSWERS_WITHIN;
        while TcpStream::connect(address).is_err() {
            self.still_alive(name, process)?;
            if Instant::now() > deadline {
                let tail = run::tail(&self.place.log(name));
                bail!("{name} does not listen on {address}:\n{tail}");
            }
            stop.pause()?;
        }
        Ok(())
    }

    fn still_alive(&self, name: &str, process: &mut Kept) -> Result<()> {
        if process.is_alive() {
            return Ok(());
        }
        bail!("{name} has ended:\n{}", run::tail(&self.place.log(name)))
    }
}

/// `wanted` if nobody has it, else any.
fn free_port(wanted: Option<u16>) -> Result<u16> {
    let taken = TcpListener::bind(("127.0.0.1", wanted.unwrap_or(0)));
    let listener = match taken {
        Ok(listener) => listener,
        Err(_) => TcpListener::bind(("127.0.0.1", 0)).context("no port is free on loopback")?,
    };
    Ok(listener.local_addr().context("a listener without an address")?.port())
}
