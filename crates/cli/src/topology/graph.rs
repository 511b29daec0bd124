//! The cluster as a picture: for the terminal, for Graphviz, and for Mermaid.

use piccolo_rpc::v1;
use v1::NodeStatus;

use super::applied;
use crate::{
    node::table::{
        container_state, container_tone, is_running, is_unwell, reason, round_trip, status_tone,
    },
    output::{Look, Tone},
    text::{age, clean, or_nothing},
    words,
};

/// The picture for the terminal: the cluster, its masters, below them the sub nodes, and in each
/// node its containers.
pub fn picture(topology: &v1::ClusterTopology, look: &Look) -> String {
    let mut out = Drawing { look, text: String::new() };
    let title = format!(
        "{}  {}  generation {}, {}",
        look.paint(Tone::Strong, &or_nothing(&topology.name)),
        words::topology(topology.r#type),
        topology.generation,
        applied(topology)
    );
    out.line("", &title);
    if !topology.parent_cluster.is_empty() {
        out.line("", &format!("child of {}", clean(&topology.parent_cluster)));
    }
    let masters = by_name(&topology.master_nodes);
    let subs = by_name(&topology.sub_nodes);
    if masters.is_empty() && subs.is_empty() {
        out.line("", "no board has joined yet");
        return out.text;
    }
    // Sub nodes hang below the last master; without a NodeAgent on it, below the cluster itself.
    for (index, master) in masters.iter().enumerate() {
        let last = index + 1 == masters.len();
        out.node(master, "", last, last && !subs.is_empty());
    }
    let indent = if masters.is_empty() { "" } else { "   " };
    for (index, sub) in subs.iter().enumerate() {
        out.node(sub, indent, index + 1 == subs.len(), false);
    }
    out.text
}

struct Drawing<'a> {
    look: &'a Look,
    text: String,
}

impl Drawing<'_> {
    fn line(&mut self, indent: &str, content: &str) {
        self.text.push_str(format!("{indent}{content}").trim_end());
        self.text.push('\n');
    }

    /// A node and what is in it. `parent`: nodes follow below it.
    fn node(&mut self, node: &v1::Node, indent: &str, last: bool, parent: bool) {
        let look = *self.look;
        let corner = if last { "└─" } else { "├─" };
        let tone = status_tone(node);
        let since = node.status_since.as_ref();
        let status = match since {
            Some(_) => format!("{} for {}", words::status(node.status), age(look.now, since)),
            None => words::status(node.status),
        };
        let link = round_trip(node).map(|time| format!("  {time}")).unwrap_or_default();
        let line = format!(
            "{corner} {} {}  {}  {}  {}{link}",
            look.paint(tone, sign(node)),
            look.paint(Tone::Strong, &clean(&node.name)),
            words::role(node.role),
            look.paint(tone, &status),
            or_nothing(&node.ip),
        );
        self.line(indent, &line);
        let trunk = if last { " " } else { "│" };
        let branch = if parent { "│" } else { " " };
        let inner = format!("{indent}{trunk}  {branch}  ");
        if !node.conditions.is_empty() {
            self.line(&inner, &look.paint(Tone::Warning, &reason(node)));
        }
        for container in by_container_name(&node.containers) {
            self.line(&inner, &container_line(container, &look));
        }
    }
}

fn container_line(container: &v1::ContainerStatus, look: &Look) -> String {
    let tone = container_tone(container);
    let name = clean(&container.name);
    format!(
        "{} {name}  {}",
        look.paint(tone, container_sign(container)),
        container_state(container)
    )
}

/// As the picture has it, without colours.
pub(super) fn container_line_plain(container: &v1::ContainerStatus) -> String {
    let (sign, name) = (container_sign(container), &container.name);
    format!("{sign} {name}: {}", container_state(container))
}

fn sign(node: &v1::Node) -> &'static str {
    match NodeStatus::try_from(node.status) {
        Ok(NodeStatus::Ready) => "●",
        Ok(NodeStatus::Pending | NodeStatus::Initializing) => "◌",
        Ok(NodeStatus::Maintenance) => "◐",
        Ok(NodeStatus::NotReady | NodeStatus::Terminating) => "✗",
        Ok(NodeStatus::Unspecified) | Err(_) => "?",
    }
}

fn container_sign(container: &v1::ContainerStatus) -> &'static str {
    match (is_unwell(container), is_running(container)) {
        (true, _) => "✗",
        (false, true) => "▪",
        (false, false) => "▫",
    }
}

pub(super) fn by_name(nodes: &[v1::Node]) -> Vec<&v1::Node> {
    let mut sorted: Vec<_> = nodes.iter().collect();
    sorted.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
    sorted
}

pub(super) fn by_container_name(containers: &[v1::ContainerStatus]) -> Vec<&v1::ContainerStatus> {
    let mut sorted: Vec<_> = containers.iter().collect();
    sorted.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
    sorted
}

fn colour(node: &v1::Node) -> &'static str {
    match status_tone(node) {
        Tone::Good => "#b7e1b0",
        Tone::Warning => "#f6e3a1",
        Tone::Bad => "#f2b3ad",
        Tone::Plain | Tone::Faint | Tone::Strong => "#e0e0e0",
    }
}

/// The master that no board of the cluster carries.
const HUB: &str = "master";

/// For Graphviz.
pub fn dot(topology: &v1::ClusterTopology) -> String {
    let (masters, subs) = (by_name(&topology.master_nodes), by_name(&topology.sub_nodes));
    let mut out = format!(
        "graph {} {{\n  label={};\n  node [shape=box, style=\"rounded,filled\", \
         fontname=\"sans-serif\"];\n",
        dot_quoted(&topology.name),
        dot_quoted(&format!("{} ({})", topology.name, words::topology(topology.r#type)))
    );
    for node in masters.iter().chain(&subs) {
        let mut lines = vec![
            node.name.clone(),
            format!("{}, {}", words::role(node.role), words::status(node.status)),
        ];
        lines.extend(
            by_container_name(&node.containers)
                .into_iter()
                .map(|container| format!("{} {}", container.name, container_state(container))),
        );
        out.push_str(&format!(
            "  {} [label={}, fillcolor=\"{}\"];\n",
            dot_quoted(&node.id),
            dot_quoted(&lines.join("\n")),
            colour(node)
        ));
    }
    let mut hubs: Vec<_> = masters.iter().map(|master| dot_quoted(&master.id)).collect();
    if hubs.is_empty() {
        let label = dot_quoted(&format!("{}\nmaster", topology.name));
        out.push_str(&format!("  {HUB} [label={label}, fillcolor=\"#ffffff\"];\n"));
        hubs.push(HUB.to_owned());
    }
    for hub in &hubs {
        for sub in &subs {
            let style = if sub.connected { "solid" } else { "dashed" };
            let label =
                round_trip(sub).map(|time| format!(", label=\"{time}\"")).unwrap_or_default();
            out.push_str(&format!("  {hub} -- {} [style={style}{label}];\n", dot_quoted(&sub.id)));
        }
    }
    out.push_str("}\n");
    out
}

fn dot_quoted(text: &str) -> String {
    let lines: Vec<_> = text
        .split('\n')
        .map(|line| clean(line).replace('\\', "\\\\").replace('"', "\\\""))
        .collect();
    format!("\"{}\"", lines.join("\\n"))
}

/// For Mermaid.
pub fn mermaid(topology: &v1::ClusterTopology) -> String {
    let (masters, subs) = (by_name(&topology.master_nodes), by_name(&topology.sub_nodes));
    let mut out = "graph TD\n".to_owned();
    let nodes: Vec<_> = masters.iter().chain(&subs).collect();
    for (index, node) in nodes.iter().enumerate() {
        let mut lines = vec![
            format!("<b>{}</b>", mermaid_text(&node.name)),
            format!("{}, {}", words::role(node.role), words::status(node.status)),
        ];
        lines.extend(by_container_name(&node.containers).into_iter().map(|container| {
            mermaid_text(&format!("{} {}", container.name, container_state(container)))
        }));
        out.push_str(&format!("  n{index}[\"{}\"]\n", lines.join("<br/>")));
        out.push_str(&format!("  style n{index} fill:{}\n", colour(node)));
    }
    let mut hubs: Vec<_> = (0..masters.len()).map(|index| format!("n{index}")).collect();
    if hubs.is_empty() {
        let name = mermaid_text(&topology.name);
        out.push_str(&format!("  {HUB}[\"<b>{name}</b><br/>master\"]\n"));
        hubs.push(HUB.to_owned());
    }
    for hub in &hubs {
        for (index, sub) in subs.iter().enumerate() {
            let line = if sub.connected { "---" } else { "-.-" };
            let label = round_trip(sub).map(|time| format!("|{time}|")).unwrap_or_default();
            out.push_str(&format!("  {hub} {line}{label} n{}\n", masters.len() + index));
        }
    }
    out
}

/// Mermaid reads entities, and nothing else can hide what has a meaning there.
fn mermaid_text(text: &str) -> String {
    let mut out = String::new();
    for c in clean(text).chars() {
        if c.is_alphanumeric() || " -_.,:()/".contains(c) {
            out.push(c);
        } else {
            out.push_str(&format!("#{};", u32::from(c)));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_master_that_no_board_carries_is_drawn_with_its_links() {
        let sub = |name: &str, connected| v1::Node {
            id: name.to_owned(),
            name: name.to_owned(),
            connected,
            ..Default::default()
        };
        let topology = v1::ClusterTopology {
            name: "robot".to_owned(),
            sub_nodes: vec![sub("a", true), sub("b", false)],
            ..Default::default()
        };
        let (dot, mermaid) = (dot(&topology), mermaid(&topology));
        for line in [
            "  master [label=\"robot\\nmaster\", fillcolor=\"#ffffff\"];\n",
            "  master -- \"a\" [style=solid];\n",
            "  master -- \"b\" [style=dashed];\n",
        ] {
            assert!(dot.contains(line), "{dot}");
        }
        for line in
            ["  master[\"<b>robot</b><br/>master\"]\n", "  master --- n0\n", "  master -.- n1\n"]
        {
            assert!(mermaid.contains(line), "{mermaid}");
        }
    }

    #[test]
    fn names_cannot_break_out_of_their_quotes() {
        assert_eq!(dot_quoted("a\"; b\\\nc\u{1b}"), "\"a\\\"; b\\\\\\nc\\\\u{1b}\"");
        assert_eq!(mermaid_text("a\"]<b>#"), "a#34;#93;#60;b#62;#35;");
    }
}
