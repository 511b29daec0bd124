//! The node's own channel for alerts: a program of its administrator, beside the loop.
//!
//! It is run without a shell and without arguments, gets the alert as JSON on its stdin and the main of it in its
//! environment, and nothing else of the agent's. What it writes is bounded; what takes too long is ended, with all
//! that it has started.

use std::{
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use piccolo_core::{
    model::Severity,
    node_agent::local_alerts::{LocalAlert, LocalNotice},
    time::WallTime,
};
use piccolo_rpc::convert::timestamp;
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::{ChildStderr, Command},
    time::timeout,
};

use super::{Done, Shell};

/// For the program to end.
const TIME_LIMIT: Duration = Duration::from_secs(10);
/// Bytes of what it writes that are looked at; the rest is thrown away.
const OUTPUT_BYTES_MAX: u64 = 4096;
/// Of its words that are told.
const WORDS_CHARS_MAX: usize = 200;
/// Whoever may write the program may be what the agent is.
const WRITABLE_BY_OTHERS: u32 = 0o022;

impl Shell {
    pub(super) fn tell_locally(&mut self, notice: LocalNotice) {
        let command = self.config.alerts.command.clone();
        let node = self.applicant.host.hostname.clone();
        let cluster = self.machine.view().cluster.unwrap_or_default();
        self.tasks.spawn(async move {
            let result = match command {
                Some(program) => run(&program, &Notice { notice, node, cluster }).await,
                None => Err("there is none".to_owned()),
            };
            Done::ToldLocally(result)
        });
    }
}

struct Notice {
    notice: LocalNotice,
    node: String,
    cluster: String,
}

/// Ends the program and its children when it goes out of sight.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // one that has just ended is no fault
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

async fn run(program: &Path, notice: &Notice) -> Result<(), String> {
    let told = timeout(TIME_LIMIT, tell(program, notice));
    told.await.unwrap_or_else(|_| {
        Err(format!("{} has not ended within {} s", program.display(), TIME_LIMIT.as_secs()))
    })
}

async fn tell(program: &Path, notice: &Notice) -> Result<(), String> {
    let cannot_run =
        |error: std::io::Error| format!("{} cannot be run: {error}", program.display());
    let file = PathBuf::from(program);
    let looked = tokio::task::spawn_blocking(move || std::fs::metadata(file)).await;
    let mode = looked.map_err(|error| error.to_string())?.map_err(cannot_run)?.mode();
    if mode & WRITABLE_BY_OTHERS != 0 {
        return Err(format!("{} can be written by others: chmod go-w it", program.display()));
    }
    let alert = &notice.notice.alert;
    let mut child = Command::new(program)
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
        .env("LANG", "C.UTF-8")
        .env("PICCOLO_ALERT_KEY", &notice.notice.key)
        .env("PICCOLO_ALERT_KIND", kind(alert))
        .env("PICCOLO_ALERT_RULE", &alert.rule)
        .env("PICCOLO_ALERT_SEVERITY", severity(alert))
        .env("PICCOLO_ALERT_MESSAGE", &alert.message)
        .env("PICCOLO_ALERT_NODE", &notice.node)
        .env("PICCOLO_ALERT_CLUSTER", &notice.cluster)
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(cannot_run)?;
    let _group = Group(child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)));
    let text = document(notice).to_string();
    let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
    let write = async move {
        if let Some(mut stdin) = stdin {
            // one that does not read is no failure
            let _ = stdin.write_all(text.as_bytes()).await;
        }
    };
    let ((), said, ended) = tokio::join!(write, read(stderr), child.wait());
    let status = ended.map_err(|error| error.to_string())?;
    if status.success() {
        return Ok(());
    }
    let said = said.lines().next().unwrap_or_default().trim().to_owned();
    let said = if said.is_empty() { said } else { format!(": {said}") };
    Err(format!("{} ended with {status}{said}", program.display()))
}

/// Reads to the end, and keeps the beginning.
async fn read(from: Option<ChildStderr>) -> String {
    let Some(mut from) = from else { return String::new() };
    let mut kept = Vec::new();
    let _ = (&mut from).take(OUTPUT_BYTES_MAX).read_to_end(&mut kept).await;
    let _ = tokio::io::copy(&mut from, &mut tokio::io::sink()).await;
    String::from_utf8_lossy(&kept).chars().take(WORDS_CHARS_MAX).collect()
}

/// As the master's channels have it, as far as the node knows it; docs/operations/alerts.md describes it.
fn document(notice: &Notice) -> Value {
    let Notice { notice: LocalNotice { key, alert }, node, cluster } = notice;
    let subject = match alert.container.as_str() {
        "" => node.clone(),
        container => format!("{node}/{container}"),
    };
    let title = format!("{} {}: {}", severity(alert).to_uppercase(), kind(alert), alert.message);
    json!({
        "key": key,
        "kind": kind(alert),
        "at": time(alert.resolved_at.unwrap_or(alert.fired_at)),
        "cluster": cluster,
        "title": title,
        "alert": {
            "rule": alert.rule,
            "severity": severity(alert),
            "state": kind(alert),
            "message": alert.message,
            "subjects": [subject],
            "since": time(alert.since),
            "fired_at": time(alert.fired_at),
            "resolved_at": alert.resolved_at.map(time),
            "node": node,
            "alone": alert.alone,
        },
    })
}

fn kind(alert: &LocalAlert) -> &'static str {
    if alert.resolved_at.is_some() { "resolved" } else { "firing" }
}

fn severity(alert: &LocalAlert) -> &'static str {
    match alert.severity {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Critical => "critical",
    }
}

fn time(at: WallTime) -> String {
    timestamp(at).to_string()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// What becomes of a program with this text and mode, and what it has left in the file `told`.
    fn told_by(script: &str, mode: u32) -> (Result<(), String>, String) {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("channel");
        let told = folder.path().join("told");
        std::fs::write(
            &program,
            format!("#!/bin/sh\n{script}\n").replace("TOLD", told.to_str().unwrap()),
        )
        .unwrap();
        std::fs::set_permissions(&program, PermissionsExt::from_mode(mode)).unwrap();
        let alert = LocalAlert {
            rule: "ContainerStopped".to_owned(),
            container: "web".to_owned(),
            severity: Severity::Warning,
            message: "it has ended; $(reboot)".to_owned(),
            since: WallTime(0),
            fired_at: WallTime(1_000),
            alone: true,
            resolved_at: None,
        };
        let notice = LocalNotice { key: "n1/1".to_owned(), alert };
        let notice = Notice { notice, node: "board-1".to_owned(), cluster: "robot".to_owned() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let result = runtime.block_on(run(&program, &notice));
        (result, std::fs::read_to_string(told).unwrap_or_default())
    }

    #[track_caller]
    fn check(script: &str, mode: u32, why: &str) {
        let (result, _) = told_by(script, mode);
        let error = result.unwrap_err();
        assert!(error.contains(why), "{error} has no {why}");
    }

    #[test]
    fn a_program_is_told_by_its_stdin_and_an_environment_of_its_own() {
        let (result, told) = told_by("cat > TOLD; env >> TOLD", 0o700);
        result.unwrap();
        let (json, environment) = told.split_at(told.rfind('}').unwrap() + 1);
        let json: Value = serde_json::from_str(json).unwrap();
        assert_eq!(json["alert"]["subjects"], json!(["board-1/web"]));
        assert_eq!(json["alert"]["fired_at"], "1970-01-01T00:00:01Z");
        assert_eq!((&json["key"], &json["kind"]), (&json!("n1/1"), &json!("firing")));
        assert!(
            environment.contains("PICCOLO_ALERT_MESSAGE=it has ended; $(reboot)"),
            "{environment}"
        );
        assert!(!environment.contains("CARGO"), "{environment}");
    }

    #[test]
    fn a_program_that_fails_is_told_of_with_its_first_words() {
        check("echo no horn >&2; echo more >&2; exit 3", 0o700, "exit status: 3: no horn");
        check("yes >&2 & head -c 100000 /dev/zero >&2; kill $!; exit 1", 0o700, "exit status: 1");
        check("exit 0", 0o600, "cannot be run");
        check("exit 0", 0o722, "can be written by others");
    }

    #[test]
    fn one_that_reads_nothing_is_no_failure() {
        told_by("exec true", 0o700).0.unwrap();
    }
}
