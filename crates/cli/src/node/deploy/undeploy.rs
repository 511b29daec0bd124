//! `piccolo node undeploy`: a node leaves, PICCOLO goes from its host, and the cluster forgets it.
//!
//! Each step is done where it is not done yet, so that what was interrupted is repeated. Containers go on.

use std::{collections::BTreeMap, time::Duration};

use clap::Args;
use piccolo_core::api_server::Call;
use piccolo_rpc::v1;

use super::{
    Host, Job, Machines, Stop, WorkArgs, each,
    facts::{Facts, Root},
    outcome, plan,
    show::{Board, Line, Outcome, conclude},
    ssh::{Input, Session, Target, quoted},
    steps::{Done, LEAVE_TIMEOUT, Step, succeeded},
    trouble::Trouble,
    unless_stopped, workshop,
};
use crate::{
    connection::Cluster,
    failure::{Exit, Failure},
};

pub const EXAMPLES: &str = "Examples:
  piccolo node undeploy zone-a --user root
  piccolo node undeploy root@192.0.2.21 --purge   # configuration and state too";

/// For a host whose own has gone.
const INSTALLER: &str = include_str!("../../../../../scripts/install.sh");
const UNINSTALL_TIMEOUT: Duration = Duration::from_secs(300);

#[derive(Debug, Args)]
pub struct UndeployArgs {
    /// Nodes of the cluster, or hosts as ssh knows them
    #[arg(value_name = "NODE|USER@HOST", required = true, value_parser = Target::parse)]
    hosts: Vec<Target>,
    /// Remove configuration and state too, not only the programs
    #[arg(long)]
    purge: bool,
    /// As whom to log in where a node is named
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    #[command(flatten)]
    work: WorkArgs,
}

/// # Errors
/// Nothing was done, or, silently, a host failed: then the others are done.
pub async fn undeploy(cluster: &Cluster, args: &UndeployArgs) -> Result<(), Failure> {
    args.work.ssh.check()?;
    let workshop = workshop()?;
    let job = Job {
        cluster,
        workshop: workshop.path(),
        parcels: vec![],
        masters: vec![],
        force: false,
        dry_run: false,
        take_over: false,
        wait_timeout: Duration::ZERO,
        machines: Machines::default(),
    };
    // Before any host is touched: half of it would be done, and then refused.
    job.may(Call::RemoveNode, "remove nodes")?;
    let nodes = job.nodes().await?;
    let mut hosts = Vec::new();
    for target in &args.hosts {
        hosts.push(host(target, &nodes, args)?);
    }
    let board = Board::new(args.work.output.format, hosts.iter().map(|h| h.target.to_string()));
    let outcomes = each(&hosts, args.work.parallel, async |number, host, stop| {
        let line = board.line(&host.target.to_string());
        let outcome = undeploy_one(&job, number, host, args.purge, &line, stop).await;
        line.end(&outcome);
        outcome
    })
    .await;
    conclude(&outcomes, args.work.output.format)
}

/// A node is looked for at its address.
fn host(target: &Target, nodes: &[v1::Node], args: &UndeployArgs) -> Result<Host, Failure> {
    let ssh = args.work.ssh.clone();
    let labels = BTreeMap::new();
    if target.user.is_some() {
        return Ok(Host { target: target.clone(), ssh, name: None, labels });
    }
    let by_id = || nodes.iter().find(|node| node.id == target.host);
    let Some(node) = plan::named(nodes, &target.host).or_else(by_id) else {
        let what = format!("there is no node {}; nothing was done", target.host);
        return Err(Failure::new(Exit::NotFound, what).help(
            "piccolo node list shows all; a host that is none: piccolo node undeploy USER@HOST",
        ));
    };
    let target = Target { user: args.user.clone(), host: node.ip.clone() };
    Ok(Host { target, ssh, name: Some(node.name.clone()), labels })
}

async fn undeploy_one(
    job: &Job<'_>,
    number: usize,
    host: &Host,
    purge: bool,
    line: &Line,
    stop: Stop,
) -> Outcome {
    let mut walk = Walk { job, host, line, step: Step::Connect, node: host.name.clone() };
    walk.at(Step::Connect);
    let socket = job.workshop.join(format!("{number}"));
    let connecting = Session::open(&host.target, &host.ssh, &socket);
    let done = match unless_stopped(stop.clone(), connecting).await {
        Err(trouble) => Err(match &host.name {
            None => trouble,
            Some(name) => {
                let help =
                    format!("{}\nif the board is gone: piccolo node remove {name}", trouble.help);
                trouble.help(help)
            }
        }),
        Ok(session) => {
            let done = unless_stopped(stop, walk.go(&session, purge)).await;
            session.close().await;
            done
        }
    };
    outcome(host.target.to_string(), walk.node, done, walk.step, None, line)
}

struct Walk<'w> {
    job: &'w Job<'w>,
    host: &'w Host,
    line: &'w Line,
    step: Step,
    node: Option<String>,
}

impl Walk<'_> {
    fn at(&mut self, step: Step) {
        self.step = step;
        self.line.step(step, self.node.as_deref().unwrap_or_default());
    }

    async fn go(&mut self, session: &Session, purge: bool) -> Result<Done, Trouble> {
        self.at(Step::Look);
        let facts = &session.facts;
        let nodes = self.job.nodes().await?;
        let cluster = &self.job.cluster.context.file.cluster;
        let node = whose(facts, self.host.name.as_deref(), &nodes, cluster)?;
        if let Some(node) = node {
            self.node = Some(node.name.clone());
        }
        let mut done = Done::Unchanged;
        let how = how(facts, purge)?;
        // Else no agent is left that could leave: the cluster forgets it without.
        if facts.joined && how == How::WithItsInstaller {
            self.at(Step::Leave);
            let root = facts.root.prefix();
            let command = format!("{root}{}/current/bin/piccolo-nodeagent leave", facts.prefix);
            let said = session.run(&command, Input::Nothing, LEAVE_TIMEOUT).await?;
            succeeded(said, "see what it says there")?;
            done = Done::Undeployed;
        }
        if how != How::NotAtAll {
            self.at(Step::Uninstall);
            uninstall(session, how, purge).await?;
            done = Done::Undeployed;
        }
        if let Some(node) = node {
            self.at(Step::Remove);
            self.job.remove(&node.id).await?;
            self.job.gone(&node.id).await?;
            done = Done::Undeployed;
        }
        Ok(done)
    }
}

/// By which installer a host is rid of PICCOLO.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    NotAtAll,
    WithItsInstaller,
    /// Programs have gone, half or whole, by an uninstallation before.
    WithOurInstaller,
}

/// # Errors
/// More would go than an agent, and what to do instead.
fn how(facts: &Facts, purge: bool) -> Result<How, Trouble> {
    if facts.packages {
        return Err(Trouble::new("packages of PICCOLO are installed there").help(
            "on the host: piccolo-nodeagent leave, and then apt purge 'piccolo*' or dnf remove 'piccolo*'",
        ));
    }
    if facts.release.is_some() || facts.interrupted {
        return Ok(How::WithItsInstaller);
    }
    if !(facts.installed || purge && (facts.configured || facts.state)) {
        return Ok(How::NotAtAll);
    }
    if purge && facts.master_state {
        return Err(Trouble::new("the state of a master is there too, and would go with it").help(
            "look at /var/lib/piccolo/master on the host; remove by hand what nobody needs",
        ));
    }
    Ok(How::WithOurInstaller)
}

/// Its own goes away from under itself, which it knows; ours is input.
async fn uninstall(session: &Session, how: How, purge: bool) -> Result<(), Trouble> {
    let facts = &session.facts;
    let (script, input) = match how {
        How::NotAtAll => return Ok(()),
        How::WithItsInstaller => {
            (quoted(&format!("{}/current/install.sh", facts.prefix)), Input::Nothing)
        }
        How::WithOurInstaller => ("-s --".to_owned(), Input::Text(INSTALLER)),
    };
    let purge = if purge { " --purge" } else { "" };
    let command = format!("{}bash {script} --uninstall{purge}", facts.root.prefix());
    let said = session.run(&command, input, UNINSTALL_TIMEOUT).await?;
    let help = "an installation was interrupted there: deploy once more, and then undeploy";
    succeeded(said, if facts.interrupted { help } else { "see what it says there" }).map(drop)
}

/// Which node the host is, if it is one.
///
/// # Errors
/// It must be left alone, and why.
fn whose<'n>(
    facts: &Facts,
    named: Option<&str>,
    nodes: &'n [v1::Node],
    cluster: &str,
) -> Result<Option<&'n v1::Node>, Trouble> {
    if facts.root == Root::Never {
        return Err(Trouble::new(
            "only root can uninstall, and sudo does not work without a password",
        )
        .help("undeploy root@HOST, or let that user run sudo without a password"));
    }
    if facts.roles.iter().any(|role| role == "master") {
        return Err(Trouble::new("a master is installed there too, and would go with it")
            .help("piccolo-nodeagent leave, on the host, takes it out of the cluster as a node"));
    }
    if let Some(other) = facts.cluster.as_deref().filter(|other| *other != cluster) {
        return Err(Trouble::new(format!("it is a node of another cluster, {other}"))
            .help("undeploy it with a context of that cluster"));
    }
    let own_name = facts.name.as_deref().unwrap_or(&facts.host);
    let node = match facts.node.as_deref() {
        Some(id) => nodes.iter().find(|node| node.id == id),
        // One that is in session is another board: this one has no identity that is good.
        None => plan::named(nodes, named.unwrap_or(own_name)).filter(|node| !node.connected),
    };
    match (named, node) {
        (Some(name), Some(node)) if !node.name.eq_ignore_ascii_case(name) => {
            Err(Trouble::new(format!("the host at the address of {name} is node {}", node.name))
                .help("name the host itself: piccolo node undeploy USER@HOST"))
        }
        (_, node) => Ok(node),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_uninstallation_has_left_goes_by_a_purge_and_a_masters_state_never() {
        let bare = Facts { root: Root::Already, ..Facts::default() };
        let whole = Facts { release: Some("r".into()), installed: true, ..bare.clone() };
        let half = Facts { installed: true, ..bare.clone() };
        let kept = Facts { configured: true, state: true, ..bare.clone() };
        for (facts, without, with) in [
            (&bare, How::NotAtAll, How::NotAtAll),
            (&whole, How::WithItsInstaller, How::WithItsInstaller),
            (&half, How::WithOurInstaller, How::WithOurInstaller),
            (&kept, How::NotAtAll, How::WithOurInstaller),
        ] {
            assert_eq!((how(facts, false), how(facts, true)), (Ok(without), Ok(with)), "{facts:?}");
        }
        let check = |facts: &Facts, part: &str| {
            let trouble = how(facts, true).unwrap_err();
            assert!(trouble.said.contains(part), "{trouble:?}");
        };
        check(&Facts { master_state: true, ..kept.clone() }, "the state of a master is there too");
        check(&Facts { packages: true, ..kept }, "packages of PICCOLO");
    }

    #[test]
    fn only_a_node_of_this_cluster_is_taken_away() {
        let node = |id: &str, name: &str, connected| v1::Node {
            id: id.into(),
            name: name.into(),
            connected,
            ..v1::Node::default()
        };
        let nodes = [node("1", "a", true), node("2", "b", false)];
        let here = |node: Option<&str>, host: &str| Facts {
            root: Root::Already,
            host: host.into(),
            node: node.map(str::to_owned),
            ..Facts::default()
        };
        let check = |facts: &Facts, named: Option<&str>, expect: Result<Option<&str>, &str>| {
            let found = whose(facts, named, &nodes, "c1");
            match (found, expect) {
                (Ok(node), Ok(id)) => assert_eq!(node.map(|node| node.id.as_str()), id),
                (Err(trouble), Err(part)) => assert!(trouble.said.contains(part), "{trouble:?}"),
                (found, expect) => panic!("{found:?}, not {expect:?}"),
            }
        };
        check(&here(Some("1"), "x"), None, Ok(Some("1")));
        check(&here(Some("1"), "x"), Some("A"), Ok(Some("1")));
        check(&here(Some("1"), "x"), Some("b"), Err("is node a"));
        check(&here(None, "b"), None, Ok(Some("2")));
        check(&here(None, "a"), None, Ok(None));
        check(&here(None, "c"), None, Ok(None));
        let master = Facts { roles: vec!["master".into()], ..here(Some("1"), "a") };
        check(&master, None, Err("a master is installed there too"));
        let other = Facts { cluster: Some("c2".into()), ..here(Some("1"), "a") };
        check(&other, None, Err("another cluster, c2"));
        check(&Facts { root: Root::Never, ..here(None, "b") }, None, Err("only root"));
    }
}
