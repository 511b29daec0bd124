//! Knowing from Podman's own files that something has changed, without waking its service.
//!
//! One inotify descriptor watches: the folder of the socket (Podman goes and comes), Podman's
//! database (written on each change of state, not by reading), the index of images (replaced on
//! each change), and the health log of each container with a health check.

use std::collections::BTreeMap;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use tokio::io::unix::AsyncFd;

use super::ContainerId;
use super::decode::StoragePaths;
use super::readable::readable;

/// Podman's database below the graph root: bolt up to 4.x, SQLite from 5.0.
const DATABASES: [&str; 3] = ["libpod/bolt_state.db", "db.sql", "libpod/db.sql"];
const HEALTH_LOG: &str = "healthcheck.log";
const HEALTH_LOG_BYTES_MAX: u64 = 1024 * 1024;
/// inotify queues at most 16384 events; a burst is read in pieces of this size.
const BUFFER_BYTES: usize = 4096;

/// What inotify says may have changed, gathered.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    /// The socket appeared or vanished.
    pub(super) socket: bool,
    /// Podman wrote into its database.
    pub(super) database: bool,
    pub(super) images: bool,
    /// These containers ran a health check.
    pub(super) health: Vec<ContainerId>,
    /// Watched files are gone, or events were lost: set up again and list.
    pub(super) lost: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum What {
    SocketFolder,
    Database,
    ImagesFolder,
    Health(ContainerId),
}

/// The inotify descriptor and what its watches mean.
#[derive(Debug)]
pub(super) struct Files {
    inotify: AsyncFd<OwnedFd>,
    watches: BTreeMap<i32, What>,
    socket_name: Vec<u8>,
    socket_folder: PathBuf,
    storage: Option<StoragePaths>,
}

/// What can be seen of the containers from outside, cheaply: the index of containers is replaced
/// on create and remove, a pid file on each start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Fingerprint(Vec<Option<SystemTime>>);

impl Files {
    /// Watches the socket's folder if it exists.
    pub(super) fn new(socket: &Path) -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let mut files = Self {
            inotify: readable(inotify)?,
            watches: BTreeMap::new(),
            socket_name: socket.file_name().unwrap_or_default().as_encoded_bytes().to_vec(),
            socket_folder: socket.parent().unwrap_or(Path::new("/")).to_owned(),
            storage: None,
        };
        files.watch_socket_folder();
        Ok(files)
    }

    /// Tries again if the folder did not exist so far.
    pub(super) fn watch_socket_folder(&mut self) {
        if self.watches.values().any(|what| *what == What::SocketFolder) {
            return;
        }
        let flags = WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_TO
            | WatchFlags::MOVED_FROM
            | WatchFlags::DELETE_SELF;
        let folder = self.socket_folder.clone();
        self.add(&folder, flags, What::SocketFolder).ok();
    }

    /// Whether Podman's database is being watched.
    pub(super) fn storage_is_watched(&self) -> bool {
        self.watches.values().any(|what| *what == What::Database)
    }

    /// Watches Podman's database and images. False if there is no database that can be watched.
    pub(super) fn watch_storage(&mut self, paths: &StoragePaths) -> bool {
        for database in DATABASES {
            let path = paths.graph_root.join(database);
            let flags = WatchFlags::MODIFY | WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF;
            self.add(&path, flags, What::Database).ok();
        }
        let images = paths.graph_root.join(format!("{}-images", paths.driver));
        self.add(&images, WatchFlags::MOVED_TO, What::ImagesFolder).ok();
        self.storage = Some(paths.clone());
        self.storage_is_watched()
    }

    /// Watches the health logs of exactly these containers.
    pub(super) fn watch_health<'a>(&mut self, ids: impl Iterator<Item = &'a str> + Clone) {
        let gone = |what: &What| match what {
            What::Health(id) => !ids.clone().any(|wanted| wanted == id),
            What::SocketFolder | What::Database | What::ImagesFolder => false,
        };
        let old: Vec<i32> = self.watches.iter().filter(|(_, w)| gone(w)).map(|(d, _)| *d).collect();
        for descriptor in old {
            inotify::remove_watch(self.inotify.get_ref(), descriptor).ok();
            self.watches.remove(&descriptor);
        }
        for id in ids {
            let wanted = What::Health(id.to_owned());
            if self.watches.values().any(|what| *what == wanted) {
                continue;
            }
            if let Some(log) = self.health_log(id)
                && let Some(folder) = log.parent()
            {
                self.add(folder, WatchFlags::CLOSE_WRITE | WatchFlags::MOVED_TO, wanted).ok();
            }
        }
    }

    /// What the last health check of a container said (`healthy`, `unhealthy`, `starting`).
    pub(super) fn health(&self, id: &str) -> Option<String> {
        #[derive(serde::Deserialize)]
        struct Log {
            #[serde(rename = "Status")]
            status: String,
        }
        let path = self.health_log(id)?;
        let size = std::fs::metadata(&path).ok()?.len();
        let text = std::fs::read(path).ok().filter(|_| size <= HEALTH_LOG_BYTES_MAX)?;
        Some(serde_json::from_slice::<Log>(&text).ok()?.status)
    }

    /// The fingerprint of these containers now; costs a `stat` each.
    pub(super) fn fingerprint<'a>(&self, ids: impl Iterator<Item = &'a str>) -> Fingerprint {
        let Some(paths) = &self.storage else { return Fingerprint::default() };
        let containers = format!("{}-containers", paths.driver);
        let index = paths.graph_root.join(&containers).join("containers.json");
        let run = paths.run_root.join(&containers);
        let pid_files = ids.map(|id| run.join(id).join("userdata/pidfile"));
        let times = std::iter::once(index).chain(pid_files);
        Fingerprint(times.map(|path| std::fs::metadata(path).ok()?.modified().ok()).collect())
    }

    /// Waits until something has changed. Cancel safe: what was read is always returned.
    pub(super) async fn changed(&mut self) -> Changes {
        loop {
            let Ok(mut ready) = self.inotify.readable().await else {
                return std::future::pending().await; // the runtime is shutting down
            };
            let (changes, more) = read_changes(&self.inotify, &mut self.watches, &self.socket_name);
            if !more {
                ready.clear_ready();
            }
            if changes != Changes::default() {
                return changes;
            }
        }
    }

    fn health_log(&self, id: &str) -> Option<PathBuf> {
        let paths = self.storage.as_ref()?;
        Some(paths.run_root.join(format!("{}-containers", paths.driver)).join(id).join(HEALTH_LOG))
    }

    fn add(&mut self, path: &Path, flags: WatchFlags, what: What) -> io::Result<()> {
        let descriptor = inotify::add_watch(self.inotify.get_ref(), path, flags)?;
        self.watches.insert(descriptor, what);
        Ok(())
    }
}

/// Reads one buffer full. The flag is true if there may be more.
fn read_changes(
    inotify: &AsyncFd<OwnedFd>,
    watches: &mut BTreeMap<i32, What>,
    socket_name: &[u8],
) -> (Changes, bool) {
    let mut buffer = [MaybeUninit::uninit(); BUFFER_BYTES];
    let mut reader = Reader::new(inotify.get_ref(), &mut buffer);
    let mut changes = Changes::default();
    loop {
        let event = match reader.next() {
            Ok(event) => event,
            Err(rustix::io::Errno::INTR) => continue,
            Err(_) => return (changes, false), // EAGAIN: all was read
        };
        let name = event.file_name().map(|name| name.to_bytes()).unwrap_or_default();
        let flags = event.events();
        if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
            changes.lost = true;
        }
        let Some(what) = watches.get(&event.wd()) else { continue };
        let removed =
            flags.intersects(ReadFlags::IGNORED | ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF);
        match what {
            What::SocketFolder => changes.socket |= removed || name == socket_name,
            What::Database if removed => changes.lost = true,
            What::Database => changes.database = true,
            What::ImagesFolder => changes.images |= removed || name == b"images.json",
            What::Health(id) if name == HEALTH_LOG.as_bytes() => {
                if !changes.health.contains(id) {
                    changes.health.push(id.clone());
                }
            }
            What::Health(_) => {}
        }
        if flags.contains(ReadFlags::IGNORED) {
            watches.remove(&event.wd());
        }
        if reader.is_buffer_empty() {
            return (changes, true);
        }
    }
}
