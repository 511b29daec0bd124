//! Runs a program of the administrator's, as alerts on the master and on a node do that tell one.
//!
//! It is run without a shell, gets a text on its stdin and an environment of its own, and nothing else of ours. What it
//! writes is bounded; whoever drops the run ends the program, with all that it has started. And nobody but its owner may
//! write to it or to its folder: they could have us run what they like.

use std::{
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Stdio,
};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, ChildStderr, Command},
};

/// Bytes of what it writes that are looked at; the rest is thrown away.
const OUTPUT_BYTES_MAX: u64 = 4096;
/// Of its words that are told.
const WORDS_CHARS_MAX: usize = 200;
/// Of a file's mode.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// A program, and what it is told.
#[derive(Debug)]
pub struct Program<'a> {
    pub file: &'a Path,
    pub arguments: &'a [String],
    /// Besides `PATH` and `LANG`.
    pub environment: &'a [(&'a str, &'a str)],
    pub stdin: &'a str,
}

/// The file of that name in the folder itself, and nowhere else.
#[must_use]
pub fn in_folder(folder: &Path, name: &str) -> Option<PathBuf> {
    let is_name = !name.is_empty() && !name.starts_with('.') && !name.contains('/');
    is_name.then(|| folder.join(name))
}

impl Program<'_> {
    /// Until it has ended well.
    ///
    /// # Errors
    /// Why it was not run, or how it ended and its first words.
    pub async fn run(&self) -> Result<(), String> {
        let file = self.file.display();
        let cannot_run = |error: std::io::Error| format!("{file} cannot be run: {error}");
        for path in [Some(self.file), self.file.parent()].into_iter().flatten() {
            let mode = tokio::fs::metadata(path).await.map_err(cannot_run)?.mode();
            if mode & WRITABLE_BY_OTHERS != 0 {
                let path = path.display();
                return Err(format!("{path} can be written by others: chmod go-w it"));
            }
        }
        let mut child = Command::new(self.file)
            .args(self.arguments)
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
            .env("LANG", "C.UTF-8")
            .envs(self.environment.iter().copied())
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(cannot_run)?;
        let _group = Group::of(&child);
        let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
        let write = async move {
            if let Some(mut stdin) = stdin {
                // one that does not read is no failure
                let _ = stdin.write_all(self.stdin.as_bytes()).await;
            }
        };
        let ((), said, ended) = tokio::join!(write, words(stderr), child.wait());
        let status = ended.map_err(|error| error.to_string())?;
        if status.success() {
            return Ok(());
        }
        let said = said.lines().next().unwrap_or_default().trim();
        let colon = if said.is_empty() { "" } else { ": " };
        Err(format!("{file} ended with {status}{colon}{said}"))
    }
}

/// Ends a program and its children when it goes out of sight.
#[derive(Debug)]
pub struct Group(Option<Pid>);

impl Group {
    /// Of one that was started with `process_group(0)`.
    #[must_use]
    pub fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // one that has just ended is no fault
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// The first words of what a program complains of. Reads to the end, so that it can go on.
pub async fn words(from: Option<ChildStderr>) -> String {
    let Some(mut from) = from else { return String::new() };
    let mut kept = Vec::new();
    let _ = (&mut from).take(OUTPUT_BYTES_MAX).read_to_end(&mut kept).await;
    let _ = tokio::io::copy(&mut from, &mut tokio::io::sink()).await;
    String::from_utf8_lossy(&kept).chars().take(WORDS_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

    use std::{
        fs::{read_to_string, set_permissions, write},
        os::unix::fs::PermissionsExt,
    };

    use super::*;

    /// What becomes of a program with this text and mode, in a folder of that mode, and what it has left in `told`.
    fn run(script: &str, mode: u32, folder_mode: u32) -> (Result<(), String>, String) {
        let folder = tempfile::tempdir().unwrap();
        let (file, told) = (folder.path().join("channel"), folder.path().join("told"));
        let script = script.replace("TOLD", told.to_str().unwrap());
        write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
        set_permissions(&file, PermissionsExt::from_mode(mode)).unwrap();
        set_permissions(folder.path(), PermissionsExt::from_mode(folder_mode)).unwrap();
        let program = Program {
            file: &file,
            arguments: &["one two".to_owned(), "$(reboot)".to_owned()],
            environment: &[("WHAT", "it has ended; $(reboot)")],
            stdin: "a text",
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let result = runtime.block_on(program.run());
        (result, read_to_string(told).unwrap_or_default())
    }

    #[track_caller]
    fn check(script: &str, (mode, folder_mode): (u32, u32), why: &str) {
        let error = run(script, mode, folder_mode).0.unwrap_err();
        assert!(error.contains(why), "{error} has no {why}");
    }

    #[test]
    fn it_is_told_by_its_stdin_its_arguments_and_an_environment_of_its_own() {
        let (result, told) = run("cat > TOLD; echo \"|$1|$2|\" >> TOLD; env >> TOLD", 0o700, 0o755);
        result.unwrap();
        assert!(told.starts_with("a text|one two|$(reboot)|\n"), "{told}");
        assert!(told.contains("\nWHAT=it has ended; $(reboot)\n"), "{told}");
        assert!(!told.contains("CARGO"), "{told}");
    }

    #[test]
    fn one_that_fails_is_told_of_with_its_first_words() {
        let good = (0o700, 0o700);
        check("echo no horn >&2; echo more >&2; exit 3", good, "exit status: 3: no horn");
        check("yes >&2 & head -c 100000 /dev/zero >&2; kill $!; exit 1", good, "exit status: 1");
        check("exit 0", (0o600, 0o700), "cannot be run");
    }

    #[test]
    fn one_that_others_can_write_or_replace_is_not_run() {
        check("exit 0", (0o722, 0o700), "channel can be written by others: chmod go-w it");
        check("exit 0", (0o700, 0o770), "can be written by others: chmod go-w it");
    }

    #[test]
    fn one_that_reads_nothing_is_no_failure() {
        run("exec true", 0o700, 0o700).0.unwrap();
    }

    #[test]
    fn a_name_leads_nowhere_but_into_its_folder() {
        let folder = Path::new("/f");
        assert_eq!(in_folder(folder, "horn.sh"), Some(PathBuf::from("/f/horn.sh")));
        for name in ["", ".", "..", ".hidden", "../x", "/bin/sh", "a/b"] {
            assert_eq!(in_folder(folder, name), None, "{name}");
        }
    }
}
