//! Runs the system check of a release, `system_check.sh`, and reads what it found.
//!
//! Whatever becomes of it, there is a finding: a check that hangs, fails or speaks nonsense is one itself, a
//! warning, and stops nobody.

use std::{
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use piccolo_core::model::{CheckLevel, Finding, SystemCheck};
use piccolo_program::Group;
use serde::Deserialize;
use tokio::{io::AsyncReadExt as _, process::Command, time::timeout};

use crate::config::{Config, SystemCheckProgram};

/// For the check to end; it is meant to take two seconds. A command's answer is waited for longer.
const TIME_LIMIT: Duration = Duration::from_secs(15);
/// Of what it prints at most.
const OUTPUT_BYTES_MAX: u64 = 256 * 1024;
/// Masters that it tries at most: each takes some processes at once, and the agent's unit has few.
const MASTERS_MAX: usize = 3;
/// In a release it is beside the folder of the executables.
const FILE_NAME: &str = "system_check.sh";
/// What its own failure is called.
const ITSELF: &str = "system_check";

/// What `--json` prints, as far as it is read.
#[derive(Deserialize)]
struct Printed {
    findings: Vec<PrintedFinding>,
}

#[derive(Deserialize)]
struct PrintedFinding {
    name: String,
    level: String,
    value: String,
    #[serde(default)]
    limit: String,
    #[serde(default)]
    remedy: String,
}

/// Where the check is; `None` where this node has none.
#[must_use]
pub fn find(config: &Config) -> Option<PathBuf> {
    match &config.system_check {
        SystemCheckProgram::None => None,
        SystemCheckProgram::At(path) => Some(path.clone()),
        SystemCheckProgram::Auto => {
            // through the link `current`: the check and the agent are of one release
            let executable = std::env::current_exe().ok()?.canonicalize().ok()?;
            let path = executable.parent()?.parent()?.join(FILE_NAME);
            path.is_file().then_some(path)
        }
    }
}

/// What it shall look at. Podman is left out where the agent itself runs it: inside of the agent's unit a
/// Podman of its own could not work, and the agent asks the socket anyway.
#[must_use]
pub fn arguments(config: &Config, with_podman: bool) -> Vec<String> {
    let mut arguments = vec!["--json".to_owned()];
    arguments.extend(["--state".to_owned(), config.state_dir.display().to_string()]);
    if !with_podman || config.podman.socket.is_none() {
        arguments.push("--no-podman".to_owned());
    }
    for master in config.masters.iter().take(MASTERS_MAX) {
        arguments.extend(["--master".to_owned(), master.to_string()]);
    }
    arguments
}

/// Never fails, and never takes longer than its limit.
pub async fn run(program: &Path, arguments: &[String]) -> SystemCheck {
    let findings = match printed(program, arguments).await.and_then(|(bytes, status)| {
        read(&bytes).with_context(|| format!("it ended with {status}, without findings"))
    }) {
        Ok(findings) => findings,
        Err(error) => vec![Finding {
            name: ITSELF.to_owned(),
            level: CheckLevel::Warning,
            value: format!("{error:#}"),
            limit: "its findings".to_owned(),
            remedy: format!("run it on the board: {} --json", program.display()),
        }],
    };
    SystemCheck { findings, ..SystemCheck::default() }
}

async fn printed(program: &Path, arguments: &[String]) -> Result<(Vec<u8>, ExitStatus)> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        // it has children of its own, which must end with it
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("{} cannot be started", program.display()))?;
    let _group = Group::of(&child);
    let mut output = child.stdout.take().context("its output cannot be read")?;
    let work = async {
        let mut bytes = Vec::new();
        (&mut output).take(OUTPUT_BYTES_MAX + 1).read_to_end(&mut bytes).await?;
        if bytes.len() as u64 > OUTPUT_BYTES_MAX {
            bail!("it prints more than {OUTPUT_BYTES_MAX} bytes");
        }
        Ok((bytes, child.wait().await?))
    };
    timeout(TIME_LIMIT, work).await.unwrap_or_else(|_| {
        bail!("it has not ended within {} s", TIME_LIMIT.as_secs());
    })
}

fn read(bytes: &[u8]) -> Result<Vec<Finding>> {
    let printed: Printed = serde_json::from_slice(bytes).context("what it prints is no JSON")?;
    let finding = |PrintedFinding { name, level, value, limit, remedy }| {
        let level = CheckLevel::from_name(&level)
            .with_context(|| format!("`{level}` is no level: ok, warning or error"))?;
        Ok(Finding { name, level, value, limit, remedy })
    };
    printed.findings.into_iter().map(finding).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// The levels and values that a program with this text gives.
    fn check(script: &str, expected: &[(CheckLevel, &str)]) {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("check");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o700)).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let found = runtime.block_on(run(&program, &["--json".to_owned()]));
        let found: Vec<_> = found.findings.iter().map(|f| (f.level, f.value.as_str())).collect();
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for ((level, value), (wanted, part)) in found.into_iter().zip(expected) {
            assert_eq!(level, *wanted, "{value}");
            assert!(value.contains(part), "{value} has no {part}");
        }
    }

    #[test]
    fn what_it_prints_is_taken_whatever_its_exit_code_says() {
        use CheckLevel::{Error, Ok, Warning};
        let finding =
            |level: &str| format!(r#"{{"name":"a","level":"{level}","value":"v-{level}"}}"#);
        let all = ["ok", "warning", "error"].map(finding).join(",");
        let script = format!("echo '{{\"findings\":[{all}],\"version\":9}}'; exit 2");
        check(&script, &[(Ok, "v-ok"), (Warning, "v-warning"), (Error, "v-error")]);
        check("[ \"$1\" = --json ] && echo '{\"findings\":[]}'", &[]);
    }

    #[test]
    fn a_check_that_fails_is_a_warning_that_says_how() {
        use CheckLevel::Warning;
        check("exit 64", &[(Warning, "exit status: 64")]);
        check("echo no", &[(Warning, "no JSON")]);
        check("kill -9 $$", &[(Warning, "signal: 9")]);
        check("exec /no/such/program", &[(Warning, "exit status: 127")]);
        let odd = r#"echo '{"findings":[{"name":"a","level":"odd","value":""}]}'"#;
        check(odd, &[(Warning, "`odd` is no level")]);
        check("exec cat /dev/zero", &[(Warning, "prints more than 262144 bytes")]);
    }
}
