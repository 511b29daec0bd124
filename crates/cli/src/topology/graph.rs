//! The cluster for programs that lay out graphs themselves: Graphviz, and Mermaid.

use super::scene::{Detail, Scene, Spot};
use crate::{output::Tone, text::clean, words};

/// The master, where nodes are named by their ids.
const MASTER: &str = "master";

fn colour(tone: Tone) -> &'static str {
    match tone {
        Tone::Good => "#b7e1b0",
        Tone::Warning => "#f6e3a1",
        Tone::Bad => "#f2b3ad",
        Tone::Plain | Tone::Faint | Tone::Strong => "#e0e0e0",
    }
}

/// From above; a crowd from the left, since it would be far too wide.
fn direction(scene: &Scene<'_>) -> &'static str {
    if scene.detail == Detail::Card { "TB" } else { "LR" }
}

/// What stands in the master's box, the name first.
fn master_lines(scene: &Scene<'_>) -> Vec<String> {
    let master = &scene.master;
    let mut lines =
        vec![format!("{} {}", master.sign(), scene.name), format!("{MASTER} {}", master.address)];
    lines.push(master.about.clone());
    lines.extend(master.firing.words().map(|words| format!("▲ {words}")));
    lines
}

/// What stands in a node's box, the name first.
fn lines(spot: &Spot<'_>, detail: Detail) -> Vec<String> {
    let node = spot.node;
    let mut lines = vec![
        format!("{} {}", spot.sign(), node.name),
        format!("{}, {}, {}", words::role(node.role), words::status(node.status), node.ip),
    ];
    lines.extend(spot.firing.words().map(|words| format!("▲ {words}")));
    lines.extend(spot.lines(detail).into_iter().map(|(_, line)| line));
    lines
}

/// For Graphviz.
pub fn dot(scene: &Scene<'_>) -> String {
    let mut out = format!(
        "graph {} {{\n  label={};\n  rankdir={};\n  node [shape=box, style=\"rounded,filled\", \
         fontname=\"sans-serif\"];\n",
        dot_quoted(scene.name),
        dot_quoted(&format!("{} ({})", scene.name, scene.about)),
        direction(scene),
    );
    if !scene.parent.is_empty() {
        let parent = dot_quoted(&format!("parent cluster\n{}", scene.parent));
        out.push_str(&format!("  parent [label={parent}, fillcolor=\"#ffffff\"];\n"));
        out.push_str(&format!("  parent -- {MASTER};\n"));
    }
    let label = dot_quoted(&master_lines(scene).join("\n"));
    let fill = colour(scene.master.tone);
    out.push_str(&format!("  {MASTER} [label={label}, fillcolor=\"{fill}\"];\n"));
    for board in &scene.boards {
        dot_node(&mut out, "  ", board, scene.detail);
    }
    for (index, group) in scene.groups.iter().enumerate() {
        let Some(title) = &group.title else {
            group.spots.iter().for_each(|spot| dot_node(&mut out, "  ", spot, scene.detail));
            continue;
        };
        // Graphviz draws a frame around what begins with this word
        let label = dot_quoted(&format!("{title}: {}", group.about()));
        out.push_str(&format!("  subgraph cluster_{index} {{\n    label={label};\n"));
        group.spots.iter().for_each(|spot| dot_node(&mut out, "    ", spot, scene.detail));
        out.push_str("  }\n");
    }
    for spot in scene.spots() {
        let style = if spot.node.connected { "solid" } else { "dashed" };
        let label = spot.round_trip().map(|time| format!(", label=\"{time}\"")).unwrap_or_default();
        out.push_str(&format!(
            "  {MASTER} -- {} [style={style}, penwidth={:.1}{label}];\n",
            dot_quoted(&spot.node.id),
            spot.thickness()
        ));
    }
    out.push_str("}\n");
    out
}

fn dot_node(out: &mut String, indent: &str, spot: &Spot<'_>, detail: Detail) {
    let label = dot_quoted(&lines(spot, detail).join("\n"));
    let (id, fill) = (dot_quoted(&spot.node.id), colour(spot.tone()));
    let frame = match spot.firing.badge() {
        Some(_) => ", color=\"#b9302a\", penwidth=2",
        None => "",
    };
    out.push_str(&format!("{indent}{id} [label={label}, fillcolor=\"{fill}\"{frame}];\n"));
}

fn dot_quoted(text: &str) -> String {
    let lines: Vec<_> = text
        .split('\n')
        .map(|line| clean(line).replace('\\', "\\\\").replace('"', "\\\""))
        .collect();
    format!("\"{}\"", lines.join("\\n"))
}

/// For Mermaid.
pub fn mermaid(scene: &Scene<'_>) -> String {
    let mut out = format!("graph {}\n", direction(scene));
    for (class, tone) in CLASSES {
        out.push_str(&format!("  classDef {class} fill:{}\n", colour(tone)));
    }
    if !scene.parent.is_empty() {
        let parent = mermaid_text(scene.parent);
        out.push_str(&format!("  parent[\"parent cluster<br/>{parent}\"] --- {MASTER}\n"));
    }
    let (label, class) = (mermaid_label(master_lines(scene)), class_of(scene.master.tone));
    out.push_str(&format!("  {MASTER}[\"{label}\"]:::{class}\n"));
    let mut ids = (0..).map(|index| format!("n{index}"));
    let mut links = String::new();
    let mut node = |out: &mut String, indent: &str, spot: &Spot<'_>| {
        let id = ids.next().unwrap_or_default();
        let (label, class) = (mermaid_label(lines(spot, scene.detail)), class_of(spot.tone()));
        out.push_str(&format!("{indent}{id}[\"{label}\"]:::{class}\n"));
        let line = match (spot.node.connected, spot.is_thick()) {
            (false, _) => "-.-",
            (true, true) => "===",
            (true, false) => "---",
        };
        let time = spot.round_trip().map(|time| format!("|{time}|")).unwrap_or_default();
        links.push_str(&format!("  {MASTER} {line}{time} {id}\n"));
    };
    scene.boards.iter().for_each(|board| node(&mut out, "  ", board));
    for (index, group) in scene.groups.iter().enumerate() {
        let Some(title) = &group.title else {
            group.spots.iter().for_each(|spot| node(&mut out, "  ", spot));
            continue;
        };
        let label = mermaid_text(&format!("{title}: {}", group.about()));
        out.push_str(&format!("  subgraph g{index}[\"{label}\"]\n"));
        group.spots.iter().for_each(|spot| node(&mut out, "    ", spot));
        out.push_str("  end\n");
    }
    out.push_str(&links);
    out
}

const CLASSES: [(&str, Tone); 4] =
    [("well", Tone::Good), ("care", Tone::Warning), ("bad", Tone::Bad), ("idle", Tone::Plain)];

fn class_of(tone: Tone) -> &'static str {
    CLASSES.iter().find(|(_, of)| *of == tone).map_or("idle", |(class, _)| class)
}

/// Its first line is the name.
fn mermaid_label(lines: Vec<String>) -> String {
    let mut lines = lines.iter().map(|line| mermaid_text(line));
    let name = lines.next().unwrap_or_default();
    lines.fold(format!("<b>{name}</b>"), |label, line| label + "<br/>" + &line)
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
    fn names_cannot_break_out_of_their_quotes() {
        assert_eq!(dot_quoted("a\"; b\\\nc\u{1b}"), "\"a\\\"; b\\\\\\nc\\\\u{1b}\"");
        assert_eq!(mermaid_text("a\"]<b>#"), "a#34;#93;#60;b#62;#35;");
    }
}
