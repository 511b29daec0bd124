//! Logs to the journal with fields where systemd runs us, else to stderr; the level changes at run time.

use anyhow::{Context, Result};
use piccolo_core::log_filter;
use tracing_subscriber::{
    Layer, Registry, filter::Targets, layer::SubscriberExt, reload, util::SubscriberInitExt,
};

/// Changes the level of the log.
#[derive(Debug, Clone)]
pub struct Level(reload::Handle<Targets, Registry>);

impl Level {
    /// Takes a filter such as `info,piccolo_nodeagent=debug`.
    ///
    /// # Errors
    /// The filter cannot be read; the level stays as it was.
    pub fn set(&self, filter: &str) -> Result<(), String> {
        let targets = parse(filter).map_err(|error| error.to_string())?;
        self.0.reload(targets).map_err(|error| error.to_string())?;
        tracing::info!(filter, "the level of the log was changed");
        Ok(())
    }
}

/// Begins logging.
///
/// # Errors
/// The filter cannot be read, or logging has begun already.
pub fn start(filter: &str) -> Result<Level> {
    let (level, handle) = reload::Layer::new(parse(filter)?);
    // systemd tells where our stderr goes; the journal takes the fields apart by itself
    let journal = std::env::var_os("JOURNAL_STREAM").and_then(|_| tracing_journald::layer().ok());
    let output = match journal {
        Some(journal) => journal.boxed(),
        None => {
            tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false).boxed()
        }
    };
    tracing_subscriber::registry().with(level).with(output).try_init()?;
    Ok(Level(handle))
}

fn parse(filter: &str) -> Result<Targets> {
    let explicit = log_filter::explicit(filter).map_err(anyhow::Error::msg)?;
    explicit.parse().with_context(|| format!("{filter:?} is not a log filter"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_filter_is_refused() {
        for bad in ["blah", "info,blah", "piccolo=loud", "info,piccolo=loud", &"x".repeat(300)] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert!(parse("info,piccolo_nodeagent=debug").is_ok());
    }

    #[test]
    fn debug_is_of_our_modules_alone() {
        let targets = parse("debug").unwrap();
        assert!(targets.would_enable("piccolo_nodeagent::agent", &tracing::Level::DEBUG));
        assert!(!targets.would_enable("h2::codec", &tracing::Level::DEBUG));
        assert!(targets.would_enable("h2::codec", &tracing::Level::INFO));
    }
}
