//! Where log lines go, and how many: journald where there is one, else stderr; the level changes at run time.

use std::{
    io::IsTerminal,
    sync::{Arc, OnceLock},
};

use piccolo_core::log_filter;
use tracing_subscriber::{
    Layer, Registry, filter::Targets, layer::SubscriberExt, reload, util::SubscriberInitExt,
};

/// What is logged where nobody says otherwise.
pub(crate) const DEFAULT_FILTER: &str = "info";

/// Changes the level of this process.
#[derive(Debug, Clone, Default)]
pub(crate) struct LogLevel(Arc<OnceLock<reload::Handle<Targets, Registry>>>);

impl LogLevel {
    /// From the next line on. The error is a sentence about the filter.
    pub(crate) fn set(&self, filter: &str) -> Result<(), String> {
        let targets = parse(filter)?;
        match self.0.get() {
            Some(handle) => handle.reload(targets).map_err(|error| error.to_string()),
            // the process logs in another way, as tests do
            None => Ok(()),
        }
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
    let level = LogLevel::default();
    level.0.set(handle).ok();
    Ok(level)
}

fn parse(filter: &str) -> Result<Targets, String> {
    let explicit = log_filter::explicit(filter)?;
    explicit.parse().map_err(|error| format!("{filter:?} is not a log filter ({error})"))
}

/// Standard error goes to the journal anyway: then lines with fields are better.
fn under_systemd() -> bool {
    std::env::var_os("JOURNAL_STREAM").is_some()
}
