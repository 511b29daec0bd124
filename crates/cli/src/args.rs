//! The command line: every command with its help, and which file does it.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};

use crate::{
    alert, api_token, audit, backup, completion, console, context, doctor, events,
    failure::Failure, help, log_level, logs, man, metrics, node, status, store, support_bundle,
    text::parse_duration, token, top, topology, user, version,
};

const ABOUT: &str =
    "See and operate a PICCOLO cluster: boards, their containers, and who may do what.";
const AFTER: &str = "Examples:
  piccolo status                                  # is the cluster well?
  piccolo node list --watch                       # see every change as it happens
  piccolo token create --role sub --ttl 1h        # let a board join
  piccolo completion bash                         # completion for your shell

The context file says which cluster, by which masters, as whom. It is the first of: --context,
PICCOLO_CONTEXT, ~/.config/piccolo/context.yaml, /etc/piccolo/admin.context.yaml,
/var/lib/piccolo/master/admin.context.yaml.

Exit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 unreachable, 5 denied.";

/// The whole command line.
#[derive(Debug, Parser)]
#[command(name = "piccolo", about = ABOUT, after_help = AFTER, version)]
#[command(propagate_version = false, disable_help_subcommand = true, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    pub globals: Globals,
    #[command(subcommand)]
    pub command: Command,
}

/// What every command takes.
#[derive(Debug, Clone, Args)]
pub struct Globals {
    /// The context file: which cluster, by which masters, as whom
    #[arg(long, global = true, env = "PICCOLO_CONTEXT", value_name = "FILE")]
    #[arg(hide_env_values = true, help_heading = "Global options")]
    pub context: Option<PathBuf>,
    /// How long one call may take
    #[arg(long, global = true, default_value = "10s", value_parser = parse_duration)]
    #[arg(value_name = "TIME", help_heading = "Global options")]
    pub timeout: Duration,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show how the cluster is
    ///
    /// The master, its store, the nodes by status, the containers, and every node that is not well
    /// with the reason.
    #[command(after_help = status::EXAMPLES)]
    Status(status::StatusArgs),
    /// Look at the whole cluster, and say what is wrong and what to do
    ///
    /// Each finding has a level: ok, warning or error. Exit code 1 if there is an error. Where no
    /// master answers, it names the step that fails: name, TCP, TLS, certificate.
    #[command(after_help = doctor::EXAMPLES)]
    Doctor(doctor::DoctorArgs),
    /// See and operate nodes
    #[command(subcommand, after_help = node::EXAMPLES, visible_alias = "nodes")]
    Node(node::NodeCommand),
    /// Make, see and revoke the tokens that let boards join
    #[command(subcommand, after_help = token::EXAMPLES)]
    Token(token::TokenCommand),
    /// Make, see and revoke users
    #[command(subcommand, after_help = user::EXAMPLES)]
    User(user::UserCommand),
    /// Make, see and revoke the tokens by which programs ask on the HTTPS port
    #[command(subcommand, after_help = api_token::EXAMPLES)]
    ApiToken(api_token::ApiTokenCommand),
    /// Print a link that opens the web console once, as you
    #[command(after_help = console::EXAMPLES)]
    Console(console::ConsoleArgs),
    /// See and change the topology and its configuration
    #[command(subcommand, after_help = topology::EXAMPLES)]
    Topology(topology::TopologyCommand),
    /// Show what happened, and what happens
    ///
    /// Events are kept by the master, bounded by count and age. What a node recorded while it was
    /// alone is delivered once it is back, and marked as late.
    #[command(after_help = events::EXAMPLES)]
    Events(events::EventsArgs),
    /// Show who uses most, as it is now
    #[command(after_help = top::EXAMPLES)]
    Top(top::TopArgs),
    /// Show figures of nodes and containers over time
    #[command(subcommand, after_help = metrics::EXAMPLES)]
    Metrics(metrics::MetricsCommand),
    /// See and acknowledge alerts, and decide what is told to whom
    #[command(subcommand, after_help = alert::EXAMPLES, visible_alias = "alerts")]
    Alert(alert::AlertCommand),
    /// See and verify the audit log
    #[command(subcommand, after_help = audit::EXAMPLES)]
    Audit(audit::AuditCommand),
    /// Show the logs of nodes and containers
    ///
    /// They are read where they are, from journald and Podman, while somebody asks. Several are shown in the order of
    /// their times. What comes faster than it is read is left out, and counted.
    #[command(after_help = logs::EXAMPLES)]
    Logs(logs::LogsArgs),
    /// Change how much the master or a node logs, until it restarts or for a time
    #[command(after_help = log_level::EXAMPLES)]
    LogLevel(log_level::LogLevelArgs),
    /// Write one file with what somebody who helps needs to see, without secrets
    ///
    /// Status, nodes, events, alerts, audit log, topology, what doctor finds, figures, logs of the agents and the
    /// master, and the configuration of this machine. What cannot be had is named in it, with the reason.
    #[command(after_help = support_bundle::EXAMPLES)]
    SupportBundle(support_bundle::SupportBundleArgs),
    /// Work on the master's store
    #[command(subcommand, after_help = store::EXAMPLES)]
    Store(store::StoreCommand),
    /// Back the master up, and put a backup in place
    #[command(subcommand, after_help = backup::EXAMPLES)]
    Backup(backup::BackupCommand),
    /// See and choose the context
    #[command(subcommand, after_help = context::EXAMPLES)]
    Context(context::ContextCommand),
    /// Show the versions of this program and of the master
    #[command(after_help = version::EXAMPLES)]
    Version(version::VersionArgs),
    /// Print the completion script for a shell
    #[command(after_help = completion::EXAMPLES)]
    Completion(completion::CompletionArgs),
    /// Show the help of a command
    #[command(hide = true, after_help = help::EXAMPLES)]
    Help(help::HelpArgs),
    /// Show the manual page of a command, or write all of them
    #[command(after_help = man::EXAMPLES)]
    Man(man::ManArgs),
}

impl Cli {
    /// # Errors
    /// [`Failure`] with the exit code of the command.
    pub async fn run(&self) -> Result<(), Failure> {
        let globals = &self.globals;
        match &self.command {
            Command::Status(args) => status::run(globals, args).await,
            Command::Doctor(args) => doctor::run(globals, args).await,
            Command::Node(command) => node::run(globals, command).await,
            Command::Token(command) => token::run(globals, command).await,
            Command::User(command) => user::run(globals, command).await,
            Command::ApiToken(command) => api_token::run(globals, command).await,
            Command::Console(args) => console::run(globals, args).await,
            Command::Topology(command) => topology::run(globals, command).await,
            Command::Events(args) => events::run(globals, args).await,
            Command::Top(args) => top::run(globals, args).await,
            Command::Metrics(command) => metrics::run(globals, command).await,
            Command::Alert(command) => alert::run(globals, command).await,
            Command::Audit(command) => audit::run(globals, command).await,
            Command::Logs(args) => logs::run(globals, args).await,
            Command::LogLevel(args) => log_level::run(globals, args).await,
            Command::SupportBundle(args) => support_bundle::run(globals, args).await,
            Command::Store(command) => store::run(globals, command),
            Command::Backup(command) => backup::run(globals, command),
            Command::Context(command) => context::run(globals, command),
            Command::Version(args) => version::run(globals, args).await,
            Command::Completion(args) => completion::run(args),
            Command::Help(args) => help::run(args),
            Command::Man(args) => man::run(args),
        }
    }
}
