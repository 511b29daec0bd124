//! The command line against some master, with the answers as JSON.

use std::{
    path::PathBuf,
    process::{Command, Output},
    time::Instant,
};

use serde_json::Value;

use super::{Error, Namespace, PATIENCE, POLL_EVERY, Result, Watch, io, within};

/// Where `piccolo` is, as whom it speaks, and from which network.
#[derive(Debug)]
pub struct Client<'c> {
    pub cli: PathBuf,
    pub context: PathBuf,
    pub namespace: Option<&'c Namespace>,
}

/// What a cluster hands on to the [`Client`] that its `client()` is: methods of its own, so that a story needs no
/// more than the cluster.
macro_rules! handed_on_to_client {
    () => {
        /// Runs the command line as the first administrator.
        ///
        /// # Errors
        /// It cannot be started.
        pub fn piccolo(&self, arguments: &[&str]) -> $crate::cluster::Result<std::process::Output> {
            self.client().piccolo(arguments)
        }

        /// The same, and its output read as JSON.
        ///
        /// # Errors
        /// It fails, or prints something else.
        pub fn json(&self, arguments: &[&str]) -> $crate::cluster::Result<serde_json::Value> {
            self.client().json(arguments)
        }

        /// The node of that name as `piccolo node list -o json` shows it; `Null` where there is none.
        ///
        /// # Errors
        /// The command fails for another reason.
        pub fn node(&self, name: &str) -> $crate::cluster::Result<serde_json::Value> {
            self.client().node(name)
        }

        /// The text of a new token for sub nodes.
        ///
        /// # Errors
        /// The master gives none.
        pub fn token(&self, arguments: &[&str]) -> $crate::cluster::Result<String> {
            self.client().token(arguments)
        }

        /// Follows a command that goes on, line by line.
        ///
        /// # Errors
        /// It cannot be started.
        pub fn watch(&self, arguments: &[&str]) -> $crate::cluster::Result<$crate::cluster::Watch> {
            self.client().watch(arguments)
        }
    };
}
pub(crate) use handed_on_to_client;

impl Client<'_> {
    /// Runs the command line.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn piccolo(&self, arguments: &[&str]) -> Result<Output> {
        within(self.namespace, &self.command(arguments)).output().map_err(io("piccolo"))
    }

    /// The same, and its output read as JSON.
    ///
    /// # Errors
    /// It fails, or prints something else.
    pub fn json(&self, arguments: &[&str]) -> Result<Value> {
        let output = self.piccolo(arguments)?;
        if !output.status.success() {
            return Err(Error::Command {
                command: format!("piccolo {}", arguments.join(" ")),
                status: output.status.to_string(),
                stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            });
        }
        serde_json::from_slice(&output.stdout).map_err(|error| {
            let text = String::from_utf8_lossy(&output.stdout);
            Error::Unexpected(format!("piccolo {}: {error}: {text}", arguments.join(" ")))
        })
    }

    /// The node of that name as `piccolo node list -o json` shows it; `Null` where there is none.
    ///
    /// # Errors
    /// The command fails for another reason.
    pub fn node(&self, name: &str) -> Result<Value> {
        let nodes = self.json(&["node", "list", "-o", "json"])?;
        let nodes = nodes.as_array().or_else(|| nodes["nodes"].as_array()).cloned();
        let mut nodes = nodes.unwrap_or_default().into_iter();
        Ok(nodes.find(|node| node["name"] == name).unwrap_or(Value::Null))
    }

    /// The text of a new token for sub nodes.
    ///
    /// # Errors
    /// The master gives none.
    pub fn token(&self, arguments: &[&str]) -> Result<String> {
        let base = ["token", "create", "--role", "sub", "-o", "json"];
        let created = self.json(&[&base, arguments].concat())?;
        match created["token"].as_str() {
            Some(token) => Ok(token.to_owned()),
            None => Err(Error::Unexpected(format!("no token in {created}"))),
        }
    }

    /// Follows a command that goes on, line by line.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn watch(&self, arguments: &[&str]) -> Result<Watch> {
        Watch::start(within(self.namespace, &self.command(arguments)))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.cli);
        command.args(arguments).env("PICCOLO_CONTEXT", &self.context).env("NO_COLOR", "1");
        command
    }
}

/// Whether something holds, as far as it could be found out.
pub type Held = Result<bool>;

/// Polls until it holds.
///
/// # Errors
/// It does not come about in [`PATIENCE`]; `logs` are in the message.
pub fn wait(
    what: &str,
    mut holds: impl FnMut() -> Result<bool>,
    logs: impl FnOnce() -> String,
) -> Result<()> {
    let begun = Instant::now();
    let mut last = String::new();
    while begun.elapsed() < PATIENCE {
        match holds() {
            Ok(true) => return Ok(()),
            Ok(false) => last.clear(),
            Err(error) => last = format!(" (last: {error})"),
        }
        std::thread::sleep(POLL_EVERY);
    }
    Err(Error::Unexpected(format!("waited in vain until {what}{last}\n{}", logs())))
}
