//! The command line of `piccolo-nodeagent`.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use piccolo_core::model::{NodeKind, NodeName, NodeRole};

use super::layer::{Layer, Podman, Seconds, environment_help, label};
use super::value::{
    AbsolutePath, LogLevel, MasterAddress, PodmanSocket, Read, SystemCheckProgram, read,
};
use crate::podman::watcher::Method;

/// The PICCOLO NodeAgent: reports this node to its master and keeps its containers as desired.
#[derive(Debug, Clone, Parser)]
#[command(name = "piccolo-nodeagent", version, disable_help_subcommand = true)]
#[command(after_long_help = environment_help())]
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
    #[arg(long = "master", global = true, value_name = "HOST:PORT", value_parser = read::<MasterAddress>)]
    pub masters: Vec<MasterAddress>,
    /// The name of this node [default: its host name]
    #[arg(long, global = true, value_parser = read::<NodeName>)]
    pub name: Option<NodeName>,
    /// The address under which others reach this node.
    #[arg(long, global = true, value_name = "IP", value_parser = read::<IpAddr>)]
    pub address: Option<IpAddr>,
    /// The local address to connect from.
    #[arg(long, global = true, value_name = "IP", value_parser = read::<IpAddr>)]
    pub bind_address: Option<IpAddr>,
    /// `sub` or `master`.
    #[arg(long, global = true, value_parser = read::<NodeRole>)]
    pub role: Option<NodeRole>,
    /// `embedded` or `cloud`.
    #[arg(long, global = true, value_parser = read::<NodeKind>)]
    pub kind: Option<NodeKind>,
    /// A label; may be given several times.
    #[arg(long = "label", global = true, value_name = "KEY=VALUE", value_parser = label)]
    pub labels: Vec<(String, String)>,
    /// Where the agent keeps its identity and its journal.
    #[arg(long, global = true, value_name = "DIR", value_parser = read::<AbsolutePath>)]
    pub state_dir: Option<AbsolutePath>,
    /// The socket for local commands.
    #[arg(long, global = true, value_name = "PATH", value_parser = read::<AbsolutePath>)]
    pub control_socket: Option<AbsolutePath>,
    /// Podman's socket, or `none`.
    #[arg(long, global = true, value_name = "PATH", value_parser = read::<PodmanSocket>)]
    pub podman_socket: Option<PodmanSocket>,
    /// `auto` or `events`.
    #[arg(long, global = true, value_parser = read::<Method>)]
    pub podman_watch: Option<Method>,
    /// The program of the system check, `auto` or `none`.
    #[arg(long, global = true, value_name = "PATH", value_parser = read::<SystemCheckProgram>)]
    pub system_check: Option<SystemCheckProgram>,
    /// Seconds between two looks at the system.
    #[arg(long, global = true, value_name = "SECONDS", value_parser = read::<Seconds>)]
    pub sampling_interval_s: Option<Seconds>,
    /// Seconds between two attempts to reach a master at most.
    #[arg(long, global = true, value_name = "SECONDS", value_parser = read::<Seconds>)]
    pub reconnect_max_s: Option<Seconds>,
    /// `off`, `error`, `warn`, `info`, `debug` or `trace`.
    #[arg(long, global = true, value_name = "LEVEL", value_parser = read::<LogLevel>)]
    pub log_level: Option<LogLevel>,
}

impl Flags {
    pub(super) fn layer(&self) -> Layer {
        let masters = self.masters.iter().cloned().map(Read).collect::<Vec<_>>();
        let labels = self.labels.iter().cloned().collect::<piccolo_core::model::Labels>();
        Layer {
            masters: Some(masters).filter(|masters| !masters.is_empty()),
            name: self.name.clone().map(Read),
            address: self.address.map(Read),
            bind_address: self.bind_address.map(Read),
            role: self.role.map(Read),
            kind: self.kind.map(Read),
            labels: Some(labels).filter(|labels| !labels.is_empty()),
            state_dir: self.state_dir.clone().map(Read),
            control_socket: self.control_socket.clone().map(Read),
            log_level: self.log_level.map(Read),
            sampling_interval_s: self.sampling_interval_s.map(Read),
            reconnect_max_s: self.reconnect_max_s.map(Read),
            system_check: self.system_check.clone().map(Read),
            podman: Podman {
                socket: self.podman_socket.clone().map(Read),
                watch: self.podman_watch.map(Read),
            },
            ..Layer::default()
        }
    }
}
