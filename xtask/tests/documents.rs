//! The documents, held to the code: nothing that the code says is missing there, and nothing that they
//! name is missing here.

#![allow(clippy::unwrap_used, reason = "a test stops where its surroundings are not as expected")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const REFERENCE: &str = "docs/operations/reference-events.md";

#[test]
fn every_event_condition_and_goodbye_is_explained() {
    let reference = read(REFERENCE);
    let enums = [
        ("crates/core/src/model/event.rs", "EventKind", 30),
        ("crates/core/src/model/node.rs", "ConditionKind", 8),
        ("crates/core/src/session.rs", "GoodbyeReason", 9),
    ];
    for (file, name, least) in enums {
        let variants = variants(&read(file), name);
        assert!(variants.len() >= least, "{name}: only {variants:?} are found any more");
        for variant in variants {
            let row = format!("| `{variant}` |");
            assert!(reference.contains(&row), "{REFERENCE} does not explain {name}::{variant}");
        }
    }
}

#[test]
fn every_reason_of_a_refusal_is_explained() {
    // CamelCase words in the same places that are no reasons of refusals
    let others =
        ["NotReady", "OverLimit", "PodmanDown", "RegistrationText", "CertificateAuthority"];
    let reference = read(REFERENCE);
    let mut reasons = BTreeSet::new();
    for folder in ["crates/core/src", "crates/master/src"] {
        for file in files_below(folder, "rs") {
            let is_test = file.to_string_lossy().contains("tests");
            let text = fs::read_to_string(&file).unwrap_or_default();
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            if !is_test {
                let words = code.split('"').skip(1).step_by(2);
                reasons.extend(words.filter(|word| is_camel_case(word)).map(str::to_owned));
            }
        }
    }
    reasons.retain(|reason| !others.contains(&reason.as_str()));
    assert!(reasons.len() > 30, "only {reasons:?} are found any more");
    let missing: Vec<_> =
        reasons.iter().filter(|reason| !reference.contains(&format!("`{reason}`"))).collect();
    assert!(missing.is_empty(), "{REFERENCE} does not explain {missing:?}");
}

/// Paths and tests in code spans: `crates/core/src/time.rs`, and `a_test_of_that_name`.
#[test]
fn the_traceability_names_what_is_there() {
    let document = "docs/traceability.md";
    let text = read(document);
    let sources: String = ["crates", "tests", "xtask"]
        .iter()
        .flat_map(|folder| [files_below(folder, "rs"), files_below(folder, "py")])
        .flatten()
        .map(|file| fs::read_to_string(file).unwrap_or_default())
        .collect();
    let (mut paths, mut tests) = (0, 0);
    for span in text.split('`').skip(1).step_by(2) {
        if span.contains('/') && !span.contains([' ', '*']) && !span.starts_with('/') {
            paths += 1;
            assert!(root().join(span).exists(), "{document} names {span}, which is not there");
        } else if span.matches('_').count() >= 2 && span.chars().all(is_of_a_name) {
            tests += 1;
            let is_there =
                [" fn ", "def "].iter().any(|f| sources.contains(&format!("{f}{span}(")));
            let is_first = sources.contains(&format!("\nfn {span}("));
            assert!(is_there || is_first, "{document} names the test {span}, which is not there");
        }
    }
    assert!(paths > 20 && tests > 20, "only {paths} paths and {tests} tests are found any more");
    let sections = text.lines().filter(|line| line.starts_with("| ")).count();
    assert!(sections > 30, "only {sections} rows");
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut documents = files_below("docs", "md");
    for name in ["README.md", "README.ko.md", "ARCHITECTURE.md", "CONTRIBUTING.md"] {
        documents.push(root().join(name));
    }
    let mut links = 0;
    for document in documents {
        let text = fs::read_to_string(&document).unwrap();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = target.split('#').next().unwrap_or_default();
            if path.is_empty() || target.contains("://") || target.contains(' ') {
                continue;
            }
            links += 1;
            let there = document.parent().unwrap().join(path);
            assert!(there.exists(), "{}: {target} leads nowhere", document.display());
        }
    }
    assert!(links > 20, "only {links} links are found any more");
}

#[test]
fn both_readmes_type_the_same() {
    let (english, korean) = (read("README.md"), read("README.ko.md"));
    let blocks = |text: &str| -> Vec<String> {
        let text = format!("\n{text}");
        text.split("\n```").skip(1).step_by(2).map(str::to_owned).collect()
    };
    assert!(blocks(&english).len() > 5, "the test finds no blocks any more");
    for (ours, theirs) in blocks(&english).iter().zip(blocks(&korean)) {
        assert_eq!(*ours, theirs, "README.ko.md differs from README.md");
    }
    assert_eq!(blocks(&english).len(), blocks(&korean).len());
    let titles = |text: &str| text.lines().filter(|line| line.starts_with('#')).count();
    assert_eq!(titles(&english), titles(&korean), "one has a section that the other has not");
}

/// People search for what they see: a message in a code span stands in the code, `...` for its values.
#[test]
fn messages_in_troubleshooting_are_said_by_the_code() {
    let document = "docs/operations/troubleshooting.md";
    let code: String = files_below("crates", "rs")
        .iter()
        .map(|file| fs::read_to_string(file).unwrap_or_default())
        .collect();
    let code: String = code.split("\\\n").map(str::trim_start).collect();
    let (mut messages, mut is_said) = (0, false);
    for row in read(document).lines() {
        is_said = row == "| it says | do |" || (is_said && row.starts_with('|'));
        let first = row.split('|').nth(1).filter(|_| is_said).unwrap_or_default();
        for message in spans(first).filter(|span| span.contains(' ')) {
            messages += 1;
            let is_there = message.split("...").all(|part| code.contains(part));
            assert!(is_there, "{document}: nothing says `{message}` any more");
        }
    }
    assert!(messages > 8, "only {messages} messages are found any more");
}

/// Figures are measured in one place, and only copied.
#[test]
fn the_readmes_quote_the_figures_that_were_measured() {
    let measured = read("docs/benchmarks.md");
    for document in ["README.md", "README.ko.md"] {
        let text = read(document);
        let ends = ["| yes |", "| **missed** |"];
        let is_figure = |line: &&str| ends.iter().any(|end| line.ends_with(end));
        let rows: Vec<&str> = text.lines().filter(is_figure).collect();
        assert!(rows.len() > 5, "{document} quotes no figures any more");
        for row in rows {
            assert!(measured.contains(row), "{document} quotes what was not measured: {row}");
        }
    }
}

/// What stands between backticks.
fn spans(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

fn variants(source: &str, name: &str) -> Vec<String> {
    let body = source.split(&format!("pub enum {name} {{\n")).nth(1).unwrap();
    let body = body.split("\n}").next().unwrap();
    let lines = body.lines().map(str::trim).filter(|line| !line.starts_with("//"));
    lines.filter_map(|line| line.strip_suffix(',')).map(str::to_owned).collect()
}

/// At least one capital letter after the first, or one of the reasons of one word.
fn is_camel_case(word: &str) -> bool {
    let capitals = word.chars().filter(char::is_ascii_uppercase).count();
    let is_word = word.chars().all(|c| c.is_ascii_alphabetic());
    let has_small = word.contains(|c: char| c.is_ascii_lowercase());
    let begins = word.starts_with(|c: char| c.is_ascii_uppercase());
    is_word && has_small && begins && (capitals > 1 || word == "Busy" || word == "Stopping")
}

fn is_of_a_name(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'
}

fn files_below(folder: &str, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
    }
    found
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}
