//! The tree itself, held to what ARCHITECTURE.md, CHANGELOG.md and CONTRIBUTING.md promise.

#![allow(clippy::unwrap_used, reason = "a test stops where its surroundings are not as expected")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file longer than this tells more than one story.
const FILE_LINES_MAX: usize = 800;
/// Sent to a host by itself, and run there with nothing beside it: it cannot be split.
const IN_ONE_PIECE: (&str, usize) = ("scripts/install.sh", 1000);
const TEXT_EXTENSIONS: [&str; 12] =
    ["rs", "proto", "toml", "md", "py", "sh", "yaml", "yml", "txt", "service", "json", "run"];
/// Written by a program, not by people.
const GENERATED: [&str; 2] = ["Cargo.lock", "docs/operations/cli.md"];
const CRATE_PREFIX: &str = "piccolo-";

#[test]
fn crates_use_only_what_architecture_draws() {
    let drawn = drawn_edges(&read("ARCHITECTURE.md"));
    for (krate, dependency, is_for_tests) in real_edges() {
        let allowed = drawn.get(&krate).unwrap_or_else(|| {
            panic!("{krate} is not in the block `edges` of ARCHITECTURE.md: draw it there")
        });
        let is_testkit = is_for_tests && dependency == "testkit";
        assert!(
            allowed.contains(&dependency) || is_testkit || (is_for_tests && dependency == krate),
            "{krate} uses {dependency}, which ARCHITECTURE.md does not draw"
        );
    }
}

#[test]
fn every_path_named_in_architecture_exists() {
    let text = read("ARCHITECTURE.md");
    let named: Vec<&str> = code_spans(&text).filter(|span| is_path(span)).collect();
    assert!(named.len() > 5, "the test finds no paths any more");
    for path in named {
        assert!(root().join(path).exists(), "ARCHITECTURE.md names {path}, which is not there");
    }
}

#[test]
fn no_file_is_too_long() {
    check_files(|path, text| {
        let lines = text.lines().count();
        let max = if path == IN_ONE_PIECE.0 { IN_ONE_PIECE.1 } else { FILE_LINES_MAX };
        let too_long = lines > max && !path.ends_with(".json");
        too_long.then(|| format!("{lines} lines, {max} at most: split it"))
    });
}

#[test]
fn nothing_is_left_half_done() {
    let words = [concat!("FIX", "ME"), concat!("XX", "X"), concat!("db", "g!(")];
    check_files(|_, text| {
        let found = words.iter().find(|word| has_word(text, word))?;
        Some(format!("holds {found}"))
    });
}

/// Mirrors differ between machines, and so do home folders: neither belongs into the tree.
#[test]
fn no_file_names_a_registry_or_somebodys_machine() {
    let words = [
        concat!("static.cra", "tes.io"),
        concat!("index.cra", "tes.io"),
        concat!("npm", "js.org"),
        concat!("py", "pi.org"),
        concat!("python", "hosted.org"),
        concat!("deb.deb", "ian.org"),
        concat!("docker", ".io"),
        concat!("quay", ".io"),
        concat!("gh", "cr.io"),
        concat!("gcr", ".io"),
        concat!("/wo", "rk/"),
        concat!("/ro", "ot/."),
    ];
    check_files(|_, text| {
        let found = words.iter().find(|word| text.contains(**word))?;
        Some(format!("names {found}"))
    });
}

/// On a fresh machine that takes a minute, before there is anything of ours to say so.
#[test]
fn who_types_cargo_xtask_sees_what_is_compiled() {
    let aliases = read(".cargo/config.toml");
    let xtask = aliases.lines().find(|line| line.starts_with("xtask = ")).unwrap_or_default();
    assert!(xtask.contains("run --package xtask"), "{aliases}");
    assert!(!xtask.contains("--quiet"), "{xtask}");
}

#[test]
fn decisions_are_numbered_without_gaps() {
    let mut names: Vec<String> = fs::read_dir(root().join("docs/adr"))
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| name.ends_with(".md") && name != "README.md")
        .collect();
    names.sort();
    for (index, name) in names.iter().enumerate() {
        let expected = format!("{:04}-", index + 1);
        assert!(
            name.starts_with(&expected),
            "docs/adr/{name}: expected its name to begin {expected}"
        );
        let text = read(&format!("docs/adr/{name}"));
        assert!(text.starts_with("# "), "docs/adr/{name} does not begin with its title");
    }
}

#[test]
fn the_changelog_is_well_formed() {
    let text = read("CHANGELOG.md");
    assert_eq!(text.lines().next(), Some("# Changelog"));
    let versions: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    assert_eq!(versions.first(), Some(&"[Unreleased]"), "the newest section is [Unreleased]");
    for version in &versions[1..] {
        let parts = version.strip_prefix('[').and_then(|rest| rest.split_once("] - "));
        let (number, date) = parts.unwrap_or_else(|| panic!("`{version}`: not `[1.2.3] - DATE`"));
        let digits = number.split('.').all(|part| part.parse::<u32>().is_ok());
        assert!(digits && number.split('.').count() == 3, "`{number}` is no version");
        assert!(date.len() == 10 && date.split('-').count() == 3, "`{date}` is no date");
    }
    let kinds = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"];
    for kind in text.lines().filter_map(|line| line.strip_prefix("### ")) {
        assert!(kinds.contains(&kind), "`{kind}` is none of {kinds:?}");
    }
}

#[test]
fn the_test_itself_notices_words_and_edges() {
    assert!(has_word("a FOO b", "FOO") && has_word("FOO", "FOO"));
    assert!(!has_word("xFOO FOOx FOO_", "FOO"));
    assert!(is_path("crates/core") && is_path("docs/adr/0001-x.md"));
    assert!(!is_path("/proc") && !is_path("cargo xtask") && !is_path("core") && !is_path("a/<b>"));
    let drawn = drawn_edges("x\n```edges\na -> b c\nb ->\n```\nd -> e\n");
    assert_eq!(drawn.len(), 2);
    assert_eq!(drawn["a"], BTreeSet::from(["b".to_owned(), "c".to_owned()]));
}

/// Runs `complaint` over every file that people write, and fails with all complaints at once.
#[track_caller]
fn check_files(complaint: impl Fn(&str, &str) -> Option<String>) {
    let mut files = Vec::new();
    collect(&root(), &mut files);
    assert!(files.len() > 50, "the test does not find the tree any more");
    let complaints: Vec<String> = files
        .iter()
        .filter_map(|path| {
            // A file may vanish meanwhile; what is not text is not looked at.
            let text = fs::read_to_string(path).ok()?;
            let shown = path.strip_prefix(root()).unwrap().display().to_string();
            complaint(&shown, &text).map(|complaint| format!("{shown}: {complaint}"))
        })
        .collect();
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
    let skipped = ["target", ".git", "node_modules", "__pycache__"];
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if path.is_dir() {
            if !skipped.contains(&name.as_str()) {
                collect(&path, files);
            }
        } else {
            let extension = path.extension().map(|e| e.to_string_lossy().into_owned());
            let is_text = extension.is_some_and(|e| TEXT_EXTENSIONS.contains(&e.as_str()));
            let is_generated = GENERATED.iter().any(|generated| path.ends_with(generated));
            if (is_text || name == "run") && !is_generated {
                files.push(path);
            }
        }
    }
}

fn drawn_edges(architecture: &str) -> BTreeMap<String, BTreeSet<String>> {
    let block = architecture.split("```edges\n").nth(1).and_then(|rest| rest.split("```").next());
    let lines = block.expect("ARCHITECTURE.md has a block `edges`").lines();
    lines
        .map(|line| {
            let (from, to) = line.split_once("->").unwrap_or_else(|| panic!("`{line}`: no edge"));
            (from.trim().to_owned(), to.split_whitespace().map(str::to_owned).collect())
        })
        .collect()
}

/// Crate, dependency inside the workspace, and whether only its tests use it.
fn real_edges() -> Vec<(String, String, bool)> {
    let metadata = metadata(&["--no-deps", "--offline"]);
    let short = |name: &str| name.strip_prefix(CRATE_PREFIX).unwrap_or(name).to_owned();
    let mut edges = Vec::new();
    for package in metadata["packages"].as_array().unwrap() {
        for dependency in package["dependencies"].as_array().unwrap() {
            if dependency["path"].is_string() {
                let from = short(package["name"].as_str().unwrap());
                let to = short(dependency["name"].as_str().unwrap());
                edges.push((from, to, dependency["kind"] == "dev"));
            }
        }
    }
    assert!(edges.len() > 5, "cargo metadata shows no edges any more");
    edges
}

fn metadata(arguments: &[&str]) -> serde_json::Value {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1"])
        .args(arguments)
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What stands between single backticks, outside of fenced blocks.
fn code_spans(text: &str) -> impl Iterator<Item = &str> {
    let outside = text.split("\n```").step_by(2);
    outside.flat_map(|part| part.split('`').skip(1).step_by(2))
}

fn is_path(span: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
    span.contains('/') && !span.starts_with('/') && span.chars().all(plain)
}

fn has_word(text: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        let before = text[..at].chars().next_back().is_some_and(is_part);
        let after = text[at + word.len()..].chars().next().is_some_and(is_part);
        !before && !after
    })
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}
