//! One host: commands on it, its cable, its power, its processes.
//!
//! A power loss is what it looks like from outside: the cable goes silent first, and then everything ends at
//! once, with no farewell from anybody. What was written stays, because this machine's kernel has it; so a
//! disk that loses what was not synchronised is not shown here. Nor is a wrong clock: the kernel has one for all.

use std::{
    fs,
    os::unix::{
        fs::{DirBuilderExt as _, PermissionsExt as _},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use super::{cgroups, ip, output, runs, until};
use crate::cluster::{Error, Result, io};

const BOOT_SCRIPT: &str = include_str!("boot.sh");
/// Generous: it takes two seconds on a machine that has nothing else to do.
const BOOTS_WITHIN: Duration = Duration::from_secs(120);
/// For what makes a host reboot to be noticed and tried otherwise first, and for services and containers to end.
const GOES_DOWN_WITHIN: Duration = Duration::from_secs(240);
/// What systemd-nspawn ends with when its host wants to be started again.
const REBOOTS: i32 = 133;
/// Lines of the console that are shown when it does not.
const CONSOLE_LINES: usize = 30;
/// What ends at no signal but the last keeps no reboot waiting for long.
const STOPS_SOON: &str = "[Manager]\nDefaultTimeoutStopSec=5s\n";
/// How a small disk is mounted.
const SMALL_DISK: &str = "loop,errors=remount-ro";
/// Where the kernel's limits cannot be raised, Podman must not try.
const LIMITS: &str = "default_ulimits = [\"nofile=20000:20000\", \"nproc=4096:4096\"]\n";

/// Where a host is, and how others see it.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) name: String,
    pub(super) address: String,
    /// Its name on this machine: of its network namespace and its control group.
    pub(super) machine: String,
    /// The namespace of the bridge.
    pub(super) network: String,
    pub(super) folder: PathBuf,
    pub(super) image: PathBuf,
    /// The testbed's, with an entry for each host.
    pub(super) ssh: Ssh,
}

/// The files by which ssh finds the hosts, and they know it.
#[derive(Debug, Clone)]
pub(super) struct Ssh {
    pub(super) key: PathBuf,
    pub(super) known_hosts: PathBuf,
    pub(super) config: PathBuf,
}

impl Ssh {
    /// A key for the whole testbed.
    pub(super) fn make(folder: &Path) -> Result<Self> {
        let at = |name: &str| folder.join(name);
        let ssh =
            Self { key: at("ssh-key"), known_hosts: at("known-hosts"), config: at("ssh-config") };
        new_key(&ssh.key, "testbed")?;
        Ok(ssh)
    }

    /// Of the host's key there is no doubt: we have made it.
    fn introduce(&self, name: &str, address: &str, public_key: &str) -> Result<()> {
        append(&self.known_hosts, &format!("{name},{address} {public_key}"))?;
        let (key, known_hosts) = (self.key.display(), self.known_hosts.display());
        append(
            &self.config,
            &format!(
                "Host {name}\n  HostName {address}\n  User root\n  IdentityFile {key}\n  \
                 UserKnownHostsFile {known_hosts}\n  StrictHostKeyChecking yes\n  \
                 BatchMode yes\n  ConnectTimeout 10\n"
            ),
        )
    }
}

fn new_key(path: &Path, comment: &str) -> Result<()> {
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-t", "ed25519", "-N", "", "-C", comment, "-f"]).arg(path);
    output(&mut command).map(drop)
}

/// A host, running or without power.
#[derive(Debug)]
pub struct Host {
    place: Place,
    /// systemd-nspawn, and the host's PID 1 as this machine counts.
    power: Option<(Child, Option<u32>)>,
}

impl Host {
    /// Its disk: what differs from the image, for names, keys and Podman.
    pub(super) fn prepare(place: Place, everybody: &[(String, String)]) -> Result<Self> {
        let disk = place.folder.join("disk");
        for folder in [
            "root",
            "work",
            "containers",
            "disk/etc/containers",
            "disk/etc/ssh",
            "disk/etc/systemd/system.conf.d",
        ] {
            fs::create_dir_all(place.folder.join(folder)).map_err(io("a host has no folder"))?;
        }
        fs::DirBuilder::new()
            .mode(0o700)
            .recursive(true)
            .create(disk.join("root/.ssh"))
            .map_err(io("a host has no folder"))?;
        let mut hosts = "127.0.0.1 localhost\n".to_owned();
        for (name, address) in everybody {
            hosts.push_str(&format!("{address} {name}\n"));
        }
        let key = disk.join("etc/ssh/ssh_host_ed25519_key");
        new_key(&key, &place.name)?;
        let public = fs::read_to_string(key.with_extension("pub")).map_err(io("a host's key"))?;
        place.ssh.introduce(&place.name, &place.address, &public)?;
        let user =
            fs::read(place.ssh.key.with_extension("pub")).map_err(io("the testbed's key"))?;
        let podman = if cgroups::are_v1() {
            format!(
                "[containers]\n{LIMITS}cgroupns = \"host\"\n[network]\n\
                 network_backend = \"netavark\"\n[engine]\ncgroup_manager = \"cgroupfs\"\n\
                 events_logger = \"file\"\n"
            )
        } else {
            format!("[containers]\n{LIMITS}[network]\nnetwork_backend = \"netavark\"\n")
        };
        for (file, bytes) in [
            ("etc/hostname", format!("{}\n", place.name).into_bytes()),
            ("etc/hosts", hosts.into_bytes()),
            ("etc/containers/containers.conf", podman.into_bytes()),
            ("root/.ssh/authorized_keys", user),
            ("etc/systemd/system.conf.d/stop.conf", STOPS_SOON.as_bytes().to_vec()),
        ] {
            fs::write(disk.join(file), bytes).map_err(io("a host's disk"))?;
        }
        private(&disk.join("root/.ssh/authorized_keys"))?;
        fs::write(place.folder.join("boot.sh"), BOOT_SCRIPT).map_err(io("a host's script"))?;
        Ok(Self { place, power: None })
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.place.name
    }

    #[must_use]
    pub fn address(&self) -> &str {
        &self.place.address
    }

    #[must_use]
    pub fn is_on(&self) -> bool {
        self.power.is_some()
    }

    /// Runs a command as root on the host, without its network; it must succeed.
    ///
    /// # Errors
    /// It fails; what it said is in the message.
    pub fn run(&self, command: &[&str]) -> Result<String> {
        output(&mut self.command(command)?)
    }

    /// The same through a shell.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn shell(&self, script: &str) -> Result<String> {
        self.run(&["sh", "-ec", script])
    }

    /// Puts a file there, as root's, for root alone.
    ///
    /// # Errors
    /// The host is off, or the file cannot be written.
    pub fn write(&self, path: &str, bytes: impl AsRef<[u8]>) -> Result<()> {
        let inside = self.inside(path)?;
        if let Some(folder) = inside.parent() {
            fs::create_dir_all(folder).map_err(io(&format!("no folder for {path}")))?;
        }
        let new = inside.with_extension("new");
        fs::write(&new, bytes).map_err(io(&format!("cannot write {path}")))?;
        private(&new)?;
        fs::rename(&new, &inside).map_err(io(&format!("cannot write {path}")))
    }

    /// Puts a copy of a folder of this machine there, in place of what was there.
    ///
    /// # Errors
    /// The host is off, or the folder cannot be copied.
    pub fn copy_folder(&self, folder: &Path, path: &str) -> Result<()> {
        let inside = self.inside(path)?;
        self.run(&["rm", "-rf", path])?;
        output(Command::new("cp").arg("-rT").arg(folder).arg(inside)).map(drop)
    }

    /// A command through sshd, as from a terminal beside the hosts. The host's key is checked.
    ///
    /// # Errors
    /// ssh cannot be started.
    pub fn ssh(&self, command: &str) -> Result<Output> {
        let mut ssh = Command::new("ip");
        ssh.args(["netns", "exec", &self.place.network, "ssh", "-F"]).arg(&self.place.ssh.config);
        ssh.args([&self.place.name, command]);
        ssh.stdin(Stdio::null()).output().map_err(io("ssh"))
    }

    /// Pulls the cable: nothing comes or goes, and nobody is told.
    ///
    /// # Errors
    /// There is no cable, because the host is off.
    pub fn cut_link(&self) -> Result<()> {
        ip(&self.place.network, &format!("link set dev {} down", self.place.name))
    }

    /// # Errors
    /// There is no cable, because the host is off.
    pub fn heal_link(&self) -> Result<()> {
        ip(&self.place.network, &format!("link set dev {} up", self.place.name))
    }

    /// What it is sent is lost; what it sends arrives.
    ///
    /// # Errors
    /// iptables fails.
    pub fn lose_what_it_is_sent(&self) -> Result<()> {
        self.iptables(&["-A", "INPUT", "-i", "eth0", "-j", "DROP"])
    }

    /// # Errors
    /// It was not lost before.
    pub fn pass_what_it_is_sent(&self) -> Result<()> {
        self.iptables(&["-D", "INPUT", "-i", "eth0", "-j", "DROP"])
    }

    /// Loses that share of the packets that it is sent.
    ///
    /// # Errors
    /// The kernel has no random match.
    pub fn lose(&self, share: f32) -> Result<()> {
        self.for_a_share("-A", share)
    }

    /// # Errors
    /// That share was not lost before.
    pub fn stop_losing(&self, share: f32) -> Result<()> {
        self.for_a_share("-D", share)
    }

    fn for_a_share(&self, action: &str, share: f32) -> Result<()> {
        let share = share.to_string();
        let random = ["-m", "statistic", "--mode", "random", "--probability", &share, "-j", "DROP"];
        self.iptables(&[&[action, "INPUT", "-i", "eth0"][..], &random].concat())
    }

    /// A small disk of its own in place of that folder, with what was in there: ext4 in a file, which becomes
    /// read-only where it fails. Nothing may have the folder open.
    ///
    /// # Errors
    /// This machine has no loop devices.
    pub fn small_disk(&self, path: &str, mib: u32) -> Result<()> {
        let file = disk_of(path);
        self.shell(&format!(
            "mknod -m 0600 /dev/loop-control c 10 237 2>/dev/null || true; \
             for n in 0 1 2 3 4 5 6 7; do mknod -m 0600 /dev/loop$n b 7 $n 2>/dev/null || true; done; \
             truncate --size {mib}M {file}; mkfs.ext4 -q -m 0 {file}; mkdir /run/small-disk; \
             mount -o loop {file} /run/small-disk; cp --archive --no-target-directory {path} /run/small-disk; \
             umount /run/small-disk; rmdir /run/small-disk; mount -o {SMALL_DISK} {file} {path}"
        ))
        .map(drop)
    }

    /// That disk fails: from now on it can be read, and not written.
    ///
    /// # Errors
    /// There is none.
    pub fn break_disk(&self, path: &str) -> Result<()> {
        self.run(&["mount", "-o", "remount,abort", path]).map(drop)
    }

    /// Checked and mounted anew, as at a boot. Nothing may have the folder open.
    ///
    /// # Errors
    /// It cannot be mended.
    pub fn mend_disk(&self, path: &str) -> Result<()> {
        let file = disk_of(path);
        // 1: errors were corrected
        self.shell(&format!(
            "umount {path}; e2fsck -f -y {file} || [ $? -le 1 ]; mount -o {SMALL_DISK} {file} {path}"
        ))
        .map(drop)
    }

    /// What that service writes goes to the disk at so many bytes a second, from now on; for ever where `None`.
    /// The kernel itself holds it back, so a sync takes as long as that.
    ///
    /// # Errors
    /// The machine's disk is none that can be throttled.
    pub fn limit_writes(&self, service: &str, bytes_per_second: Option<u32>) -> Result<()> {
        self.run(&[
            "systemctl",
            "set-property",
            "--runtime",
            service,
            "IOAccounting=yes",
            "BlockIOAccounting=yes",
        ])?;
        cgroups::limit_writes(&self.place.machine, service, &self.place.folder, bytes_per_second)
    }

    /// In the host's network, with this machine's own iptables.
    pub(super) fn iptables(&self, rule: &[&str]) -> Result<()> {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.place.machine, "iptables", "-w"]).args(rule);
        output(&mut command).map(drop)
    }

    /// SIGSTOP for a service's main process: everything is open, and nothing moves.
    ///
    /// # Errors
    /// There is no such service.
    pub fn freeze(&self, service: &str) -> Result<()> {
        self.signal(service, "STOP")
    }

    /// # Errors
    /// There is no such service.
    pub fn thaw(&self, service: &str) -> Result<()> {
        self.signal(service, "CONT")
    }

    /// What its agent says of itself, whether there is a master or none.
    ///
    /// # Errors
    /// There is no agent, or it says nothing that can be read.
    pub fn agent_status(&self) -> Result<serde_json::Value> {
        let status = self.run(&["piccolo-nodeagent", "status", "-o", "json"])?;
        serde_json::from_str(&status)
            .map_err(|error| Error::Unexpected(format!("{error}: {status}")))
    }

    /// SIGKILL for a service's main process.
    ///
    /// # Errors
    /// There is no such service.
    pub fn kill(&self, service: &str) -> Result<()> {
        self.signal(service, "KILL")
    }

    fn signal(&self, service: &str, signal: &str) -> Result<()> {
        let signal = format!("--signal={signal}");
        self.run(&["systemctl", "kill", "--kill-whom=main", &signal, service]).map(drop)
    }

    /// A property of a unit, e.g. `MainPID`.
    ///
    /// # Errors
    /// systemd does not answer.
    pub fn unit(&self, unit: &str, property: &str) -> Result<String> {
        self.run(&["systemctl", "show", "--value", "--property", property, unit])
    }

    /// The end of a unit's journal.
    #[must_use]
    pub fn journal(&self, unit: &str) -> String {
        let lines =
            ["journalctl", "--no-pager", "--output", "cat", "--lines", "30", "--unit", unit];
        let text = self.run(&lines).unwrap_or_else(|error| error.to_string());
        format!("--- {unit} on {} ---\n{text}\n", self.place.name)
    }

    /// The power goes. Everything that ran is gone when this returns; what was written stays.
    ///
    /// # Errors
    /// A process of it cannot be ended.
    pub fn power_off(&mut self) -> Result<()> {
        let Some((mut child, _)) = self.power.take() else { return Ok(()) };
        self.cut_link()?;
        cgroups::destroy(&self.place.machine)?;
        child.wait().map_err(io("waiting for a host's end"))?;
        self.unplug()
    }

    /// It reboots, as it has decided itself. Returns when it is running again, with the cable plugged in.
    ///
    /// # Errors
    /// It does not go down in time, or for another reason, or does not come up.
    pub fn reboots(&mut self) -> Result<()> {
        let ended = match &mut self.power {
            Some((child, _)) => until(GOES_DOWN_WITHIN, || child.try_wait().ok().flatten()),
            None => None,
        };
        if ended.and_then(|status| status.code()) != Some(REBOOTS) {
            let text = format!("host {} has not rebooted: {ended:?}", self.place.name);
            return Err(Error::Unexpected(text));
        }
        self.power = None;
        cgroups::destroy(&self.place.machine)?;
        self.unplug()?;
        self.boot()
    }

    /// With the namespace go its connections, which a kernel without power would not remember.
    fn unplug(&self) -> Result<()> {
        ip(&self.place.network, &format!("link delete dev {}", self.place.name))?;
        runs::delete_namespace(&self.place.machine)
    }

    /// Power again, with the cable plugged in. Returns when the host is running.
    ///
    /// # Errors
    /// It does not come up; its console is in the message.
    pub fn boot(&mut self) -> Result<()> {
        self.plug_in_and_start()?;
        self.wait_until_running()
    }

    /// Power again, and no network: the cable is plugged in, and nothing comes through it.
    ///
    /// # Errors
    /// As [`Self::boot`].
    pub fn boot_without_network(&mut self) -> Result<()> {
        self.plug_in()?;
        self.cut_link()?;
        self.start()?;
        self.wait_until_running()
    }

    pub(super) fn plug_in_and_start(&mut self) -> Result<()> {
        self.plug_in()?;
        self.start()
    }

    fn plug_in(&self) -> Result<()> {
        let Place { name, machine, network, address, .. } = &self.place;
        output(Command::new("ip").args(["netns", "add", machine]))?;
        ip(network, &format!("link add name {name} type veth peer name eth0 netns {machine}"))?;
        ip(network, &format!("link set dev {name} master {} up", super::BRIDGE))?;
        ip(machine, &format!("address add {address}/24 dev eth0"))?;
        ip(machine, "link set lo up")?;
        ip(machine, "link set eth0 up")
    }

    fn start(&mut self) -> Result<()> {
        let folder = &self.place.folder;
        let groups = cgroups::create(&self.place.machine)?;
        let console = fs::File::create(self.console()).map_err(io("a host's console"))?;
        let both = console.try_clone().map_err(io("a host's console"))?;
        let child = Command::new("unshare")
            .args(["--mount", "bash"])
            .arg(folder.join("boot.sh"))
            .arg(&self.place.image)
            .arg(folder)
            .args([&self.place.name, &self.place.machine])
            .args(groups)
            // Ctrl-C is for us, and we end things in order.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(console)
            .stderr(both)
            .spawn()
            .map_err(io("unshare cannot be started"))?;
        self.power = Some((child, None));
        Ok(())
    }

    pub(super) fn wait_until_running(&mut self) -> Result<()> {
        let Some((child, leader)) = &mut self.power else {
            return Err(Error::Unexpected(format!("{} is off", self.place.name)));
        };
        let nspawn = child.id();
        let found = until(BOOTS_WITHIN, || {
            if let Ok(Some(status)) = child.try_wait() {
                return Some(Err(status));
            }
            let pid = first_of_its_namespace(nspawn)?;
            let answers = format!("/proc/{pid}/root/run/systemd/private");
            Path::new(&answers).exists().then_some(Ok(pid))
        });
        let why = match found {
            Some(Ok(pid)) => {
                *leader = Some(pid);
                match self.booted() {
                    Ok(()) => return Ok(()),
                    Err(error) => {
                        let failed = self.run(&["systemctl", "--failed", "--no-legend"]);
                        format!("{error}; {}", failed.unwrap_or_default())
                    }
                }
            }
            Some(Err(status)) => format!("systemd-nspawn has ended ({status})"),
            None => format!("it did not boot within {BOOTS_WITHIN:?}"),
        };
        let console = fs::read(self.console()).unwrap_or_default();
        let console = String::from_utf8_lossy(&console).into_owned();
        let lines: Vec<&str> = console.lines().collect();
        let tail = lines[lines.len().saturating_sub(CONSOLE_LINES)..].join("\n");
        Err(Error::Unexpected(format!("host {} is not up: {why}\n{tail}", self.place.name)))
    }

    /// Waits for the end of its boot. systemd answers on its own socket from the first moment on, but the message bus,
    /// which is asked while one waits, may be among the units that are still being started.
    fn booted(&self) -> Result<()> {
        let answered =
            until(BOOTS_WITHIN, || match self.run(&["systemctl", "is-system-running", "--wait"]) {
                Err(Error::Command { stderr, .. })
                    if stderr.contains("Failed to connect to bus") =>
                {
                    None
                }
                answer => Some(answer.map(drop)),
            });
        answered.unwrap_or_else(|| Err(Error::Unexpected("its message bus does not start".into())))
    }

    /// After its end, or to leave it running.
    pub(super) fn let_go(&mut self) -> Option<Child> {
        self.power.take().map(|(child, _)| child)
    }

    fn console(&self) -> PathBuf {
        self.place.folder.join("console.log")
    }

    fn leader(&self) -> Result<u32> {
        let leader = self.power.as_ref().and_then(|(_, leader)| *leader);
        leader.ok_or_else(|| Error::Unexpected(format!("host {} is off", self.place.name)))
    }

    fn command(&self, words: &[&str]) -> Result<Command> {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.leader()?.to_string(), "--all", "--root", "--wd", "--"]);
        command.args(words).env_clear();
        command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        Ok(command)
    }

    fn inside(&self, path: &str) -> Result<PathBuf> {
        Ok(PathBuf::from(format!("/proc/{}/root{path}", self.leader()?)))
    }
}

/// The child of systemd-nspawn that is process 1 in a PID namespace of its own.
fn first_of_its_namespace(nspawn: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{nspawn}/task/{nspawn}/children")).ok()?;
    let mut pids = children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok());
    pids.find(|pid| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let namespaces = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
        namespaces.is_some_and(|ids| ids.split_whitespace().skip(1).last() == Some("1"))
    })
}

/// Outside of the overlay, which a loop device cannot write to.
fn disk_of(path: &str) -> String {
    format!("/var/lib/containers/disk{}", path.replace('/', "-"))
}

fn append(path: &Path, text: &str) -> Result<()> {
    use std::io::Write as _;
    fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(io(&path.display().to_string()))
}

fn private(path: &Path) -> Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(io("a file's rights"))
}
