//! What is to be done with a host, from what it says it is and what the cluster knows: no side effects.

use piccolo_core::model::NodeName;
use piccolo_rpc::v1;

use super::{
    facts::{Facts, Root},
    trouble::Trouble,
};
use crate::words;

/// What is asked for, of one host.
#[derive(Debug, Clone, Copy)]
pub struct Goal<'g> {
    /// As ssh knows it, for what is said.
    pub target: &'g str,
    /// In place of the host's own name.
    pub name: Option<&'g str>,
    /// The digest of the checksums of the release for this host.
    pub release: &'g str,
    /// The cluster's id.
    pub cluster: &'g str,
    /// A host that belongs elsewhere shall leave that.
    pub take_over: bool,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    /// It is a member and well, with this very release.
    Nothing,
    /// It is a member: with another release, not well, or half installed.
    Renew,
    /// It is to become one, by its host's name or one that its configuration says.
    Join { write_name: bool },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub work: Work,
    /// In the cluster.
    pub name: String,
    /// The node that has that name now, if any.
    pub before: Option<String>,
    /// That node was in maintenance, and so it may stay.
    pub in_maintenance: bool,
    /// What it leaves first, in words: another cluster.
    pub leaves: Option<String>,
}

impl Plan {
    /// Of the three ways to a member.
    pub fn outcome<T>(&self, joins: T, renews: T, is_taken_over: T) -> T {
        match (&self.leaves, &self.work) {
            (Some(_), _) => is_taken_over,
            (None, Work::Renew) => renews,
            (None, Work::Nothing | Work::Join { .. }) => joins,
        }
    }
}

/// # Errors
/// Why it cannot be done, and what to do first. The host has not been touched.
pub fn plan(goal: &Goal<'_>, facts: &Facts, nodes: &[v1::Node]) -> Result<Plan, Trouble> {
    if facts.root == Root::Never {
        return Err(Trouble::new(
            "only root can install, and sudo does not work without a password",
        )
        .help("deploy as root@HOST, or let that user run sudo without a password"));
    }
    if facts.joined { renewal(goal, facts, nodes) } else { joining(goal, facts, nodes) }
}

fn renewal(goal: &Goal<'_>, facts: &Facts, nodes: &[v1::Node]) -> Result<Plan, Trouble> {
    if let Some(cluster) = facts.cluster.as_deref().filter(|cluster| *cluster != goal.cluster) {
        return elsewhere(goal, facts, nodes, &format!("another cluster, {cluster}"));
    }
    let own_name = facts.name.as_deref().unwrap_or(&facts.host);
    let known = match facts.node.as_deref() {
        Some(id) => nodes.iter().find(|node| node.id == id),
        None => named(nodes, own_name),
    };
    let Some(node) = known else {
        return elsewhere(
            goal,
            facts,
            nodes,
            "a cluster, and this one does not know it (any more)",
        );
    };
    if let Some(name) = goal.name.filter(|name| !name.eq_ignore_ascii_case(&node.name)) {
        return Err(Trouble::new(format!(
            "it is a node already, called {} and not {name}",
            node.name
        ))
        .help("leave out the name, or undeploy it first"));
    }
    let in_maintenance = node.status == v1::NodeStatus::Maintenance as i32;
    let is_same = facts.release.as_deref() == Some(goal.release) && !facts.interrupted;
    let is_done = is_same && is_well(node, in_maintenance);
    Ok(Plan {
        work: if is_done { Work::Nothing } else { Work::Renew },
        name: node.name.clone(),
        before: Some(node.id.clone()),
        in_maintenance,
        leaves: None,
    })
}

/// It belongs to what this cluster knows nothing of, and leaves that only where it is told to.
fn elsewhere(
    goal: &Goal<'_>,
    facts: &Facts,
    nodes: &[v1::Node],
    whose: &str,
) -> Result<Plan, Trouble> {
    if !goal.take_over {
        return Err(Trouble::new(format!("it is a node of {whose}")).help(format!(
            "if it shall leave that for good: deploy to {} again, with --take-over",
            goal.target
        )));
    }
    Ok(Plan { leaves: Some(whose.to_owned()), ..joining(goal, facts, nodes)? })
}

fn joining(goal: &Goal<'_>, facts: &Facts, nodes: &[v1::Node]) -> Result<Plan, Trouble> {
    let own_name = facts.name.as_deref().unwrap_or(&facts.host);
    let name = goal.name.unwrap_or(own_name);
    NodeName::parse("name", name).map_err(|error| {
        Trouble::new(format!("{name:?} can be no node's name: {}", error.problem))
            .help("give the host another name, or the node one with --name or in the inventory")
    })?;
    // Also a name that it says already: the installer keeps only a configuration that was edited.
    let write_name = name != facts.host;
    let before = named(nodes, name);
    if let Some(node) = before.filter(|node| node.connected) {
        let said = format!("node {name} is another board, and in session now, from {}", node.ip);
        return Err(Trouble::new(said).help(
            "give this one another name: --name, or a name in the inventory; if somebody else deploys to \
             this very board just now, run the same again",
        ));
    }
    Ok(Plan {
        work: Work::Join { write_name },
        name: name.to_owned(),
        before: before.map(|node| node.id.clone()),
        in_maintenance: false,
        leaves: None,
    })
}

/// Names are the same regardless of case.
pub fn named<'n>(
    nodes: impl IntoIterator<Item = &'n v1::Node>,
    name: &str,
) -> Option<&'n v1::Node> {
    nodes.into_iter().find(|node| node.name.eq_ignore_ascii_case(name))
}

/// In session, and Ready, or in maintenance where that was so before.
pub fn is_well(node: &v1::Node, in_maintenance: bool) -> bool {
    let well = node.status == v1::NodeStatus::Ready as i32
        || (in_maintenance && node.status == v1::NodeStatus::Maintenance as i32);
    node.connected && well
}

/// How far a node is that was installed just now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// The master has not heard of it.
    Unknown,
    /// It waits for a person.
    Pending,
    /// The master knows it, and it has not been in session.
    Registered {
        id: String,
    },
    /// It has been in session, and is not well: what it is instead.
    Joined {
        state: String,
    },
    Well,
}

/// `plan` says what was before.
pub fn progress(plan: &Plan, node: Option<&v1::Node>) -> Progress {
    let is_new = |node: &&v1::Node| match plan.work {
        Work::Join { .. } => plan.before.as_ref() != Some(&node.id),
        Work::Nothing | Work::Renew => true,
    };
    let Some(node) = node.filter(is_new) else { return Progress::Unknown };
    if node.status == v1::NodeStatus::Pending as i32 {
        return Progress::Pending;
    }
    if is_well(node, plan.in_maintenance) {
        return Progress::Well;
    }
    if !node.connected && plan.work != Work::Renew {
        return Progress::Registered { id: node.id.clone() };
    }
    let reasons: Vec<_> = node
        .conditions
        .iter()
        .map(|condition| format!("{}: {}", condition.reason, condition.message))
        .collect();
    let state = format!("{} {}", words::status(node.status), reasons.join("; "));
    Progress::Joined { state: state.trim().to_owned() }
}

#[cfg(test)]
mod tests {
    use v1::NodeStatus::{Initializing, Maintenance, NotReady, Pending, Ready};

    use super::*;

    fn node(id: &str, name: &str, status: v1::NodeStatus, connected: bool) -> v1::Node {
        let (id, name) = (id.to_owned(), name.to_owned());
        v1::Node { id, name, status: status as i32, connected, ..v1::Node::default() }
    }

    fn goal(name: Option<&str>) -> Goal<'_> {
        Goal { target: "root@b", name, release: "new", cluster: "c1", take_over: false }
    }

    fn bare() -> Facts {
        Facts { root: Root::Already, host: "board-1".into(), ..Facts::default() }
    }

    fn member() -> Facts {
        Facts {
            joined: true,
            node: Some("id-1".into()),
            cluster: Some("c1".into()),
            release: Some("new".into()),
            ..bare()
        }
    }

    /// What is done, in one word, or why it is refused.
    #[track_caller]
    fn check(name: Option<&str>, facts: &Facts, nodes: &[v1::Node], expect: &str) {
        let found = match plan(&goal(name), facts, nodes) {
            Ok(plan) => format!("{:?} {}", plan.work, plan.name),
            Err(trouble) => trouble.said,
        };
        assert!(found.contains(expect), "{found}");
    }

    #[test]
    fn a_bare_host_joins_under_its_own_name_or_the_one_it_is_given() {
        check(None, &bare(), &[], "Join { write_name: false } board-1");
        check(Some("board-1"), &bare(), &[], "Join { write_name: false } board-1");
        check(Some("zone-a"), &bare(), &[], "Join { write_name: true } zone-a");
        let configured = Facts { agent_configured: true, name: Some("zone-a".into()), ..bare() };
        check(None, &configured, &[], "Join { write_name: true } zone-a");
        check(Some("zone-b"), &configured, &[], "Join { write_name: true } zone-b");
        check(None, &Facts { host: "a_b".into(), ..bare() }, &[], "can be no node's name");
        check(None, &Facts { root: Root::Never, ..bare() }, &[], "only root can install");
    }

    #[test]
    fn a_name_is_taken_over_from_a_board_that_is_gone_and_from_no_other() {
        check(None, &bare(), &[node("id-0", "BOARD-1", Ready, true)], "is another board");
        check(None, &bare(), &[node("id-0", "board-1", NotReady, false)], "Join");
    }

    #[test]
    fn a_member_that_is_well_with_this_release_is_left_alone() {
        let nodes = |status, connected| [node("id-1", "board-1", status, connected)];
        check(None, &member(), &nodes(Ready, true), "Nothing");
        check(None, &member(), &nodes(Maintenance, true), "Nothing");
        check(None, &member(), &nodes(NotReady, true), "Renew");
        check(None, &member(), &nodes(Ready, false), "Renew");
        let older = Facts { release: Some("old".into()), ..member() };
        check(None, &older, &nodes(Ready, true), "Renew");
        let half = Facts { interrupted: true, ..member() };
        check(None, &half, &nodes(Ready, true), "Renew");
        // its certificate has expired
        let mute = Facts { node: None, cluster: None, ..member() };
        check(None, &mute, &nodes(NotReady, false), "Renew board-1");
    }

    #[test]
    fn who_belongs_elsewhere_is_not_taken_away_from_there() {
        let elsewhere = Facts { cluster: Some("c2".into()), ..member() };
        check(None, &elsewhere, &[], "a node of another cluster, c2");
        check(None, &member(), &[], "does not know it");
        let nodes = [node("id-1", "board-1", Ready, true)];
        check(Some("zone-a"), &member(), &nodes, "called board-1 and not zone-a");
        let refused = plan(&goal(None), &elsewhere, &[]).unwrap_err();
        assert!(refused.help.ends_with("deploy to root@b again, with --take-over"), "{refused:?}");
    }

    #[test]
    fn who_belongs_elsewhere_is_taken_over_where_that_is_asked_for() {
        let taken = |facts: &Facts, nodes: &[v1::Node]| {
            plan(&Goal { take_over: true, ..goal(None) }, facts, nodes)
                .map(|plan| (plan.work, plan.leaves))
                .map_err(|trouble| trouble.said)
        };
        let join = |leaves: &str| Ok((Work::Join { write_name: false }, Some(leaves.to_owned())));
        let elsewhere = Facts { cluster: Some("c2".into()), ..member() };
        let lost = [node("id-0", "board-1", NotReady, false)];
        assert_eq!(taken(&elsewhere, &lost), join("another cluster, c2"));
        let unknown = "a cluster, and this one does not know it (any more)";
        assert_eq!(taken(&member(), &[]), join(unknown));
        // it is ours: nothing is to be left
        let ours = [node("id-1", "board-1", Ready, true)];
        assert_eq!(taken(&member(), &ours), Ok((Work::Nothing, None)));
        assert_eq!(taken(&bare(), &[]), Ok((Work::Join { write_name: false }, None)));
        // its name is another board's here
        let other = [node("id-2", "board-1", Ready, true)];
        assert!(taken(&elsewhere, &other).is_err_and(|said| said.contains("is another board")));
    }

    #[test]
    fn a_node_is_followed_from_unknown_to_well() {
        let nodes = [node("id-0", "board-1", NotReady, false)];
        let joins = plan(&goal(None), &bare(), &nodes).unwrap();
        let at = |node: v1::Node| progress(&joins, Some(&node));
        assert_eq!(progress(&joins, None), Progress::Unknown);
        assert_eq!(at(nodes[0].clone()), Progress::Unknown, "the board before");
        assert_eq!(at(node("id-2", "board-1", Pending, false)), Progress::Pending);
        let registered = Progress::Registered { id: "id-2".into() };
        assert_eq!(at(node("id-2", "board-1", Initializing, false)), registered);
        let joined = Progress::Joined { state: "Initializing".into() };
        assert_eq!(at(node("id-2", "board-1", Initializing, true)), joined);
        assert_eq!(at(node("id-2", "board-1", Ready, true)), Progress::Well);
        assert_ne!(at(node("id-2", "board-1", Maintenance, true)), Progress::Well);
    }
}
