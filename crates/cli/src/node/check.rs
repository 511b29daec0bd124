//! `piccolo node check`, and what the system check of a node found, for people and programs.

use clap::Args;
use piccolo_rpc::v1;
pub use piccolo_rpc::view::node::{CheckedView, SystemCheckView};

use super::view::NodeView;
use crate::{
    connection::Cluster,
    failure::Failure,
    output::{Cell, Format, Look, OutputArgs, Table, Tone, document, print, text, word},
    text::{age, clean},
    words,
};

pub const EXAMPLES: &str = "Examples:
  piccolo node check zone-a
  piccolo --timeout 30s node check zone-b         # a slow board takes up to 15 s
  piccolo node check zone-a -o json";

#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Name or id
    #[arg(value_name = "NODE")]
    node: String,
    #[command(flatten)]
    output: OutputArgs,
}

/// # Errors
/// As the master answers.
pub async fn run(cluster: &Cluster, args: &CheckArgs) -> Result<(), Failure> {
    let mut client = cluster.connect().await?;
    let what = format!("cannot check node {}", args.node);
    let request = v1::CheckNodeRequest { node_id: args.node.clone() };
    let answer = client.call(&what, request, async |api, r| api.check_node(r).await).await?;
    let (Some(node), Some(check)) = (answer.node, answer.system_check) else {
        return Err(Failure::failed(what).cause("the master's answer has no node, or no findings"));
    };
    print(&match args.output.format {
        Format::Table | Format::Wide => {
            let look = Look::of_stdout();
            format!("node {}: {}", clean(&node.name), summary(&check, &look))
                + &findings(&check, &look)
        }
        format @ (Format::Json | Format::Yaml) => {
            let (node, system_check) = (NodeView::from(&node), SystemCheckView::from(&check));
            document(&CheckedView { node, system_check }, format)?
        }
    })
}

fn count(check: &v1::SystemCheck, level: v1::CheckLevel) -> usize {
    check.findings.iter().filter(|finding| finding.level == level as i32).count()
}

/// A line that counts.
pub fn summary(check: &v1::SystemCheck, look: &Look) -> String {
    format!(
        "{} ok, {} warnings, {} errors; checked {} ago\n",
        count(check, v1::CheckLevel::Ok) + check.passed as usize,
        count(check, v1::CheckLevel::Warning),
        count(check, v1::CheckLevel::Error),
        age(look.now, check.at.as_ref()),
    )
}

/// A table of what the check says; empty where it says nothing.
pub fn findings(check: &v1::SystemCheck, look: &Look) -> String {
    if check.findings.is_empty() {
        return String::new();
    }
    let mut table =
        Table::new([word("LEVEL"), word("CHECK"), text("FOUND"), text("LIMIT"), text("REMEDY")]);
    for finding in &check.findings {
        let tone = match v1::CheckLevel::try_from(finding.level) {
            Ok(v1::CheckLevel::Ok) => Tone::Good,
            Ok(v1::CheckLevel::Error) => Tone::Bad,
            Ok(v1::CheckLevel::Warning | v1::CheckLevel::Unspecified) | Err(_) => Tone::Warning,
        };
        table.row([
            Cell::toned(tone, words::check_level(finding.level)),
            Cell::or_nothing(&finding.name),
            Cell::or_nothing(&finding.value),
            Cell::or_nothing(&finding.limit),
            Cell::or_nothing(&finding.remedy),
        ]);
    }
    table.render(look)
}
