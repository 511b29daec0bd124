//! `piccolo user`: people and programs with a certificate of their own. The key is made here and
//! goes nowhere but into the context file.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
pub use piccolo_rpc::view::access::{UserView, UsersView};
use piccolo_rpc::{
    tls::identity::{Identity, IdentityError, PrivateKey, certificate_pem},
    v1,
};
use serde::Serialize;

use crate::{
    args::Globals,
    connection::{Cluster, each},
    context::{ContextFile, PrivateFile},
    failure::Failure,
    output::{Cell, Format, Look, OutputArgs, Table, Tone, document, figure, print, word},
    text::{age, clean, moment, parse_duration, until},
    token::whole_seconds,
    words::{self, UserRoleArg},
};

pub const EXAMPLES: &str = "Examples:
  piccolo user create alice --role viewer
  piccolo user list
  piccolo user revoke alice";
const CREATE_EXAMPLES: &str = "Examples:
  piccolo user create alice --role viewer         # writes ./alice.context.yaml
  piccolo user create ci --role operator --ttl 30d --file /etc/ci/piccolo.context.yaml
  piccolo user create bob --role admin --force    # overwrites ./bob.context.yaml";
const LIST_EXAMPLES: &str = "Examples:
  piccolo user list
  piccolo user list -o json";
const REVOKE_EXAMPLES: &str = "Examples:
  piccolo user revoke alice";

#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Make a user, and the context file by which they reach the cluster
    ///
    /// The private key is made here and sent nowhere: the master signs a request. The context file
    /// has mode 0600; hand it over by a safe way.
    #[command(after_help = CREATE_EXAMPLES)]
    Create(CreateArgs),
    /// List users
    #[command(after_help = LIST_EXAMPLES)]
    List(OutputArgs),
    /// Refuse users from now on
    #[command(after_help = REVOKE_EXAMPLES)]
    Revoke(RevokeArgs),
}

#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Letters, digits, '-', '_' and '.'
    #[arg(value_name = "NAME")]
    name: String,
    /// What they may do
    #[arg(long, value_enum)]
    role: UserRoleArg,
    /// How long the certificate is good for; five years at most
    #[arg(long, default_value = "365d", value_parser = parse_duration, value_name = "TIME")]
    ttl: Duration,
    /// Where to write the context file [default: ./NAME.context.yaml]
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Overwrite the context file
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
pub struct RevokeArgs {
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
}

/// # Errors
/// As the master answers, or if the context file cannot be written.
pub async fn run(globals: &Globals, command: &UserCommand) -> Result<(), Failure> {
    let cluster = Cluster::new(globals)?;
    match command {
        UserCommand::Create(args) => tokio::select! {
            // listened for before anything is begun; with `create` goes what lies beside the context's place
            biased;
            _ = tokio::signal::ctrl_c() => Err(interrupted(&args.name)),
            done = create(&cluster, args) => done,
        },
        UserCommand::List(output) => list(&cluster, output.format).await,
        UserCommand::Revoke(args) => revoke(&cluster, args).await,
    }
}

async fn create(cluster: &Cluster, args: &CreateArgs) -> Result<(), Failure> {
    piccolo_core::model::UserName::parse("NAME", &args.name)
        .map_err(|error| Failure::usage("this is no user name").because(&error))?;
    let place =
        args.file.clone().unwrap_or_else(|| PathBuf::from(format!("{}.context.yaml", args.name)));
    let file = PrivateFile::open(&place, args.force).map_err(|failure| Failure {
        error: format!("user {} was not created: {}", args.name, failure.error),
        ..failure
    })?;
    let no_key = |error: IdentityError| Failure::failed("no key could be made").because(&error);
    let key = PrivateKey::generate().map_err(no_key)?;
    let request = v1::CreateUserRequest {
        name: args.name.clone(),
        role: v1::UserRole::from(args.role) as i32,
        ttl_seconds: whole_seconds(args.ttl),
        certificate_signing_request: key.signing_request().map_err(no_key)?,
    };
    let mut client = cluster.connect().await?;
    let what = format!("cannot create user {}", args.name);
    let answer = client.call(&what, request, async |api, r| api.create_user(r).await).await?;
    let context =
        context_of(cluster, key, &answer).map_err(|failure| undone(failure, &args.name))?;
    let text = document(&context, Format::Yaml)?;
    file.write(&text).map_err(|failure| undone(failure, &args.name))?;
    let user = answer.user.unwrap_or_default();
    print(&match args.output.format {
        Format::Table | Format::Wide => format!(
            "user {} created as {}, until {}\ncontext file: {}\n",
            clean(&user.name),
            words::user_role(user.role),
            moment(user.expires_at.as_ref()),
            place.display()
        ),
        format @ (Format::Json | Format::Yaml) => {
            let file = place.display().to_string();
            document(&CreatedView { user: UserView::from(&user), file }, format)?
        }
    })
}

fn interrupted(name: &str) -> Failure {
    Failure::failed(format!("interrupted; no context was written for user {name}")).help(format!(
        "the master may have made the user all the same: piccolo user list;\n\
         if so: piccolo user revoke {name}, then try again"
    ))
}

/// The user is there, but nobody holds its key.
fn undone(failure: Failure, name: &str) -> Failure {
    failure.help(format!(
        "the user was created, but its key is lost: piccolo user revoke {name}, then try again"
    ))
}

/// What was issued, checked: it must be for this key, and the chain must hold together.
fn context_of(
    cluster: &Cluster,
    key: PrivateKey,
    answer: &v1::CreateUserResponse,
) -> Result<ContextFile, Failure> {
    let pem = format!(
        "{}\n{}",
        String::from_utf8_lossy(&answer.certificate),
        String::from_utf8_lossy(&answer.ca_certificate)
    );
    let identity = Identity::from_issued(key, &pem).map_err(|error| {
        Failure::failed("the certificate that the master issued cannot be used").because(&error)
    })?;
    // The key is the first section of an identity's PEM.
    let whole = identity.expose_pem();
    let key = whole.split("-----BEGIN CERTIFICATE-----").next().unwrap_or_default().to_owned();
    let joined = |ders: &[rustls_pki_types::CertificateDer<'static>]| -> String {
        ders.iter().map(|der| certificate_pem(der)).collect()
    };
    Ok(ContextFile {
        server: cluster.context.file.server.clone(),
        cluster: identity.name().cluster_id.clone(),
        ca: joined(identity.ca()),
        certificate: joined(identity.chain()),
        key,
    })
}

async fn list(cluster: &Cluster, format: Format) -> Result<(), Failure> {
    let mut client = cluster.connect().await?;
    let users = client
        .call("cannot list users", v1::ListUsersRequest {}, async |api, r| api.list_users(r).await)
        .await?
        .users;
    print(&match format {
        Format::Table | Format::Wide => table(&users, format, &Look::of_stdout()),
        Format::Json | Format::Yaml => {
            let users = users.iter().map(UserView::from).collect();
            document(&UsersView { users }, format)?
        }
    })
}

async fn revoke(cluster: &Cluster, args: &RevokeArgs) -> Result<(), Failure> {
    each(cluster, &args.names, async |client, name| {
        let what = format!("cannot revoke user {name}");
        let request = v1::RevokeUserRequest { name: name.to_owned() };
        client.call(&what, request, async |api, r| api.revoke_user(r).await).await?;
        Ok(format!("user {} revoked\n", clean(name)))
    })
    .await
}

/// `piccolo user create`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CreatedView {
    pub user: UserView,
    /// Where the context file is.
    pub file: String,
}

/// `piccolo user list` for people.
pub fn table(users: &[v1::User], format: Format, look: &Look) -> String {
    if users.is_empty() {
        return "no users\n".to_owned();
    }
    let wide = format == Format::Wide;
    let more = [word("SERIAL")].into_iter().filter(|_| wide);
    let columns = [
        word("NAME"),
        word("ROLE"),
        figure("EXPIRES"),
        figure("AGE").spare(),
        word("CREATED BY").spare(),
    ];
    let mut table = Table::new(columns.into_iter().chain(more));
    for user in users {
        let cells = [
            Cell::toned(Tone::Strong, &user.name),
            Cell::new(words::user_role(user.role)),
            Cell::new(until(look.now, user.expires_at.as_ref())),
            Cell::new(age(look.now, user.created_at.as_ref())),
            Cell::or_nothing(&user.created_by),
        ];
        let more = [Cell::or_nothing(&user.serial)].into_iter().filter(|_| wide);
        table.row(cells.into_iter().chain(more));
    }
    table.render(look)
}
