//! Reading beside the loop what may never answer: a sensor on a bus that is stuck, a file system whose server is
//! gone. Who asks for one is held up by the kernel, and cannot be interrupted.
//!
//! A thread that reads such things notes in its [`Progress`] what it reads at the moment, so that others can
//! say what it hangs at, and for how long.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::sensors::Sensors;
use super::{Disk, Temperature, disk_space};

/// For a thread that reads: it holds a few paths and lines.
pub(crate) const STACK_BYTES: usize = 128 * 1024;
/// For sensors and file systems to answer, which takes a millisecond. The loop waits that long once; from then
/// on it goes without them until they have answered.
const PATIENCE: Duration = Duration::from_millis(200);
/// Sensors are searched again after this many samples, so that a hot-plugged one appears.
const SEARCHED_EVERY_SAMPLES: u32 = 60;

/// What a thread reads at the moment, and since when.
#[derive(Debug, Clone, Default)]
pub(crate) struct Progress(Arc<Mutex<Option<(PathBuf, Instant)>>>);

thread_local! {
    /// Of this thread; the loop has none.
    static HERE: RefCell<Option<Progress>> = const { RefCell::new(None) };
}

impl Progress {
    /// Does `work` in this thread, with what it reads noted here.
    pub(crate) fn note<T>(&self, work: impl FnOnce() -> T) -> T {
        HERE.set(Some(self.clone()));
        let result = work();
        HERE.set(None);
        self.set(None);
        result
    }

    /// What is being read, and for how long.
    pub(crate) fn current(&self, now: Instant) -> Option<(PathBuf, Duration)> {
        let current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        current.as_ref().map(|(what, since)| (what.clone(), now.saturating_duration_since(*since)))
    }

    fn set(&self, what: Option<&Path>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) =
            what.map(|what| (what.to_owned(), Instant::now()));
    }
}

/// Whoever reads a file that may hang says so first.
pub(super) fn reading(what: &Path) {
    HERE.with_borrow(|here| here.iter().for_each(|progress| progress.set(Some(what))));
}

/// One reading of everything that may hang.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    pub(super) temperatures: Vec<Temperature>,
    pub(super) disks: Vec<Disk>,
}

/// The sampler's thread.
#[derive(Debug)]
pub(super) struct Beside {
    ask: SyncSender<()>,
    answers: Receiver<Seen>,
    progress: Progress,
    /// It was asked, and has not answered.
    under_way: bool,
    pub(super) patience: Duration,
}

impl Beside {
    /// Without a thread it never answers.
    pub(super) fn start(sys: PathBuf, disks: Vec<Disk>) -> Self {
        let progress = Progress::default();
        let (ask, asked) = sync_channel::<()>(1);
        let (tell, answers) = sync_channel(1);
        let of_thread = progress.clone();
        let work = move || {
            let mut reader =
                Reader { sys, sensors: Sensors::default(), until_search: 0, seen: Seen::default() };
            reader.seen.disks = disks;
            while asked.recv().is_ok() {
                if tell.send(of_thread.note(|| reader.read())).is_err() {
                    return;
                }
            }
        };
        if let Err(error) = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(work) {
            tracing::warn!(%error, "no thread to read sensors and disks: their figures are missing");
        }
        Self { ask, answers, progress, under_way: false, patience: PATIENCE }
    }

    /// `None` where they have not answered in time, and as long as they do not.
    pub(super) fn sample(&mut self) -> Option<Seen> {
        let answer = if self.under_way {
            self.answers.try_recv().ok()
        } else {
            self.under_way = self.ask.try_send(()).is_ok();
            self.answers.recv_timeout(self.patience).ok()
        };
        self.under_way &= answer.is_none();
        answer
    }

    pub(super) fn progress(&self) -> &Progress {
        &self.progress
    }
}

struct Reader {
    sys: PathBuf,
    sensors: Sensors,
    until_search: u32,
    seen: Seen,
}

impl Reader {
    fn read(&mut self) -> Seen {
        for disk in &mut self.seen.disks {
            reading(&disk.path);
            (disk.total_bytes, disk.free_bytes) = disk_space(&disk.path).unzip();
        }
        if self.until_search == 0 {
            self.sensors.search(&self.sys, &mut self.seen.temperatures);
            self.until_search = SEARCHED_EVERY_SAMPLES;
        }
        self.until_search -= 1;
        self.sensors.read(&mut self.seen.temperatures);
        self.seen.clone()
    }
}
