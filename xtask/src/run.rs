//! Running other programs: shown, logged, or echoed line by line while something listens.

use std::fs;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result, bail};

/// How much of a log is worth showing when a program failed.
const LOG_TAIL_LINES: usize = 25;

/// The command as one would type it.
pub(crate) fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

/// Runs with all output in `log`.
///
/// # Errors
/// It cannot be started or fails; the error carries the end of the log.
pub(crate) fn logged(command: &mut Command, log: &Path) -> Result<()> {
    if let Some(dir) = log.parent() {
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    }
    let file = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)
        .with_context(|| format!("cannot write {}", log.display()))?;
    let both = file.try_clone().context("cannot share the log")?;
    command.stdin(Stdio::null()).stdout(file).stderr(both);
    let status = command.status().with_context(|| format!("cannot run `{}`", shown(command)))?;
    if !status.success() {
        bail!("`{}` failed ({status}):\n{}", shown(command), tail(log));
    }
    Ok(())
}

/// Runs, passes its output on as it comes, and lets `see` read each line of it.
/// Returns whether it succeeded.
///
/// # Errors
/// It cannot be started.
pub(crate) fn echoed(command: &mut Command, see: impl Fn(&str) + Sync) -> Result<bool> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("cannot run `{}`", shown(command)))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    thread::scope(|scope| {
        let see = &see;
        if let Some(stdout) = stdout {
            scope.spawn(move || pass_on(stdout, &mut std::io::stdout(), see));
        }
        if let Some(stderr) = stderr {
            scope.spawn(move || pass_on(stderr, &mut std::io::stderr(), see));
        }
    });
    Ok(child.wait().context("cannot wait for it")?.success())
}

/// Runs and keeps its output, of both kinds as it came. Returns whether it succeeded, and the output.
///
/// # Errors
/// It cannot be started, or has no place for its output.
pub(crate) fn kept(command: &mut Command) -> Result<(bool, String)> {
    let (mut from, to) = std::io::pipe().context("cannot make a pipe")?;
    command.stdin(Stdio::null()).stdout(to.try_clone().context("cannot share a pipe")?).stderr(to);
    let mut child = command.spawn().with_context(|| format!("cannot run `{}`", shown(command)))?;
    // ours would keep the pipe open after it
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut output = Vec::new();
    from.read_to_end(&mut output).context("cannot read what it prints")?;
    let status = child.wait().context("cannot wait for it")?;
    Ok((status.success(), String::from_utf8_lossy(&output).into_owned()))
}

/// The standard output of a program that succeeded, without the line's end.
pub(crate) fn answer(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
    output.status.success().then_some(text)
}

/// The last lines of a log, indented.
pub(crate) fn tail(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().collect();
    let first = lines.len().saturating_sub(LOG_TAIL_LINES);
    let last: Vec<_> = lines[first..].iter().map(|line| format!("    {line}")).collect();
    format!("{}\n    (all of it: {})", last.join("\n"), log.display())
}

fn pass_on(from: impl Read, to: &mut impl Write, see: &(impl Fn(&str) + Sync)) {
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    // Bytes, not text: a test may print anything.
    while from.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
        // Nobody to read it any more is no reason to stop the tests.
        to.write_all(&line).and_then(|()| to.flush()).ok();
        see(&String::from_utf8_lossy(&line));
        line.clear();
    }
}
