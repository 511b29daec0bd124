//! A network of its own, where cables can be cut: a network namespace with nothing but its loopback.
//!
//! Needs root. Each agent dials from an address of its own, so rules on addresses are rules on cables.

use std::process::Command;

use super::{Error, Result, io};

/// Removed when dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// # Errors
    /// Not root, or iproute2 is missing.
    pub fn create(name: &str) -> Result<Self> {
        Self::named(&format!("piccolo-{name}-{}", std::process::id()))
    }

    /// With exactly this name.
    ///
    /// # Errors
    /// As [`Self::create`], or there is one of that name.
    pub fn named(name: &str) -> Result<Self> {
        let name = name.to_owned();
        run(Command::new("ip").args(["netns", "add", &name]))?;
        let namespace = Self { name };
        run(&mut namespace.command(Command::new("ip").args(["link", "set", "lo", "up"])))?;
        Ok(namespace)
    }

    /// The same command, inside.
    #[must_use]
    pub fn command(&self, command: &Command) -> Command {
        let mut inside = Command::new("ip");
        inside.args(["netns", "exec", &self.name]).arg(command.get_program());
        inside.args(command.get_args());
        inside.envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))));
        inside
    }

    /// Nothing comes or goes any more, and nobody is told.
    ///
    /// # Errors
    /// iptables is missing.
    pub fn cut(&self, address: &str) -> Result<()> {
        self.rules(address, &["-j", "DROP"], "-A")
    }

    /// # Errors
    /// It was not cut.
    pub fn heal(&self, address: &str) -> Result<()> {
        self.rules(address, &["-j", "DROP"], "-D")
    }

    /// What `address` sends is lost; what it is sent arrives.
    ///
    /// # Errors
    /// iptables is missing.
    pub fn cut_from(&self, address: &str) -> Result<()> {
        self.iptables(&["-A", "INPUT", "-s", address, "-j", "DROP"])
    }

    /// # Errors
    /// It was not cut.
    pub fn heal_from(&self, address: &str) -> Result<()> {
        self.iptables(&["-D", "INPUT", "-s", address, "-j", "DROP"])
    }

    /// Loses that share of the packets, each way.
    ///
    /// # Errors
    /// iptables is missing, or the kernel has no random match.
    pub fn lose(&self, address: &str, share: f32) -> Result<()> {
        let share = share.to_string();
        let rule = ["-m", "statistic", "--mode", "random", "--probability", &share, "-j", "DROP"];
        self.rules(address, &rule, "-A")
    }

    fn rules(&self, address: &str, rule: &[&str], action: &str) -> Result<()> {
        self.iptables(&[&[action, "INPUT", "-s", address], rule].concat())?;
        self.iptables(&[&[action, "INPUT", "-d", address], rule].concat())
    }

    fn iptables(&self, arguments: &[&str]) -> Result<()> {
        run(&mut self.command(Command::new("iptables").arg("-w").args(arguments)))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "delete", &self.name]).output();
    }
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().map_err(io(&format!("{command:?}")))?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::Command {
        command: format!("{command:?}"),
        status: output.status.to_string(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}
