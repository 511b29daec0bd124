//! What a person calls a source: `NODE`, `NODE:UNIT`, `NODE/CONTAINER`, or `CONTAINER` where one node alone has it.

use std::collections::BTreeSet;

use super::{SOURCES_MAX, Source};
use crate::{
    api_server::{Code, Refusal},
    model::NodeId,
};

pub(super) const NO_NODE: &str = "NoSuchNode";

/// What is known of a node for this.
#[derive(Debug, Clone)]
pub struct Known<'a> {
    pub id: &'a NodeId,
    pub name: &'a str,
    /// Names of its containers.
    pub containers: Vec<&'a str>,
}

/// One source of a reader.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    pub node: NodeId,
    pub source: Source,
    /// For people: `NODE`, `NODE/CONTAINER` or `NODE:UNIT`.
    pub name: String,
}

/// The sources that are meant, each once, in the order in which they were named.
///
/// # Errors
/// Nothing is named, or something that is not there, or that several nodes have; or too much.
pub fn resolve(
    texts: &[String],
    all: bool,
    unit: &str,
    nodes: &[Known<'_>],
) -> Result<Vec<Target>, Refusal> {
    let invalid = |message: &str| Refusal::new(Code::InvalidArgument, "InvalidField", message);
    if all != texts.is_empty() {
        let message = if all { "either targets or all of them" } else { "no target is named" };
        return Err(invalid(message));
    }
    let mut targets = Vec::new();
    if all {
        for node in nodes {
            targets.push(of_node(node, unit));
            if unit.is_empty() {
                targets.extend(node.containers.iter().map(|name| of_container(node, name)));
            }
        }
    }
    for text in texts {
        let target = one(text, unit, nodes)?;
        if !unit.is_empty() && matches!(target.source, Source::Container(_)) {
            return Err(invalid("a unit is of a node, not of a container"));
        }
        targets.push(target);
    }
    let mut seen = BTreeSet::new();
    targets.retain(|target| seen.insert(target.clone()));
    if targets.len() > SOURCES_MAX {
        let message = format!("{} sources are more than {SOURCES_MAX}", targets.len());
        return Err(Refusal::new(Code::ResourceExhausted, "TooManySources", message)
            .help("name those that are wanted"));
    }
    Ok(targets)
}

fn one(text: &str, unit: &str, nodes: &[Known<'_>]) -> Result<Target, Refusal> {
    if let Some((node, container)) = text.split_once('/') {
        let node = find(node, nodes).ok_or_else(|| missing(NO_NODE, &format!("no node {node}")))?;
        if !node.containers.contains(&container) {
            return Err(missing(
                "NoSuchContainer",
                &format!("node {} has no container {container}", node.name),
            ));
        }
        return Ok(of_container(node, container));
    }
    if let Some(node) = find(text, nodes) {
        return Ok(of_node(node, unit));
    }
    if let Some((node, unit)) = text.split_once(':').filter(|(_, unit)| !unit.is_empty()) {
        let node = find(node, nodes).ok_or_else(|| missing(NO_NODE, &format!("no node {node}")))?;
        return Ok(of_node(node, unit));
    }
    let owners: Vec<_> = nodes.iter().filter(|node| node.containers.contains(&text)).collect();
    match owners[..] {
        [] => Err(missing(NO_NODE, &format!("no node and no container {text}"))),
        [node] => Ok(of_container(node, text)),
        [..] => {
            let names: Vec<_> = owners.iter().map(|node| format!("{}/{text}", node.name)).collect();
            let message = format!("several nodes have a container {text}: {}", names.join(", "));
            Err(Refusal::new(Code::InvalidArgument, "Ambiguous", message).help("name the node too"))
        }
    }
}

/// By id, or by name where no id is the same.
pub(super) fn find<'a, 'b>(text: &str, nodes: &'a [Known<'b>]) -> Option<&'a Known<'b>> {
    let by_id = nodes.iter().find(|node| node.id.as_str() == text);
    by_id.or_else(|| nodes.iter().find(|node| node.name.eq_ignore_ascii_case(text)))
}

fn of_node(node: &Known<'_>, unit: &str) -> Target {
    let (source, name) = match unit {
        "" => (Source::Agent, node.name.to_owned()),
        unit => (Source::Unit(unit.to_owned()), format!("{}:{unit}", node.name)),
    };
    Target { node: node.id.clone(), source, name }
}

fn of_container(node: &Known<'_>, container: &str) -> Target {
    Target {
        node: node.id.clone(),
        source: Source::Container(container.to_owned()),
        name: format!("{}/{container}", node.name),
    }
}

pub(super) fn missing(reason: &'static str, message: &str) -> Refusal {
    Refusal::new(Code::NotFound, reason, message)
        .help("see what there is: piccolo node list; piccolo top containers")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> NodeId {
        NodeId::parse("id", text).unwrap()
    }

    /// The names of what is meant, or the reason.
    fn meant(texts: &[&str], all: bool, unit: &str) -> Result<String, &'static str> {
        let (a, b) = (id("id-a"), id("id-b"));
        let nodes = [
            Known { id: &a, name: "zone-a", containers: vec!["web", "db"] },
            Known { id: &b, name: "zone-b", containers: vec!["web"] },
        ];
        let texts: Vec<_> = texts.iter().map(|text| (*text).to_owned()).collect();
        let targets = resolve(&texts, all, unit, &nodes).map_err(|refusal| refusal.reason)?;
        let names: Vec<_> = targets.into_iter().map(|target| target.name).collect();
        Ok(names.join(" "))
    }

    #[track_caller]
    fn check(texts: &[&str], all: bool, unit: &str, expected: Result<&str, &'static str>) {
        assert_eq!(meant(texts, all, unit), expected.map(str::to_owned));
    }

    #[test]
    fn a_source_is_named_as_people_name_it() {
        check(&["zone-a"], false, "", Ok("zone-a"));
        check(&["ZONE-A", "id-b"], false, "", Ok("zone-a zone-b"));
        check(&["zone-b/web"], false, "", Ok("zone-b/web"));
        check(&["db"], false, "", Ok("zone-a/db"));
        check(&["db", "zone-a/db"], false, "", Ok("zone-a/db"));
        check(&["zone-a"], false, "podman.service", Ok("zone-a:podman.service"));
        check(
            &["zone-a:a.service", "id-a:b.service", "zone-a/db", "zone-a"],
            false,
            "",
            Ok("zone-a:a.service zone-a:b.service zone-a/db zone-a"),
        );
        check(&["zone-b:a.service"], false, "x.service", Ok("zone-b:a.service"));
        check(&[], true, "", Ok("zone-a zone-a/web zone-a/db zone-b zone-b/web"));
        check(&[], true, "x.service", Ok("zone-a:x.service zone-b:x.service"));
    }

    #[test]
    fn what_is_not_clear_is_refused() {
        check(&["web"], false, "", Err("Ambiguous"));
        check(&["nobody"], false, "", Err("NoSuchNode"));
        check(&["nobody:a.service"], false, "", Err("NoSuchNode"));
        check(&["zone-a:"], false, "", Err("NoSuchNode"));
        check(&["nobody/web"], false, "", Err("NoSuchNode"));
        check(&["zone-b/db"], false, "", Err("NoSuchContainer"));
        check(&[], false, "", Err("InvalidField"));
        check(&["zone-a"], true, "", Err("InvalidField"));
        check(&["db"], false, "x.service", Err("InvalidField"));
    }

    #[test]
    fn too_many_sources_are_refused() {
        let a = id("a");
        let names: Vec<_> = (0..SOURCES_MAX).map(|n| format!("c{n}")).collect();
        let containers = names.iter().map(String::as_str).collect();
        let nodes = [Known { id: &a, name: "a", containers }];
        assert_eq!(resolve(&[], true, "", &nodes).unwrap_err().reason, "TooManySources");
    }
}
