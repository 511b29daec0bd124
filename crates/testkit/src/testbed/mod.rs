//! Real hosts for tests: each has systemd as its PID 1, a network namespace with one cable, sshd, and a
//! Podman with storage of its own.
//!
//! - [`image`]: the root folder that all hosts share, made once by `image.sh`
//! - [`host::Host`]: one of them: commands, cables, power
//! - [`Testbed`]: some hosts on a bridge that nobody else is on
//! - [`cluster::HostCluster`]: PICCOLO installed on them
//! - [`witness::Witness`]: what must be as before when a test ends
//! - [`runs`]: what a run has on this machine, so that exactly that is removed, also after it was killed
//!
//! The bridge is in a network namespace too. So several testbeds coexist with the same addresses, nothing
//! of the machine's own network changes, and no packet leaves the machine. Needs root, systemd-nspawn and
//! debootstrap (`cargo xtask setup --for hosts`).

mod cgroups;
pub mod cluster;
pub mod host;
pub mod image;
pub mod runs;
pub mod witness;

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use self::{
    host::{Host, Place, Ssh},
    runs::Run,
};
use crate::cluster::{Error, Namespace, Result, io};

/// The folder in place of `target/testbed`, for its image and its runs.
pub const FOLDER_VARIABLE: &str = "PICCOLO_TESTBED_DIR";
/// As many as have an address of the form 10.77.0.10 + N, and more than PICCOLO is for.
pub const HOSTS_MAX: usize = 20;

const POLL_EVERY: Duration = Duration::from_millis(20);
const BRIDGE: &str = "br0";
const BRIDGE_ADDRESS: &str = "10.77.0.1/24";

/// Some hosts on one bridge. Dropping it removes them and everything of theirs.
#[derive(Debug)]
pub struct Testbed {
    hosts: Vec<Host>,
    network: Namespace,
    run: Run,
}

impl Testbed {
    /// Boots `hosts` hosts, called `node-1`, `node-2`, ..., and waits until each is running.
    ///
    /// # Errors
    /// Not root, something is not installed, or a host does not come up; its console is in the message.
    pub fn start(hosts: usize) -> Result<Self> {
        let names: Vec<String> = (1..=hosts).map(|number| format!("node-{number}")).collect();
        Self::with_names(&folder_beside_this_test()?, &names)
    }

    /// The same with names of one's own, and everything below `folder`.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn with_names(folder: &Path, names: &[String]) -> Result<Self> {
        if names.len() > HOSTS_MAX {
            return Err(Error::Unexpected(format!("a testbed has at most {HOSTS_MAX} hosts")));
        }
        let (image, run) = Run::begin(folder)?;
        let network = Namespace::named(run.name())?;
        let mut testbed = Self { hosts: Vec::new(), network, run };
        testbed.lay_bridge()?;
        let ssh = Ssh::make(testbed.folder())?;
        let addresses: Vec<(String, String)> = (11..)
            .zip(names)
            .map(|(last, name)| (name.clone(), format!("10.77.0.{last}")))
            .collect();
        for (name, address) in &addresses {
            let place = Place {
                name: name.clone(),
                address: address.clone(),
                machine: testbed.run.machine(name),
                network: testbed.run.name().to_owned(),
                folder: testbed.run.host_folder(name),
                image: image.clone(),
                ssh: ssh.clone(),
            };
            testbed.hosts.push(Host::prepare(place, &addresses)?);
        }
        // All at once: a boot is mostly waiting.
        for host in &mut testbed.hosts {
            host.plug_in_and_start()?;
        }
        for host in &mut testbed.hosts {
            host.wait_until_running()?;
        }
        Ok(testbed)
    }

    #[must_use]
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// # Errors
    /// There is no host of that name.
    pub fn host(&self, name: &str) -> Result<&Host> {
        let missing = || Error::Unexpected(format!("the testbed has no host {name}"));
        self.hosts.iter().find(|host| host.name() == name).ok_or_else(missing)
    }

    /// # Errors
    /// There is no host of that name.
    pub fn host_mut(&mut self, name: &str) -> Result<&mut Host> {
        let missing = || Error::Unexpected(format!("the testbed has no host {name}"));
        self.hosts.iter_mut().find(|host| host.name() == name).ok_or_else(missing)
    }

    /// Where a person's terminal is: on the bridge, beside the hosts.
    #[must_use]
    pub fn network(&self) -> &Namespace {
        &self.network
    }

    /// The name of that network, for `ip netns`.
    #[must_use]
    pub fn network_name(&self) -> &str {
        self.run.name()
    }

    /// For `ssh -F`, from that network: it knows every host by name.
    #[must_use]
    pub fn ssh_config(&self) -> PathBuf {
        self.run.folder().join("ssh-config")
    }

    /// For files that go when the testbed goes.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.run.folder()
    }

    /// What `name` sends is lost; what it is sent arrives.
    ///
    /// # Errors
    /// There is no such host, or iptables fails.
    pub fn lose_what_it_sends(&self, name: &str) -> Result<()> {
        self.for_what_is_sent_by(name, &["-A"])
    }

    /// # Errors
    /// It was not lost before.
    pub fn pass_what_it_sends(&self, name: &str) -> Result<()> {
        self.for_what_is_sent_by(name, &["-D"])
    }

    /// Where it would be received: the sender itself must notice nothing.
    fn for_what_is_sent_by(&self, name: &str, action: &[&str]) -> Result<()> {
        let sender = self.host(name)?.address();
        let rule = [action, &["INPUT", "-s", sender, "-j", "DROP"]].concat();
        for host in self.hosts.iter().filter(|host| host.name() != name && host.is_on()) {
            host.iptables(&rule)?;
        }
        let mut iptables = Command::new("iptables");
        output(&mut self.network.command(iptables.arg("-w").args(rule))).map(drop)
    }

    /// Leaves everything running for a later [`runs::end_kept`].
    ///
    /// # Errors
    /// It cannot be noted down; everything is ended then.
    pub fn keep(mut self) -> Result<()> {
        self.run.keep()?;
        self.hosts.iter_mut().for_each(|host| drop(host.let_go()));
        std::mem::forget(self);
        Ok(())
    }

    /// Ends it, and looks whether anything is left on this machine.
    ///
    /// # Errors
    /// Something is; it is named.
    pub fn end(self) -> Result<()> {
        let name = self.run.name().to_owned();
        drop(self);
        let remains = runs::remains(&name);
        if remains.is_empty() {
            return Ok(());
        }
        Err(Error::Unexpected(format!("testbed {name} has left behind: {}", remains.join(", "))))
    }

    fn lay_bridge(&self) -> Result<()> {
        let namespace = self.run.name();
        for words in [
            format!("link add {BRIDGE} type bridge"),
            format!("address add {BRIDGE_ADDRESS} dev {BRIDGE}"),
            format!("link set {BRIDGE} up"),
        ] {
            ip(namespace, &words)?;
        }
        Ok(())
    }
}

impl Drop for Testbed {
    fn drop(&mut self) {
        let children: Vec<_> = self.hosts.iter_mut().filter_map(Host::let_go).collect();
        // Best effort: a test that failed must show its own reason, and the next run sweeps.
        if self.run.end().is_ok() {
            for mut child in children {
                child.wait().ok();
            }
        }
    }
}

/// `testbed` in that target folder, or what the environment says.
#[must_use]
pub fn folder_in(target: &Path) -> PathBuf {
    std::env::var_os(FOLDER_VARIABLE).map_or_else(|| target.join("testbed"), PathBuf::from)
}

/// The same for the target folder that this test was built into.
///
/// # Errors
/// The test has no path.
pub fn folder_beside_this_test() -> Result<PathBuf> {
    let test = std::env::current_exe().map_err(io("this test has no path"))?;
    // target/debug/deps/test-0123456789abcdef
    let target = test.ancestors().nth(3);
    let missing = || Error::Unexpected(format!("{} is in no target folder", test.display()));
    target.map(folder_in).ok_or_else(missing)
}

/// `ip` in a named network namespace, with arguments that have no spaces.
fn ip(namespace: &str, words: &str) -> Result<()> {
    let mut command = Command::new("ip");
    output(command.args(["-netns", namespace]).args(words.split(' '))).map(drop)
}

/// What it prints, if it succeeds.
fn output(command: &mut Command) -> Result<String> {
    let shown = || {
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
    };
    let shown = shown();
    let output = command
        .stdin(std::process::Stdio::null())
        .output()
        .map_err(io(&format!("cannot run `{shown}`; is it installed? `cargo xtask setup`")))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned());
    }
    Err(Error::Command {
        command: shown,
        status: output.status.to_string(),
        stderr: [output.stdout, output.stderr]
            .map(|b| String::from_utf8_lossy(&b).trim().to_owned())
            .join("\n"),
    })
}

/// Polls until there is an answer.
fn until<T>(within: Duration, mut answer: impl FnMut() -> Option<T>) -> Option<T> {
    let begun = Instant::now();
    loop {
        if let Some(answer) = answer() {
            return Some(answer);
        }
        if begun.elapsed() > within {
            return None;
        }
        std::thread::sleep(POLL_EVERY);
    }
}
