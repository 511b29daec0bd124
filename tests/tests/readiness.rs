//! A board that is not fit: what its system check finds, and whether it may be Ready (HLD §1.2.1, §4.1 (4)).
//!
//! The board is this machine; what is found of it is what a program prints that stands in for the system check.

use std::{
    error::Error,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use piccolo_testkit::cluster::{Cluster, Options};
use serde_json::Value;

type Story = Result<(), Box<dyn Error>>;

/// The program that the agent takes for the system check: it prints a file.
struct FakeCheck {
    program: PathBuf,
    prints: PathBuf,
}

impl FakeCheck {
    /// `memory` is the level of that finding.
    fn new(folder: &Path, memory: &str) -> Result<Self, Box<dyn Error>> {
        let check = Self { program: folder.join("check"), prints: folder.join("findings.json") };
        check.finds(memory)?;
        fs::write(&check.program, format!("#!/bin/sh\ncat {}\n", check.prints.display()))?;
        fs::set_permissions(&check.program, PermissionsExt::from_mode(0o755))?;
        Ok(check)
    }

    fn finds(&self, memory: &str) -> Story {
        let findings = serde_json::json!({ "version": 1, "findings": [
            { "name": "kernel", "level": "ok", "value": "6.1", "limit": ">= 5.4", "remedy": "" },
            { "name": "memory", "level": memory, "value": "300 MiB", "limit": ">= 400 MiB",
              "remedy": "a board with 512 MB" },
        ]});
        // in its place at once: half a file would be another finding
        let beside = self.prints.with_extension("new");
        fs::write(&beside, findings.to_string())?;
        Ok(fs::rename(beside, &self.prints)?)
    }

    fn config(&self) -> String {
        format!("system_check: {}\n", self.program.display())
    }
}

fn conditions(node: &Value) -> Vec<&str> {
    let conditions = node["conditions"].as_array().into_iter().flatten();
    conditions.filter_map(|condition| condition["kind"].as_str()).collect()
}

#[test]
fn a_board_that_is_not_fit_stays_out_of_ready_until_it_is() -> Story {
    let folder = tempfile::tempdir()?;
    let master = "readiness: enforce\n".to_owned();
    let mut cluster = Cluster::start(Options { master, ..Options::new(folder.path())? })?;
    let check = FakeCheck::new(folder.path(), "error")?;
    cluster.join_with("board-1", &check.config())?;
    cluster.wait("board-1 is kept out", |c| {
        Ok(conditions(&c.node("board-1")?).contains(&"SystemCheckFailed"))
    })?;
    let node = cluster.node("board-1")?;
    assert_eq!(node["status"], "NotReady", "{node:#}");
    let message = node["conditions"][0]["message"].as_str().unwrap_or_default();
    assert_eq!(message, "memory: 300 MiB (limit >= 400 MiB)");
    assert_eq!(node["system_check"]["passed"], 1, "{node:#}");
    let described = cluster.piccolo(&["node", "describe", "board-1"])?;
    let described = String::from_utf8(described.stdout)?;
    for part in ["1 ok, 0 warnings, 1 errors", "a board with 512 MB", "SystemCheckFailed"] {
        assert!(described.contains(part), "{described}");
    }
    // nothing has changed: it looks again, and stays out
    let asked = ["--timeout", "30s", "node", "check", "board-1", "-o", "json"];
    let found = cluster.json(&asked)?;
    assert_eq!(found["node"]["status"], "NotReady", "{found:#}");
    assert_eq!(found["system_check"]["findings"].as_array().map(Vec::len), Some(2), "{found:#}");

    check.finds("warning")?;
    let found = cluster.json(&asked)?;
    assert_eq!(found["system_check"]["findings"][0]["level"], "warning", "{found:#}");
    cluster.wait_for_status("board-1", "Ready")?;
    // it was never in before: the log of events has one entry for each time
    let events = cluster.piccolo(&["events", "-n", "100"])?;
    let events = String::from_utf8(events.stdout)?;
    assert_eq!(events.matches("node board-1 is Ready").count(), 1, "{events}");
    assert!(events.contains("is NotReady: SystemCheckFailed: memory: 300 MiB"), "{events}");
    Ok(())
}

#[test]
fn the_policy_changes_while_everything_runs_and_a_restarted_master_keeps_its_verdict() -> Story {
    let folder = tempfile::tempdir()?;
    let mut cluster = Cluster::start(Options::new(folder.path())?)?;
    let check = FakeCheck::new(folder.path(), "error")?;
    cluster.join_with("board-1", &check.config())?;
    cluster.wait("what was found is known", |c| {
        let node = c.node("board-1")?;
        Ok(node["status"] == "Ready" && conditions(&node) == ["SystemCheckTolerated"])
    })?;
    let topology = folder.path().join("topology.json");
    let mut wanted = cluster.json(&["topology", "get", "-o", "json"])?;
    wanted["config"]["readiness"] = "enforce".into();
    fs::write(&topology, wanted.to_string())?;
    let applied = cluster.piccolo(&["topology", "apply", "-f", &topology.display().to_string()])?;
    assert!(applied.status.success(), "{applied:?}");
    cluster.wait_for_status("board-1", "NotReady")?;
    cluster.agent("board-1")?.kill();
    cluster.master.terminate()?;
    cluster.start_master()?;
    cluster.wait("the master answers", |c| Ok(c.piccolo(&["status"])?.status.success()))?;
    let node = cluster.node("board-1")?;
    assert_eq!(node["system_check"], Value::Null, "nobody has told it yet");
    assert!(conditions(&node).contains(&"SystemCheckFailed"), "{node:#}");
    check.finds("ok")?;
    cluster.start_agent("board-1")?;
    Ok(cluster.wait_for_status("board-1", "Ready")?)
}

/// The board's own words: exit code and findings, with and without a check.
#[test]
fn the_agent_and_the_system_check_speak_with_one_voice_on_the_board() -> Story {
    let folder = tempfile::tempdir()?;
    let mut cluster = Cluster::start(Options::new(folder.path())?)?;
    let check = FakeCheck::new(folder.path(), "error")?;
    cluster.join_with("board-1", &check.config())?;
    cluster.wait_for_status("board-1", "Ready")?;
    let findings = |options: &[&str]| -> Result<(Option<i32>, Value), Box<dyn Error>> {
        let mut command = Command::new(&cluster.programs().agent);
        command.arg("--config").arg(cluster.agent_config("board-1"));
        let output = command.args(options).args(["check", "-o", "json"]).output()?;
        Ok((output.status.code(), serde_json::from_slice(&output.stdout)?))
    };
    let named = |found: &Value, name: &str| {
        let all = found["findings"].as_array().cloned().unwrap_or_default();
        all.into_iter().find(|finding| finding["name"] == name).unwrap_or_default()
    };
    for (memory, code) in [("error", 2), ("warning", 1), ("ok", 0)] {
        check.finds(memory)?;
        let (exit, found) = findings(&[])?;
        assert_eq!(exit, Some(code), "{found:#}");
        assert_eq!(named(&found, "memory")["level"], memory);
        assert_eq!(named(&found, "identity")["level"], "ok");
        let master = format!("master {} over TLS", cluster.address);
        assert_eq!(named(&found, &master)["level"], "ok", "{found:#}");
    }
    let (exit, found) = findings(&["--system-check", "none"])?;
    let value = named(&found, "system_check")["value"].clone();
    assert_eq!(exit, Some(0), "{found:#}");
    assert!(value.as_str().is_some_and(|value| value.starts_with("not there")), "{found:#}");
    Ok(())
}

/// Whether something feeds a watchdog of this machine.
fn watchdog_is_active() -> bool {
    let watchdogs = fs::read_dir("/sys/class/watchdog").into_iter().flatten().flatten();
    let states = watchdogs.map(|watchdog| fs::read_to_string(watchdog.path().join("state")));
    states.flatten().any(|state| state.trim() == "active")
}

/// What this machine has is read from its real `/sys`; what it lacks is a condition where it is required.
#[test]
fn a_board_without_a_watchdog_says_so_where_one_is_required_and_stays_ready() -> Story {
    let folder = tempfile::tempdir()?;
    let mut cluster = Cluster::start(Options::new(folder.path())?)?;
    cluster.join_with("board-1", "hardware:\n  watchdog_required: true\n")?;
    let expect = if watchdog_is_active() { "ok" } else { "warning" };
    let watchdog = |node: &Value| {
        let findings = node["hardware"]["findings"].as_array().cloned().unwrap_or_default();
        let of = |f: &&Value| f["name"].as_str().is_some_and(|n| n.starts_with("watchdog of "));
        findings.iter().filter(of).map(|f| f["level"].clone()).collect::<Vec<_>>()
    };
    cluster.wait("its hardware is known", |c| {
        let node = c.node("board-1")?;
        let is_wrong = conditions(&node).contains(&"HardwareDegraded");
        let is_told = watchdog(&node).contains(&expect.into());
        Ok(node["status"] == "Ready" && is_told && is_wrong == (expect == "warning"))
    })?;
    let described = cluster.piccolo(&["node", "describe", "board-1"])?;
    let described = String::from_utf8(described.stdout)?;
    assert!(described.contains("Hardware:\n  LEVEL"), "{described}");
    cluster.agent("board-1")?.kill();
    let environment = [("PICCOLO_AGENT_HARDWARE_WATCHDOG_REQUIRED", "false")];
    cluster.start_agent_within("board-1", &environment)?;
    cluster.wait("nothing is wrong where none is required", |c| {
        let node = c.node("board-1")?;
        let is_wrong = conditions(&node).contains(&"HardwareDegraded");
        let is_told = node["hardware"] != Value::Null;
        Ok(is_told && !is_wrong && !watchdog(&node).contains(&"warning".into()))
    })?;
    let events = cluster.piccolo(&["events", "-n", "100"])?;
    let events = String::from_utf8(events.stdout)?;
    let told = events.matches("HardwareProblem ").count();
    assert_eq!(told, usize::from(expect == "warning"), "{events}");
    Ok(())
}
