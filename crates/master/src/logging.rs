//! Where log lines go, and how many: journald where there is one, else stderr; the level changes at run time, and
//! where it was changed for a time it is again what was configured after it.

use std::{
    io::IsTerminal,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use piccolo_core::{log_filter, log_level, time::Timestamp};
use tokio::{
    task::AbortHandle,
    time::{Instant, sleep_until},
};
use tracing_subscriber::{
    Layer, Registry, filter::Targets, layer::SubscriberExt, reload, util::SubscriberInitExt,
};

/// What is logged where nobody says otherwise.
pub(crate) const DEFAULT_FILTER: &str = "info";

/// Changes the level of this process.
#[derive(Debug, Clone)]
pub(crate) struct LogLevel(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// None where the process logs in another way, as tests do.
    handle: Option<reload::Handle<Targets, Registry>>,
    started: Instant,
    /// With what waits for the end of the last change: one at most.
    level: Mutex<(log_level::LogLevel, Option<AbortHandle>)>,
}

impl Default for LogLevel {
    fn default() -> Self {
        Self::new(DEFAULT_FILTER, None)
    }
}

impl LogLevel {
    fn new(configured: &str, handle: Option<reload::Handle<Targets, Registry>>) -> Self {
        let level = Mutex::new((log_level::LogLevel::new(configured), None));
        Self(Arc::new(Inner { handle, started: Instant::now(), level }))
    }

    /// From the next line on; to be called in the runtime. The error is a sentence about the filter.
    pub(crate) fn set(&self, filter: &str, span: Option<Duration>) -> Result<(), String> {
        let mut guard = self.0.level.lock().unwrap_or_else(PoisonError::into_inner);
        let (level, waiting) = &mut *guard;
        self.reload(filter)?;
        level.changed(self.now(), span);
        let next = level.deadline().map(|at| {
            let at = self.0.started + Duration::from_micros(at.0);
            let this = self.clone();
            let task = tokio::spawn(async move {
                sleep_until(at).await;
                this.end();
            });
            task.abort_handle()
        });
        if let Some(before) = std::mem::replace(waiting, next) {
            before.abort();
        }
        Ok(())
    }

    /// Of a change whose time is over; of one that was replaced, nothing happens.
    fn end(&self) {
        let mut level = self.0.level.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(filter) = level.0.due(self.now()) else { return };
        match self.reload(filter) {
            Ok(()) => tracing::info!(filter, "the log level is as configured again"),
            Err(error) => tracing::warn!(error, "the log level cannot be changed back"),
        }
    }

    fn reload(&self, filter: &str) -> Result<(), String> {
        let targets = parse(filter)?;
        let Some(handle) = &self.0.handle else { return Ok(()) };
        handle.reload(targets).map_err(|error| error.to_string())
    }

    fn now(&self) -> Timestamp {
        let micros = self.0.started.elapsed().as_micros();
        Timestamp(u64::try_from(micros).unwrap_or(u64::MAX))
    }
}

/// Whether it is a filter.
pub(crate) fn check(filter: &str) -> Result<(), String> {
    parse(filter).map(drop)
}

/// Starts logging for this process; to be called once.
///
/// # Errors
/// A sentence about the filter, or that logging was started before.
pub(crate) fn start(filter: &str) -> Result<LogLevel, String> {
    let (targets, handle) = reload::Layer::new(parse(filter)?);
    let journal = under_systemd().then(tracing_journald::layer).and_then(Result::ok);
    let output: Box<dyn Layer<_> + Send + Sync> = match journal {
        Some(journal) => Box::new(journal),
        None => Box::new(
            tracing_subscriber::fmt::layer()
                .with_writer(std::io::stderr)
                .with_ansi(std::io::stderr().is_terminal()),
        ),
    };
    let subscriber = tracing_subscriber::registry().with(targets).with(output);
    subscriber.try_init().map_err(|error| error.to_string())?;
    Ok(LogLevel::new(filter, Some(handle)))
}

fn parse(filter: &str) -> Result<Targets, String> {
    let explicit = log_filter::explicit(filter)?;
    explicit.parse().map_err(|error| format!("{filter:?} is not a log filter ({error})"))
}

/// Standard error goes to the journal anyway: then lines with fields are better.
fn under_systemd() -> bool {
    std::env::var_os("JOURNAL_STREAM").is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level_of(targets: &Targets) -> Option<tracing::level_filters::LevelFilter> {
        targets.iter().find_map(|(name, level)| (name == "piccolo").then_some(level))
    }

    /// After each of these times, what our modules log.
    async fn check(changes: &[(&str, Option<u64>)], expected: &[(u64, &str)]) {
        let (_layer, handle) = reload::Layer::new(parse("warn").unwrap());
        let level = LogLevel::new("warn", Some(handle.clone()));
        for (filter, seconds) in changes {
            level.set(filter, seconds.map(Duration::from_secs)).unwrap();
        }
        let start = Instant::now();
        for (seconds, filter) in expected {
            // the time is tokio's own, which is paused: nobody waits
            sleep_until(start + Duration::from_secs(*seconds) + Duration::from_millis(1)).await;
            let now = handle.with_current(level_of).unwrap().map(|level| level.to_string());
            assert_eq!(now.as_deref(), Some(*filter), "{changes:?} after {seconds} s");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_level_for_a_time_is_as_configured_after_it() {
        check(&[("debug", Some(600))], &[(0, "debug"), (599, "debug"), (600, "warn")]).await;
        check(&[("debug", None)], &[(0, "debug"), (100_000, "debug")]).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_later_level_replaces_the_return_of_the_one_before() {
        let twice = [("debug", Some(600)), ("trace", Some(1200))];
        check(&twice, &[(600, "trace"), (1200, "warn")]).await;
        check(&[("debug", Some(600)), ("error", None)], &[(600, "error"), (100_000, "error")])
            .await;
    }
}
