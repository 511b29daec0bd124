//! `piccolo audit`: who changed what, and who was refused.

use clap::{Args, Subcommand};
use piccolo_core::hex::hex;
use piccolo_rpc::v1;
pub use piccolo_rpc::view::access::{AuditView, EntryView, VerifiedView};

use crate::{
    args::Globals,
    connection::Cluster,
    failure::Failure,
    output::{Cell, Format, Look, OutputArgs, Table, Tone, document, figure, print, text, word},
    text::{clean, moment},
};

pub const EXAMPLES: &str = "Examples:
  piccolo audit list -n 20
  piccolo audit verify";
const LIST_EXAMPLES: &str = "Examples:
  piccolo audit list                              # the newest 50
  piccolo audit list -n 500 -o json
  piccolo audit list --after 1200                 # what came after entry 1200";
const VERIFY_EXAMPLES: &str = "Examples:
  piccolo audit verify";

#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// List entries: every mutating call and every refusal
    #[command(after_help = LIST_EXAMPLES)]
    List(ListArgs),
    /// Check the chain of hashes: exit code 1 if an entry was changed or is missing
    #[command(after_help = VERIFY_EXAMPLES)]
    Verify(OutputArgs),
}

#[derive(Debug, Args)]
pub struct ListArgs {
    /// How many entries at most; 1000 at most
    #[arg(short = 'n', long, default_value_t = 50, value_name = "COUNT")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1000))]
    lines: u32,
    /// The oldest after this id, instead of the newest
    #[arg(long, value_name = "ID")]
    after: Option<u64>,
    #[command(flatten)]
    output: OutputArgs,
}

/// # Errors
/// As the master answers, or if the chain does not hold.
pub async fn run(globals: &Globals, command: &AuditCommand) -> Result<(), Failure> {
    let cluster = Cluster::new(globals)?;
    match command {
        AuditCommand::List(args) => list(&cluster, args).await,
        AuditCommand::Verify(output) => verify(&cluster, output.format).await,
    }
}

async fn list(cluster: &Cluster, args: &ListArgs) -> Result<(), Failure> {
    let mut client = cluster.connect().await?;
    let request = v1::ListAuditRequest {
        after_id: args.after.unwrap_or(0),
        limit: args.lines,
        newest: args.after.is_none(),
        ..Default::default()
    };
    let entries = client
        .call("cannot list the audit log", request, async |api, r| api.list_audit(r).await)
        .await?
        .entries;
    let format = args.output.format;
    print(&match format {
        Format::Table | Format::Wide => table(&entries, format, &Look::of_stdout()),
        Format::Json | Format::Yaml => {
            let entries = entries.iter().map(EntryView::from).collect();
            document(&AuditView { entries }, format)?
        }
    })
}

async fn verify(cluster: &Cluster, format: Format) -> Result<(), Failure> {
    let mut client = cluster.connect().await?;
    let answer = client
        .call("cannot verify the audit log", v1::VerifyAuditRequest {}, async |api, r| {
            api.verify_audit(r).await
        })
        .await?;
    match format {
        Format::Json | Format::Yaml => print(&document(&VerifiedView::from(&answer), format)?)?,
        Format::Table | Format::Wide if answer.intact => {
            // what the record of the log's ends does not go back to
            let unrecorded = answer.message.split_once("; ").map(|(_, unrecorded)| unrecorded);
            let unrecorded = unrecorded.map(|text| format!("; {}", clean(text)));
            let unrecorded = unrecorded.unwrap_or_default();
            print(&format!("{} entries, intact{unrecorded}\n", answer.entries))?;
        }
        Format::Table | Format::Wide => {}
    }
    if answer.intact {
        return Ok(());
    }
    Err(Failure::failed(format!("the audit log is broken at entry {}", answer.first_bad_id))
        .cause(answer.message)
        .help(format!(
            "somebody changed the store by hand, or it is damaged; what came before is intact:\n\
             piccolo audit list --after {}",
            answer.first_bad_id.saturating_sub(1)
        )))
}

/// `piccolo audit list` for people.
pub fn table(entries: &[v1::AuditEntry], format: Format, look: &Look) -> String {
    if entries.is_empty() {
        return "no entries\n".to_owned();
    }
    let wide = format == Format::Wide;
    let more = [word("HASH")].into_iter().filter(|_| wide);
    let columns = [
        figure("ID"),
        word("TIME").spare(),
        word("WHO"),
        word("FROM").spare(),
        word("CALL"),
        word("TARGET").spare_at_last(),
        text("OUTCOME"),
    ];
    let mut table = Table::new(columns.into_iter().chain(more));
    for entry in entries {
        let done = entry.outcome == "ok";
        let cells = [
            Cell::new(entry.id.to_string()),
            Cell::new(moment(entry.at.as_ref())),
            Cell::or_nothing(&entry.who),
            Cell::or_nothing(&entry.from),
            Cell::or_nothing(&entry.call),
            Cell::or_nothing(&entry.target),
            Cell::toned(if done { Tone::Good } else { Tone::Bad }, clean(&entry.outcome)),
        ];
        let short: String = hex(&entry.hash).chars().take(16).collect();
        let more = [Cell::or_nothing(&short)].into_iter().filter(|_| wide);
        table.row(cells.into_iter().chain(more));
    }
    table.render(look)
}
