//! What a run has on this machine: a folder, network namespaces, and a control group for each host.
//!
//! All of it has names made from one: `piccolo-PID-N`, the process that owns the run. Its folder is made
//! first and removed last, so whoever finds the folder of a run whose owner is gone can remove the rest, and
//! nothing else.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use rustix::fs::{FlockOperation, flock};

use super::{cgroups, image, output};
use crate::{
    cluster::{Error, Result, io},
    kept::Kept,
};

/// Of one process. More than these at once would be an accident.
const RUNS_MAX: u32 = 100;

/// One run, of this process or an earlier one.
#[derive(Debug)]
pub(super) struct Run {
    name: String,
    folder: PathBuf,
}

impl Run {
    /// Removes the remains of others, sees that there is an image, and begins a run: one after another,
    /// whoever comes at the same time.
    pub(super) fn begin(folder: &Path) -> Result<(PathBuf, Self)> {
        let (folder, _lock) = locked(folder)?;
        Ok((swept_with_image(&folder)?, Self::new(&folder)?))
    }

    fn new(folder: &Path) -> Result<Self> {
        let pid = std::process::id();
        for number in 1..=RUNS_MAX {
            let name = format!("piccolo-{pid}-{number}");
            let folder = folder.join("runs").join(&name);
            if folder.exists() {
                continue;
            }
            fs::create_dir(&folder).map_err(io("the run has no folder"))?;
            let owner = Kept::of_this_process();
            owner.write_down(&folder.join("owner")).map_err(io("the run has no owner"))?;
            return Ok(Self { name, folder });
        }
        Err(Error::Unexpected(format!("this process has {RUNS_MAX} testbeds already")))
    }

    /// Of its network namespace, and the beginning of all its other names.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// What a host is called outside of itself.
    pub(super) fn machine(&self, host: &str) -> String {
        format!("{}-{host}", self.name)
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn host_folder(&self, host: &str) -> PathBuf {
        self.folder.join("hosts").join(host)
    }

    /// From now on it belongs to nobody, and goes on until [`end_kept`].
    pub(super) fn keep(&self) -> Result<()> {
        fs::rename(self.folder.join("owner"), self.folder.join("kept")).map_err(io("keeping a run"))
    }

    fn is_kept(&self) -> bool {
        self.folder.join("kept").exists()
    }

    fn is_alive(&self) -> bool {
        self.is_kept() || Kept::recall(&self.folder.join("owner")).is_some()
    }

    /// Ends and removes everything. Once more does no harm.
    pub(super) fn end(&self) -> Result<()> {
        let entries = fs::read_dir(self.folder.join("hosts")).into_iter().flatten().flatten();
        let machines: Vec<String> =
            entries.map(|entry| self.machine(&entry.file_name().to_string_lossy())).collect();
        for machine in &machines {
            cgroups::destroy(machine)?;
        }
        for namespace in machines.iter().chain([&self.name]) {
            delete_namespace(namespace)?;
        }
        match fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(io("the run's folder cannot be removed")(error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

pub(super) fn delete_namespace(name: &str) -> Result<()> {
    if !Path::new("/run/netns").join(name).exists() {
        return Ok(());
    }
    output(Command::new("ip").args(["netns", "delete", name])).map(drop)
}

/// Removes what runs left whose owner was killed. Says how many there were.
///
/// # Errors
/// Something of it goes on; it is named.
pub fn sweep(folder: &Path) -> Result<usize> {
    let dead: Vec<Run> = all(folder).into_iter().filter(|run| !run.is_alive()).collect();
    dead.iter().try_for_each(Run::end)?;
    Ok(dead.len())
}

/// Ends the runs that were kept. Says how many there were.
///
/// # Errors
/// Something of them goes on; it is named.
pub fn end_kept(folder: &Path) -> Result<usize> {
    let kept: Vec<Run> = all(folder).into_iter().filter(Run::is_kept).collect();
    kept.iter().try_for_each(Run::end)?;
    Ok(kept.len())
}

/// Whether one goes on that nobody watches over.
#[must_use]
pub fn is_any_kept(folder: &Path) -> bool {
    all(folder).iter().any(Run::is_kept)
}

fn all(folder: &Path) -> Vec<Run> {
    let entries = fs::read_dir(folder.join("runs")).into_iter().flatten().flatten();
    let runs = entries.map(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        Run { name, folder: entry.path() }
    });
    runs.filter(|run| run.name.starts_with("piccolo-")).collect()
}

/// What this machine still has of that run: control groups, namespaces, mounts, processes.
#[must_use]
pub fn remains(name: &str) -> Vec<String> {
    let is_of_it = |text: &str| text.contains(name);
    let names = |folder: &Path| -> Vec<String> {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path().display().to_string()).collect()
    };
    let mut remains = names(Path::new("/run/netns"));
    remains.extend(cgroups::trees().iter().flat_map(|tree| names(tree)));
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    remains.extend(mounts.lines().map(|line| format!("mount {line}")));
    for process in names(Path::new("/proc")) {
        let line = fs::read(Path::new(&process).join("cmdline")).unwrap_or_default();
        remains.push(format!("{process}: {}", String::from_utf8_lossy(&line).replace('\0', " ")));
    }
    remains.retain(|text| is_of_it(text));
    remains
}

/// Removes what runs left that were killed, and sees that there is an image.
///
/// # Errors
/// Not root, something is not installed, or a package cannot be had.
pub fn make_ready(folder: &Path) -> Result<()> {
    let (folder, _lock) = locked(folder)?;
    swept_with_image(&folder).map(drop)
}

fn swept_with_image(folder: &Path) -> Result<PathBuf> {
    sweep(folder)?;
    if let Some(root) = image::present(folder) {
        return Ok(root);
    }
    refuse_while_in_use(folder)?;
    image::make(folder)
}

fn locked(folder: &Path) -> Result<(PathBuf, fs::File)> {
    fs::create_dir_all(folder.join("runs")).map_err(io("the testbed has no folder"))?;
    let folder = folder.canonicalize().map_err(io("the testbed's folder"))?;
    let lock = fs::File::create(folder.join("lock")).map_err(io("the testbed's lock"))?;
    flock(&lock, FlockOperation::LockExclusive)
        .map_err(|error| io("the testbed cannot be locked")(error.into()))?;
    Ok((folder, lock))
}

fn refuse_while_in_use(folder: &Path) -> Result<()> {
    let users: Vec<String> = all(folder).into_iter().map(|run| run.name).collect();
    if users.is_empty() {
        return Ok(());
    }
    Err(Error::Unexpected(format!(
        "the image of the hosts must be made anew, and these runs still use the old one: {}; end \
         them first (`cargo xtask down`)",
        users.join(", ")
    )))
}
