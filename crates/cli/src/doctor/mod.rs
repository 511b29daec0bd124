//! `piccolo doctor`: looks at the whole cluster, and says what is wrong and what to do.
//!
//! - `connect`: the way to each master, step by step: name, TCP, TLS, certificates
//! - `findings`: what is made of everything that was seen; pure
//!
//! What may not be seen in the caller's role is named, and not taken for good.

pub mod connect;
pub mod findings;

use clap::Args;
use piccolo_rpc::v1;
use prost_types::Timestamp;
use serde::Serialize;

use self::findings::{Finding, Level, Seen};
use crate::{
    args::Globals,
    connection::{Client, Cluster},
    failure::{Exit, Failure},
    output::{Cell, Format, Look, OutputArgs, Table, Tone, document, now, print, text, word},
};

pub const EXAMPLES: &str = "Examples:
  piccolo doctor
  piccolo doctor -o json                          # for programs: exit code 1 if there is an error
  piccolo --context ./bench.context.yaml doctor";

/// Entries of the audit log that are looked through for refusals.
const AUDIT_ENTRIES: u32 = 1000;

#[derive(Debug, Args)]
pub struct DoctorArgs {
    #[command(flatten)]
    output: OutputArgs,
}

/// What programs read.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DoctorView {
    /// Whether no finding is an error.
    pub ok: bool,
    /// The worst first.
    pub findings: Vec<FindingView>,
    /// What could not be looked at, and why.
    pub not_checked: Vec<NotCheckedView>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FindingView {
    pub name: String,
    /// `ok`, `warning` or `error`.
    pub level: String,
    /// The node, the master or the file that it is about; empty for the cluster.
    pub subject: String,
    /// What was seen.
    pub seen: String,
    /// What to do; empty where all is well.
    pub remedy: String,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NotCheckedView {
    pub name: String,
    pub why: String,
}

/// # Errors
/// Exit code 1, without a word more, if any finding is an error.
pub async fn run(globals: &Globals, args: &DoctorArgs) -> Result<(), Failure> {
    let seen = look_at(globals).await;
    let mut found = findings::of(&seen);
    found.sort_by_key(|finding| std::cmp::Reverse(finding.level));
    let view = DoctorView {
        ok: found.iter().all(|finding| finding.level < Level::Error),
        findings: found.iter().map(FindingView::from).collect(),
        not_checked: seen.not_checked.clone(),
    };
    let format = args.output.format;
    print(&match format {
        Format::Table | Format::Wide => render(&found, &seen.not_checked, &Look::of_stdout()),
        Format::Json | Format::Yaml => document(&view, format)?,
    })?;
    if view.ok { Ok(()) } else { Err(Failure::silent(Exit::Failed)) }
}

/// Everything that can be seen from here; never an error, for that is what is looked for.
async fn look_at(globals: &Globals) -> Seen {
    let mut seen =
        Seen { now: now(), client_version: crate::version::CLIENT.to_owned(), ..Seen::default() };
    let cluster = match Cluster::new(globals) {
        Ok(cluster) => cluster,
        Err(failure) => {
            seen.no_context = Some(failure);
            return seen;
        }
    };
    seen.context = cluster.context.path.display().to_string();
    seen.who = cluster.context.who();
    seen.context_expires_at = seconds(cluster.context.identity.name().not_after);
    for address in cluster.context.servers() {
        seen.masters.push(connect::probe(&cluster, address).await);
    }
    let Some(reached) = seen.masters.iter().position(|master| master.trouble.is_none()) else {
        return seen;
    };
    let address = seen.masters[reached].address.clone();
    match cluster.connect_to(&address).await {
        Ok(mut client) => ask(&mut client, &mut seen, reached).await,
        Err(failure) => seen.masters[reached].refused = Some(failure),
    }
    seen
}

/// What the master knows.
async fn ask(client: &mut Client<'_>, seen: &mut Seen, master: usize) {
    let before = now();
    let what = "cannot get the cluster's status";
    let request = v1::GetClusterStatusRequest {};
    match client.call(what, request, async |api, r| api.get_cluster_status(r).await).await {
        Ok(status) => {
            // the master's clock was read about half-way
            seen.asked_at = Some(half_way(before, now()));
            seen.status = Some(status);
        }
        Err(failure) => {
            seen.masters[master].refused = Some(failure);
            return;
        }
    }
    let request = v1::GetNodesRequest::default();
    let nodes = client.call("cannot list nodes", request, async |api, r| api.get_nodes(r).await);
    let nodes = nodes.await.map(|answer| answer.nodes);
    seen.nodes = seen.may_fail("nodes", nodes).unwrap_or_default();
    seen.nodes.sort_by(|a, b| a.name.cmp(&b.name));
    let request = v1::ListTokensRequest {};
    let tokens =
        client.call("cannot list tokens", request, async |api, r| api.list_tokens(r).await);
    let tokens = tokens.await.map(|answer| answer.tokens);
    seen.tokens = seen.may_fail("tokens", tokens);
    let request = v1::VerifyAuditRequest {};
    let audit = client.call("cannot verify", request, async |api, r| api.verify_audit(r).await);
    let audit = audit.await;
    seen.audit = seen.may_fail("audit", audit);
    let request = v1::ListAuditRequest { limit: AUDIT_ENTRIES, newest: true, ..Default::default() };
    let entries = client.call("cannot list", request, async |api, r| api.list_audit(r).await);
    let entries = entries.await.map(|answer| answer.entries);
    seen.refusals = seen.may_fail("refusals", entries);
}

impl Seen {
    /// What was answered; else why it was not is noted.
    fn may_fail<T>(&mut self, name: &str, answer: Result<T, Failure>) -> Option<T> {
        answer
            .map_err(|failure| {
                let why = failure.causes.first().unwrap_or(&failure.error).clone();
                self.not_checked.push(NotCheckedView { name: name.to_owned(), why });
            })
            .ok()
    }
}

fn seconds(since_1970: u64) -> Option<Timestamp> {
    Some(Timestamp { seconds: i64::try_from(since_1970).unwrap_or(i64::MAX), nanos: 0 })
}

fn half_way(from: Timestamp, to: Timestamp) -> Timestamp {
    let ms = |at: Timestamp| at.seconds * 1000 + i64::from(at.nanos / 1_000_000);
    let half = i64::midpoint(ms(from), ms(to));
    let nanos = i32::try_from(half.rem_euclid(1000) * 1_000_000).unwrap_or(0);
    Timestamp { seconds: half.div_euclid(1000), nanos }
}

impl From<&Finding> for FindingView {
    fn from(finding: &Finding) -> Self {
        Self {
            name: finding.name.to_owned(),
            level: finding.level.word().to_owned(),
            subject: finding.subject.clone(),
            seen: finding.seen.clone(),
            remedy: finding.remedy.clone(),
        }
    }
}

/// For people.
pub fn render(found: &[Finding], not_checked: &[NotCheckedView], look: &Look) -> String {
    let columns = [word("LEVEL"), word("CHECK"), word("ABOUT"), text("SEEN"), text("REMEDY")];
    let mut table = Table::new(columns);
    for finding in found {
        let tone = match finding.level {
            Level::Ok => Tone::Good,
            Level::Warning => Tone::Warning,
            Level::Error => Tone::Bad,
        };
        table.row([
            Cell::toned(tone, finding.level.word()),
            Cell::new(finding.name),
            Cell::or_nothing(&finding.subject),
            Cell::or_nothing(&finding.seen),
            Cell::or_nothing(&finding.remedy),
        ]);
    }
    let mut text = table.render(look);
    for NotCheckedView { name, why } in not_checked {
        text.push_str(&crate::text::clean(&format!("not checked: {name}: {why}")));
        text.push('\n');
    }
    let count = |level| found.iter().filter(|finding| finding.level == level).count();
    let (errors, warnings) = (count(Level::Error), count(Level::Warning));
    text.push('\n');
    text.push_str(&match (errors, warnings) {
        (0, 0) => look.paint(Tone::Good, "Nothing is wrong."),
        (0, _) => look.paint(Tone::Warning, &format!("warnings: {warnings}, errors: none")),
        (_, _) => look.paint(Tone::Bad, &format!("errors: {errors}, warnings: {warnings}")),
    });
    text.push('\n');
    text
}
