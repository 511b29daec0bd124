//! `piccolo alert rules`: what is worth telling of.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, Subcommand};
pub use piccolo_rpc::view::alert::RulesView;
use piccolo_rpc::{convert, v1, view::alert::RuleFile};
use serde::{Deserialize, Serialize};
use serde_saphyr::Spanned;

use super::channel::ChannelFile;
use crate::{
    connection::{Client, Cluster, each},
    failure::{Exit, Failure},
    input::read_text,
    output::{Cell, Format, Look, OutputArgs, Table, Tone, document, figure, print, text, word},
    text::{clean, counted, span},
    words,
};

pub const EXAMPLES: &str = "Examples:
  piccolo alert rules list
  piccolo alert rules show NodeNotReady           # as a file that can be applied
  piccolo alert rules check -f alerts.yaml        # without a master
  piccolo alert rules apply -f alerts.yaml";
const LIST_EXAMPLES: &str = "Examples:
  piccolo alert rules list
  piccolo alert rules list -o wide";
const SHOW_EXAMPLES: &str = "Examples:
  piccolo alert rules show TemperatureHigh
  piccolo alert rules show                        # all of them";
const CHECK_EXAMPLES: &str = "Examples:
  piccolo alert rules check -f alerts.yaml";
const APPLY_EXAMPLES: &str = "Examples:
  piccolo alert rules apply -f alerts.yaml
  piccolo alert rules apply -f -                  # from stdin";
const DELETE_EXAMPLES: &str = "Examples:
  piccolo alert rules delete MyRule";

/// Bytes of a file at most.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Mistakes of a file that are told at once.
const MISTAKES_MAX: usize = 10;

#[derive(Debug, Subcommand)]
pub enum RulesCommand {
    /// List the rules, also those that come with this version
    #[command(after_help = LIST_EXAMPLES)]
    List(OutputArgs),
    /// Show rules as a file that can be changed and applied
    #[command(after_help = SHOW_EXAMPLES)]
    Show(ShowArgs),
    /// Check a file of rules, without a master
    #[command(after_help = CHECK_EXAMPLES)]
    Check(FileArgs),
    /// Make rules, or change those of the same name: all in the file, or none
    ///
    /// Rules that are not in the file stay. One with the name of a rule that comes with this version takes its place.
    #[command(after_help = APPLY_EXAMPLES)]
    Apply(FileArgs),
    /// Delete rules; one that took the place of a rule that comes with this version gives it back
    #[command(after_help = DELETE_EXAMPLES)]
    Delete(DeleteArgs),
}

#[derive(Debug, Args)]
pub struct ShowArgs {
    #[arg(value_name = "RULE")]
    names: Vec<String>,
}

#[derive(Debug, Args)]
pub struct FileArgs {
    /// YAML or JSON; - is stdin
    #[arg(short, long, value_name = "FILE")]
    pub file: PathBuf,
}

#[derive(Debug, Args)]
pub struct DeleteArgs {
    #[arg(value_name = "RULE", required = true)]
    names: Vec<String>,
}

/// A file of rules, of channels, or of both. A rule has its place.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlertsFile {
    #[serde(default)]
    rules: Vec<Spanned<RuleFile>>,
    #[serde(default)]
    pub channels: Vec<ChannelFile>,
}

/// Rules as a file that can be applied.
#[derive(Debug, Serialize)]
struct ShownRules {
    rules: Vec<RuleFile>,
}

/// # Errors
/// As the master answers.
pub async fn run(cluster: &Cluster, command: &RulesCommand) -> Result<(), Failure> {
    match command {
        RulesCommand::Check(args) => check(args),
        RulesCommand::List(output) => {
            let listed = fetch(&mut cluster.connect().await?).await?;
            print(&match output.format {
                format @ (Format::Table | Format::Wide) => {
                    table(&listed.rules, format, &Look::of_stdout())
                }
                format @ (Format::Json | Format::Yaml) => {
                    document(&RulesView::from(&listed), format)?
                }
            })
        }
        RulesCommand::Show(args) => {
            let rules = fetch(&mut cluster.connect().await?).await?.rules;
            show(&rules, args)
        }
        RulesCommand::Apply(args) => apply(cluster, args).await,
        RulesCommand::Delete(args) => delete(cluster, args).await,
    }
}

async fn fetch(client: &mut Client<'_>) -> Result<v1::ListAlertRulesResponse, Failure> {
    let request = v1::ListAlertRulesRequest {};
    client.call("cannot list rules", request, async |api, r| api.list_alert_rules(r).await).await
}

fn show(rules: &[v1::AlertRule], args: &ShowArgs) -> Result<(), Failure> {
    let missing = args.names.iter().find(|name| !rules.iter().any(|rule| rule.name == **name));
    if let Some(name) = missing {
        return Err(Failure::new(Exit::NotFound, format!("there is no rule {name}"))
            .help("piccolo alert rules list"));
    }
    let wanted = rules.iter().filter(|r| args.names.is_empty() || args.names.contains(&r.name));
    let file = ShownRules { rules: wanted.map(RuleFile::from).collect() };
    print(&document(&file, Format::Yaml)?)
}

/// # Errors
/// The file cannot be read, or a rule in it makes no sense; the place is told.
pub fn check(args: &FileArgs) -> Result<(), Failure> {
    let rules = read_rules(&args.file)?;
    print(&format!("{} good\n", counted(rules.len() as u64, "rule is", "rules are")))
}

/// Checked as the master will.
fn read_rules(file: &Path) -> Result<Vec<v1::AlertRule>, Failure> {
    let rules = read(file)?.rules;
    if rules.is_empty() {
        return Err(Failure::usage(format!("{} has no rules", file.display()))
            .help("piccolo alert rules show shows how they are written"));
    }
    let (mut wire, mut mistakes) = (Vec::new(), Vec::new());
    let mut lines = BTreeMap::new();
    for (index, Spanned { value: rule, referenced, .. }) in rules.iter().enumerate() {
        let (line, name) = (referenced.line(), clean(&rule.name));
        let mut wrong =
            |problem: String| mistakes.push(format!("line {line}, rule {name}: {problem}"));
        match checked(rule, &format!("rules[{index}]")) {
            Ok(rule) => wire.push(rule),
            Err(problem) => wrong(problem),
        }
        if let Some(before) = lines.insert(&rule.name, line) {
            wrong(format!("there is another of that name before it, in line {before}"));
        }
    }
    if mistakes.is_empty() {
        return Ok(wire);
    }
    let more = mistakes.len().saturating_sub(MISTAKES_MAX);
    let mut failure = Failure::usage(format!("{} has a rule that makes no sense", file.display()));
    for mistake in mistakes.into_iter().take(MISTAKES_MAX) {
        failure = failure.cause(mistake);
    }
    Err(if more > 0 { failure.cause(format!("and {more} more")) } else { failure })
}

fn checked(rule: &RuleFile, field: &str) -> Result<v1::AlertRule, String> {
    let wire = rule.to_wire(field)?;
    let rule = convert::alert_rule(field, wire.clone()).map_err(|error| error.to_string())?;
    rule.check(field).map_err(|error| error.to_string())?;
    Ok(wire)
}

/// # Errors
/// It cannot be read, or not as such a file.
pub fn read(file: &Path) -> Result<AlertsFile, Failure> {
    let text = read_text(file, FILE_BYTES_MAX)?;
    // a snippet could show a secret
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::from_str_with_options(&text, options).map_err(|error| {
        Failure::usage(format!("{} cannot be read as rules and channels", file.display()))
            .cause(error.to_string())
            .help("piccolo alert rules show shows how rules are written")
    })
}

async fn apply(cluster: &Cluster, args: &FileArgs) -> Result<(), Failure> {
    let rules = read_rules(&args.file)?;
    let names: Vec<_> = rules.iter().map(|rule| rule.name.clone()).collect();
    let mut client = cluster.connect().await?;
    let request = v1::ApplyAlertRulesRequest { rules, generation: 0, dry_run: false };
    let what = "no rule was applied";
    let answer = client.call(what, request, async |api, r| api.apply_alert_rules(r).await).await?;
    let (names, generation) = (names.join(", "), answer.generation);
    print(&format!("applied {}: generation {generation}\n", clean(&names)))
}

async fn delete(cluster: &Cluster, args: &DeleteArgs) -> Result<(), Failure> {
    each(cluster, &args.names, async |client, name| {
        let what = format!("cannot delete rule {name}");
        let request = v1::DeleteAlertRuleRequest { name: name.to_owned() };
        client.call(&what, request, async |api, r| api.delete_alert_rule(r).await).await?;
        Ok(format!("rule {} deleted\n", clean(name)))
    })
    .await
}

/// `piccolo alert rules list` for people.
pub fn table(rules: &[v1::AlertRule], format: Format, look: &Look) -> String {
    let wide = format == Format::Wide;
    let columns = [
        word("RULE"),
        word("SEVERITY"),
        word("ON"),
        figure("FOR"),
        word("FROM").spare(),
        text("WHEN").spare_at_last(),
    ];
    let more = [text("CLEAR"), text("MESSAGE")].into_iter().filter(|_| wide);
    let mut table = Table::new(columns.into_iter().chain(more));
    for rule in rules {
        let from = match (rule.disabled, rule.problem.is_empty(), rule.builtin) {
            (true, ..) => Cell::toned(Tone::Faint, "disabled"),
            (false, false, _) => Cell::toned(Tone::Bad, "not understood"),
            (false, true, true) => Cell::toned(Tone::Faint, "built in"),
            (false, true, false) => Cell::new("applied"),
        };
        let pending = span(Duration::from_secs(rule.for_seconds.into()).as_secs());
        let cells = [
            Cell::toned(Tone::Strong, &rule.name),
            Cell::new(words::severity(rule.severity)),
            Cell::new(&rule.on),
            Cell::new(pending),
            from,
            Cell::new(&rule.when),
        ];
        let more = [Cell::or_nothing(&rule.clear), Cell::new(&rule.message)];
        table.row(cells.into_iter().chain(more.into_iter().filter(|_| wide)));
    }
    table.render(look)
}
