//! A Podman of its own for a test: own storage, own run folder, own locks, own socket.
//!
//! Podman refuses to run containers where cgroup v1 is in use with a v2 tree beside it, so there
//! everything (service and command line alike, or they would not see each other's mounts) runs in
//! one private mount namespace without that tree. A `sleep` holds the namespace; `nsenter` joins
//! it. Where cgroup v2 is alone, no namespace is needed and none is made.
//!
//! The image `localhost/busybox:1` is made from the machine's static busybox, because no registry
//! is needed for it. Nothing here goes through a shell.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::kept::Kept;

/// The image that every private Podman has.
pub const IMAGE: &str = "localhost/busybox:1";

const SERVICE_STARTS_WITHIN: Duration = Duration::from_secs(20);
const PROCESS_ENDS_WITHIN: Duration = Duration::from_secs(5);
const POLL_EVERY: Duration = Duration::from_millis(5);
/// Commands that the image offers.
const APPLETS: [&str; 12] =
    ["sh", "sleep", "echo", "cat", "true", "false", "ls", "kill", "httpd", "nc", "dd", "yes"];

/// What keeps a private Podman from working.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{program} is not installed; `cargo xtask setup` installs it")]
    NotInstalled { program: String },
    #[error("`{command}` failed ({status}): {stderr}")]
    Command { command: String, status: String, stderr: String },
    #[error(
        "the podman service did not answer on its socket within {SERVICE_STARTS_WITHIN:?}: {log}"
    )]
    Service { log: String },
    #[error("{what}: {source}")]
    Io { what: String, source: io::Error },
}

/// A running Podman service with its own storage. Dropping it removes its containers and ends its
/// processes; the folder stays with whoever made it.
#[derive(Debug)]
pub struct PrivatePodman {
    dir: PathBuf,
    holder: Option<Kept>,
    service: Option<Kept>,
    keep_running: bool,
}

impl PrivatePodman {
    /// Sets up Podman below `dir` (made if missing) and starts its service.
    ///
    /// # Errors
    /// Podman or a static busybox is not installed, or Podman does not work on this machine.
    pub fn start(dir: impl AsRef<Path>) -> Result<Self, Error> {
        let dir = dir.as_ref();
        fs::create_dir_all(dir)
            .map_err(io_error("cannot make the folder of the private podman"))?;
        let dir = dir.canonicalize().map_err(io_error("cannot resolve the folder"))?;
        require("podman")?;
        let mut podman = Self { dir, holder: None, service: None, keep_running: false };
        podman.write_configuration()?;
        if cgroups_are_hybrid() {
            podman.holder = Some(podman.private_namespace()?);
        }
        podman.import_image()?;
        podman.start_service()?;
        Ok(podman)
    }

    /// Takes over what [`Self::leave_running`] left below `dir`; `None` if nothing runs there. The
    /// service may have died meanwhile: then [`Self::start_service`] brings it back.
    pub fn attach(dir: impl AsRef<Path>) -> Option<Self> {
        let dir = dir.as_ref().canonicalize().ok()?;
        let service = Kept::recall(&dir.join("service.pid"));
        let holder = Kept::recall(&dir.join("holder.pid"));
        if service.is_none() && holder.is_none() {
            return None;
        }
        Some(Self { dir, holder, service, keep_running: false })
    }

    /// Lets everything run on after this program has ended.
    ///
    /// # Errors
    /// The process ids cannot be written down; everything is ended then.
    pub fn leave_running(mut self) -> Result<(), Error> {
        let note = |process: &Option<Kept>, name: &str| match process {
            Some(process) => process.write_down(&self.dir.join(name)),
            None => Ok(()),
        };
        note(&self.holder, "holder.pid")
            .and_then(|()| note(&self.service, "service.pid"))
            .map_err(io_error("cannot write down the process ids"))?;
        self.keep_running = true;
        Ok(())
    }

    /// Where the service listens.
    pub fn socket(&self) -> PathBuf {
        self.dir.join("podman.sock")
    }

    /// The process id of the service, if it runs.
    pub fn service_pid(&self) -> Option<u32> {
        self.service.as_ref().map(|service| service.pid())
    }

    /// Starts a container in the background and returns its id.
    ///
    /// # Errors
    /// Podman's own message.
    pub fn run(&self, name: &str, command: &[&str]) -> Result<String, Error> {
        self.run_with(name, &[], command)
    }

    /// As [`Self::run`], with further options for `podman run`.
    ///
    /// # Errors
    /// Podman's own message.
    pub fn run_with(
        &self,
        name: &str,
        options: &[&str],
        command: &[&str],
    ) -> Result<String, Error> {
        let mut arguments = vec!["run", "--detach", "--network", "none", "--name", name];
        arguments.extend(options);
        arguments.push(IMAGE);
        arguments.extend(command);
        self.podman(&arguments)
    }

    /// Runs a command inside a container and returns what it prints.
    ///
    /// # Errors
    /// Podman's own message, or the command failed.
    pub fn exec(&self, container: &str, command: &[&str]) -> Result<String, Error> {
        self.podman(&[&["exec", container], command].concat())
    }

    /// Sends SIGKILL through Podman.
    ///
    /// # Errors
    /// Podman's own message.
    pub fn kill(&self, container: &str) -> Result<(), Error> {
        self.podman(&["kill", container]).map(drop)
    }

    /// Removes a container, running or not.
    ///
    /// # Errors
    /// Podman's own message.
    pub fn rm(&self, container: &str) -> Result<(), Error> {
        self.podman(&["rm", "--force", "--time", "0", container]).map(drop)
    }

    /// The process id of a running container as the machine sees it.
    ///
    /// # Errors
    /// Podman's own message, or the container does not run.
    pub fn pid(&self, container: &str) -> Result<u32, Error> {
        let pid = self.podman(&["inspect", "--format", "{{.State.Pid}}", container])?;
        pid.parse().ok().filter(|&pid| pid != 0).ok_or_else(|| Error::Io {
            what: format!("container {container} has no process ({pid})"),
            source: io::ErrorKind::NotFound.into(),
        })
    }

    /// Any `podman` command on this storage; returns its output without the last newline.
    ///
    /// # Errors
    /// Podman's own message.
    pub fn podman(&self, arguments: &[&str]) -> Result<String, Error> {
        output(self.command().args(arguments))
    }

    /// Ends the service as SIGTERM does; the socket may stay behind, as with the real one.
    /// Containers run on.
    pub fn stop_service(&mut self) {
        if let Some(mut service) = self.service.take() {
            service.end();
        }
    }

    /// Starts the service if it does not run, and waits until it accepts connections.
    ///
    /// # Errors
    /// It does not come up in time; what it printed is in the error.
    pub fn start_service(&mut self) -> Result<(), Error> {
        if self.service.is_some() {
            return Ok(());
        }
        let socket = self.socket();
        fs::remove_file(&socket).or_else(missing_is_fine).map_err(io_error("stale socket"))?;
        let log_path = self.dir.join("service.log");
        let log = fs::File::create(&log_path).map_err(io_error("cannot make the service's log"))?;
        let address = format!("unix://{}", socket.display());
        let child = self
            .command()
            .args(["system", "service", "--time=0", &address])
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(io_error("cannot start the podman service"))?;
        self.service = Some(Kept::of(child));
        let deadline = Instant::now() + SERVICE_STARTS_WITHIN;
        while UnixStream::connect(&socket).is_err() {
            let ended = self.service.as_mut().is_none_or(|service| !service.is_alive());
            if ended || Instant::now() > deadline {
                self.stop_service();
                return Err(Error::Service {
                    log: fs::read_to_string(&log_path).unwrap_or_default(),
                });
            }
            std::thread::sleep(POLL_EVERY);
        }
        Ok(())
    }

    /// `podman` with this storage, in this namespace.
    fn command(&self) -> Command {
        let mut command = match &self.holder {
            Some(holder) => {
                let mut nsenter = Command::new("nsenter");
                nsenter.args(["--target", &holder.pid().to_string(), "--mount", "podman"]);
                nsenter
            }
            None => Command::new("podman"),
        };
        // Overlay mounts vanish with the namespace. Without one they could be left behind.
        let driver = if self.holder.is_some() { "overlay" } else { "vfs" };
        command
            .arg("--root")
            .arg(self.dir.join("root"))
            .arg("--runroot")
            .arg(self.dir.join("run"))
            .arg("--tmpdir")
            .arg(self.dir.join("tmp"))
            .args(["--storage-driver", driver])
            .env("CONTAINERS_CONF", self.dir.join("containers.conf"))
            .stdin(Stdio::null());
        command
    }

    /// Limits that an unprivileged root can set, and locks in files: those in shared memory are
    /// common to all Podmans of a machine, and a second storage would take the first one's.
    fn write_configuration(&self) -> Result<(), Error> {
        let cgroup_namespace = if cgroups_are_hybrid() { "cgroupns = \"host\"\n" } else { "" };
        let text = format!(
            "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=4096:4096\"]\n\
             {cgroup_namespace}\n[engine]\ncgroup_manager = \"cgroupfs\"\n\
             events_logger = \"file\"\nlock_type = \"file\"\n"
        );
        for folder in ["root", "run", "tmp"] {
            fs::create_dir_all(self.dir.join(folder)).map_err(io_error("cannot make a folder"))?;
        }
        fs::write(self.dir.join("containers.conf"), text).map_err(io_error("containers.conf"))
    }

    fn private_namespace(&self) -> Result<Kept, Error> {
        let holder = Command::new("unshare")
            .args(["--mount", "sleep", "infinity"])
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(io_error("cannot make a mount namespace with unshare"))?;
        let mut holder = Kept::of(holder);
        let deadline = Instant::now() + PROCESS_ENDS_WITHIN;
        let own = fs::read_link("/proc/self/ns/mnt").ok();
        while fs::read_link(format!("/proc/{}/ns/mnt", holder.pid())).ok() == own {
            if Instant::now() > deadline || !holder.is_alive() {
                holder.end();
                let source = io::ErrorKind::PermissionDenied.into();
                return Err(Error::Io {
                    what: "no private mount namespace (not root?)".into(),
                    source,
                });
            }
            std::thread::sleep(POLL_EVERY);
        }
        for tree in second_cgroup_trees() {
            let pid = holder.pid().to_string();
            output(
                Command::new("nsenter").args(["--target", &pid, "--mount", "umount"]).arg(&tree),
            )?;
        }
        Ok(holder)
    }

    fn import_image(&self) -> Result<(), Error> {
        if self.podman(&["image", "exists", IMAGE]).is_ok() {
            return Ok(());
        }
        let busybox = ["/bin/busybox", "/usr/bin/busybox", "/bin/busybox.static"];
        let missing = || Error::NotInstalled { program: "a static busybox".into() };
        let busybox = busybox.iter().find(|path| Path::new(path).exists()).ok_or_else(missing)?;
        let files = self.dir.join("image");
        let error = io_error("cannot make the test image");
        let make = || -> io::Result<()> {
            fs::create_dir_all(files.join("bin"))?;
            fs::create_dir_all(files.join("tmp"))?;
            fs::copy(busybox, files.join("bin/busybox"))?;
            for applet in APPLETS {
                std::os::unix::fs::symlink("busybox", files.join("bin").join(applet)).or_else(
                    |e| if e.kind() == io::ErrorKind::AlreadyExists { Ok(()) } else { Err(e) },
                )?;
            }
            Ok(())
        };
        make().map_err(error)?;
        let archive = self.dir.join("image.tar");
        output(Command::new("tar").arg("-cf").arg(&archive).arg("-C").arg(&files).arg("."))?;
        output(self.command().arg("import").arg(&archive).arg(IMAGE))?;
        fs::remove_dir_all(&files).and_then(|()| fs::remove_file(&archive)).ok();
        Ok(())
    }
}

impl Drop for PrivatePodman {
    fn drop(&mut self) {
        if self.keep_running {
            return;
        }
        // Best effort: a test that already failed must show its own reason.
        self.podman(&["rm", "--all", "--force", "--time", "0"]).ok();
        self.stop_service();
        if let Some(mut holder) = self.holder.take() {
            holder.end();
        }
        for name in ["holder.pid", "service.pid"] {
            fs::remove_file(self.dir.join(name)).ok();
        }
    }
}

/// Where cgroup2 is mounted beside a v1 tree.
fn second_cgroup_trees() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let of_type = |wanted: &str| -> Vec<PathBuf> {
        let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        fields
            .filter(|f| f.get(2) == Some(&wanted))
            .filter_map(|f| f.get(1).map(PathBuf::from))
            .collect()
    };
    if of_type("cgroup").is_empty() { Vec::new() } else { of_type("cgroup2") }
}

fn cgroups_are_hybrid() -> bool {
    !second_cgroup_trees().is_empty()
}

fn require(program: &str) -> Result<(), Error> {
    match Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
    {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(Error::NotInstalled { program: program.into() })
        }
        Err(source) => Err(Error::Io { what: format!("cannot run {program}"), source }),
    }
}

fn output(command: &mut Command) -> Result<String, Error> {
    let program = command.get_program().to_string_lossy().into_owned();
    let Output { status, stdout, stderr } = command.output().map_err(|source| {
        if source.kind() == io::ErrorKind::NotFound {
            return Error::NotInstalled { program: program.clone() };
        }
        Error::Io { what: format!("cannot run {program}"), source }
    })?;
    if status.success() {
        return Ok(String::from_utf8_lossy(&stdout).trim_end().to_owned());
    }
    let words: Vec<_> = command.get_args().map(OsStr::to_string_lossy).collect();
    Err(Error::Command {
        command: format!("{program} {}", words.join(" ")),
        status: status.to_string(),
        stderr: String::from_utf8_lossy(&stderr).trim().to_owned(),
    })
}

fn missing_is_fine(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

fn io_error(what: &str) -> impl FnOnce(io::Error) -> Error {
    let what = what.to_owned();
    move |source| Error::Io { what, source }
}
