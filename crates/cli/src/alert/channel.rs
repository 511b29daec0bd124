//! `piccolo alert channel`: where alerts are told. Secrets go to the master, and never come back.

use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, Subcommand};
pub use piccolo_rpc::view::alert::ChannelsView;
use piccolo_rpc::{v1, view::alert::severity};
use serde::Deserialize;

use super::{
    letters,
    rules::{FileArgs, read},
};
use crate::{
    connection::{Client, Cluster, each},
    failure::{Exit, Failure},
    output::{Cell, Format, Look, OutputArgs, Table, Tone, document, figure, print, text, word},
    text::{clean, parse_duration},
    token::whole_seconds,
    words,
};

/// A channel has a minute at most for an attempt, and the master some seconds more to tell what became of it.
const TEST_TIME_MAX: Duration = Duration::from_secs(70);

pub const EXAMPLES: &str = "Examples:
  piccolo alert channel apply -f alerts.yaml
  piccolo alert channel test pager
  piccolo alert channel list";
const LIST_EXAMPLES: &str = "Examples:
  piccolo alert channel list
  piccolo alert channel list -o json";
const APPLY_EXAMPLES: &str = "Examples:
  piccolo alert channel apply -f alerts.yaml";
const DELETE_EXAMPLES: &str = "Examples:
  piccolo alert channel delete pager";
const DISABLE_EXAMPLES: &str = "Examples:
  piccolo alert channel disable pager";
const ENABLE_EXAMPLES: &str = "Examples:
  piccolo alert channel enable pager";
const TEST_EXAMPLES: &str = "Examples:
  piccolo alert channel test pager
  piccolo alert channel test mail --timeout 30s";

/// Bytes of a file with a secret or a certificate at most.
const SECRET_BYTES_MAX: u64 = 64 * 1024;

#[derive(Debug, Subcommand)]
pub enum ChannelCommand {
    /// List channels, how they do, and what could not be delivered
    #[command(after_help = LIST_EXAMPLES)]
    List(OutputArgs),
    /// Make channels, or change those of the same name: all in the file, or none
    ///
    /// Secrets are in the file, or in files of their own that nobody else can read. The master seals them and shows
    /// them to nobody.
    #[command(after_help = APPLY_EXAMPLES)]
    Apply(FileArgs),
    /// Delete channels, and what waits for them
    #[command(after_help = DELETE_EXAMPLES)]
    Delete(NamesArgs),
    /// Switch channels off; what they are stays, with their secrets
    ///
    /// They are told of nothing meanwhile. What waits for them already goes once they are on again.
    #[command(after_help = DISABLE_EXAMPLES)]
    Disable(NamesArgs),
    /// Switch channels on again
    #[command(after_help = ENABLE_EXAMPLES)]
    Enable(NamesArgs),
    /// Have a channel tell that this is a test, and wait for it
    #[command(after_help = TEST_EXAMPLES)]
    Test(TestArgs),
}

#[derive(Debug, Args)]
pub struct NamesArgs {
    #[arg(value_name = "CHANNEL", required = true)]
    names: Vec<String>,
}

#[derive(Debug, Args)]
pub struct TestArgs {
    #[arg(value_name = "CHANNEL")]
    name: String,
}

/// A channel as it is written in a file. Not shown: it may have secrets.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelFile {
    name: String,
    #[serde(default = "info")]
    severity: String,
    #[serde(default)]
    only: String,
    #[serde(default)]
    escalations: bool,
    #[serde(default)]
    no_resolved: bool,
    #[serde(default)]
    timeout: Option<String>,
    #[serde(default)]
    per_minute: u32,
    #[serde(default)]
    disabled: bool,
    #[serde(default)]
    webhook: Option<WebhookFile>,
    #[serde(default)]
    command: Option<Vec<String>>,
    #[serde(default)]
    smtp: Option<SmtpFile>,
    #[serde(default)]
    mqtt: Option<MqttFile>,
}

impl std::fmt::Debug for ChannelFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChannelFile").field("name", &self.name).finish_non_exhaustive()
    }
}

fn info() -> String {
    "info".to_owned()
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct WebhookFile {
    #[serde(default)]
    url: String,
    #[serde(default)]
    url_file: Option<PathBuf>,
    #[serde(default)]
    body: String,
    #[serde(default)]
    key: String,
    #[serde(default)]
    key_file: Option<PathBuf>,
    #[serde(default)]
    ca_file: Option<PathBuf>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct SmtpFile {
    host: String,
    port: u32,
    #[serde(default)]
    protection: String,
    #[serde(default)]
    user: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    password_file: Option<PathBuf>,
    from: String,
    to: Vec<String>,
    #[serde(default)]
    ca_file: Option<PathBuf>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct MqttFile {
    host: String,
    port: u32,
    #[serde(default)]
    protection: String,
    topic: String,
    #[serde(default)]
    user: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    password_file: Option<PathBuf>,
    #[serde(default)]
    ca_file: Option<PathBuf>,
}

/// # Errors
/// As the master answers, or if a file cannot be read.
pub async fn run(cluster: &Cluster, command: &ChannelCommand) -> Result<(), Failure> {
    match command {
        ChannelCommand::List(output) => list(&mut cluster.connect().await?, output.format).await,
        ChannelCommand::Apply(args) => apply(cluster, args).await,
        ChannelCommand::Delete(args) => delete(cluster, args).await,
        ChannelCommand::Disable(args) => switch(cluster, args, true).await,
        ChannelCommand::Enable(args) => switch(cluster, args, false).await,
        ChannelCommand::Test(args) => test(cluster, &args.name).await,
    }
}

async fn list(client: &mut Client<'_>, format: Format) -> Result<(), Failure> {
    let request = v1::ListAlertChannelsRequest {};
    let what = "cannot list channels";
    let listed =
        client.call(what, request, async |api, r| api.list_alert_channels(r).await).await?;
    print(&match format {
        Format::Table | Format::Wide => table(&listed, &Look::of_stdout()),
        format @ (Format::Json | Format::Yaml) => document(&ChannelsView::from(&listed), format)?,
    })
}

async fn apply(cluster: &Cluster, args: &FileArgs) -> Result<(), Failure> {
    let file = args.file.display();
    let channels = read(&args.file)?.channels;
    if channels.is_empty() {
        return Err(Failure::usage(format!("{file} has no channels"))
            .help("docs/operations/alerts.md shows how they are written"));
    }
    let channels = channels.iter().enumerate().map(|(index, channel)| {
        channel.to_wire().map_err(|failure| failure.cause(format!("channels[{index}] of {file}")))
    });
    let channels = channels.collect::<Result<Vec<_>, _>>()?;
    let names: Vec<_> = channels.iter().map(|channel| channel.name.clone()).collect();
    let mut client = cluster.connect().await?;
    let request = v1::ApplyAlertChannelsRequest { channels };
    let what = "no channel was applied";
    client.call(what, request, async |api, r| api.apply_alert_channels(r).await).await?;
    print(&format!(
        "applied {}; see whether it works: piccolo alert channel test\n",
        clean(&names.join(", "))
    ))
}

async fn delete(cluster: &Cluster, args: &NamesArgs) -> Result<(), Failure> {
    each(cluster, &args.names, async |client, name| {
        let what = format!("cannot delete channel {name}");
        let request = v1::DeleteAlertChannelRequest { name: name.to_owned() };
        client.call(&what, request, async |api, r| api.delete_alert_channel(r).await).await?;
        Ok(format!("channel {} deleted\n", clean(name)))
    })
    .await
}

async fn switch(cluster: &Cluster, args: &NamesArgs, disabled: bool) -> Result<(), Failure> {
    let (doing, done) = if disabled { ("disable", "disabled") } else { ("enable", "enabled") };
    each(cluster, &args.names, async |client, name| {
        let what = format!("cannot {doing} channel {name}");
        let request = v1::SwitchAlertChannelRequest { name: name.to_owned(), disabled };
        client.call(&what, request, async |api, r| api.switch_alert_channel(r).await).await?;
        Ok(format!("channel {} {done}\n", clean(name)))
    })
    .await
}

async fn test(cluster: &Cluster, name: &str) -> Result<(), Failure> {
    let mut client = cluster.connect().await?;
    let what = format!("channel {name} does not work");
    let request = v1::TestAlertChannelRequest { name: name.to_owned() };
    let limit = cluster.timeout().max(TEST_TIME_MAX);
    client
        .call_within(limit, &what, request, async |api, r| api.test_alert_channel(r).await)
        .await?;
    print(&format!("channel {} has delivered the test\n", clean(name)))
}

impl ChannelFile {
    fn to_wire(&self) -> Result<v1::AlertChannel, Failure> {
        use v1::alert_channel::Way;
        let wrong = |problem: String| Failure::usage(format!("channel {}: {problem}", self.name));
        let severity = severity(&self.severity)
            .ok_or_else(|| wrong("severity must be info, warning or critical".to_owned()))?;
        let timeout = self.timeout.as_deref().map(parse_duration).transpose();
        let timeout = timeout.map_err(|problem| wrong(format!("timeout: {problem}")))?;
        let mut ways = Vec::new();
        if let Some(webhook) = &self.webhook {
            ways.push(Way::Webhook(webhook.to_wire()?));
        }
        if let Some(argv) = &self.command {
            ways.push(Way::Command(v1::CommandChannel { argv: argv.clone() }));
        }
        if let Some(smtp) = &self.smtp {
            ways.push(Way::Smtp(smtp.to_wire()?));
        }
        if let Some(mqtt) = &self.mqtt {
            ways.push(Way::Mqtt(mqtt.to_wire()?));
        }
        let [way] = &ways[..] else {
            return Err(wrong("has exactly one of webhook, command, smtp and mqtt".to_owned()));
        };
        Ok(v1::AlertChannel {
            name: self.name.clone(),
            severity: severity.into(),
            only: self.only.clone(),
            escalations: self.escalations,
            no_resolved: self.no_resolved,
            timeout_seconds: timeout.map_or(0, whole_seconds),
            per_minute: self.per_minute,
            disabled: self.disabled,
            way: Some(way.clone()),
        })
    }
}

impl WebhookFile {
    fn to_wire(&self) -> Result<v1::WebhookChannel, Failure> {
        Ok(v1::WebhookChannel {
            url: secret(&self.url, self.url_file.as_deref())?,
            body: self.body.clone(),
            key: secret(&self.key, self.key_file.as_deref())?,
            ca_certificate: authority(self.ca_file.as_deref())?,
        })
    }
}

impl SmtpFile {
    fn to_wire(&self) -> Result<v1::SmtpChannel, Failure> {
        Ok(v1::SmtpChannel {
            host: self.host.clone(),
            port: self.port,
            protection: self.protection.clone(),
            user: self.user.clone(),
            password: secret(&self.password, self.password_file.as_deref())?,
            from: self.from.clone(),
            to: self.to.clone(),
            ca_certificate: authority(self.ca_file.as_deref())?,
        })
    }
}

impl MqttFile {
    fn to_wire(&self) -> Result<v1::MqttChannel, Failure> {
        Ok(v1::MqttChannel {
            host: self.host.clone(),
            port: self.port,
            protection: self.protection.clone(),
            topic: self.topic.clone(),
            user: self.user.clone(),
            password: secret(&self.password, self.password_file.as_deref())?,
            ca_certificate: authority(self.ca_file.as_deref())?,
        })
    }
}

fn authority(file: Option<&Path>) -> Result<String, Failure> {
    file.map_or(Ok(String::new()), bounded)
}

/// What is written, or the only line of a file that others cannot read.
fn secret(written: &str, file: Option<&Path>) -> Result<String, Failure> {
    let Some(file) = file else { return Ok(written.to_owned()) };
    let unreadable = |error: std::io::Error| unreadable(file, &error);
    let mode = std::fs::metadata(file).map_err(unreadable)?.permissions().mode();
    if mode & 0o077 != 0 {
        let (file, mode) = (file.display(), mode & 0o7777);
        return Err(Failure::failed(format!("{file} holds a secret, and has mode {mode:o}"))
            .help("set it to 0600, and replace the secret if others had access"));
    }
    Ok(bounded(file)?.trim_end_matches(['\r', '\n']).to_owned())
}

fn bounded(file: &Path) -> Result<String, Failure> {
    use std::io::Read as _;
    let mut text = String::new();
    let opened = std::fs::File::open(file);
    opened
        .and_then(|opened| opened.take(SECRET_BYTES_MAX).read_to_string(&mut text))
        .map_err(|error| unreadable(file, &error))?;
    Ok(text)
}

fn unreadable(file: &Path, error: &std::io::Error) -> Failure {
    let exit = Exit::of_unreadable(error);
    Failure::new(exit, format!("{} cannot be read", file.display())).because(error)
}

/// `piccolo alert channel list` for people.
pub fn table(listed: &v1::ListAlertChannelsResponse, look: &Look) -> String {
    if listed.channels.is_empty() {
        return "no channels: alerts are told to nobody\n".to_owned();
    }
    let columns = [
        word("CHANNEL"),
        word("KIND"),
        text("TARGET"),
        word("SEVERITY").spare(),
        figure("WAITING"),
        text("PROBLEM"),
    ];
    let mut table = Table::new(columns);
    for channel in &listed.channels {
        let problem = if channel.disabled { "disabled" } else { &channel.problem };
        table.row([
            Cell::toned(Tone::Strong, &channel.name),
            Cell::new(&channel.kind),
            Cell::new(&channel.target),
            Cell::new(words::severity(channel.severity)),
            Cell::new(channel.waiting.to_string()),
            Cell::or_nothing(problem),
        ]);
    }
    let mut out = table.render(look);
    if !listed.dead_letters.is_empty() {
        out.push('\n');
        out.push_str(&letters::table(&listed.dead_letters, look));
    }
    out
}
