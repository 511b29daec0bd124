//! PICCOLO on real hosts, installed by its own installer: a master on a host, an agent on each of the others.
//!
//! The release that is installed is made once of the executables beside the running test, without their
//! debugging information. The command line runs on this machine, on the bridge beside the hosts.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::UNIX_EPOCH,
};

use rustix::fs::{FlockOperation, flock};
use serde_json::Value;

use super::{Testbed, host::Host, output};
use crate::cluster::{Client, Error, Programs, Result, client, io, write_private};
use crate::podman::IMAGE;

/// The host of the master.
pub const MASTER: &str = "master";
/// What systemd calls them.
pub const MASTER_UNIT: &str = "piccolo-master.service";
pub const AGENT_UNIT: &str = "piccolo-nodeagent.service";

const EXECUTABLES: [&str; 3] = ["piccolo-master", "piccolo-nodeagent", "piccolo"];
/// Where a release is copied to on a host.
const RELEASE: &str = "/root/release";
/// The installer of that release.
pub const INSTALLER: &str = "/root/release/install.sh";
const CONTEXT: &str = "/var/lib/piccolo/master/admin.context.yaml";
/// Of a token that is used at once.
const TOKEN_TTL: &str = "10m";

/// Hosts with PICCOLO on them. Dropping it removes all of it.
#[derive(Debug)]
pub struct HostCluster {
    pub testbed: Testbed,
    release: PathBuf,
    context: PathBuf,
}

impl HostCluster {
    client::handed_on_to_client!();

    /// A master, and `nodes` nodes called `node-1`, `node-2`, ..., all Ready.
    ///
    /// # Errors
    /// The testbed does not come up, the installer fails, or a node does not become Ready.
    pub fn start(nodes: usize) -> Result<Self> {
        let folder = super::folder_beside_this_test()?;
        Self::of(&folder, &Programs::beside_this_test()?, nodes)
    }

    /// The same with lines of YAML for the master's configuration.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_with(nodes: usize, master: &str) -> Result<Self> {
        let folder = super::folder_beside_this_test()?;
        let cluster = Self::bare(&folder, &Programs::beside_this_test()?, nodes, master)?;
        cluster.install_agents()?;
        Ok(cluster)
    }

    /// The same with `programs`, and everything below `folder`.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn of(folder: &Path, programs: &Programs, nodes: usize) -> Result<Self> {
        let cluster = Self::with_bare_nodes(folder, programs, nodes)?;
        cluster.install_agents()?;
        Ok(cluster)
    }

    /// Only the master has PICCOLO; the nodes are hosts with Podman and sshd.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn with_bare_nodes(folder: &Path, programs: &Programs, nodes: usize) -> Result<Self> {
        Self::bare(folder, programs, nodes, "")
    }

    fn bare(folder: &Path, programs: &Programs, nodes: usize, master: &str) -> Result<Self> {
        let release = release(folder, programs)?;
        let mut names = vec![MASTER.to_owned()];
        names.extend((1..=nodes).map(|number| format!("node-{number}")));
        let testbed = Testbed::with_names(folder, &names)?;
        let context = testbed.folder().join("admin.context.yaml");
        let cluster = Self { testbed, release, context };
        cluster.install_master(master)?;
        Ok(cluster)
    }

    /// On every node at once, and waits until they are Ready.
    ///
    /// # Errors
    /// The installer fails, or a node does not become Ready.
    pub fn install_agents(&self) -> Result<()> {
        std::thread::scope(|scope| {
            let installations: Vec<_> =
                self.nodes().map(|host| scope.spawn(|| self.install_agent(host.name()))).collect();
            installations.into_iter().try_for_each(|one| {
                let panicked = |_| Error::Unexpected("an installation panicked".to_owned());
                one.join().map_err(panicked)?
            })
        })?;
        self.nodes().try_for_each(|host| self.wait_for_status(host.name(), "Ready"))
    }

    /// The hosts that are nodes.
    pub fn nodes(&self) -> impl Iterator<Item = &Host> {
        self.testbed.hosts().iter().filter(|host| host.name() != MASTER)
    }

    /// # Errors
    /// There is no host of that name.
    pub fn host(&self, name: &str) -> Result<&Host> {
        self.testbed.host(name)
    }

    /// Starts a container and waits until the master sees it.
    ///
    /// # Errors
    /// Podman's own message, or the master does not see it.
    pub fn run_container(&self, node: &str, name: &str, options: &[&str]) -> Result<()> {
        let base = ["podman", "run", "--detach", "--name", name];
        self.host(node)?.run(&[&base, options, &[IMAGE, "sleep", "100000"]].concat())?;
        self.wait_for_container(node, name, "running")
    }

    /// Whether the node carries that condition now.
    ///
    /// # Errors
    /// The command fails.
    pub fn has_condition(&self, node: &str, kind: &str) -> Result<bool> {
        let conditions = self.node(node)?["conditions"].as_array().cloned().unwrap_or_default();
        Ok(conditions.iter().any(|condition| condition["kind"] == kind))
    }

    /// # Errors
    /// It is not raised in time; the journals' ends are in the message.
    pub fn wait_for_condition(&self, node: &str, kind: &str) -> Result<()> {
        self.wait(&format!("{node} has the condition {kind}"), |c| c.has_condition(node, kind))
    }

    /// # Errors
    /// There are some still; the journals' ends are in the message.
    pub fn wait_until_without_conditions(&self, node: &str) -> Result<()> {
        self.wait(&format!("{node} has no conditions"), |c| {
            Ok(c.node(node)?["conditions"].as_array().is_some_and(Vec::is_empty))
        })
    }

    /// # Errors
    /// It does not come about in time.
    pub fn wait_for_container(&self, node: &str, name: &str, state: &str) -> Result<()> {
        self.wait(&format!("container {name} of {node} is {state}"), |c| {
            let containers = c.node(node)?["containers"].as_array().cloned().unwrap_or_default();
            Ok(containers.iter().any(|one| one["name"] == name && one["state"] == state))
        })
    }

    /// Ends it, and looks whether anything is left on this machine.
    ///
    /// # Errors
    /// Something is; it is named.
    pub fn end(self) -> Result<()> {
        self.testbed.end()
    }

    fn install_master(&self, settings: &str) -> Result<()> {
        let host = self.testbed.host(MASTER)?;
        let config = format!("advertise: [{}]\n{settings}", host.address());
        host.write("/etc/piccolo/master.yaml", config)?;
        // The master's user is not root, and has to read it.
        host.run(&["chmod", "0644", "/etc/piccolo/master.yaml"])?;
        self.copy_release(host, &self.release)?;
        self.run_installer(host, &["--role", "master"])?;
        self.speak_to(host)
    }

    /// Puts PICCOLO on another host as a master, and does not start it.
    ///
    /// # Errors
    /// The installer fails; what it said is in the message.
    pub fn install_master_without_starting(&self, host: &Host) -> Result<()> {
        host.write("/etc/piccolo/master.yaml", format!("advertise: [{}]\n", host.address()))?;
        host.run(&["chmod", "0644", "/etc/piccolo/master.yaml"])?;
        self.copy_release(host, &self.release)?;
        self.run_installer(host, &["--role", "master", "--no-start"])
    }

    /// From now on the command line speaks to the master of that host, as its first administrator.
    ///
    /// # Errors
    /// No master runs there.
    pub fn speak_to(&self, host: &Host) -> Result<()> {
        write_private(&self.context, &host.run(&["cat", CONTEXT])?)?;
        self.wait("the master answers", |c| c.json(&["status", "-o", "json"]).map(|_| true))
    }

    /// As an operator does: a token for this board, and the installer.
    ///
    /// # Errors
    /// The installer fails; what it said is in the message.
    pub fn install_agent(&self, name: &str) -> Result<()> {
        let host = self.testbed.host(name)?;
        let token = self.token(&["--ttl", TOKEN_TTL, "--node", name])?;
        host.write("/run/join-token", token)?;
        self.copy_release(host, &self.release)?;
        let join = ["--role", "sub", "--master", MASTER, "--token-file", "/run/join-token"];
        self.run_installer(host, &join)?;
        host.run(&["rm", "/run/join-token"]).map(drop)
    }

    /// Installs a newer release over the one that runs: the same programs, built anew.
    ///
    /// # Errors
    /// The installer fails; what it said is in the message.
    pub fn upgrade(&self, name: &str) -> Result<()> {
        self.bring_newer_release(name)?;
        self.run_installer(self.testbed.host(name)?, &[])
    }

    /// Puts the release there, where [`INSTALLER`] finds it, and installs nothing.
    ///
    /// # Errors
    /// The host is off.
    pub fn bring_release(&self, name: &str) -> Result<()> {
        self.copy_release(self.testbed.host(name)?, &self.release)
    }

    /// Puts a newer release there, where [`INSTALLER`] finds it, and installs nothing.
    ///
    /// # Errors
    /// There is no release yet.
    pub fn bring_newer_release(&self, name: &str) -> Result<()> {
        // Bytes after an executable's end change its digest, and nothing else.
        let agent = format!("{RELEASE}/bin/piccolo-nodeagent");
        let newer = format!(
            "printf newer >>{agent}; cd {RELEASE}; \
             find . -type f ! -name SHA256SUMS -printf '%P\\0' | sort -z | xargs -0 sha256sum >SHA256SUMS"
        );
        self.testbed.host(name)?.shell(&newer).map(drop)
    }

    fn copy_release(&self, host: &Host, release: &Path) -> Result<()> {
        host.copy_folder(release, RELEASE)
    }

    fn run_installer(&self, host: &Host, arguments: &[&str]) -> Result<()> {
        host.run(&[&[INSTALLER][..], arguments].concat()).map(drop)
    }

    /// Runs the command line as the first administrator; it must succeed.
    ///
    /// # Errors
    /// It does not; what it said is in the message.
    pub fn done(&self, arguments: &[&str]) -> Result<String> {
        let output = self.piccolo(arguments)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(Error::Command {
            command: format!("piccolo {}", arguments.join(" ")),
            status: output.status.to_string(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Every event that is kept, the oldest first.
    ///
    /// # Errors
    /// The command fails.
    pub fn events(&self) -> Result<Vec<Value>> {
        let events = self.json(&["events", "-n", "10000", "-o", "json"])?;
        let events = events.as_array().or_else(|| events["events"].as_array()).cloned();
        events.ok_or_else(|| Error::Unexpected("no list of events".to_owned()))
    }

    /// How many events of that kind a node has.
    ///
    /// # Errors
    /// The command fails.
    pub fn count(&self, node: &str, kind: &str) -> Result<usize> {
        let events = self.events()?;
        Ok(events
            .iter()
            .filter(|event| event["node_name"] == node && event["kind"] == kind)
            .count())
    }

    /// Waits until there are so many, and fails when there are more.
    ///
    /// # Errors
    /// It does not come about in time; the journals' ends are in the message.
    pub fn wait_for_count(&self, node: &str, kind: &str, count: usize) -> Result<()> {
        let what = format!("{node} has {count} events {kind}");
        self.wait(&what, |c| Ok(c.count(node, kind)? >= count))?;
        match self.count(node, kind)? {
            seen if seen == count => Ok(()),
            seen => Err(Error::Unexpected(format!("{node} has {seen} events {kind}, not {count}"))),
        }
    }

    /// Ready, and connected now.
    ///
    /// # Errors
    /// It does not come about in time; the journals' ends are in the message.
    pub fn wait_until_in_session(&self, name: &str) -> Result<()> {
        self.wait(&format!("node {name} is in session"), |c| {
            let node = c.node(name)?;
            Ok(node["connected"] == true && node["status"] == "Ready")
        })
    }

    /// # Errors
    /// It does not come about in time; the journals' ends are in the message.
    pub fn wait_for_status(&self, name: &str, status: &str) -> Result<()> {
        self.wait(&format!("node {name} is {status}"), |c| Ok(c.node(name)?["status"] == status))
    }

    /// Polls until it holds.
    ///
    /// # Errors
    /// It does not come about in time; the journals' ends are in the message.
    pub fn wait(&self, what: &str, holds: impl Fn(&Self) -> Result<bool>) -> Result<()> {
        client::wait(what, || holds(self), || self.journals())
    }

    /// What the services last said, on all hosts that are on.
    #[must_use]
    pub fn journals(&self) -> String {
        let on = self.testbed.hosts().iter().filter(|host| host.is_on());
        on.map(|host| {
            let unit = if host.name() == MASTER { MASTER_UNIT } else { AGENT_UNIT };
            host.journal(unit)
        })
        .collect()
    }

    /// For `PICCOLO_CONTEXT`.
    #[must_use]
    pub fn context(&self) -> &Path {
        &self.context
    }

    /// Where the executables of the installed release are.
    #[must_use]
    pub fn executables(&self) -> PathBuf {
        self.release.join("bin")
    }

    /// The command line, and as whom it speaks.
    #[must_use]
    pub fn client(&self) -> Client<'_> {
        Client {
            cli: self.executables().join("piccolo"),
            context: self.context.clone(),
            namespace: Some(self.testbed.network()),
        }
    }
}

/// A release of `programs`, below `folder`; made when they have changed.
///
/// # Errors
/// A part of it is not built, or it cannot be made.
pub fn release(folder: &Path, programs: &Programs) -> Result<PathBuf> {
    fs::create_dir_all(folder).map_err(io("the testbed has no folder"))?;
    let lock = fs::File::create(folder.join("release.lock")).map_err(io("the release's lock"))?;
    flock(&lock, FlockOperation::LockExclusive)
        .map_err(|error| io("the release cannot be locked")(error.into()))?;
    let into = folder.join("release");
    let bin = programs.master.parent().unwrap_or(Path::new("."));
    let xtask = xtask(folder, bin)?;
    let stamp = stamp(bin, &xtask)?;
    if fs::read_to_string(into.join("stamp")).is_ok_and(|made_of| made_of == stamp) {
        return folder_of_release(&into);
    }
    let half_made = folder.join("release.half-made");
    for old in [&half_made, &into] {
        if old.exists() {
            fs::remove_dir_all(old).map_err(io("an old release cannot be removed"))?;
        }
    }
    let stripped = half_made.join("stripped");
    fs::create_dir_all(&stripped).map_err(io("the release has no folder"))?;
    for name in EXECUTABLES {
        let mut strip = Command::new("strip");
        output(strip.arg("-o").arg(stripped.join(name)).arg(bin.join(name)))?;
    }
    let mut dist = Command::new(xtask);
    dist.arg("dist").arg("--folder-only").arg("--executables").arg(&stripped);
    output(dist.arg("--into").arg(&half_made))?;
    fs::write(half_made.join("stamp"), stamp).map_err(io("the release's stamp"))?;
    fs::rename(&half_made, &into).map_err(io("the release cannot be put in its place"))?;
    folder_of_release(&into)
}

/// What makes releases: the running program itself, beside the executables, or where `cargo xtask` puts it.
fn xtask(folder: &Path, bin: &Path) -> Result<PathBuf> {
    let ourselves = std::env::current_exe().map_err(io("this program has no path"))?;
    if ourselves.file_name().is_some_and(|name| name == "xtask") {
        return Ok(ourselves);
    }
    let beside = bin.join("xtask");
    let usual = folder.with_file_name("debug").join("xtask");
    let missing = || Error::NotBuilt { program: beside.display().to_string() };
    [&beside, &usual].into_iter().find(|path| path.exists()).cloned().ok_or_else(missing)
}

/// When the parts of a release were made or changed.
fn stamp(bin: &Path, xtask: &Path) -> Result<String> {
    let mut parts: Vec<PathBuf> =
        EXECUTABLES.into_iter().map(|name| bin.join(name)).chain([xtask.to_owned()]).collect();
    for folder in ["scripts", "systemd", "config"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(folder);
        let entries = fs::read_dir(folder).map_err(io("a part of the release"))?.flatten();
        parts.extend(entries.map(|entry| entry.path()));
    }
    parts.sort();
    let mut stamp = String::new();
    for path in parts {
        let Ok(data) = fs::metadata(&path) else {
            return Err(Error::NotBuilt { program: path.display().to_string() });
        };
        let changed = data.modified().map_err(io("when a part was changed"))?;
        let nanoseconds = changed.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        stamp.push_str(&format!("{} {} {nanoseconds}\n", path.display(), data.len()));
    }
    Ok(stamp)
}

fn folder_of_release(into: &Path) -> Result<PathBuf> {
    let entries = fs::read_dir(into).map_err(io("the release is gone"))?.flatten();
    let mut folders = entries.map(|entry| entry.path());
    folders
        .find(|path| path.join("RELEASE").is_file())
        .ok_or_else(|| Error::Unexpected(format!("no release in {}", into.display())))
}
