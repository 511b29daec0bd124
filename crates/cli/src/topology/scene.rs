//! The cluster as it is drawn, whatever with: the master, what it is linked to, in groups, and what is wrong where.
//!
//! Terminal, SVG, Graphviz and Mermaid draw this, and decide nothing but where things stand. As in the web console, nodes
//! are grouped by a label, few are shown with all that is in them, and more of them with less.

use std::collections::{BTreeMap, BTreeSet};

use piccolo_rpc::v1;
use v1::NodeStatus;

use crate::{
    node::table::{
        container_state, container_tone, is_running, is_unwell, reason, round_trip, status_tone,
    },
    output::Tone,
    text::counted,
    words,
};

/// The label that groups, unless somebody says another.
pub const GROUP_BY: &str = "site";
/// So many nodes are shown with each of their containers, and so many with a line of their own.
const CARDS_MAX: usize = 24;
const COMPACT_MAX: usize = 72;

/// What the master has told.
#[derive(Debug, Clone, Copy)]
pub struct Told<'a> {
    pub topology: &'a v1::ClusterTopology,
    pub status: &'a v1::GetClusterStatusResponse,
    pub alerts: &'a [v1::Alert],
}

/// How much is shown of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    Card,
    Compact,
    Tile,
}

#[derive(Debug)]
pub struct Scene<'a> {
    pub name: &'a str,
    pub about: String,
    /// Empty without one.
    pub parent: &'a str,
    pub master: Master,
    /// The nodes that carry the master.
    pub boards: Vec<Spot<'a>>,
    pub groups: Vec<Group<'a>>,
    pub detail: Detail,
}

#[derive(Debug)]
pub struct Master {
    pub tone: Tone,
    pub address: String,
    pub about: String,
    /// About the cluster itself.
    pub firing: Firing,
}

#[derive(Debug)]
pub struct Group<'a> {
    /// `None` where nothing groups.
    pub title: Option<String>,
    pub spots: Vec<Spot<'a>>,
}

/// A node and its link to the master.
#[derive(Debug)]
pub struct Spot<'a> {
    pub node: &'a v1::Node,
    pub firing: Firing,
}

/// Alerts that fire and that nobody looks after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Firing {
    critical: usize,
    warning: usize,
    info: usize,
}

impl<'a> Scene<'a> {
    /// `group_by`: a label; one that no node has groups nothing.
    pub fn of(told: Told<'a>, group_by: &str) -> Self {
        let topology = told.topology;
        let mut firing = firing_by_node(told.alerts);
        let mut spots = |nodes: &'a [v1::Node]| -> Vec<Spot<'a>> {
            by_name(nodes)
                .into_iter()
                .map(|node| Spot {
                    node,
                    firing: firing.remove(node.id.as_str()).unwrap_or_default(),
                })
                .collect()
        };
        let (boards, subs) = (spots(&topology.master_nodes), spots(&topology.sub_nodes));
        let detail = match boards.len() + subs.len() {
            count if count <= CARDS_MAX => Detail::Card,
            count if count <= COMPACT_MAX => Detail::Compact,
            _ => Detail::Tile,
        };
        let status = told.status;
        let is_well = status.store_health == "ok";
        let store = if is_well { String::new() } else { format!(": {}", status.store_health) };
        Self {
            name: &topology.name,
            about: format!(
                "{}, generation {}, {}",
                words::topology(topology.r#type),
                topology.generation,
                super::applied(topology)
            ),
            parent: &topology.parent_cluster,
            master: Master {
                tone: if is_well { Tone::Good } else { Tone::Bad },
                address: status.master_address.clone(),
                about: format!("{}, {}{store}", status.master_version, status.store_kind),
                firing: firing.remove("").unwrap_or_default(),
            },
            boards,
            groups: grouped(subs, group_by),
            detail,
        }
    }

    /// Every node.
    pub fn spots(&self) -> impl Iterator<Item = &Spot<'a>> {
        self.boards.iter().chain(self.groups.iter().flat_map(|group| &group.spots))
    }
}

impl Master {
    pub fn sign(&self) -> &'static str {
        if self.tone == Tone::Good { "◆" } else { "✗" }
    }
}

impl Group<'_> {
    /// `34 nodes, 1 not well, 2 critical`.
    pub fn about(&self) -> String {
        let unwell = self.spots.iter().filter(|spot| spot.tone() != Tone::Good).count();
        let mut about = counted(self.spots.len() as u64, "node", "nodes");
        if unwell > 0 {
            about.push_str(&format!(", {unwell} not well"));
        }
        let all = self.spots.iter().fold(Firing::default(), |all, spot| all.and(spot.firing));
        if let Some(words) = all.words() {
            about.push_str(&format!(", {words}"));
        }
        about
    }
}

impl Spot<'_> {
    pub fn tone(&self) -> Tone {
        status_tone(self.node)
    }

    /// The status by its shape too: not everybody sees every colour.
    pub fn sign(&self) -> &'static str {
        match NodeStatus::try_from(self.node.status) {
            Ok(NodeStatus::Ready) => "●",
            Ok(NodeStatus::Pending | NodeStatus::Initializing) => "◌",
            Ok(NodeStatus::Maintenance) => "◐",
            Ok(NodeStatus::NotReady | NodeStatus::Terminating) => "✗",
            Ok(NodeStatus::Unspecified) | Err(_) => "?",
        }
    }

    /// Of its link.
    pub fn round_trip(&self) -> Option<String> {
        round_trip(self.node)
    }

    /// Whether it needs no more than its name and its figures.
    pub fn is_quiet(&self) -> bool {
        let all_run = !self.node.containers.iter().any(is_unwell);
        self.node.connected
            && self.tone() == Tone::Good
            && self.firing == Firing::default()
            && all_run
    }

    /// How thick its link is, from 1 to 4: a step for each factor of thirty of what runs over the node's network.
    pub fn thickness(&self) -> f64 {
        let told: Vec<f64> = (self.node.metrics.iter())
            .filter(|(figure, _)| {
                figure.starts_with("network_rx") || figure.starts_with("network_tx")
            })
            .filter_map(|(_, rate)| rate.parse().ok())
            .collect();
        let kib = told.iter().sum::<f64>() / 1024.0;
        if kib > 1.0 { 1.0 + (kib.ln() / 3.4).min(3.0) } else { 1.0 }
    }

    /// Where there are but two strokes.
    pub fn is_thick(&self) -> bool {
        self.thickness() >= 2.0
    }

    /// What stands below its name and its status, a line each.
    pub fn lines(&self, detail: Detail) -> Vec<(Tone, String)> {
        let mut lines = Vec::new();
        if !self.node.conditions.is_empty() {
            lines.push((Tone::Warning, reason(self.node)));
        }
        if detail == Detail::Card {
            if !self.node.connected && !self.node.containers.is_empty() {
                lines.push((Tone::Faint, "containers as last known:".to_owned()));
            }
            lines.extend(by_container_name(&self.node.containers).into_iter().map(|container| {
                let (sign, name) = (container_sign(container), &container.name);
                let line = format!("{sign} {name}  {}", container_state(container));
                (container_tone(container), line)
            }));
        } else if let Some(counts) = self.counts() {
            lines.push(counts);
        }
        lines
    }

    /// `▪3 ✗1`.
    pub fn counts(&self) -> Option<(Tone, String)> {
        let mut counts = BTreeMap::new();
        for container in &self.node.containers {
            *counts.entry(container_sign(container)).or_insert(0) += 1;
        }
        let tone = if counts.contains_key(FAILED) { Tone::Bad } else { Tone::Plain };
        let words: Vec<_> = counts.iter().map(|(sign, count)| format!("{sign}{count}")).collect();
        (!words.is_empty()).then(|| (tone, words.join(" ")))
    }
}

impl Firing {
    fn and(self, other: Self) -> Self {
        Self {
            critical: self.critical + other.critical,
            warning: self.warning + other.warning,
            info: self.info + other.info,
        }
    }

    fn count(&mut self, severity: v1::Severity) {
        match severity {
            v1::Severity::Critical => self.critical += 1,
            v1::Severity::Warning => self.warning += 1,
            v1::Severity::Info | v1::Severity::Unspecified => self.info += 1,
        }
    }

    /// The worst first.
    fn counts(self) -> impl Iterator<Item = (Tone, usize, &'static str)> {
        let all = [
            (Tone::Bad, self.critical, "critical"),
            (Tone::Warning, self.warning, "warning"),
            (Tone::Plain, self.info, "info"),
        ];
        all.into_iter().filter(|(_, count, _)| *count > 0)
    }

    pub fn tone(self) -> Tone {
        self.counts().next().map_or(Tone::Plain, |(tone, ..)| tone)
    }

    /// `1 critical, 2 warning`; `None` where all is quiet.
    pub fn words(self) -> Option<String> {
        let all: Vec<_> = self.counts().map(|(_, count, word)| format!("{count} {word}")).collect();
        (!all.is_empty()).then(|| all.join(", "))
    }

    /// `1 critical +2`: the worst, and how many more there are.
    pub fn badge(self) -> Option<String> {
        let (_, count, word) = self.counts().next()?;
        let more = self.critical + self.warning + self.info - count;
        let more = if more > 0 { format!(" +{more}") } else { String::new() };
        Some(format!("{count} {word}{more}"))
    }
}

/// By the node's id; what is about the cluster itself is under the empty one.
fn firing_by_node(alerts: &[v1::Alert]) -> BTreeMap<&str, Firing> {
    let mut firing = BTreeMap::<_, Firing>::new();
    for alert in alerts {
        if alert.state != "firing" || !alert.silenced_by.is_empty() {
            continue;
        }
        let severity = v1::Severity::try_from(alert.severity).unwrap_or_default();
        let still = alert.members.iter().filter(|member| member.cleared_at.is_none());
        for node in still.map(|member| member.node_id.as_str()).collect::<BTreeSet<_>>() {
            firing.entry(node).or_default().count(severity);
        }
    }
    firing
}

/// By the label's value; those without it come last.
fn grouped<'a>(spots: Vec<Spot<'a>>, label: &str) -> Vec<Group<'a>> {
    let mut groups = BTreeMap::<_, Vec<Spot<'a>>>::new();
    for spot in spots {
        let value = spot.node.labels.get(label).filter(|value| !value.is_empty());
        groups.entry((value.is_none(), value)).or_default().push(spot);
    }
    let named = groups.keys().any(|(_, value)| value.is_some());
    let title = |value: Option<&String>| match value {
        Some(value) => format!("{label} {value}"),
        None => format!("without {label}"),
    };
    let groups = groups.into_iter();
    groups.map(|((_, value), spots)| Group { title: named.then(|| title(value)), spots }).collect()
}

const FAILED: &str = "✗";

fn container_sign(container: &v1::ContainerStatus) -> &'static str {
    match (is_unwell(container), is_running(container)) {
        (true, _) => FAILED,
        (false, true) => "▪",
        (false, false) => "▫",
    }
}

fn by_name(nodes: &[v1::Node]) -> Vec<&v1::Node> {
    let mut sorted: Vec<_> = nodes.iter().collect();
    sorted.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
    sorted
}

fn by_container_name(containers: &[v1::ContainerStatus]) -> Vec<&v1::ContainerStatus> {
    let mut sorted: Vec<_> = containers.iter().collect();
    sorted.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, site: &str) -> v1::Node {
        let labels = [("site".to_owned(), site.to_owned())].into();
        v1::Node { id: name.to_owned(), name: name.to_owned(), labels, ..Default::default() }
    }

    #[track_caller]
    fn check(nodes: &[v1::Node], group_by: &str, expect: &[(Option<&str>, &[&str])]) {
        let topology =
            v1::ClusterTopology { sub_nodes: nodes.to_vec(), ..v1::ClusterTopology::default() };
        let status = v1::GetClusterStatusResponse::default();
        let told = Told { topology: &topology, status: &status, alerts: &[] };
        let scene = Scene::of(told, group_by);
        let got: Vec<(Option<&str>, Vec<&str>)> = scene
            .groups
            .iter()
            .map(|group| {
                let names = group.spots.iter().map(|spot| spot.node.name.as_str()).collect();
                (group.title.as_deref(), names)
            })
            .collect();
        let expect: Vec<_> = expect.iter().map(|(title, names)| (*title, names.to_vec())).collect();
        assert_eq!(got, expect);
    }

    #[test]
    fn nodes_are_grouped_by_a_label_and_those_without_come_last() {
        let nodes = [node("c", ""), node("b", "north"), node("d", "alps"), node("a", "north")];
        let grouped: [(Option<&str>, &[&str]); 3] = [
            (Some("site alps"), &["d"]),
            (Some("site north"), &["a", "b"]),
            (Some("without site"), &["c"]),
        ];
        check(&nodes, "site", &grouped);
        check(&nodes, "rack", &[(None, &["a", "b", "c", "d"])]);
        check(&[], "site", &[]);
    }

    #[test]
    fn alerts_that_fire_and_are_nobodys_are_counted_once_for_each_node() {
        let member = |node: &str, container: &str| v1::AlertMember {
            node_id: node.to_owned(),
            container: container.to_owned(),
            ..Default::default()
        };
        let alert = |severity: v1::Severity, members: &[v1::AlertMember]| v1::Alert {
            severity: severity.into(),
            state: "firing".to_owned(),
            members: members.to_vec(),
            ..Default::default()
        };
        let over = v1::AlertMember {
            cleared_at: Some(prost_types::Timestamp::default()),
            ..member("b", "")
        };
        let both = [member("a", "x"), member("a", "y"), over];
        let mut alerts = vec![
            alert(v1::Severity::Warning, &both),
            alert(v1::Severity::Critical, &[member("a", "")]),
            alert(v1::Severity::Info, &[member("", "")]),
        ];
        for state in ["pending", "acknowledged", "resolved"] {
            alerts.push(v1::Alert { state: state.to_owned(), ..alerts[1].clone() });
        }
        alerts.push(v1::Alert { silenced_by: "1-1".to_owned(), ..alerts[1].clone() });
        let firing = firing_by_node(&alerts);
        assert_eq!(firing.keys().copied().collect::<Vec<_>>(), ["", "a"]);
        assert_eq!(firing["a"].words().as_deref(), Some("1 critical, 1 warning"));
        assert_eq!(firing["a"].badge().as_deref(), Some("1 critical +1"));
        assert_eq!(firing[""].words().as_deref(), Some("1 info"));
        assert_eq!(Firing::default().badge(), None);
    }

    #[test]
    fn a_link_is_as_thick_as_what_runs_over_it() {
        let thickness = |rates: &[&str]| {
            let rates = rates.iter().enumerate();
            let metrics =
                rates.map(|(i, rate)| (format!("network_rx_{i}"), (*rate).to_owned())).collect();
            let node = v1::Node { metrics, ..Default::default() };
            Spot { node: &node, firing: Firing::default() }.thickness()
        };
        assert!([&[][..], &["12"], &["no"]].iter().all(|rates| thickness(rates) == 1.0));
        assert!(thickness(&["40000"]) > 2.0 && thickness(&["40000"]) < thickness(&["40000"; 2]));
        assert_eq!(thickness(&["1e30"]), 4.0);
    }
}
