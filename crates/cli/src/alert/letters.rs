//! `piccolo alert dead-letters`: notifications that were given up. They can be sent again, or cleared.

use clap::{Args, Subcommand};
use piccolo_rpc::{
    v1,
    view::alert::{ChannelsView, DeadLettersView},
};

use crate::{
    connection::{Client, Cluster},
    failure::Failure,
    output::{Cell, Format, Look, OutputArgs, Table, document, figure, print, text, word},
    text::{age, clean},
};

/// As the master takes them at once.
const AT_ONCE_MAX: usize = 32;

pub const EXAMPLES: &str = "Examples:
  piccolo alert dead-letters list
  piccolo alert dead-letters resend --all
  piccolo alert dead-letters clear 3-14";
const LIST_EXAMPLES: &str = "Examples:
  piccolo alert dead-letters list
  piccolo alert dead-letters list -o json";
const RESEND_EXAMPLES: &str = "Examples:
  piccolo alert dead-letters resend 3-14 3-17
  piccolo alert dead-letters resend --all";
const CLEAR_EXAMPLES: &str = "Examples:
  piccolo alert dead-letters clear 3-14
  piccolo alert dead-letters clear --all";

#[derive(Debug, Subcommand)]
pub enum LettersCommand {
    /// List what could not be delivered
    #[command(after_help = LIST_EXAMPLES)]
    List(OutputArgs),
    /// Have them wait for their channels again
    ///
    /// Each goes under the key that it had, so a receiver that has it already knows it again.
    #[command(after_help = RESEND_EXAMPLES)]
    Resend(LettersArgs),
    /// Forget them
    #[command(after_help = CLEAR_EXAMPLES)]
    Clear(LettersArgs),
}

#[derive(Debug, Args)]
pub struct LettersArgs {
    #[arg(value_name = "LETTER", required_unless_present = "all", conflicts_with = "all")]
    ids: Vec<String>,
    /// All that there are
    #[arg(long)]
    all: bool,
}

/// # Errors
/// As the master answers.
pub async fn run(cluster: &Cluster, command: &LettersCommand) -> Result<(), Failure> {
    let mut client = cluster.connect().await?;
    match command {
        LettersCommand::List(args) => {
            let listed = fetch(&mut client).await?;
            let look = Look::of_stdout();
            print(&match args.format {
                Format::Table | Format::Wide if listed.dead_letters.is_empty() => {
                    "no dead letters\n".to_owned()
                }
                Format::Table | Format::Wide => table(&listed.dead_letters, &look),
                format @ (Format::Json | Format::Yaml) => {
                    let dead_letters = ChannelsView::from(&listed).dead_letters;
                    document(&DeadLettersView { dead_letters }, format)?
                }
            })
        }
        LettersCommand::Resend(args) => {
            for ids in chosen(&mut client, args).await? {
                let request = v1::ResendDeadLettersRequest { ids: ids.clone() };
                let what = "nothing was sent again";
                client.call(what, request, async |api, r| api.resend_dead_letters(r).await).await?;
                tell(&ids, "waits for its channel again")?;
            }
            Ok(())
        }
        LettersCommand::Clear(args) => {
            for ids in chosen(&mut client, args).await? {
                let request = v1::ClearDeadLettersRequest { ids: ids.clone() };
                let what = "nothing was cleared";
                client.call(what, request, async |api, r| api.clear_dead_letters(r).await).await?;
                tell(&ids, "is cleared")?;
            }
            Ok(())
        }
    }
}

async fn fetch(client: &mut Client<'_>) -> Result<v1::ListAlertChannelsResponse, Failure> {
    let request = v1::ListAlertChannelsRequest {};
    let what = "cannot list dead letters";
    client.call(what, request, async |api, r| api.list_alert_channels(r).await).await
}

/// Those that are meant, as many at once as the master takes.
async fn chosen(client: &mut Client<'_>, args: &LettersArgs) -> Result<Vec<Vec<String>>, Failure> {
    let ids = if args.all {
        fetch(client).await?.dead_letters.into_iter().map(|letter| letter.id).collect()
    } else {
        args.ids.clone()
    };
    if ids.is_empty() {
        print("no dead letters\n")?;
    }
    Ok(ids.chunks(AT_ONCE_MAX).map(<[String]>::to_vec).collect())
}

fn tell(ids: &[String], what: &str) -> Result<(), Failure> {
    ids.iter().try_for_each(|id| print(&format!("dead letter {} {what}\n", clean(id))))
}

/// For people.
pub fn table(listed: &[v1::DeadLetter], look: &Look) -> String {
    let columns = [
        word("LETTER"),
        figure("GIVEN UP"),
        word("CHANNEL"),
        word("ALERT"),
        text("MESSAGE"),
        text("WHY"),
    ];
    let mut letters = Table::new(columns);
    for letter in listed {
        letters.row([
            Cell::new(&letter.id),
            Cell::new(age(look.now, letter.given_up_at.as_ref())),
            Cell::new(&letter.channel),
            Cell::new(&letter.alert_id),
            Cell::new(&letter.message),
            Cell::new(&letter.why),
        ]);
    }
    letters.render(look)
}
