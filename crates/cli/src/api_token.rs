//! `piccolo api-token`: what a program shows instead of a certificate, on the HTTPS port.

use std::{io::IsTerminal as _, time::Duration};

use clap::{Args, Subcommand};
use piccolo_rpc::v1;
pub use piccolo_rpc::view::access::{ApiTokenView, ApiTokensView};
use serde::Serialize;

use crate::{
    args::Globals,
    connection::{Cluster, each},
    failure::Failure,
    output::{Cell, Format, Look, OutputArgs, Table, Tone, document, figure, print, say, word},
    text::{age, clean, or_nothing, parse_duration, until},
    token::whole_seconds,
    words::{self, UserRoleArg},
};

pub const EXAMPLES: &str = "Examples:
  piccolo api-token create ci --role viewer --expires 30d
  piccolo api-token list
  piccolo api-token revoke ci";
const CREATE_EXAMPLES: &str = "Examples:
  piccolo api-token create ci --role operator
  piccolo api-token create grafana --role viewer --expires 365d
  piccolo api-token create ci --role viewer -o json";
const LIST_EXAMPLES: &str = "Examples:
  piccolo api-token list
  piccolo api-token list -o json";
const REVOKE_EXAMPLES: &str = "Examples:
  piccolo api-token revoke ci";

#[derive(Debug, Subcommand)]
pub enum ApiTokenCommand {
    /// Make a token; it is shown this once and stored hashed
    ///
    /// A program sends it to the HTTPS port: `Authorization: Bearer TOKEN`. The audit log names it.
    #[command(after_help = CREATE_EXAMPLES)]
    Create(CreateArgs),
    /// List tokens; their secrets are known to nobody
    #[command(after_help = LIST_EXAMPLES)]
    List(OutputArgs),
    /// Make tokens worthless; sessions of the console that were opened with them end
    #[command(after_help = REVOKE_EXAMPLES)]
    Revoke(RevokeArgs),
}

#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Letters, digits, '-', '_' and '.'
    #[arg(value_name = "NAME")]
    name: String,
    /// What the program may do
    #[arg(long, value_enum)]
    role: UserRoleArg,
    /// How long the token is good for; a year at most
    #[arg(long, default_value = "30d", value_parser = parse_duration, value_name = "TIME")]
    expires: Duration,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
pub struct RevokeArgs {
    /// Names, or the ids that `piccolo api-token list` shows
    #[arg(value_name = "TOKEN", required = true)]
    tokens: Vec<String>,
}

/// # Errors
/// As the master answers.
pub async fn run(globals: &Globals, command: &ApiTokenCommand) -> Result<(), Failure> {
    let cluster = Cluster::new(globals)?;
    match command {
        ApiTokenCommand::Create(args) => create(&cluster, args).await,
        ApiTokenCommand::List(output) => list(&cluster, output.format).await,
        ApiTokenCommand::Revoke(args) => revoke(&cluster, args).await,
    }
}

async fn create(cluster: &Cluster, args: &CreateArgs) -> Result<(), Failure> {
    let mut client = cluster.connect().await?;
    let request = v1::CreateApiTokenRequest {
        name: args.name.clone(),
        role: v1::UserRole::from(args.role) as i32,
        ttl_seconds: whole_seconds(args.expires),
    };
    let what = "cannot create an API token";
    let answer = client.call(what, request, async |api, r| api.create_api_token(r).await).await?;
    let info = ApiTokenView::from(&answer.info.unwrap_or_default());
    match args.output.format {
        Format::Table | Format::Wide => {
            // the token alone on stdout: TOKEN=$(piccolo api-token create ci --role viewer)
            print(&format!("{}\n", or_nothing(&answer.token)))?;
            if std::io::stdout().is_terminal() {
                say("it is not shown again; send it as: Authorization: Bearer TOKEN");
            }
            Ok(())
        }
        format @ (Format::Json | Format::Yaml) => {
            print(&document(&CreatedView { token: answer.token, info }, format)?)
        }
    }
}

async fn list(cluster: &Cluster, format: Format) -> Result<(), Failure> {
    let mut client = cluster.connect().await?;
    let what = "cannot list API tokens";
    let request = v1::ListApiTokensRequest {};
    let tokens =
        client.call(what, request, async |api, r| api.list_api_tokens(r).await).await?.tokens;
    print(&match format {
        Format::Table | Format::Wide => table(&tokens, &Look::of_stdout()),
        Format::Json | Format::Yaml => {
            let tokens = tokens.iter().map(ApiTokenView::from).collect();
            document(&ApiTokensView { tokens }, format)?
        }
    })
}

async fn revoke(cluster: &Cluster, args: &RevokeArgs) -> Result<(), Failure> {
    each(cluster, &args.tokens, async |client, token| {
        let what = format!("cannot revoke API token {token}");
        let request = v1::RevokeApiTokenRequest { token: token.to_owned() };
        client.call(&what, request, async |api, r| api.revoke_api_token(r).await).await?;
        Ok(format!("API token {} revoked\n", clean(token)))
    })
    .await
}

/// `piccolo api-token create`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CreatedView {
    pub token: String,
    pub info: ApiTokenView,
}

/// `piccolo api-token list` for people.
pub fn table(tokens: &[v1::ApiToken], look: &Look) -> String {
    if tokens.is_empty() {
        return "no API tokens\n".to_owned();
    }
    let mut table = Table::new([
        word("NAME"),
        word("ROLE"),
        figure("EXPIRES"),
        figure("AGE").spare(),
        word("ID").spare(),
        word("CREATED BY").spare(),
    ]);
    for token in tokens {
        let expires = until(look.now, token.expires_at.as_ref());
        let tone = if expires == "expired" { Tone::Faint } else { Tone::Plain };
        table.row([
            Cell::toned(Tone::Strong, &token.name),
            Cell::new(words::user_role(token.role)),
            Cell::toned(tone, expires),
            Cell::new(age(look.now, token.created_at.as_ref())),
            Cell::or_nothing(&token.id),
            Cell::or_nothing(&token.created_by),
        ]);
    }
    table.render(look)
}
