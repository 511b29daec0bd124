//! `piccolo version`: of this program, and of the master.

use clap::Args;
use piccolo_rpc::v1;
use serde::Serialize;

use crate::{
    args::Globals,
    connection::Cluster,
    failure::{Exit, Failure},
    output::{Format, Look, OutputArgs, document, fields, print},
    text::or_nothing,
};

pub const EXAMPLES: &str = "Examples:
  piccolo version
  piccolo version --client                        # asks no master
  piccolo version -o json";

/// Of this program.
pub const CLIENT: &str = env!("CARGO_PKG_VERSION");

#[derive(Debug, Args)]
pub struct VersionArgs {
    /// Only of this program; asks no master
    #[arg(long)]
    client: bool,
    #[command(flatten)]
    output: OutputArgs,
}

/// What programs read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VersionView {
    pub client: String,
    /// Absent where no master was asked or none answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub master: Option<String>,
}

/// Shows this program's version in any case; without any context that is all there is to know.
///
/// # Errors
/// As the master answers, after this program's version was shown.
pub async fn run(globals: &Globals, args: &VersionArgs) -> Result<(), Failure> {
    let (master, failure) = match ask(globals, args.client).await {
        Ok(master) => (master, None),
        Err(failure) if failure.exit == Exit::NotFound && globals.context.is_none() => (None, None),
        Err(failure) => (None, Some(failure)),
    };
    let view = VersionView { client: CLIENT.to_owned(), master };
    print(&render(&view, args.output.format, &Look::of_stdout())?)?;
    failure.map_or(Ok(()), Err)
}

async fn ask(globals: &Globals, client_only: bool) -> Result<Option<String>, Failure> {
    if client_only {
        return Ok(None);
    }
    let cluster = Cluster::new(globals)?;
    let mut client = cluster.connect().await?;
    let status = client
        .call(
            "cannot ask the master for its version",
            v1::GetClusterStatusRequest {},
            async |api, r| api.get_cluster_status(r).await,
        )
        .await?;
    Ok(Some(status.master_version))
}

fn render(view: &VersionView, format: Format, look: &Look) -> Result<String, Failure> {
    Ok(match format {
        Format::Table | Format::Wide => {
            let master = view.master.as_deref().map_or("-".to_owned(), or_nothing);
            fields(look, [("Client", view.client.clone()), ("Master", master)])
        }
        Format::Json | Format::Yaml => document(view, format)?,
    })
}
