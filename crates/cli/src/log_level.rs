//! `piccolo log-level`: more or less logging, at run time.

use std::time::Duration;

use clap::Args;
use piccolo_core::log_level::{SPAN_MAX, SPAN_MIN};
use piccolo_rpc::v1;
use serde::Serialize;

use crate::{
    args::Globals,
    connection::Cluster,
    failure::Failure,
    output::{Format, OutputArgs, document, print},
    text::{clean, parse_duration},
};

pub const EXAMPLES: &str = "Examples:
  piccolo log-level master debug
  piccolo log-level zone-a debug --for 10m        # then as it is configured, by itself
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
    /// For so long, one second to one day; then it logs as it is configured, also where no master is
    /// there any more. A later change replaces this one [default: until it restarts]
    #[arg(long = "for", value_parser = log_span, value_name = "TIME")]
    span: Option<Duration>,
    #[command(flatten)]
    output: OutputArgs,
}

/// `piccolo log-level`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SetView {
    pub target: String,
    pub message: String,
}

fn log_span(text: &str) -> Result<Duration, String> {
    let span = parse_duration(text)?;
    if span < SPAN_MIN || span > SPAN_MAX {
        return Err("expected one second to one day".to_owned());
    }
    Ok(span)
}

/// # Errors
/// As the master answers.
pub async fn run(globals: &Globals, args: &LogLevelArgs) -> Result<(), Failure> {
    let cluster = Cluster::new(globals)?;
    let mut client = cluster.connect().await?;
    let seconds = args.span.unwrap_or_default().as_secs();
    let request = v1::SetLogLevelRequest {
        target: args.target.clone(),
        filter: args.filter.clone(),
        for_seconds: u32::try_from(seconds).unwrap_or(u32::MAX),
    };
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
