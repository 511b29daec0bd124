//! One host, step by step; and back, where a step fails.
//!
//! `install.sh` rolls its own work back. What it cannot know is done here: a join that comes to nothing
//! leaves no token, no half-known node, and no installation where there was none: of what is installed by
//! then, only what this run has installed, which the installer knows by a mark. Once a node has been in
//! session it is a member, and stays: the next run goes on from there.

use std::{cell::RefCell, collections::BTreeMap, fmt, pin::pin, time::Duration};

use futures_util::{StreamExt as _, future::LocalBoxFuture};
use piccolo_core::api_server::Call;
use piccolo_rpc::v1;
use serde::Serialize;
use tokio::time::{Instant, timeout_at};

use super::{
    Host, Job,
    facts::Facts,
    plan::{self, Goal, Plan, Progress, Work, plan},
    release::{Parcel, pick},
    show::Line,
    ssh::{Input, Said, Session, quoted},
    trouble::Trouble,
};
use crate::{
    connection::{Step as WatchStep, follow},
    failure::{Exit, Failure},
    node::watch::Picture,
};

/// A release has 30 MB; 100 KB/s are slow.
const COPY_TIMEOUT: Duration = Duration::from_secs(600);
const CHECK_TIMEOUT: Duration = Duration::from_secs(120);
const INSTALL_TIMEOUT: Duration = Duration::from_secs(300);
/// An agent that does not answer is given some time, twice.
pub const LEAVE_TIMEOUT: Duration = Duration::from_secs(60);
const SHORT_TIMEOUT: Duration = Duration::from_secs(30);
/// Of a token: the time to install, and to be waited for.
const TOKEN_TTL: Duration = Duration::from_secs(600);
/// Run on a host that leaves another cluster.
const TAKE_OVER: &str = include_str!("take_over.sh");
/// Said where nothing is installed any more.
const GONE: &str = "gone";
/// What the system check and the installer say of a board that is not ready.
const NOT_READY: i32 = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Step {
    Connect,
    Look,
    Copy,
    Check,
    #[serde(rename = "take-over")]
    TakeOver,
    Install,
    Join,
    Ready,
    Label,
    Leave,
    Uninstall,
    Remove,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Step::Connect => "connect",
            Step::Look => "look",
            Step::Copy => "copy",
            Step::Check => "check",
            Step::TakeOver => "take-over",
            Step::Install => "install",
            Step::Join => "join",
            Step::Ready => "ready",
            Step::Label => "label",
            Step::Leave => "leave",
            Step::Uninstall => "uninstall",
            Step::Remove => "remove",
        })
    }
}

/// What came of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Done {
    Deployed,
    Renewed,
    /// From another cluster.
    #[serde(rename = "taken-over")]
    TakenOver,
    Unchanged,
    /// It was a dry run, and this would be done.
    #[serde(rename = "would-deploy")]
    Deployable,
    #[serde(rename = "would-renew")]
    Renewable,
    #[serde(rename = "would-take-over")]
    Takeable,
    Undeployed,
    Failed,
}

/// The way of one host.
#[derive(Debug)]
pub struct Walk<'w> {
    job: &'w Job<'w>,
    host: &'w Host,
    line: &'w Line,
    pub step: Step,
    pub node: Option<String>,
    /// What the system check warned of.
    pub warnings: u32,
    plan: Option<Plan>,
    token: Option<Token<'w>>,
    /// The master knows it, though it has not been in session.
    half_joined: Option<String>,
    is_member: bool,
    leaving: Leaving,
}

/// A token of this run, to be revoked.
enum Token<'w> {
    /// The master has been asked, and may have made it: who is interrupted then still hears its id.
    Asked(LocalBoxFuture<'w, Result<v1::CreateTokenResponse, Failure>>),
    Made {
        id: String,
    },
}

/// Without a secret.
impl fmt::Debug for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Token::Asked(_) => "Asked",
            Token::Made { .. } => "Made",
        })
    }
}

/// How far a host is that leaves another cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leaving {
    /// Not at all, or not begun.
    No,
    /// What it was is kept, and has to be put back.
    Begun,
    /// And a master has heard that it leaves.
    Heard,
}

impl<'w> Walk<'w> {
    pub fn new(job: &'w Job<'w>, host: &'w Host, line: &'w Line) -> Self {
        Self {
            job,
            host,
            line,
            step: Step::Connect,
            node: host.name.clone(),
            warnings: 0,
            plan: None,
            token: None,
            half_joined: None,
            is_member: false,
            leaving: Leaving::No,
        }
    }

    pub fn at(&mut self, step: Step, more: &str) {
        self.step = step;
        self.line.step(step, more);
    }

    /// # Errors
    /// What a step failed with; [`Self::back`] is due then.
    pub async fn go(&mut self, session: &Session) -> Result<Done, Trouble> {
        let facts = &session.facts;
        self.at(Step::Look, "");
        let target = self.host.target.to_string();
        self.job.machines.claim(&facts.machine, &target)?;
        let parcel = pick(&self.job.parcels, &facts.arch)?;
        let nodes = self.job.nodes().await?;
        let goal = Goal {
            target: &target,
            name: self.host.name.as_deref(),
            release: &parcel.release.digest,
            cluster: &self.job.cluster.context.file.cluster,
            take_over: self.job.take_over,
        };
        let plan = plan(&goal, facts, &nodes)?;
        self.node = Some(plan.name.clone());
        self.plan = Some(plan.clone());
        if let Work::Join { .. } = plan.work {
            self.job.may(Call::CreateToken, "create tokens")?;
        }
        if plan.work == Work::Nothing {
            let node = plan::named(&nodes, &plan.name);
            self.label(node).await?;
            return Ok(Done::Unchanged);
        }
        self.copy(session, parcel).await?;
        self.check(session, &plan).await?;
        if self.job.dry_run {
            self.rehearse(session, &plan).await?;
            if let Some(whose) = &plan.leaves {
                self.at(Step::TakeOver, &format!("would leave {whose}"));
            }
            return Ok(plan.outcome(Done::Deployable, Done::Renewable, Done::Takeable));
        }
        if let Some(whose) = &plan.leaves {
            self.take_over(session, &plan, whose).await?;
        }
        self.install(session, &plan, parcel).await?;
        self.at(Step::Join, &plan.name);
        if let Err(trouble) = self.wait(&plan).await {
            return Err(self.with_agents_words(session, trouble).await);
        }
        self.label(None).await?;
        Ok(plan.outcome(Done::Deployed, Done::Renewed, Done::TakenOver))
    }

    /// Whole for a dry run too: the installer rehearses with what it would install.
    async fn copy(&mut self, session: &Session, parcel: &Parcel) -> Result<(), Trouble> {
        self.at(Step::Copy, &format!("{} MB", parcel.bytes.div_ceil(1_000_000)));
        let command = format!(
            "command -v tar >/dev/null || {{ printf 'error: there is no tar\\nhelp: install it there: \
             releases come as tarballs\\n' >&2; exit 1; }}; tar -xzf - -C {}",
            quoted(&session.facts.folder)
        );
        let said = session.run(&command, Input::File(&parcel.tarball), COPY_TIMEOUT).await?;
        succeeded(said, "is there space in /tmp on the host? See: df /tmp").map(drop)
    }

    async fn check(&mut self, session: &Session, plan: &Plan) -> Result<(), Trouble> {
        self.at(Step::Check, "");
        let command = self.script(session, "system_check.sh", plan, "");
        let said = session.run(&command, Input::Nothing, CHECK_TIMEOUT).await?;
        self.warnings = warnings(&said.out);
        match said.code {
            Some(0 | 1) => Ok(()),
            Some(NOT_READY) if self.job.force => Ok(()),
            Some(NOT_READY) => not_ready(said),
            Some(_) | None => succeeded(said, "see what it says there").map(drop),
        }
    }

    /// The host leaves what it belongs to, once it is known that the rest can be installed. What it was is kept
    /// until it is a member here.
    async fn take_over(
        &mut self,
        session: &Session,
        plan: &Plan,
        whose: &str,
    ) -> Result<(), Trouble> {
        self.at(Step::TakeOver, &format!("leaves {whose}"));
        self.leaving = Leaving::Begun;
        let keep = take_over(session, "keep", &self.job.masters).await?;
        succeeded(keep, "is there space in /tmp on the host, and is /etc writable?")?;
        self.rehearse(session, plan).await?;
        let said = take_over(session, "leave", &[]).await?;
        if said.out.lines().any(|line| line.starts_with("phase:") && line.ends_with("in session")) {
            self.leaving = Leaving::Heard;
        }
        succeeded(said, "see what it says there").map(drop)
    }

    /// What the installer would refuse, it refuses now. It cannot tell while an installation that was interrupted
    /// waits to be rolled back.
    async fn rehearse(&self, session: &Session, plan: &Plan) -> Result<(), Trouble> {
        if session.facts.interrupted {
            return Ok(());
        }
        let rehearsal = self.installer(session, plan, " --dry-run");
        let rehearsed = session.run(&rehearsal, Input::Nothing, INSTALL_TIMEOUT).await?;
        succeeded(rehearsed, "see what it says there; nothing was changed").map(drop)
    }

    async fn install(
        &mut self,
        session: &Session,
        plan: &Plan,
        parcel: &Parcel,
    ) -> Result<(), Trouble> {
        self.at(Step::Install, &parcel.release.version);
        let said = match plan.work {
            Work::Nothing | Work::Renew => {
                let command = self.installer(session, plan, "");
                session.run(&command, Input::Nothing, INSTALL_TIMEOUT).await?
            }
            Work::Join { .. } => {
                let token = self.make_token(&plan.name).await?;
                let options = format!(" --token-file -{}", first(&session.facts));
                let command = self.installer(session, plan, &options);
                session.run(&command, Input::Text(&token), INSTALL_TIMEOUT).await?
            }
        };
        succeeded(said, "see what it says there; it has rolled back what it did").map(drop)
    }

    fn installer(&self, session: &Session, plan: &Plan, options: &str) -> String {
        let mut options = options.to_owned();
        if self.job.force {
            options.push_str(" --force");
        }
        if plan.work == (Work::Join { write_name: true }) {
            options.push_str(&format!(" --name {}", quoted(&plan.name)));
        }
        self.script(session, "install.sh", plan, &options)
    }

    /// One of the scripts that were copied. A member knows its masters, and one that would leave another
    /// cluster gets the new ones into its configuration only when it does.
    fn script(&self, session: &Session, name: &str, plan: &Plan, options: &str) -> String {
        let mut command = session.facts.root.prefix().to_owned();
        let path = format!("{}/{name}", session.facts.folder);
        command.push_str(&format!("bash {} --role sub{options}", quoted(&path)));
        let is_rehearsed = self.job.dry_run && plan.leaves.is_some();
        if plan.work != Work::Renew && !is_rehearsed {
            for master in &self.job.masters {
                command.push_str(&format!(" --master {}", quoted(master)));
            }
        }
        command
    }

    /// For this board, once. It goes to the host as input, and is never shown.
    async fn make_token(&mut self, name: &str) -> Result<String, Trouble> {
        let request = v1::CreateTokenRequest {
            role: v1::NodeRole::Sub as i32,
            ttl_seconds: crate::token::whole_seconds(TOKEN_TTL + self.job.wait_timeout),
            uses: 1,
            node_name: name.to_owned(),
        };
        let cluster = self.job.cluster;
        let asked = async move {
            let mut client = cluster.connect().await?;
            let what = "cannot create a token";
            client.call(what, request, async |api, r| api.create_token(r).await).await
        };
        self.token = Some(Token::Asked(Box::pin(asked)));
        Ok(format!("{}\n", self.token_made().await?))
    }

    /// The token, when the master has answered. Whoever stops waiting for it can do so again.
    async fn token_made(&mut self) -> Result<String, Failure> {
        let Some(Token::Asked(asked)) = &mut self.token else { return Ok(String::new()) };
        let answer = asked.await;
        self.token = None;
        let answer = answer?;
        self.token = answer.info.map(|info| Token::Made { id: info.id });
        Ok(answer.token)
    }

    /// Until the node is well, or the time is over.
    async fn wait(&mut self, plan: &Plan) -> Result<(), Trouble> {
        let limit = self.job.wait_timeout;
        let deadline = Instant::now() + limit;
        let picture = RefCell::new(Picture::default());
        let mut steps = pin!(follow(self.job.cluster, "cannot watch the nodes", async |api| {
            let from_revision = picture.borrow().resume_from();
            api.watch_nodes(v1::WatchNodesRequest { filter: None, from_revision }).await
        }));
        let mut last = Progress::Unknown;
        loop {
            match timeout_at(deadline, steps.next()).await {
                Ok(Some(Ok(WatchStep::Item(message)))) => drop(picture.borrow_mut().apply(message)),
                Ok(Some(Ok(WatchStep::Lost(_) | WatchStep::Back(_)))) => continue,
                Ok(Some(Err(failure))) => return Err(failure.into()),
                Ok(None) | Err(_) => return Err(too_late(plan, &last, limit)),
            }
            let picture = picture.borrow();
            if !picture.is_complete() {
                continue;
            }
            last = plan::progress(plan, plan::named(picture.nodes(), &plan.name));
            match &last {
                Progress::Unknown => {}
                Progress::Registered { id } => self.half_joined = Some(id.clone()),
                Progress::Joined { state } => {
                    self.is_member = true;
                    self.at(Step::Ready, state);
                }
                Progress::Pending => {
                    self.is_member = true;
                    return Err(too_late(plan, &last, limit));
                }
                Progress::Well => {
                    self.is_member = true;
                    return Ok(());
                }
            }
        }
    }

    /// What the agent itself says of a join that comes to nothing.
    async fn with_agents_words(&self, session: &Session, trouble: Trouble) -> Trouble {
        let command = format!(
            "{0}{1}/current/bin/piccolo-nodeagent status 2>&1 | grep '^last problem'; \
             {0}journalctl --no-pager --output cat --lines 6 --unit piccolo-nodeagent 2>/dev/null",
            session.facts.root.prefix(),
            session.facts.prefix
        );
        match session.run(&command, Input::Nothing, SHORT_TIMEOUT).await {
            Ok(said) => {
                Trouble::new(format!("{}\n{}", said.all(), trouble.said)).help(trouble.help)
            }
            Err(_) => trouble,
        }
    }

    /// Only what differs.
    async fn label(&mut self, node: Option<&v1::Node>) -> Result<(), Trouble> {
        let there = node.map(|node| node.labels.clone()).unwrap_or_default();
        let differs = |(key, value): &(&String, &String)| there.get(*key) != Some(*value);
        let set: BTreeMap<String, String> =
            self.host.labels.iter().filter(differs).map(|(k, v)| (k.clone(), v.clone())).collect();
        let Some(name) = self.node.clone().filter(|_| !set.is_empty() && !self.job.dry_run) else {
            return Ok(());
        };
        self.at(Step::Label, "");
        let mut client = self.job.cluster.connect().await?;
        let set = set.into_iter().collect();
        let request = v1::LabelNodeRequest { node_id: name, set, remove: vec![] };
        client.call("cannot label it", request, async |api, r| api.label_node(r).await).await?;
        Ok(())
    }

    /// What is due in any case, and after a failure: the host, and the cluster, as they were. Says what of
    /// it could not be done.
    pub async fn back(&mut self, session: &Session, has_failed: bool) -> Option<String> {
        let mut left = Vec::new();
        // A board that waits for approval will still want it.
        let is_waiting = has_failed && self.is_member && self.step == Step::Join;
        if let Some(Token::Asked(_)) = self.token {
            self.line.step(self.step, "interrupted; its token is awaited, and then revoked");
            if let Err(failure) = self.token_made().await {
                left.push(format!(
                    "it is not known whether a token was made for it: {}",
                    failure.error
                ));
            }
        }
        if let Some(Token::Made { id }) = self.token.take_if(|_| !is_waiting)
            && let Err(trouble) = self.revoke(id).await
        {
            left.push(format!("its token is still good for some minutes: {}", trouble.said));
        }
        if !has_failed || self.is_member {
            return (!left.is_empty()).then(|| left.join("\n"));
        }
        if self.leaving != Leaving::No
            && let Err(trouble) = belong_again(session).await
        {
            left.push(format!(
                "it has left its cluster, or half so: {}\ndeploying again goes on from there",
                trouble.said
            ));
        } else if self.leaving == Leaving::Heard {
            left.push(
                "a master of its cluster has heard that it leaves, and will refuse it".into(),
            );
        }
        let mut has_gone = false;
        if self.step >= Step::Install
            && let Some(Plan { work: Work::Join { .. }, .. }) = self.plan
            && !session.facts.installed
        {
            match uninstall_again(session).await {
                Ok(gone) => has_gone = gone,
                Err(trouble) => {
                    left.push(format!("what was installed is still there: {}", trouble.said));
                }
            }
        }
        if let Err(trouble) = self.forget(has_gone).await {
            left.push(format!("the cluster still lists it: {}", trouble.said));
        }
        (!left.is_empty()).then(|| left.join("\n"))
    }

    /// The node that has not become one. Also one that joined while it was given up: by its name, where this run's
    /// installation `has_gone`, so that nobody else can be meant.
    async fn forget(&mut self, has_gone: bool) -> Result<(), Trouble> {
        let mut id = self.half_joined.take();
        if let Some(plan) = self.plan.as_ref().filter(|_| has_gone && id.is_none()) {
            let nodes = self.job.nodes().await?;
            let node = plan::named(&nodes, &plan.name).map(|node| node.id.clone());
            id = node.filter(|id| plan.before.as_ref() != Some(id));
        }
        match id {
            Some(id) => self.job.remove(&id).await,
            None => Ok(()),
        }
    }

    async fn revoke(&self, id: String) -> Result<(), Trouble> {
        let mut client = self.job.cluster.connect().await?;
        let request = v1::RevokeTokenRequest { id };
        let revoked = client
            .call("cannot revoke it", request, async |api, r| api.revoke_token(r).await)
            .await;
        match revoked {
            Err(failure) if failure.exit != Exit::NotFound => Err(failure.into()),
            Ok(_) | Err(_) => Ok(()),
        }
    }
}

/// Where nothing was installed: then the installer installs only if that is still so, and removes only what
/// this run has installed. The folder on the host is of this run alone.
fn first(facts: &Facts) -> String {
    match facts.folder.rsplit('/').next() {
        Some(mark) if !facts.installed => format!(" --first {}", quoted(mark)),
        Some(_) | None => String::new(),
    }
}

/// One action of `take_over.sh`.
async fn take_over(session: &Session, action: &str, more: &[String]) -> Result<Said, Trouble> {
    let facts = &session.facts;
    let mut command = format!("{}bash -c {} take-over", facts.root.prefix(), quoted(TAKE_OVER));
    for word in [action, &facts.folder, &facts.prefix] {
        command.push_str(&format!(" {}", quoted(word)));
    }
    for word in more {
        command.push_str(&format!(" {}", quoted(word)));
    }
    session.run(&command, Input::Nothing, LEAVE_TIMEOUT).await
}

/// To the cluster that the host was about to leave.
async fn belong_again(session: &Session) -> Result<(), Trouble> {
    succeeded(take_over(session, "back", &[]).await?, "").map(drop)
}

/// On a host that had nothing. An installer whose connection broke may still be rolling back. Whether nothing is
/// installed there any more: what somebody else has installed stays.
async fn uninstall_again(session: &Session) -> Result<bool, Trouble> {
    let facts = &session.facts;
    let purge = if facts.configured || facts.state { "" } else { " --purge" };
    let mut script = format!(
        "f={}/install.sh; [ -e \"$f\" ] || exit 0; \
         flock -w 120 / true; bash \"$f\" --uninstall{purge}{}",
        facts.folder,
        first(facts)
    );
    if purge.is_empty() && !facts.agent_configured {
        script.push_str(&format!(
            " && {{ [ -e {}/manifest ] || rm -f /etc/piccolo/nodeagent.yaml; }}",
            facts.prefix
        ));
    }
    script.push_str(&format!(" && {{ [ -e {}/manifest ] || echo {GONE}; }}", facts.prefix));
    let command = format!("{}bash -c {}", facts.root.prefix(), quoted(&script));
    let said = session.run(&command, Input::Nothing, INSTALL_TIMEOUT).await?;
    Ok(succeeded(said, "")?.lines().any(|line| line == GONE))
}

fn too_late(plan: &Plan, last: &Progress, limit: Duration) -> Trouble {
    let name = &plan.name;
    let seconds = limit.as_secs_f32();
    match last {
        Progress::Unknown | Progress::Registered { .. } => Trouble::new(format!(
            "the master has not heard node {name} within {seconds} s"
        ))
        .help(
            "can the host reach the master? --master says by which address; nothing was left there",
        ),
        Progress::Pending => Trouble::new(format!("node {name} waits for approval"))
            .help(format!("piccolo node approve {name} --wait")),
        Progress::Joined { state } => {
            Trouble::new(format!("node {name} has joined, and is {state} after {seconds} s"))
                .help(format!("piccolo node describe {name}; deploying again goes on from there"))
        }
        Progress::Well => Trouble::new("the watch ended"),
    }
}

/// What a script said, or its own `error:` and `help:` as a trouble.
pub fn succeeded(said: Said, help: &str) -> Result<String, Trouble> {
    if said.code == Some(0) {
        return Ok(said.out);
    }
    let all = said.all();
    let own = all.lines().rev().find_map(|line| line.strip_prefix("help: "));
    let help = own.unwrap_or(help).to_owned();
    let words =
        all.lines().filter(|line| !line.starts_with("help: ")).collect::<Vec<_>>().join("\n");
    let words = match (words.is_empty(), said.code) {
        (false, _) => words,
        (true, Some(code)) => format!("it ended with exit code {code} and said nothing"),
        (true, None) => "it was ended by a signal".to_owned(),
    };
    Err(Trouble::new(words).help(help))
}

/// Without an error among its findings it is the check itself that has failed, and says so.
fn not_ready(said: Said) -> Result<(), Trouble> {
    let errors = errors(&said.out);
    if errors.is_empty() {
        return succeeded(said, "see what it says there").map(drop);
    }
    Err(Trouble::new(errors)
        .help("mend that, or deploy in spite of it with --force; nothing was installed"))
}

/// The errors among the findings of a system check, each with what was found and what to do.
fn errors(table: &str) -> String {
    let mut inside = false;
    let lines = table.lines().filter(|line| {
        let goes_on = line.starts_with(' ');
        inside = line.starts_with("error ") || (inside && goes_on);
        inside
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn warnings(table: &str) -> u32 {
    let count = table.lines().filter(|line| line.starts_with("warning ")).count();
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_errors_of_a_check_are_shown_with_their_remedies_alone() {
        let table = "LEVEL    CHECK   FOUND  LIMIT\n\
                     warning  clock   x      y\n         remedy: run a time service\n\
                     error    memory  64 MiB >= 480\n         remedy: PICCOLO needs 512 MB\n\
                     ok       kernel  6.1    >= 5.4\n\n3 checks, 1 warnings, 1 errors\n";
        let expect = "error    memory  64 MiB >= 480\n         remedy: PICCOLO needs 512 MB";
        assert_eq!((errors(table).as_str(), warnings(table)), (expect, 1));
        let said = |out: &str, err: &str| Said { code: Some(2), out: out.into(), err: err.into() };
        assert_eq!(not_ready(said(table, "")).unwrap_err().said, expect);
        // it has failed itself
        let failed = not_ready(said("", "system_check.sh: line 7: x: unbound variable\n"));
        assert!(failed.unwrap_err().said.contains("unbound variable"));
    }

    #[test]
    fn a_script_that_fails_says_why_and_what_to_do() {
        let said = |code, out: &str, err: &str| Said { code, out: out.into(), err: err.into() };
        let failed = said(Some(1), "release 1\n", "error: no space\nhelp: see df\n");
        let trouble = succeeded(failed, "else").unwrap_err();
        assert_eq!(
            (trouble.said.as_str(), trouble.help.as_str()),
            ("release 1\nerror: no space", "see df")
        );
        let mute = succeeded(said(Some(3), "", ""), "else").unwrap_err();
        assert_eq!((mute.said.contains("exit code 3"), mute.help.as_str()), (true, "else"));
        assert_eq!(succeeded(said(Some(0), "x", "warning"), "").unwrap(), "x");
    }
}
