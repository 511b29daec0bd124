//! What a person sees of a deployment while it goes on, and what is left at its end.
//!
//! On a terminal each host has a line that moves; elsewhere each step is a line. Both go to stderr. The
//! table, or the document, of what came of each host goes to stdout.

use std::{
    io::IsTerminal as _,
    time::{Duration, Instant},
};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde::Serialize;

use super::steps::{Done, Step};
use crate::{
    failure::{Exit, Failure},
    output::{Cell, Format, Look, Table, Tone, document, figure, print, say, text, word},
    text::clean,
};

const FRAME: Duration = Duration::from_millis(100);

/// All hosts.
#[derive(Debug)]
pub struct Board {
    bars: MultiProgress,
    on_terminal: bool,
    width: usize,
    format: Format,
}

impl Board {
    pub fn new(format: Format, hosts: impl IntoIterator<Item = String>) -> Self {
        let width = hosts.into_iter().map(|host| host.chars().count()).max().unwrap_or(0);
        let on_terminal = std::io::stderr().is_terminal();
        Self { bars: MultiProgress::new(), on_terminal, width, format }
    }

    pub fn line(&self, host: &str) -> Line {
        let name = format!("{:width$}", clean(host), width = self.width);
        let bar = self.on_terminal.then(|| {
            let bar = self.bars.add(ProgressBar::new_spinner());
            if let Ok(style) = ProgressStyle::with_template("{prefix}  {spinner} {msg} ({elapsed})")
            {
                bar.set_style(style);
            }
            bar.set_prefix(name.clone());
            bar.set_message("waiting");
            bar.enable_steady_tick(FRAME);
            bar
        });
        let quiet = matches!(self.format, Format::Json | Format::Yaml);
        Line { bar, name, quiet, begun: Instant::now() }
    }
}

/// One of them.
#[derive(Debug)]
pub struct Line {
    bar: Option<ProgressBar>,
    name: String,
    quiet: bool,
    begun: Instant,
}

impl Line {
    pub fn step(&self, step: Step, more: &str) {
        self.show(&format!("{step} {more}"));
    }

    fn show(&self, text: &str) {
        let text = clean(text.trim());
        match &self.bar {
            Some(bar) => bar.set_message(text.into_owned()),
            None if self.quiet => {}
            None => say(&format!("{}  {text}", self.name)),
        }
    }

    pub fn end(&self, outcome: &Outcome) {
        let word = word_of(outcome.result);
        let text = match &outcome.problem {
            Some(problem) => format!("{word} at step {}", problem.step),
            None => format!("{word} ({:.1} s)", outcome.seconds),
        };
        match &self.bar {
            Some(bar) => {
                if let Ok(style) = ProgressStyle::with_template("{prefix}    {msg}") {
                    bar.set_style(style);
                }
                bar.finish_with_message(text);
            }
            None => self.show(&text),
        }
    }

    pub fn seconds(&self) -> f32 {
        self.begun.elapsed().as_secs_f32()
    }
}

/// What came of one host: a line of the table, and an element of the document.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    pub host: String,
    pub node: Option<String>,
    pub result: Done,
    pub arch: Option<String>,
    /// Of the system check.
    pub warnings: u32,
    pub seconds: f32,
    pub problem: Option<Problem>,
}

/// Why a host failed.
#[derive(Debug, Clone, Serialize)]
pub struct Problem {
    pub step: Step,
    /// The last lines of what was said.
    pub cause: String,
    pub help: String,
    /// What could not be put back.
    pub left: Option<String>,
}

/// `piccolo node deploy`, `piccolo node undeploy`.
#[derive(Debug, Serialize)]
pub struct OutcomesView<'o> {
    pub hosts: &'o [Outcome],
}

/// The end of it: every host, then every failure, and the exit code.
///
/// # Errors
/// Silent, with exit code 1, where a host failed.
pub fn conclude(outcomes: &[Outcome], format: Format) -> Result<(), Failure> {
    print(&match format {
        Format::Table | Format::Wide => table(outcomes, &Look::of_stdout()),
        Format::Json | Format::Yaml => document(&OutcomesView { hosts: outcomes }, format)?,
    })?;
    let mut all_well = true;
    for outcome in outcomes {
        if let Some(problem) = &outcome.problem {
            all_well = false;
            crate::report(&failure(&outcome.host, problem));
        }
    }
    if all_well { Ok(()) } else { Err(Failure::silent(Exit::Failed)) }
}

fn failure(host: &str, problem: &Problem) -> Failure {
    let mut failure = Failure::failed(format!("{host}: step {} failed", problem.step));
    if !problem.cause.is_empty() {
        failure = failure.cause(&problem.cause);
    }
    if let Some(left) = &problem.left {
        failure = failure.cause(left);
    }
    if problem.help.is_empty() { failure } else { failure.help(&problem.help) }
}

fn table(outcomes: &[Outcome], look: &Look) -> String {
    let mut table = Table::new([
        word("HOST"),
        word("NODE"),
        word("RESULT"),
        figure("SECONDS").spare(),
        text("DETAIL"),
    ]);
    for outcome in outcomes {
        let tone = match outcome.result {
            Done::Failed => Tone::Bad,
            Done::Deployed | Done::Renewed | Done::TakenOver | Done::Undeployed => Tone::Good,
            Done::Unchanged | Done::Deployable | Done::Renewable | Done::Takeable => Tone::Plain,
        };
        let detail = match (&outcome.problem, outcome.warnings) {
            (Some(problem), _) => format!("at step {}", problem.step),
            (None, 0) => String::new(),
            (None, 1) => "1 warning of the system check".to_owned(),
            (None, count) => format!("{count} warnings of the system check"),
        };
        table.row([
            Cell::new(&outcome.host),
            Cell::or_nothing(outcome.node.as_deref().unwrap_or_default()),
            Cell::toned(tone, word_of(outcome.result)),
            Cell::new(format!("{:.1}", outcome.seconds)),
            Cell::or_nothing(&detail),
        ]);
    }
    table.render(look)
}

fn word_of(done: Done) -> &'static str {
    match done {
        Done::Deployed => "deployed",
        Done::Renewed => "renewed",
        Done::TakenOver => "taken-over",
        Done::Unchanged => "unchanged",
        Done::Deployable => "would-deploy",
        Done::Renewable => "would-renew",
        Done::Takeable => "would-take-over",
        Done::Undeployed => "undeployed",
        Done::Failed => "failed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_host_is_in_the_summary_and_a_failure_says_step_cause_and_help() {
        let well = Outcome {
            host: "root@a".into(),
            node: Some("a".into()),
            result: Done::Deployed,
            arch: Some("aarch64".into()),
            warnings: 2,
            seconds: 4.12,
            problem: None,
        };
        let problem = Problem {
            step: Step::Connect,
            cause: "ssh: connect to host b: timed out".into(),
            help: "is the host on?".into(),
            left: None,
        };
        let failed = Outcome {
            host: "root@b".into(),
            node: None,
            result: Done::Failed,
            problem: Some(problem.clone()),
            ..well.clone()
        };
        let look = Look { width: None, colour: false, now: crate::output::now() };
        let text = table(&[well, failed], &look);
        let expect = "HOST    NODE  RESULT    SECONDS  DETAIL\n\
                      root@a  a     deployed      4.1  2 warnings of the system check\n\
                      root@b  -     failed        4.1  at step connect\n";
        assert_eq!(text, expect);
        let expect = "error: root@b: step connect failed\n\
                      cause: ssh: connect to host b: timed out\nhelp: is the host on?\n";
        assert_eq!(failure("root@b", &problem).to_string(), expect);
    }
}
