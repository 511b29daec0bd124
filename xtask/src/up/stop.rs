//! Ctrl-C and SIGTERM as a flag, so that whatever is under way ends in order.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::signal::unix::{SignalKind, signal};

const POLL_EVERY: Duration = Duration::from_millis(50);

/// Whether the user wants an end.
#[derive(Debug, Clone)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    /// From now on the signals end nothing by themselves.
    pub(crate) fn listen() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .context("no runtime to wait for signals")?;
        let (mut interrupt, mut terminate) = {
            let _guard = runtime.enter();
            let listen = |kind| signal(kind).context("signals cannot be caught");
            (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?)
        };
        let flag = Arc::new(AtomicBool::new(false));
        let raised = Arc::clone(&flag);
        thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
            });
            raised.store(true, Ordering::Relaxed);
        });
        Ok(Self(flag))
    }

    pub(crate) fn is_wanted(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// # Errors
    /// The user wants an end.
    pub(crate) fn check(&self) -> Result<()> {
        if self.is_wanted() {
            bail!("interrupted");
        }
        Ok(())
    }

    /// Waits one turn of a loop that polls.
    ///
    /// # Errors
    /// The user wants an end.
    pub(crate) fn pause(&self) -> Result<()> {
        thread::sleep(POLL_EVERY);
        self.check()
    }
}
