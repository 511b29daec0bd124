//! Command channels: a program of this machine's administrator, without a shell.
//!
//! It lies in a folder that only they can write to, gets the notification on stdin and the main of it in its
//! environment, and nothing else of the master's. What it writes is bounded; what takes too long is ended, with all
//! that it has started.

use std::{path::Path, process::Stdio};

use piccolo_core::monitoring_server::alerts::{alert::severity_name, channel::Notice};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    process::Command,
};

use super::{Failed, message};

/// Bytes of what it writes that are looked at; the rest is thrown away.
const OUTPUT_BYTES_MAX: u64 = 4096;

/// Ends the program and its children when it goes out of sight.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            kill_process_group(group, Signal::KILL).ok();
        }
    }
}

pub(super) async fn run(notice: &Notice, folder: &Path, argv: &[String]) -> Result<(), Failed> {
    let Some((program, arguments)) = argv.split_first().filter(|(name, _)| is_name(name)) else {
        return Err(Failed::ForGood("its program is no name of a file".to_owned()));
    };
    let path = folder.join(program);
    let alert = &notice.alert;
    let spawned = Command::new(&path)
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("LANG", "C.UTF-8")
        .env("PICCOLO_ALERT_KEY", &notice.key)
        .env("PICCOLO_ALERT_KIND", notice.kind.name())
        .env("PICCOLO_ALERT_ID", alert.id.to_string())
        .env("PICCOLO_ALERT_RULE", &alert.rule)
        .env("PICCOLO_ALERT_SEVERITY", severity_name(alert.severity))
        .env("PICCOLO_ALERT_MESSAGE", &alert.message)
        .env("PICCOLO_ALERT_CLUSTER", &notice.cluster)
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let mut child = spawned
        .map_err(|error| Failed::now(format!("{} cannot be run: {error}", path.display())))?;
    let id = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    let _group = Group(id);
    let text = message::document(notice).to_string();
    let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
    let write = async move {
        if let Some(mut stdin) = stdin {
            // one that does not read is no failure
            stdin.write_all(text.as_bytes()).await.ok();
        }
    };
    let ((), said, ended) = tokio::join!(write, read(stderr), child.wait());
    let status = ended.map_err(Failed::now)?;
    if status.success() {
        return Ok(());
    }
    let said = said.lines().next().unwrap_or_default().trim().to_owned();
    let said = if said.is_empty() { said } else { format!(": {said}") };
    Err(Failed::now(format!("{program} ended with {status}{said}")))
}

/// In the folder, and nowhere else.
fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains('/')
}

/// Reads to the end, and keeps the beginning.
async fn read(from: Option<impl AsyncRead + Unpin>) -> String {
    let Some(mut from) = from else { return String::new() };
    let mut kept = Vec::new();
    (&mut from).take(OUTPUT_BYTES_MAX).read_to_end(&mut kept).await.ok();
    tokio::io::copy(&mut from, &mut tokio::io::sink()).await.ok();
    String::from_utf8_lossy(&kept).into_owned()
}
