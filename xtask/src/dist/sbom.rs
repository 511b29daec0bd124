//! What an executable is made of, as CycloneDX: each crate that is linked, its licence, digest and what it needs.
//!
//! cargo tells it for one package and one target, with just the features that this build has; what only runs in the
//! compiler is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::run;
use crate::workspace::Workspace;

/// A crate by its name and version.
type Crate = (String, String);

#[derive(Debug, Default)]
struct Tree {
    /// With its licence.
    crates: BTreeMap<Crate, String>,
    needs: BTreeMap<Crate, BTreeSet<Crate>>,
    root: Option<Crate>,
}

/// The document for `executable`, which `package` is built into for `target`.
///
/// # Errors
/// cargo cannot tell, or `Cargo.lock` cannot be read.
pub(crate) fn of(
    workspace: &Workspace,
    package: &str,
    executable: &str,
    target: &str,
) -> Result<String> {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(workspace.root());
    cargo.args(["tree", "--locked", "--package", package, "--target", target]);
    cargo.args(["--edges", "normal,no-proc-macro", "--prefix", "depth", "--format", "|{p}|{l}"]);
    let tree = run::answer(&mut cargo).context("`cargo tree` failed")?;
    let digests = digests(&workspace.root().join("Cargo.lock"))?;
    let document = document(&parse(&tree), &digests, executable)?;
    serde_json::to_string_pretty(&document).map(|text| text + "\n").context("no JSON")
}

/// Lines such as `2|serde v1.0.0|MIT OR Apache-2.0`, each below the last one that is less deep.
fn parse(text: &str) -> Tree {
    let mut tree = Tree::default();
    let mut above: Vec<Crate> = Vec::new();
    for line in text.lines() {
        let mut parts = line.splitn(3, '|');
        let (Some(depth), Some(named), licence) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        let mut words = named.split(' ');
        let (Some(name), Some(version)) = (words.next(), words.next()) else { continue };
        let depth = depth.parse().unwrap_or(0);
        let this = (name.to_owned(), version.trim_start_matches('v').to_owned());
        let licence = licence.unwrap_or_default().trim_end_matches("(*)").trim().to_owned();
        above.truncate(depth);
        match above.last() {
            Some(parent) => {
                tree.needs.entry(parent.clone()).or_default().insert(this.clone());
            }
            None => tree.root = Some(this.clone()),
        }
        tree.crates.insert(this.clone(), licence);
        above.push(this);
    }
    tree
}

fn document(tree: &Tree, digests: &BTreeMap<Crate, String>, executable: &str) -> Result<Value> {
    let root = tree.root.as_ref().context("cargo named no crate")?;
    let others = tree.crates.iter().filter(|(name, _)| *name != root);
    let components: Vec<_> = others
        .map(|(name, licence)| component(name, licence, digests.get(name), "library"))
        .collect();
    let dependencies: Vec<_> = tree
        .crates
        .keys()
        .map(|name| {
            let needs = tree.needs.get(name).into_iter().flatten().map(purl);
            json!({ "ref": purl(name), "dependsOn": needs.collect::<Vec<_>>() })
        })
        .collect();
    let mut main = component(root, &tree.crates[root], None, "application");
    main["name"] = json!(executable);
    Ok(json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": { "component": main },
        "components": components,
        "dependencies": dependencies,
    }))
}

fn component(name: &Crate, licence: &str, digest: Option<&String>, kind: &str) -> Value {
    let mut component = json!({
        "type": kind, "bom-ref": purl(name), "name": name.0, "version": name.1, "purl": purl(name),
    });
    // older crates write MIT/Apache-2.0
    let expression = licence.replace('/', " OR ");
    if !expression.is_empty() {
        component["licenses"] = json!([{ "expression": expression }]);
    }
    if let Some(digest) = digest {
        component["hashes"] = json!([{ "alg": "SHA-256", "content": digest }]);
    }
    component
}

fn purl((name, version): &Crate) -> String {
    format!("pkg:cargo/{name}@{version}")
}

/// Of the crates' archives; those of this workspace have none.
fn digests(lock: &Path) -> Result<BTreeMap<Crate, String>> {
    let text =
        fs::read_to_string(lock).with_context(|| format!("cannot read {}", lock.display()))?;
    let value = |block: &str, key: &str| {
        let line = block.lines().find_map(|line| line.strip_prefix(&format!("{key} = ")))?;
        Some(line.trim_matches('"').to_owned())
    };
    let blocks = text.split("[[package]]").filter_map(|block| {
        Some(((value(block, "name")?, value(block, "version")?), value(block, "checksum")?))
    });
    Ok(blocks.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cargo_says_becomes_crates_and_their_needs() {
        let tree = parse(
            "0|app v0.1.0 (/src/app)|Apache-2.0\n1|a v1.0.0|MIT/Apache-2.0\n2|b v2.0.0|MIT\n1|b v2.0.0|MIT (*)\n",
        );
        let named = |name: &str, version: &str| (name.to_owned(), version.to_owned());
        let (app, a, b) = (named("app", "0.1.0"), named("a", "1.0.0"), named("b", "2.0.0"));
        assert_eq!(tree.root, Some(app.clone()));
        assert_eq!(tree.needs[&app], BTreeSet::from([a.clone(), b.clone()]));
        assert_eq!(tree.needs[&a], BTreeSet::from([b.clone()]));
        assert_eq!(tree.crates[&b], "MIT");
        let digests = BTreeMap::from([(b, "00ff".to_owned())]);
        let document = document(&tree, &digests, "the-app").unwrap();
        assert_eq!(document["metadata"]["component"]["name"], "the-app");
        assert_eq!(document["components"][0]["licenses"][0]["expression"], "MIT OR Apache-2.0");
        assert_eq!(document["components"][1]["hashes"][0]["content"], "00ff");
        assert_eq!(document["dependencies"].as_array().unwrap().len(), 3);
    }
}
