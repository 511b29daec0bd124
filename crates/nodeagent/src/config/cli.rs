//! The command line of `piccolo-nodeagent`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use piccolo_core::model::{NodeKind, NodeName, NodeRole};

use piccolo_settings::by;
use piccolo_settings::value::{AbsolutePath, HostPort, Name, pair};

use super::settings::{
    IP, KIND, LOG_LEVEL, MASTER, PodmanSocket, ROLE, SCHEMA, SECONDS, SystemCheckPath, WATCH,
    check_label,
};
use super::{Loaded, LogLevel, SystemCheckProgram};
use crate::podman::watcher::Method;

/// The PICCOLO NodeAgent: reports this node to its master and keeps its containers as desired.
#[derive(Debug, Clone, Parser)]
#[command(name = "piccolo-nodeagent", version, disable_help_subcommand = true)]
#[command(after_long_help = SCHEMA.environment_help())]
pub struct Cli {
    /// What to do; `run` if left out.
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub flags: Flags,
}

const CHECK_EXIT_CODES: &str =
    "Exit codes: 0 all is well, 1 there are warnings, 2 there are errors.";

#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Run the agent (the default).
    Run(RunArguments),
    /// Show what the running agent is doing, also without a master.
    Status(StatusArguments),
    /// Check configuration, Podman, masters and permissions, and show the settings in force.
    #[command(after_help = CHECK_EXIT_CODES)]
    Check(StatusArguments),
    /// Check the configuration alone, and show the settings in force.
    CheckConfig,
    /// Leave the cluster: stop the agent and forget its identity.
    Leave,
    /// Join a cluster with a token from `piccolo token create`.
    Join(JoinArguments),
    /// Show the version.
    Version,
}

#[derive(Debug, Clone, Default, Args)]
pub struct RunArguments {
    /// A file with the join token, if this node has not joined yet.
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}

#[derive(Debug, Clone, Args)]
pub struct JoinArguments {
    /// A file with the token; `-` is stdin. Never give the token itself on a command line.
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}

#[derive(Debug, Clone, Default, Args)]
pub struct StatusArguments {
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t = OutputFormat::Text)]
    pub output: OutputFormat,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    #[default]
    Text,
    Json,
}

/// Settings of the command line. They override the environment and the file.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Settings")]
pub struct Flags {
    /// The configuration file [default: /etc/piccolo/nodeagent.yaml]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// A master, as HOST:PORT; may be given several times.
    #[arg(long = "master", global = true, value_name = "HOST:PORT", value_parser = by(MASTER))]
    pub masters: Vec<HostPort>,
    /// The name of this node [default: its host name]
    #[arg(long, global = true, value_parser = by(Name))]
    pub name: Option<NodeName>,
    /// The address under which others reach this node.
    #[arg(long, global = true, value_name = "IP", value_parser = by(IP))]
    pub address: Option<IpAddr>,
    /// The local address to connect from.
    #[arg(long, global = true, value_name = "IP", value_parser = by(IP))]
    pub bind_address: Option<IpAddr>,
    /// `sub` or `master`.
    #[arg(long, global = true, value_parser = by(ROLE))]
    pub role: Option<NodeRole>,
    /// `embedded` or `cloud`.
    #[arg(long, global = true, value_parser = by(KIND))]
    pub kind: Option<NodeKind>,
    /// A label; may be given several times.
    #[arg(long = "label", global = true, value_name = "KEY=VALUE", value_parser = label)]
    pub labels: Vec<(String, String)>,
    /// Where the agent keeps its identity and its journal.
    #[arg(long, global = true, value_name = "DIR", value_parser = by(AbsolutePath))]
    pub state_dir: Option<PathBuf>,
    /// The socket for local commands.
    #[arg(long, global = true, value_name = "PATH", value_parser = by(AbsolutePath))]
    pub control_socket: Option<PathBuf>,
    /// Podman's socket, or `none`.
    #[arg(long, global = true, value_name = "PATH", value_parser = by(PodmanSocket))]
    pub podman_socket: Option<Socket>,
    /// `auto` or `events`.
    #[arg(long, global = true, value_parser = by(WATCH))]
    pub podman_watch: Option<Method>,
    /// The program of the system check, `auto` or `none`.
    #[arg(long, global = true, value_name = "PATH", value_parser = by(SystemCheckPath))]
    pub system_check: Option<SystemCheckProgram>,
    /// Seconds between two looks at the system.
    #[arg(long, global = true, value_name = "SECONDS", value_parser = by(SECONDS))]
    pub sampling_interval_s: Option<Duration>,
    /// Seconds between two attempts to reach a master at most.
    #[arg(long, global = true, value_name = "SECONDS", value_parser = by(SECONDS))]
    pub reconnect_max_s: Option<Duration>,
    /// `off`, `error`, `warn`, `info`, `debug` or `trace`.
    #[arg(long, global = true, value_name = "LEVEL", value_parser = by(LOG_LEVEL))]
    pub log_level: Option<LogLevel>,
}

impl Flags {
    /// Over what is there.
    pub(super) fn apply(&self, loaded: &mut Loaded) {
        let Loaded { config, origins } = loaded;
        origins.flags("masters", &mut config.masters, &self.masters);
        origins.flags("labels", &mut config.labels, &self.labels);
        origins.flag("name", &mut config.name, self.name.clone().map(Some));
        origins.flag("address", &mut config.address, self.address.map(Some));
        origins.flag("bind_address", &mut config.bind_address, self.bind_address.map(Some));
        origins.flag("role", &mut config.role, self.role);
        origins.flag("kind", &mut config.kind, self.kind);
        origins.flag("state_dir", &mut config.state_dir, self.state_dir.clone());
        origins.flag("control_socket", &mut config.control_socket, self.control_socket.clone());
        origins.flag("log_level", &mut config.log_level, self.log_level);
        let (sampling, reconnect) = (self.sampling_interval_s, self.reconnect_max_s);
        origins.flag("sampling_interval_s", &mut config.sampling_interval, sampling);
        origins.flag("reconnect_max_s", &mut config.reconnect_max, reconnect);
        origins.flag("system_check", &mut config.system_check, self.system_check.clone());
        origins.flag("podman.socket", &mut config.podman.socket, self.podman_socket.clone());
        origins.flag("podman.watch", &mut config.podman.watch, self.podman_watch);
    }
}

/// `none`, or where it is. Named, because clap would take an option within an option for something else.
type Socket = Option<PathBuf>;

fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = pair(text)?;
    check_label(&key, &value)?;
    Ok((key, value))
}
