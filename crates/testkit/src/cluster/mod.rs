//! A whole cluster of the real executables on loopback, for tests and benchmarks.
//!
//! One master with the embedded store, and agents that dial from loopback addresses of their own. The
//! cluster may live in a network namespace, where cables can be cut ([`namespace`]). Everything is below
//! one folder, and every process is ended when the cluster is dropped.

pub mod client;
pub mod namespace;
pub mod process;
mod watch;

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    net::TcpListener,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

pub use self::{client::Client, namespace::Namespace, process::Process, watch::Watch};

/// For a state of affairs to come about: generous, because machines differ.
pub const PATIENCE: Duration = Duration::from_secs(90);
const POLL_EVERY: Duration = Duration::from_millis(20);

/// What keeps a cluster from working.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{what}: {source}")]
    Io { what: String, source: std::io::Error },
    #[error("{program} is not there; build it first: cargo build --workspace")]
    NotBuilt { program: String },
    #[error("`{command}` failed ({status}): {stderr}")]
    Command { command: String, status: String, stderr: String },
    #[error("{0}")]
    Unexpected(String),
}

pub type Result<T> = std::result::Result<T, Error>;

/// The three executables.
#[derive(Debug, Clone)]
pub struct Programs {
    pub master: PathBuf,
    pub agent: PathBuf,
    pub cli: PathBuf,
}

impl Programs {
    /// # Errors
    /// One of them is not in `folder`.
    pub fn in_folder(folder: &Path) -> Result<Self> {
        let find = |name: &str| {
            let path = folder.join(name);
            if path.exists() {
                Ok(path)
            } else {
                Err(Error::NotBuilt { program: path.display().to_string() })
            }
        };
        Ok(Self {
            master: find("piccolo-master")?,
            agent: find("piccolo-nodeagent")?,
            cli: find("piccolo")?,
        })
    }

    /// Those that cargo built beside the running test.
    ///
    /// # Errors
    /// They are not there.
    pub fn beside_this_test() -> Result<Self> {
        let test = std::env::current_exe().map_err(io("this test has no path"))?;
        let folder = test.parent().and_then(Path::parent);
        Self::in_folder(folder.unwrap_or(Path::new(".")))
    }
}

/// How a cluster shall be.
#[derive(Debug)]
pub struct Options {
    pub programs: Programs,
    /// Everything is below it.
    pub folder: PathBuf,
    pub namespace: Option<Namespace>,
    /// Lines of YAML for the master's configuration.
    pub master: String,
    /// Lines of YAML for every agent's configuration.
    pub agent: String,
}

impl Options {
    /// # Errors
    /// The executables are not built.
    pub fn new(folder: &Path) -> Result<Self> {
        Ok(Self {
            programs: Programs::beside_this_test()?,
            folder: folder.to_owned(),
            namespace: None,
            master: String::new(),
            agent: String::new(),
        })
    }
}

/// The machine that tests run on is busy, and its disk may be nearly full: that is no story's matter, unless its agents'
/// configuration says otherwise.
const WHATEVER_THE_MACHINE_GOES_THROUGH: [(&str, &str); 2] = [
    ("PICCOLO_AGENT_THRESHOLDS_CPU_RAISE_PERCENT", "none"),
    ("PICCOLO_AGENT_THRESHOLDS_DISK_RAISE_PERCENT", "none"),
];

/// A running cluster.
#[derive(Debug)]
pub struct Cluster {
    options: Options,
    pub address: String,
    pub https_address: String,
    pub master: Process,
    pub agents: BTreeMap<String, Process>,
}

impl Cluster {
    client::handed_on_to_client!();

    /// Starts a master and waits until its administrator can use it.
    ///
    /// # Errors
    /// It does not come up; its log is in the message.
    pub fn start(options: Options) -> Result<Self> {
        let (port, https_port) = match &options.namespace {
            Some(_) => (47098, 47099),
            None => (free_port()?, free_port()?),
        };
        let (address, https_address) =
            (format!("127.0.0.1:{port}"), format!("127.0.0.1:{https_port}"));
        fs::create_dir_all(&options.folder).map_err(io("the cluster has no folder"))?;
        let state = options.folder.join("master");
        let config = options.folder.join("master.yaml");
        let text = format!(
            "state_dir: {}\nlisten: {address}\nhttps_listen: {https_address}\n{}",
            state.display(),
            options.master
        );
        fs::write(&config, text).map_err(io("the master's configuration"))?;
        let mut command = Command::new(&options.programs.master);
        command.arg("run").arg("--config").arg(&config);
        let master = Process::start(
            "master",
            within(options.namespace.as_ref(), &command),
            &options.folder.join("master.log"),
        )?;
        let cluster = Self { options, address, https_address, master, agents: BTreeMap::new() };
        cluster.wait("the master answers", |c| Ok(c.piccolo(&["status"])?.status.success()))?;
        Ok(cluster)
    }

    /// Writes an agent's configuration with a fresh token, and starts it.
    ///
    /// # Errors
    /// The master gives no token, or the agent cannot be started.
    pub fn join(&mut self, name: &str) -> Result<()> {
        self.join_with(name, "")
    }

    /// The same with lines of YAML for this agent alone.
    ///
    /// # Errors
    /// As [`Self::join`].
    pub fn join_with(&mut self, name: &str, config: &str) -> Result<()> {
        let token = self.token(&["--uses", "1"])?;
        self.prepare_agent(name, config, &token)?;
        self.start_agent(name)
    }

    /// # Errors
    /// The files cannot be written.
    pub fn prepare_agent(&self, name: &str, config: &str, token: &str) -> Result<()> {
        let state = self.agent_folder(name);
        fs::create_dir_all(&state).map_err(io("the agent's folder"))?;
        write_private(&state.join("token"), token)?;
        let podman = if config.contains("podman:") || self.options.agent.contains("podman:") {
            ""
        } else {
            "podman:\n  socket: none\n"
        };
        // often enough to be seen, and nothing that a figure of the idle agent would notice
        let sampling =
            if config.contains("sampling_interval_s:") { "" } else { "sampling_interval_s: 30\n" };
        let index = self.agent_index(name);
        let text = format!(
            "masters: [\"{}\"]\nstate_dir: {}\ncontrol_socket: {}/agent.sock\n\
             {sampling}name: {name}\n\
             bind_address: 127.0.1.{index}\n{podman}{}{config}",
            self.address,
            state.display(),
            state.display(),
            self.options.agent
        );
        fs::write(self.agent_config(name), text).map_err(io("the agent's configuration"))
    }

    /// # Errors
    /// The agent cannot be started.
    pub fn start_agent(&mut self, name: &str) -> Result<()> {
        self.start_agent_within(name, &[])
    }

    /// The same with variables in its environment. Without thresholds in its configuration, it has none of processor and
    /// disk.
    ///
    /// # Errors
    /// The agent cannot be started.
    pub fn start_agent_within(&mut self, name: &str, environment: &[(&str, &str)]) -> Result<()> {
        let mut command = Command::new(&self.options.programs.agent);
        command.arg("--config").arg(self.agent_config(name)).arg("run");
        let config = fs::read_to_string(self.agent_config(name)).unwrap_or_default();
        if !config.contains("thresholds:") {
            command.envs(WHATEVER_THE_MACHINE_GOES_THROUGH);
        }
        command.envs(environment.iter().copied());
        let process = Process::start(
            name,
            within(self.options.namespace.as_ref(), &command),
            &self.options.folder.join(format!("{name}.log")),
        )?;
        self.agents.insert(name.to_owned(), process);
        Ok(())
    }

    /// Ends the master with `signal` and starts it again on the same state.
    ///
    /// # Errors
    /// It does not come up again.
    pub fn start_master(&mut self) -> Result<()> {
        let config = self.options.folder.join("master.yaml");
        let mut command = Command::new(&self.options.programs.master);
        command.arg("run").arg("--config").arg(&config);
        self.master = Process::start(
            "master",
            within(self.options.namespace.as_ref(), &command),
            &self.options.folder.join("master.log"),
        )?;
        Ok(())
    }

    /// The agent's process; it must have been started.
    ///
    /// # Errors
    /// There is no agent of that name.
    pub fn agent(&mut self, name: &str) -> Result<&mut Process> {
        self.agents
            .get_mut(name)
            .ok_or_else(|| Error::Unexpected(format!("no agent {name} was started")))
    }

    /// # Errors
    /// It does not come about in time; the logs' ends are in the message.
    pub fn wait_for_status(&self, name: &str, status: &str) -> Result<()> {
        self.wait(&format!("node {name} is {status}"), |c| Ok(c.node(name)?["status"] == status))
    }

    /// Polls until it holds.
    ///
    /// # Errors
    /// It does not come about in [`PATIENCE`]; the logs' ends are in the message.
    pub fn wait(&self, what: &str, holds: impl Fn(&Self) -> Result<bool>) -> Result<()> {
        client::wait(what, || holds(self), || self.logs())
    }

    fn client(&self) -> Client<'_> {
        Client {
            cli: self.options.programs.cli.clone(),
            context: self.context(),
            namespace: self.options.namespace.as_ref(),
        }
    }

    /// The first administrator's context.
    #[must_use]
    pub fn context(&self) -> PathBuf {
        self.options.folder.join("master/admin.context.yaml")
    }

    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.options.folder
    }

    #[must_use]
    pub fn programs(&self) -> &Programs {
        &self.options.programs
    }

    #[must_use]
    pub fn namespace(&self) -> Option<&Namespace> {
        self.options.namespace.as_ref()
    }

    #[must_use]
    pub fn agent_folder(&self, name: &str) -> PathBuf {
        self.options.folder.join(name)
    }

    #[must_use]
    pub fn agent_config(&self, name: &str) -> PathBuf {
        self.options.folder.join(format!("{name}.yaml"))
    }

    /// The loopback address that an agent dials from.
    #[must_use]
    pub fn agent_address(&self, name: &str) -> String {
        format!("127.0.1.{}", self.agent_index(name))
    }

    /// From the digits of the name, or by its place.
    fn agent_index(&self, name: &str) -> usize {
        let digits: String = name.chars().filter(char::is_ascii_digit).collect();
        digits.parse().unwrap_or(self.agents.len() + 100)
    }

    fn logs(&self) -> String {
        let mut logs = self.master.log_tail();
        for agent in self.agents.values() {
            logs.push_str(&agent.log_tail());
        }
        logs
    }
}

/// As it is started inside the namespace, where there is one.
fn within(namespace: Option<&Namespace>, command: &Command) -> Command {
    match namespace {
        Some(namespace) => namespace.command(command),
        None => {
            let mut copy = Command::new(command.get_program());
            copy.args(command.get_args());
            copy.envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))));
            copy
        }
    }
}

/// Below the ports that the kernel gives to connections: none of those takes it before its server does.
///
/// # Errors
/// There is none.
pub fn free_port() -> Result<u16> {
    const FIRST: u32 = 11_000;
    const COUNT: u32 = 20_000;
    static ASKED: AtomicU32 = AtomicU32::new(0);
    let mut last = None;
    for _ in 0..COUNT {
        let turn =
            std::process::id().wrapping_mul(16).wrapping_add(ASKED.fetch_add(1, Ordering::Relaxed));
        let port = u16::try_from(FIRST + turn % COUNT).unwrap_or(u16::MAX);
        match TcpListener::bind(("127.0.0.1", port)) {
            Ok(_) => return Ok(port),
            Err(error) => last = Some(error),
        }
    }
    Err(io("no free port")(last.unwrap_or_else(|| std::io::ErrorKind::AddrInUse.into())))
}

pub(crate) fn write_private(path: &Path, text: &str) -> Result<()> {
    fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(io(&path.display().to_string()))
}

pub(crate) fn io(what: &str) -> impl FnOnce(std::io::Error) -> Error {
    let what = what.to_owned();
    move |source| Error::Io { what, source }
}
