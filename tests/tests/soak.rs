//! The soak of `cargo xtask bench`, in short: does it measure, and does nothing leak that shows so soon? What memory
//! levels out at takes its ten minutes.

use std::{error::Error, process::Command};

use piccolo_testkit::cluster::Programs;
use serde_json::Value;

/// Figures of the soak.
const ROWS: usize = 7;

#[test]
fn half_a_minute_of_churn_loses_no_event_and_leaves_no_file_open() -> Result<(), Box<dyn Error>> {
    let programs = Programs::beside_this_test()?;
    let bin = programs.agent.parent().ok_or("no folder of executables")?;
    let folder = tempfile::tempdir()?;
    let figures = folder.path().join("figures.json");
    let output = Command::new(bin.join("piccolo-bench"))
        .args(["--only", "soak", "--soak-s", "30", "--programs"])
        .arg(bin)
        .arg("--json")
        .arg(&figures)
        .output()?;
    assert!(output.status.success(), "{output:?}");
    let figures: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(figures)?)?;
    assert_eq!(figures.len(), ROWS, "{figures:?}");
    for figure in figures {
        let name = figure["figure"].as_str().ok_or("a figure without a name")?;
        assert!(figure["median"].is_number(), "it was measured: {figure}");
        // half a minute is too short for memory to level out
        if !name.contains("RSS") {
            assert_eq!(figure["met"], true, "{figure}");
        }
    }
    Ok(())
}
