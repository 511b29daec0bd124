//! Runs the system check of a release, `system_check.sh`, and reads what it found.
//!
//! Whatever becomes of it, there is a finding: a check that hangs, fails or speaks nonsense is one itself, a
//! warning, and stops nobody.

use std::{
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};
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

/// How it ended, what it printed, and the first words of its complaint.
struct Output {
    bytes: Vec<u8>,
    said: String,
    status: ExitStatus,
}

impl Output {
    /// Where there are none, its own words say why best.
    fn findings(&self) -> Result<Vec<Finding>> {
        let Self { bytes, said, status } = self;
        read(bytes).map_err(|error| {
            let said = said.lines().next().unwrap_or_default();
            match said.strip_prefix("error: ").unwrap_or(said).trim() {
                "" => error.context(format!("it ended with {status}, without findings")),
                said => anyhow!("it ended with {status}, without findings: {said}"),
            }
        })
    }
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
    let findings = match output_of(program, arguments).await.and_then(|output| output.findings()) {
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

async fn output_of(program: &Path, arguments: &[String]) -> Result<Output> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // it has children of its own, which must end with it
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("{} cannot be started", program.display()))?;
    let _group = Group::of(&child);
    let mut stdout = child.stdout.take().context("its output cannot be read")?;
    let complaints = child.stderr.take();
    let read = async {
        let mut bytes = Vec::new();
        (&mut stdout).take(OUTPUT_BYTES_MAX + 1).read_to_end(&mut bytes).await?;
        if bytes.len() as u64 > OUTPUT_BYTES_MAX {
            bail!("it prints more than {OUTPUT_BYTES_MAX} bytes");
        }
        Ok(bytes)
    };
    let work = async {
        let said = async { Ok(piccolo_program::words(complaints).await) };
        let (bytes, said) = tokio::try_join!(read, said)?;
        Ok(Output { bytes, said, status: child.wait().await? })
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

    #[test]
    fn a_check_that_complains_is_told_of_in_its_own_words() {
        use CheckLevel::Warning;
        let typo = "echo 'error: a.conf: `MEMRY_ERROR` is no limit' >&2; echo help: x >&2; exit 64";
        let told = "exit status: 64, without findings: a.conf: `MEMRY_ERROR` is no limit";
        check(typo, &[(Warning, told)]);
        check(
            "yes >&2 & head -c 200000 /dev/zero >&2; kill $!; echo no; exit 2",
            &[(Warning, "exit status: 2")],
        );
        check("echo 'a warning' >&2; echo '{\"findings\":[]}'", &[]);
    }
}
