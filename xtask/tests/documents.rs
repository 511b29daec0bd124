//! The documents, held to the code: nothing that the code says is missing there, and nothing that they
//! name is missing here. The Korean ones are held to the English ones beside them.

#![allow(clippy::unwrap_used, reason = "a test stops where its surroundings are not as expected")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const REFERENCE: &str = "docs/operations/reference-events.md";
/// How the Korean page beside an English `.md` ends.
const KOREAN: &str = ".ko.md";

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
    let others = [
        "NotReady",
        "OverLimit",
        "PodmanDown",
        "RegistrationText",
        "CertificateAuthority",
        "StoredMet",
    ];
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
        for target in targets(&text) {
            let path = without_anchor(target);
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

/// A page and its translation change together. What a translation keeps is compared: see [`Piece`].
#[test]
fn korean_pages_keep_to_the_english_ones() {
    let generated = "docs/operations/cli.md";
    let is_translated = |page: &str| {
        (page.starts_with("docs/operations/") || page == "README.md") && page != generated
    };
    let mut pages: Vec<String> = files_below("docs", "md").iter().map(|file| shown(file)).collect();
    pages.extend(["README.md", "README.ko.md"].map(str::to_owned));
    let (korean, english): (Vec<String>, Vec<String>) =
        pages.into_iter().partition(|page| page.ends_with(KOREAN));
    let wanted: BTreeSet<String> =
        english.iter().filter(|page| is_translated(page)).map(|page| in_korean(page)).collect();
    assert_eq!(wanted, korean.into_iter().collect(), "each page in both languages");
    assert!(wanted.len() > 9, "only {wanted:?} are found any more");
    let complaints: Vec<String> = english
        .iter()
        .filter(|page| is_translated(page))
        .filter_map(|page| {
            let korean = in_korean(page);
            let difference = difference(&read(page), &read(&korean))?;
            Some(format!("{korean} is not {page}: {difference}"))
        })
        .collect();
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

/// Who reads Korean stays in Korean: only the line for the other language leads back.
#[test]
fn korean_pages_link_to_korean_pages() {
    let mut links = 0;
    let mut pages = files_below("docs", "md");
    pages.push(root().join("README.ko.md"));
    for page in pages.iter().filter(|page| shown(page).ends_with(KOREAN)) {
        for line in read(&shown(page)).lines().filter(|line| !line.starts_with("English: ")) {
            for target in targets(line).map(without_anchor) {
                links += 1;
                let is_korean = !target.ends_with(".md") || target.ends_with(KOREAN);
                let is_translated = page.parent().unwrap().join(in_korean(target)).exists();
                let is_right = is_korean || !is_translated;
                assert!(is_right, "{}: {target} is there in Korean too", shown(page));
            }
        }
    }
    assert!(links > 20, "only {links} links are found any more");
}

#[test]
fn differences_of_a_translation_are_noticed() {
    let english = "# Title\n\nWait `x` for 30 s, see [this](a.md).\nMore.\n\n1. `a`, then `b`\n2. two\n\n\
                   | it | is |\n|---|---|\n| `y` | 5 MiB of `z` |\n\n```\n$ run\n```\n\n    indented\n";
    let korean = "# 제목\n\n[여기](a.ko.md)를 보고 `x`를 30초 기다립니다.\n더.\n\n1. `b` 전에 `a`\n2. 2\n\n\
                  | 것 | 값 |\n|---|---|\n| `y` | `z` 5 MiB |\n\n```\n$ run\n```\n\n    indented\n";
    assert_eq!(difference(english, korean), None);
    let changes = [
        ("# 제목", "## 제목"),
        ("# 제목", "제목"),
        ("30초", "40초"),
        ("`x`", "`w`"),
        ("`x`", "x"),
        ("a.ko.md", "b.ko.md"),
        ("더.\n", "더.\n\n더 있습니다.\n"),
        ("2. 2\n", ""),
        ("`b` 전에 `a`", "`b`"),
        ("| `y` | `z` 5 MiB |\n", ""),
        ("| `y` | `z` 5 MiB |", "| `z` | `y` 5 MiB |"),
        ("| `y` | `z` 5 MiB |", "| `y` | `z` 5 MiB | |"),
        ("5 MiB", "6 MiB"),
        ("$ run", "$ ran"),
        ("    indented", "    other"),
        ("    indented", "indented"),
    ];
    for (from, to) in changes {
        let changed = korean.replace(from, to);
        assert_ne!(changed, korean, "`{from}` is not there");
        assert!(difference(english, &changed).is_some(), "`{from}` became `{to}` unnoticed");
    }
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

/// What a translation keeps of a heading, a block, a paragraph, an item of a list or a cell of a table.
#[derive(Debug)]
struct Piece {
    line: usize,
    /// With the level of a heading, the text of a block, the column of a cell.
    kind: String,
    text: String,
}

impl Piece {
    /// In which way `korean` says something else. Spans and links come in another order there, and
    /// "two boards" may be 2 of them: no figure may be missing.
    fn difference(&self, korean: &Self) -> Option<String> {
        let sorted = |mut words: Vec<String>| {
            words.sort();
            words
        };
        let spans_of = |piece: &Self| sorted(spans(&piece.text).map(str::to_owned).collect());
        let in_english = |target: &str| without_anchor(target).replace(KOREAN, ".md");
        let links_of = |piece: &Self| sorted(targets(&piece.text).map(in_english).collect());
        let mut left = figures(&korean.text);
        let missing = figures(&self.text).into_iter().find(|figure| {
            let found = left.iter().position(|other| other == figure);
            found.map(|at| left.swap_remove(at)).is_none()
        });
        if self.kind != korean.kind {
            Some(format!("{:?} instead of {:?}", korean.kind, self.kind))
        } else if spans_of(self) != spans_of(korean) {
            Some(format!("{:?} instead of {:?}", spans_of(korean), spans_of(self)))
        } else if links_of(self) != links_of(korean) {
            Some(format!("links {:?} instead of {:?}", links_of(korean), links_of(self)))
        } else {
            missing.map(|figure| format!("{figure} is missing"))
        }
    }
}

/// The first place where a translation differs.
fn difference(english: &str, korean: &str) -> Option<String> {
    let (english, korean) = (pieces(english), pieces(korean));
    let mut pairs = english.iter().zip(&korean);
    let found = pairs.find_map(|(ours, theirs)| {
        let difference = ours.difference(theirs)?;
        Some(format!("line {} (English {}): {difference}", theirs.line, ours.line))
    });
    let counts = (english.len(), korean.len());
    found.or_else(|| (counts.0 != counts.1).then(|| format!("{counts:?} pieces: one ends early")))
}

fn pieces(text: &str) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    let (mut is_open, mut fence) = (false, false);
    for (index, line) in text.lines().enumerate() {
        let mut begin = |kind: String, text: &str| {
            pieces.push(Piece { line: index + 1, kind, text: text.to_owned() });
        };
        let level = line.bytes().take_while(|byte| *byte == b'#').count();
        let is_item = line.starts_with("- ")
            || line.split_once(". ").is_some_and(|(number, _)| number.parse::<u8>().is_ok());
        let goes_on = is_open && !line.is_empty() && !is_item && level == 0;
        is_open = false;
        if line.starts_with("```") || fence {
            begin(format!("block: {line}"), "");
            fence ^= line.starts_with("```");
        } else if goes_on && !line.starts_with('|') {
            let open = pieces.last_mut().unwrap();
            open.text = format!("{} {}", open.text, line.trim_start());
            is_open = true;
        } else if line.starts_with("    ") {
            begin(format!("block: {line}"), "");
        } else if line.starts_with('|') {
            for (column, cell) in line.split('|').enumerate() {
                begin(format!("cell {column}"), cell);
            }
        } else if level > 0 {
            begin(format!("heading {level}"), line);
        } else if !line.is_empty() {
            begin(if is_item { "item" } else { "paragraph" }.to_owned(), line);
            is_open = true;
        }
    }
    pieces
}

/// What stands between backticks.
fn spans(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Where links lead.
fn targets(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| rest.split(')').next())
}

fn without_anchor(target: &str) -> &str {
    target.split('#').next().unwrap_or_default()
}

/// Numbers outside of code and of links: `30`, `1.5`, `65,536`.
fn figures(text: &str) -> Vec<String> {
    let mut words = text.split('`').step_by(2).collect::<Vec<_>>().join(" ");
    for target in targets(text) {
        words = words.replace(target, "");
    }
    let numbers = words.split(|c: char| !c.is_ascii_digit() && c != '.' && c != ',');
    let numbers = numbers.map(|number| number.trim_matches(['.', ',']).to_owned());
    numbers.filter(|number| !number.is_empty()).collect()
}

fn in_korean(page: &str) -> String {
    page.strip_suffix(".md").map_or_else(|| page.to_owned(), |name| format!("{name}{KOREAN}"))
}

/// As it is called from the root of the repository.
fn shown(file: &Path) -> String {
    file.strip_prefix(root()).unwrap_or(file).display().to_string()
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
