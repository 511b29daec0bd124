//! `piccolo token`: what lets a board join.

use std::{io::IsTerminal as _, time::Duration};

use clap::{Args, Subcommand};
use piccolo_rpc::v1;
pub use piccolo_rpc::view::{
    access::{TokenView, TokensView},
    words::whole_seconds,
};
use serde::Serialize;

use crate::{
    args::Globals,
    connection::{Cluster, each},
    failure::Failure,
    output::{
        Cell, Format, Look, OutputArgs, Table, Tone, document, figure, now, print, say, text, word,
    },
    text::{age, clean, or_nothing, parse_duration, until},
    words::{self, NodeRoleArg},
};

pub const EXAMPLES: &str = "Examples:
  piccolo token create --role sub --ttl 1h --uses 3
  piccolo token list
  piccolo token revoke 3f2a91c04b7d";
const CREATE_EXAMPLES: &str = "Examples:
  piccolo token create --role sub                 # for one board, within an hour
  piccolo token create --role sub --ttl 1h --uses 3
  piccolo token create --role sub --node zone-a   # only for the board of that host name
  piccolo token create --role master -o json";
const LIST_EXAMPLES: &str = "Examples:
  piccolo token list
  piccolo token list -o json";
const REVOKE_EXAMPLES: &str = "Examples:
  piccolo token revoke 3f2a91c04b7d";

#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token; it is shown this once and stored hashed
    ///
    /// The token carries the digest of the cluster's CA, by which the board proves the master
    /// before it sends the secret.
    #[command(after_help = CREATE_EXAMPLES)]
    Create(CreateArgs),
    /// List tokens; their secrets are known to nobody
    #[command(after_help = LIST_EXAMPLES)]
    List(OutputArgs),
    /// Make tokens worthless; nodes that joined with them stay
    #[command(after_help = REVOKE_EXAMPLES)]
    Revoke(RevokeArgs),
}

#[derive(Debug, Args)]
pub struct CreateArgs {
    /// What the board becomes
    #[arg(long, value_enum, default_value = "sub")]
    role: NodeRoleArg,
    /// How long the token is good for; a year at most
    #[arg(long, default_value = "1h", value_parser = parse_duration, value_name = "TIME")]
    ttl: Duration,
    /// How many boards may join with it; 1000 at most
    #[arg(long, default_value_t = 1, value_name = "COUNT")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1000))]
    uses: u32,
    /// Only the board of this host name may join with it
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
pub struct RevokeArgs {
    /// The ids that `piccolo token list` shows
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,
}

/// # Errors
/// As the master answers.
pub async fn run(globals: &Globals, command: &TokenCommand) -> Result<(), Failure> {
    let cluster = Cluster::new(globals)?;
    match command {
        TokenCommand::Create(args) => create(&cluster, args).await,
        TokenCommand::List(output) => list(&cluster, output.format).await,
        TokenCommand::Revoke(args) => revoke(&cluster, args).await,
    }
}

async fn create(cluster: &Cluster, args: &CreateArgs) -> Result<(), Failure> {
    let mut client = cluster.connect().await?;
    let request = v1::CreateTokenRequest {
        role: v1::NodeRole::from(args.role) as i32,
        ttl_seconds: whole_seconds(args.ttl),
        uses: args.uses,
        node_name: args.node.clone().unwrap_or_default(),
    };
    let answer = client
        .call("cannot create a token", request, async |api, r| api.create_token(r).await)
        .await?;
    let info = answer.info.unwrap_or_default();
    match args.output.format {
        Format::Table | Format::Wide => {
            // The token alone on stdout: TOKEN=$(piccolo token create --role sub)
            print(&format!("{}\n", or_nothing(&answer.token)))?;
            if std::io::stdout().is_terminal() {
                say(&explained(&info, &cluster.context.servers().join(" --master ")));
            }
            Ok(())
        }
        format @ (Format::Json | Format::Yaml) => {
            let view = CreatedView { token: answer.token, info: TokenView::from(&info) };
            print(&document(&view, format)?)
        }
    }
}

fn explained(info: &v1::JoinToken, masters: &str) -> String {
    let boards = match info.uses_left {
        1 => "one board may".to_owned(),
        uses => format!("{uses} boards may"),
    };
    let whom = match info.node_name.as_str() {
        "" => String::new(),
        name => format!(" if its name is {}", or_nothing(name)),
    };
    format!(
        "{boards} join with it as {}{whom}, within {}; it is not shown again\n\
         on the board: piccolo-nodeagent --master {masters} join --token-file -",
        words::role(info.role),
        until(now(), info.expires_at.as_ref())
    )
}

async fn list(cluster: &Cluster, format: Format) -> Result<(), Failure> {
    let mut client = cluster.connect().await?;
    let tokens = client
        .call("cannot list tokens", v1::ListTokensRequest {}, async |api, r| {
            api.list_tokens(r).await
        })
        .await?
        .tokens;
    print(&match format {
        Format::Table | Format::Wide => table(&tokens, format, &Look::of_stdout()),
        Format::Json | Format::Yaml => {
            let tokens = tokens.iter().map(TokenView::from).collect();
            document(&TokensView { tokens }, format)?
        }
    })
}

async fn revoke(cluster: &Cluster, args: &RevokeArgs) -> Result<(), Failure> {
    each(cluster, &args.ids, async |client, id| {
        let what = format!("cannot revoke token {id}");
        let request = v1::RevokeTokenRequest { id: id.to_owned() };
        client.call(&what, request, async |api, r| api.revoke_token(r).await).await?;
        Ok(format!("token {} revoked\n", clean(id)))
    })
    .await
}

/// `piccolo token create`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CreatedView {
    pub token: String,
    pub info: TokenView,
}

/// `piccolo token list` for people.
pub fn table(tokens: &[v1::JoinToken], format: Format, look: &Look) -> String {
    if tokens.is_empty() {
        return "no tokens\n".to_owned();
    }
    let wide = format == Format::Wide;
    let more = [text("USED BY")].into_iter().filter(|_| wide);
    let columns = [
        word("ID"),
        word("ROLE"),
        figure("USES LEFT"),
        figure("EXPIRES"),
        figure("AGE").spare(),
        word("NODE").spare_at_last(),
        word("CREATED BY").spare(),
    ];
    let mut table = Table::new(columns.into_iter().chain(more));
    for token in tokens {
        let expires = until(look.now, token.expires_at.as_ref());
        let over = expires == "expired" || token.uses_left == 0;
        let more = [Cell::or_nothing(&token.used_by.join(", "))].into_iter().filter(|_| wide);
        let cells = [
            Cell::toned(Tone::Strong, &token.id),
            Cell::new(words::role(token.role)),
            Cell::toned(if over { Tone::Faint } else { Tone::Plain }, token.uses_left.to_string()),
            Cell::toned(if over { Tone::Faint } else { Tone::Plain }, expires),
            Cell::new(age(look.now, token.created_at.as_ref())),
            Cell::or_nothing(&token.node_name),
            Cell::or_nothing(&token.created_by),
        ];
        table.row(cells.into_iter().chain(more));
    }
    table.render(look)
}
