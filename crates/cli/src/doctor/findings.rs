//! What is made of everything that was seen. Each check is a function of [`Seen`].

use std::collections::BTreeMap;

use piccolo_rpc::{v1, view::recovery::paused_until};
use prost_types::Timestamp;

use super::{NotCheckedView, connect::Master};
use crate::{
    failure::Failure,
    node::recovery::has_given_up,
    node::table,
    text::{bytes, moment, seconds_between, span},
    words,
};

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
/// Clocks that differ by more make events hard to follow, and by much more certificates unusable.
const SKEW_WARNING_MS: u64 = 5_000;
const SKEW_ERROR_MS: u64 = 300_000;
/// Before its end an authority should be replaced: every node has to be reached for that.
const AUTHORITY_WARNING: u64 = 365 * DAY;
const AUTHORITY_ERROR: u64 = 30 * DAY;
/// A master renews its own certificate 30 days before its end.
const MASTER_WARNING: u64 = 25 * DAY;
const MASTER_ERROR: u64 = DAY;
const CONTEXT_WARNING: u64 = 14 * DAY;
/// A node in session renews long before; one that is away cannot.
const NODE_WARNING: u64 = 7 * DAY;
/// A token that nobody has used yet, and that will soon be worth nothing.
const TOKEN_WARNING: u64 = 15 * MINUTE;
const REFUSALS_SINCE: u64 = HOUR;
const REFUSALS_WARNING: usize = 20;
const CLONE_WARNING: usize = 3;
/// Reasons of those who may not, or who guess: what somebody mistyped says nothing of who comes.
const MAY_NOT: [&str; 19] = [
    "ApiTokenNotGood",
    "CertificateExpired",
    "CertificateRequired",
    "CertificateRevoked",
    "CodeNotGood",
    "CredentialRevoked",
    "KeyChanged",
    "LockedOut",
    "NotYourself",
    "RoleNotAllowed",
    "SessionOver",
    "TokenExpired",
    "TokenRequired",
    "TokenUnknown",
    "TokenUsedUp",
    "TokenWrongCluster",
    "TokenWrongName",
    "TokenWrongRole",
    "TooManyAttempts",
];
/// What people decided before a restore is forgotten; for so long they are reminded.
const RESTORE_REMEMBERED: u64 = 30 * DAY;
const DISK_WARNING_PERCENT: u64 = 10;
const DISK_ERROR_PERCENT: u64 = 3;
/// Names that are listed; the others are counted.
const LISTED_MAX: usize = 5;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Ok,
    Warning,
    Error,
}

impl Level {
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub name: &'static str,
    pub level: Level,
    pub subject: String,
    pub seen: String,
    pub remedy: String,
}

impl Finding {
    fn ok(name: &'static str, seen: impl Into<String>) -> Self {
        Self {
            name,
            level: Level::Ok,
            subject: String::new(),
            seen: seen.into(),
            remedy: String::new(),
        }
    }

    fn bad(
        name: &'static str,
        level: Level,
        seen: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { level, remedy: remedy.into(), ..Self::ok(name, seen) }
    }

    fn about(mut self, subject: impl Into<String>) -> Self {
        self.subject = subject.into();
        self
    }
}

/// Everything that was seen.
#[derive(Debug, Default)]
pub struct Seen {
    pub now: Timestamp,
    pub client_version: String,
    /// Why there is no context.
    pub no_context: Option<Failure>,
    pub context: String,
    pub who: String,
    pub context_expires_at: Option<Timestamp>,
    pub masters: Vec<Master>,
    /// By our clock, when the master's was read.
    pub asked_at: Option<Timestamp>,
    pub status: Option<v1::GetClusterStatusResponse>,
    pub nodes: Vec<v1::Node>,
    pub tokens: Option<Vec<v1::JoinToken>>,
    pub audit: Option<v1::VerifyAuditResponse>,
    /// The newest entries of the audit log.
    pub refusals: Option<Vec<v1::AuditEntry>>,
    pub not_checked: Vec<NotCheckedView>,
}

/// Everything that there is to say.
pub fn of(seen: &Seen) -> Vec<Finding> {
    if let Some(failure) = &seen.no_context {
        let why = std::iter::once(&failure.error).chain(&failure.causes).cloned();
        let why = why.collect::<Vec<_>>().join(": ");
        let help = one_line(&failure.help.join("; "));
        let remedy = if help.is_empty() {
            "name one that is there: --context FILE; an admin makes it: piccolo user create NAME"
                .to_owned()
        } else {
            help
        };
        return vec![Finding::bad("context", Level::Error, one_line(&why), remedy)];
    }
    let mut found = vec![context(seen)];
    found.extend(seen.masters.iter().map(|one| master(seen, one)));
    let Some(status) = &seen.status else { return found };
    found.extend(clock(seen, status));
    found.extend(versions(seen, status));
    found.push(store(status));
    found.push(disk(status));
    found.extend(seen.audit.as_ref().map(audit));
    found.extend(certificates(seen, status));
    found.push(backup(seen, status));
    found.extend(restored(seen, status));
    found.extend(nodes(seen));
    found.push(topology(seen, status));
    found.extend(seen.tokens.as_ref().map(|list| tokens(seen, list)));
    found.extend(seen.refusals.as_ref().map(|list| refusals(seen, list)));
    found.extend(seen.refusals.as_ref().and_then(|list| clones(seen, list)));
    found
}

fn context(seen: &Seen) -> Finding {
    let remedy = "ask an admin for a new one: piccolo user create NAME --role ROLE";
    let finding = match left(seen, seen.context_expires_at.as_ref()) {
        Some(left) if left < CONTEXT_WARNING => {
            let level = if left == 0 { Level::Error } else { Level::Warning };
            Finding::bad(
                "context",
                level,
                format!("the certificate of {} ends in {}", seen.who, span(left)),
                remedy,
            )
        }
        Some(left) => Finding::ok("context", format!("{}, for {} more", seen.who, span(left))),
        None => Finding::ok("context", seen.who.clone()),
    };
    finding.about(&seen.context)
}

fn master(seen: &Seen, master: &Master) -> Finding {
    // one that answers is enough to work with; the other is to be mended all the same
    let other = seen.masters.iter().any(|m| m.trouble.is_none() && m.refused.is_none());
    let level = if other { Level::Warning } else { Level::Error };
    let finding = match (&master.trouble, &master.refused) {
        (Some(trouble), _) => {
            let why = format!("{}: {}", trouble.step.word(), trouble.why);
            Finding::bad("master", level, one_line(&why), trouble.remedy.clone())
        }
        (None, Some(failure)) => {
            let why = failure.causes.first().unwrap_or(&failure.error);
            Finding::bad(
                "master",
                level,
                format!("call: {}", one_line(why)),
                one_line(&failure.help.join("; ")),
            )
        }
        (None, None) => {
            Finding::ok("master", format!("answers over TLS, {} ms", master.took.as_millis()))
        }
    };
    finding.about(&master.address)
}

fn clock(seen: &Seen, status: &v1::GetClusterStatusResponse) -> Option<Finding> {
    let (here, there) = (seen.asked_at.as_ref()?, status.now.as_ref()?);
    let ms = |at: &Timestamp| at.seconds * 1000 + i64::from(at.nanos / 1_000_000);
    let differ = ms(here).abs_diff(ms(there));
    let shown =
        format!("this machine's clock and the master's differ by {:.1} s", differ as f64 / 1000.0);
    let remedy =
        "set up time synchronisation on both (timedatectl); certificates are judged by the clock";
    Some(if differ > SKEW_ERROR_MS {
        Finding::bad("clock", Level::Error, shown, remedy)
    } else if differ > SKEW_WARNING_MS {
        Finding::bad("clock", Level::Warning, shown, remedy)
    } else {
        Finding::ok("clock", shown)
    })
}

fn versions(seen: &Seen, status: &v1::GetClusterStatusResponse) -> Vec<Finding> {
    let master = &status.master_version;
    let mut found = Vec::new();
    if seen.client_version != *master {
        let shown = format!("piccolo is {}, the master {master}", seen.client_version);
        found.push(Finding::bad(
            "version",
            Level::Warning,
            shown,
            "use the piccolo of the master's release",
        ));
    }
    let other =
        seen.nodes.iter().filter(|n| !n.agent_version.is_empty() && n.agent_version != *master);
    let other: Vec<_> = other.map(|n| format!("{} {}", n.name, n.agent_version)).collect();
    if !other.is_empty() {
        let shown = format!("the master is {master}, other agents are: {}", listed(&other));
        let remedy = "install the same release: piccolo node deploy --file INVENTORY";
        found.push(Finding::bad("version", Level::Warning, shown, remedy));
    }
    if found.is_empty() {
        found.push(Finding::ok("version", format!("{master} everywhere")));
    }
    found
}

fn store(status: &v1::GetClusterStatusResponse) -> Finding {
    if status.store_health == "ok" {
        let size = bytes(status.store_size_bytes);
        return Finding::ok("store", format!("{}, {size}", status.store_kind));
    }
    let remedy = "nothing new is stored or shown until it is back: journalctl -u piccolo-master; etcd, or the disk";
    Finding::bad("store", Level::Error, one_line(&status.store_health), remedy)
}

fn disk(status: &v1::GetClusterStatusResponse) -> Finding {
    let (free, total) = (status.disk_free_bytes, status.disk_total_bytes);
    let shown =
        format!("{} of {} are free where the master keeps its state", bytes(free), bytes(total));
    let remedy = "make room on the master: journalctl --vacuum-size=100M; old backups, images";
    match free.saturating_mul(100).checked_div(total) {
        None => Finding::ok("disk", "this master does not tell"),
        Some(..DISK_ERROR_PERCENT) => Finding::bad("disk", Level::Error, shown, remedy),
        Some(..DISK_WARNING_PERCENT) => Finding::bad("disk", Level::Warning, shown, remedy),
        Some(_) => Finding::ok("disk", shown),
    }
}

fn audit(answer: &v1::VerifyAuditResponse) -> Finding {
    if answer.intact {
        return Finding::ok("audit", format!("{} entries, intact", answer.entries));
    }
    let after = answer.first_bad_id.saturating_sub(1);
    let remedy = format!(
        "somebody changed the store by hand, or it is damaged: piccolo audit list --after {after}"
    );
    Finding::bad("audit", Level::Error, answer.message.clone(), remedy)
}

fn certificates(seen: &Seen, status: &v1::GetClusterStatusResponse) -> Vec<Finding> {
    let mut found = vec![ending(
        ("authority", String::new()),
        left(seen, status.ca_expires_at.as_ref()),
        (AUTHORITY_WARNING, AUTHORITY_ERROR),
        "set the cluster up with a new authority before: docs/operations/recovery.md",
    )];
    for master in seen.masters.iter().filter(|master| master.trouble.is_none()) {
        found.push(ending(
            ("certificate", master.address.clone()),
            left(seen, master.certificate_expires_at.as_ref()),
            (MASTER_WARNING, MASTER_ERROR),
            "the master should have renewed it: journalctl -u piccolo-master; its clock; restart it",
        ));
    }
    for node in &seen.nodes {
        let Some(left) = left(seen, node.certificate_expires_at.as_ref()) else { continue };
        // one in session renews in time, however short its certificates live
        if left == 0 || (!node.connected && left < NODE_WARNING) {
            let level = if left == 0 && node.connected { Level::Error } else { Level::Warning };
            let shown = format!(
                "its certificate {}",
                if left == 0 { "has ended".to_owned() } else { format!("ends in {}", span(left)) }
            );
            let remedy = "it gets a new one by itself when it comes back; look at the board: piccolo-nodeagent check";
            found.push(Finding::bad("certificate", level, shown, remedy).about(&node.name));
        }
    }
    found
}

fn ending(
    (name, subject): (&'static str, String),
    left: Option<u64>,
    (warning, error): (u64, u64),
    remedy: &str,
) -> Finding {
    let finding = match left {
        None => Finding::ok(name, "its end is not known"),
        Some(left) => {
            let shown =
                if left == 0 { "has ended".to_owned() } else { format!("ends in {}", span(left)) };
            if left < error {
                Finding::bad(name, Level::Error, shown, remedy)
            } else if left < warning {
                Finding::bad(name, Level::Warning, shown, remedy)
            } else {
                Finding::ok(name, shown)
            }
        }
    };
    finding.about(subject)
}

fn backup(seen: &Seen, status: &v1::GetClusterStatusResponse) -> Finding {
    let Some(backup) = &status.backup else {
        let remedy = "set backup: in master.yaml, or make them by hand: piccolo backup create";
        return Finding::bad(
            "backup",
            Level::Warning,
            "none are made by the master itself",
            remedy,
        );
    };
    let age = backup.last_at.as_ref().map(|at| seconds_between(at, &seen.now));
    let newest = match age {
        Some(age) => format!("the newest is {} old", span(age)),
        None => "there is none yet".to_owned(),
    };
    if !backup.problem.is_empty() {
        let shown = format!("{newest}; the last one failed: {}", one_line(&backup.problem));
        return Finding::bad(
            "backup",
            Level::Error,
            shown,
            "mend that; it is tried again within 10 minutes",
        );
    }
    match age {
        Some(age) if age > backup.every_seconds.saturating_mul(2) => {
            let shown = format!("{newest}, and one is due every {}", span(backup.every_seconds));
            Finding::bad("backup", Level::Error, shown, "look at the master's log and at its clock")
        }
        Some(_) => Finding::ok("backup", newest),
        None => Finding::bad(
            "backup",
            Level::Warning,
            newest,
            "one is made within a minute after the start",
        ),
    }
}

fn restored(seen: &Seen, status: &v1::GetClusterStatusResponse) -> Option<Finding> {
    let at = status.restored_at.as_ref()?;
    if seconds_between(at, &seen.now) > RESTORE_REMEMBERED {
        return None;
    }
    let restored = moment(Some(at));
    Some(match status.restored_backup_at.as_ref() {
        Some(backup) => {
            let from = moment(Some(backup));
            let shown =
                format!("restored at {restored}; what was decided since {from} is forgotten");
            let remedy = "who was removed or revoked in between is back: piccolo node list, piccolo user list";
            Finding::bad("restored", Level::Warning, shown, remedy)
        }
        None => {
            let shown = format!(
                "rebuilt from its authority at {restored}; nodes are taken in by their certificates"
            );
            let remedy =
                "remove those that do not belong: piccolo node list; set labels and topology again";
            Finding::bad("restored", Level::Warning, shown, remedy)
        }
    })
}

fn nodes(seen: &Seen) -> Vec<Finding> {
    if seen.nodes.is_empty() {
        let remedy = "piccolo token create --role sub, or piccolo node deploy USER@HOST";
        return vec![Finding::bad("node", Level::Warning, "no board has joined", remedy)];
    }
    let mut found = Vec::new();
    for node in &seen.nodes {
        let of_it = [
            status_of(seen, node),
            recovery_of(seen, node),
            system_check_of(node),
            containers_of(node),
        ];
        found.extend(of_it.into_iter().flatten().map(|finding| finding.about(&node.name)));
    }
    let ready = seen.nodes.iter().filter(|n| n.status == v1::NodeStatus::Ready as i32).count();
    if found.is_empty() {
        let running: usize = seen.nodes.iter().map(|n| n.containers.len()).sum();
        found.push(Finding::ok(
            "node",
            format!("{ready} Ready, {running} containers, none failing"),
        ));
    }
    found
}

fn status_of(seen: &Seen, node: &v1::Node) -> Option<Finding> {
    use v1::NodeStatus;
    let age = node.status_since.as_ref().map_or_else(String::new, |since| {
        format!(" for {}", span(seconds_between(since, &seen.now)))
    });
    let why = node.conditions.iter().map(|c| format!("{}: {}", c.kind, c.message));
    let why = why.collect::<Vec<_>>().join("; ");
    let because = if why.is_empty() { String::new() } else { format!(": {why}") };
    let status = words::status(node.status);
    let is = |extra: &str| one_line(&format!("{status}{age}{extra}"));
    let name = &node.name;
    let bad = |level, shown, remedy: String| Some(Finding::bad("node", level, shown, remedy));
    match NodeStatus::try_from(node.status).unwrap_or(NodeStatus::Unspecified) {
        NodeStatus::Ready if why.is_empty() => None,
        NodeStatus::Ready => bad(
            Level::Warning,
            is(&format!(", but {why}")),
            format!("piccolo node describe {name}"),
        ),
        NodeStatus::NotReady if node.connected => {
            bad(Level::Error, is(&because), format!("piccolo node describe {name}"))
        }
        NodeStatus::NotReady => bad(
            Level::Error,
            is(&because),
            "look at the board: power, cable, systemctl status piccolo-nodeagent".to_owned(),
        ),
        NodeStatus::Pending => {
            bad(Level::Warning, is(""), format!("piccolo node approve {name}, or reject"))
        }
        NodeStatus::Maintenance => bad(
            Level::Warning,
            is(""),
            format!("when the work is done: piccolo node maintenance off {name}"),
        ),
        NodeStatus::Initializing => {
            bad(Level::Warning, is(&because), format!("piccolo node describe {name}"))
        }
        NodeStatus::Terminating | NodeStatus::Unspecified => {
            bad(Level::Warning, is(""), format!("piccolo node describe {name}"))
        }
    }
}

/// Whoever looks why nothing is done about a failure is told who said so, or that no more can be.
fn recovery_of(seen: &Seen, node: &v1::Node) -> Option<Finding> {
    let name = &node.name;
    if let Some(until) = paused_until(node, &seen.now) {
        let left = span(seconds_between(&seen.now, until));
        let shown = format!("an operator has paused it, for {left} more");
        let remedy = format!("when the work is done: piccolo node recovery {name} --resume");
        return Some(Finding::bad("recovery", Level::Warning, shown, remedy));
    }
    let lines = node.recovery.iter().flat_map(|recovery| &recovery.lines);
    let given_up = lines.filter(|line| has_given_up(line));
    let given_up: Vec<_> =
        given_up.map(|line| format!("{}: {}", line.failure, one_line(&line.why))).collect();
    let remedy = format!("piccolo node recovery {name}; why: piccolo events --node {name}");
    (!given_up.is_empty())
        .then(|| Finding::bad("recovery", Level::Error, listed(&given_up), remedy))
}

fn system_check_of(node: &v1::Node) -> Option<Finding> {
    let check = node.system_check.as_ref()?;
    let of = |level: v1::CheckLevel| {
        let found = check.findings.iter().filter(move |f| f.level == level as i32);
        found.map(|f| format!("{} {}", f.name, f.value)).collect::<Vec<_>>()
    };
    let (errors, warnings) = (of(v1::CheckLevel::Error), of(v1::CheckLevel::Warning));
    let remedy = format!("each with its remedy: piccolo node describe {}", node.name);
    let (level, shown) = match (errors.is_empty(), warnings.is_empty()) {
        (true, true) => return None,
        (true, false) => (Level::Warning, warnings),
        (false, _) => (Level::Error, errors),
    };
    Some(Finding::bad("system-check", level, one_line(&listed(&shown)), remedy))
}

fn containers_of(node: &v1::Node) -> Option<Finding> {
    let unwell = node.containers.iter().filter(|container| table::is_unwell(container));
    let unwell: Vec<_> =
        unwell.map(|c| format!("{} {}", c.name, table::container_state(c))).collect();
    if unwell.is_empty() {
        return None;
    }
    let remedy = "on the board: podman logs NAME; then piccolo node restart-container";
    Some(Finding::bad("container", Level::Error, listed(&unwell), remedy))
}

fn topology(seen: &Seen, status: &v1::GetClusterStatusResponse) -> Finding {
    let generation = status.generation;
    let behind = seen.nodes.iter().filter(|node| node.applied_generation != generation);
    let behind: Vec<_> =
        behind.map(|node| format!("{} has {}", node.name, node.applied_generation)).collect();
    if behind.is_empty() {
        return Finding::ok("topology", format!("generation {generation} on every node"));
    }
    let shown = format!("generation {generation} is not confirmed: {}", listed(&behind));
    let remedy =
        "a node that is away gets it when it is back; else its condition ConfigRejected says why";
    Finding::bad("topology", Level::Warning, shown, remedy)
}

fn tokens(seen: &Seen, tokens: &[v1::JoinToken]) -> Finding {
    let usable =
        |t: &&v1::JoinToken| t.uses_left > 0 && left(seen, t.expires_at.as_ref()) != Some(0);
    let soon = |t: &&v1::JoinToken| {
        t.used_by.is_empty()
            && left(seen, t.expires_at.as_ref()).is_some_and(|left| left < TOKEN_WARNING)
    };
    let ending: Vec<_> = tokens.iter().filter(usable).filter(soon).map(|t| t.id.clone()).collect();
    if ending.is_empty() {
        return Finding::ok(
            "tokens",
            format!("{} can be used", tokens.iter().filter(usable).count()),
        );
    }
    let shown = format!(
        "never used, and worth nothing within {}: {}",
        span(TOKEN_WARNING),
        listed(&ending)
    );
    let remedy =
        "let the board join now, or make another: piccolo token create --role sub --ttl 1h";
    Finding::bad("tokens", Level::Warning, shown, remedy)
}

fn refusals(seen: &Seen, entries: &[v1::AuditEntry]) -> Finding {
    let recent = refused_lately(seen, entries, &MAY_NOT);
    let shown = format!("{} calls were refused within the last hour", recent.len());
    if recent.len() < REFUSALS_WARNING {
        return Finding::ok("refusals", shown);
    }
    let remedy = "who is that? piccolo audit list -n 100; a board that was removed: stop its agent";
    Finding::bad("refusals", Level::Warning, format!("{shown}: {}", by_caller(&recent)), remedy)
}

/// A cloned disk goes on trying; an agent that has just started again is refused once or twice.
fn clones(seen: &Seen, entries: &[v1::AuditEntry]) -> Option<Finding> {
    let recent = refused_lately(seen, entries, &["DuplicateIdentity"]);
    let shown = format!("somebody else claims the identity of a node: {}", by_caller(&recent));
    let remedy = "a cloned disk: on that board stop the agent, delete /var/lib/piccolo/nodeagent, and join with a token";
    let is_clone = recent.len() >= CLONE_WARNING;
    is_clone.then(|| Finding::bad("identities", Level::Warning, shown, remedy))
}

fn refused_lately<'a>(
    seen: &Seen,
    entries: &'a [v1::AuditEntry],
    reasons: &[&str],
) -> Vec<&'a v1::AuditEntry> {
    let recent = |e: &&v1::AuditEntry| {
        e.at.as_ref().is_some_and(|at| seconds_between(at, &seen.now) <= REFUSALS_SINCE)
    };
    let refused = |e: &&v1::AuditEntry| {
        let why = e.outcome.strip_prefix("refused: ").unwrap_or_default();
        reasons.contains(&why.split(':').next().unwrap_or_default())
    };
    entries.iter().filter(recent).filter(refused).collect()
}

/// `20 of anonymous at 10.0.0.9`, who came most often first.
fn by_caller(entries: &[&v1::AuditEntry]) -> String {
    let mut by_caller: BTreeMap<String, usize> = BTreeMap::new();
    for entry in entries {
        *by_caller.entry(format!("{} at {}", entry.who, entry.from)).or_default() += 1;
    }
    let mut callers: Vec<_> = by_caller.into_iter().collect();
    callers.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let callers: Vec<_> =
        callers.into_iter().map(|(who, count)| format!("{count} of {who}")).collect();
    listed(&callers)
}

/// Seconds until then, 0 once it is past.
fn left(seen: &Seen, then: Option<&Timestamp>) -> Option<u64> {
    then.map(|then| seconds_between(&seen.now, then))
}

fn listed(names: &[String]) -> String {
    let shown = names.iter().take(LISTED_MAX).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(LISTED_MAX) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
