//! `piccolo log-level`: more or less logging, at run time.

use clap::Args;
use piccolo_rpc::v1;
use serde::Serialize;

use crate::{
    args::Globals,
    connection::Cluster,
    failure::Failure,
    output::{Format, OutputArgs, document, print},
    text::clean,
};

pub const EXAMPLES: &str = "Examples:
  piccolo log-level master debug
  piccolo log-level zone-a info,piccolo_nodeagent::session=trace
  piccolo log-level zone-a info                   # as it was";

#[derive(Debug, Args)]
pub struct LogLevelArgs {
    /// "master", or a node's name or id
    #[arg(value_name = "TARGET")]
    target: String,
    /// A level (error, warn, info, debug, trace), or levels by module joined by commas
    #[arg(value_name = "FILTER")]
    filter: String,
    #[command(flatten)]
    output: OutputArgs,
}

/// `piccolo log-level`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SetView {
    pub target: String,
    pub message: String,
}

/// # Errors
/// As the master answers.
pub async fn run(globals: &Globals, args: &LogLevelArgs) -> Result<(), Failure> {
    let cluster = Cluster::new(globals)?;
    let mut client = cluster.connect().await?;
    let request =
        v1::SetLogLevelRequest { target: args.target.clone(), filter: args.filter.clone() };
    let what = format!("cannot set the log level of {}", args.target);
    let answer =
        client.call(&what, request, async |api, request| api.set_log_level(request).await).await?;
    let message = if answer.message.is_empty() { "set".to_owned() } else { answer.message };
    let target = args.target.clone();
    print(&match args.output.format {
        Format::Table | Format::Wide => format!("{target}: {}\n", clean(&message)),
        format @ (Format::Json | Format::Yaml) => document(&SetView { target, message }, format)?,
    })
}
