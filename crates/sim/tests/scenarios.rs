//! Every script in `scenarios/` shows what it says. `SIM_UPDATE=1 cargo test -p piccolo-sim` writes down
//! what is seen now; the review is in the diff.

use std::{fs, path::Path};

#[test]
fn scripts_show_what_they_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let mut paths: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() >= 10, "scenarios are missing: {paths:?}");
    for path in paths {
        let script = fs::read_to_string(&path).unwrap();
        let name = path.file_name().unwrap().to_string_lossy();
        let played =
            piccolo_sim::play(&script).unwrap_or_else(|problem| panic!("{name}: {problem}"));
        if std::env::var_os("SIM_UPDATE").is_some() {
            fs::write(&path, &played).unwrap();
        } else if played != script {
            panic!("{name} shows something else now:\n{}", difference(&script, &played));
        }
    }
}

fn difference(script: &str, played: &str) -> String {
    let expected: Vec<_> = script.lines().collect();
    let seen: Vec<_> = played.lines().collect();
    let lines = (0..expected.len().max(seen.len())).filter(|i| expected.get(*i) != seen.get(*i));
    lines
        .take(10)
        .map(|i| {
            let (expected, seen) = (expected.get(i).unwrap_or(&""), seen.get(i).unwrap_or(&""));
            format!("line {}\n  expected {expected}\n  seen     {seen}\n", i + 1)
        })
        .collect()
}
