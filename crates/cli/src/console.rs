//! `piccolo console`: a link that opens the web console once, as whoever asks for it.

use clap::Args;
use piccolo_rpc::{v1, view::time};
use serde::Serialize;

use crate::{
    args::Globals,
    connection::{Cluster, host_of},
    failure::Failure,
    output::{Format, OutputArgs, document, print, say},
};

pub const EXAMPLES: &str = "Examples:
  piccolo console
  piccolo console -o json";

#[derive(Debug, Args)]
pub struct ConsoleArgs {
    #[command(flatten)]
    output: OutputArgs,
}

/// `piccolo console`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ConsoleView {
    /// Opens one session, within a minute. What lies behind `#` goes into no log of a server.
    pub url: String,
    pub expires_at: Option<String>,
}

/// # Errors
/// As the master answers, or if it has no HTTPS port.
pub async fn run(globals: &Globals, args: &ConsoleArgs) -> Result<(), Failure> {
    let cluster = Cluster::new(globals)?;
    let mut client = cluster.connect().await?;
    let what = "cannot open the console";
    let request = v1::OpenConsoleRequest {};
    let opened = client.call(what, request, async |api, r| api.open_console(r).await).await?;
    if opened.https_port == 0 {
        return Err(Failure::failed(what)
            .cause("the master serves no HTTPS port")
            .help("set https_listen in its configuration"));
    }
    let url = link(client.address(), opened.https_port, &opened.code);
    let expires_at = time(opened.expires_at.as_ref());
    match args.output.format {
        Format::Table | Format::Wide => {
            print(&format!("{url}\n"))?;
            say("it opens the console once, within a minute");
            Ok(())
        }
        format @ (Format::Json | Format::Yaml) => {
            print(&document(&ConsoleView { url, expires_at }, format)?)
        }
    }
}

fn link(master: &str, port: u32, code: &str) -> String {
    let host = host_of(master);
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    format!("https://{host}:{port}/#code={code}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_link_leads_to_the_master_that_made_its_code() {
        assert_eq!(link("10.0.0.1:47098", 47099, "c"), "https://10.0.0.1:47099/#code=c");
        assert_eq!(link("[fd00::1]:47098", 47099, "c"), "https://[fd00::1]:47099/#code=c");
    }
}
