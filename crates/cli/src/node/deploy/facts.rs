//! What a host says it is: the answers of `probe.sh`.

/// Nothing is known of a host that has not answered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// On the host, for what is copied; gone when the connection ends.
    pub folder: String,
    pub root: Root,
    /// As releases name it.
    pub arch: String,
    /// Its host name.
    pub host: String,
    /// The same for two addresses of one machine, and for no other; empty where it does not say.
    pub machine: String,
    /// Where PICCOLO is, or would be.
    pub prefix: String,
    /// An installation was killed there, and its remains wait to be rolled back.
    pub interrupted: bool,
    /// The installer has left its list there, whole or half removed.
    pub installed: bool,
    /// PICCOLO is there by packages, which the installer leaves alone.
    pub packages: bool,
    /// Of the release in use: the digest of its checksums, and its version.
    pub release: Option<String>,
    pub version: Option<String>,
    /// `sub`, `master`.
    pub roles: Vec<String>,
    /// There is `/etc/piccolo`, and in it the agent's configuration, and in that a name.
    pub configured: bool,
    pub agent_configured: bool,
    pub name: Option<String>,
    /// There is `/var/lib/piccolo`, and in it an agent's identity.
    pub state: bool,
    /// And a master's: the cluster's authority and store.
    pub master_state: bool,
    pub joined: bool,
    /// Whose that identity is, unless its certificate has expired.
    pub node: Option<String>,
    pub cluster: Option<String>,
}

/// How the user that logged in becomes root.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Root {
    /// Not at all, or only with a password.
    #[default]
    Never,
    BySudo,
    Already,
}

impl Root {
    /// Before a command that root shall run.
    pub fn prefix(self) -> &'static str {
        match self {
            Root::BySudo => "sudo -n ",
            Root::Already | Root::Never => "",
        }
    }
}

impl Facts {
    /// Takes one line; whether it was the last. What a login script says beside is passed over.
    pub fn learn(&mut self, line: &str) -> bool {
        let Some((key, value)) = line.split_once('=') else { return false };
        let text = || Some(value.to_owned()).filter(|text| !text.is_empty());
        match key {
            "folder" => self.folder = value.to_owned(),
            "root" => {
                self.root = match value {
                    "yes" => Root::Already,
                    "sudo" => Root::BySudo,
                    _ => Root::Never,
                }
            }
            "arch" => self.arch = architecture(value).to_owned(),
            "host" => self.host = value.to_owned(),
            "machine" => self.machine = value.to_owned(),
            "prefix" => self.prefix = value.to_owned(),
            "interrupted" => self.interrupted = true,
            "installed" => self.installed = true,
            "packages" => self.packages = true,
            "release" => self.release = text(),
            "version" => self.version = text(),
            "role" => self.roles.push(value.to_owned()),
            "configured" => self.configured = true,
            "agent_configured" => self.agent_configured = true,
            "name" => self.name = text(),
            "state" => self.state = true,
            "master_state" => self.master_state = true,
            "joined" => self.joined = true,
            "node" => self.node = text(),
            "cluster" => self.cluster = text(),
            "facts" => return value == "end",
            _ => {}
        }
        false
    }
}

/// What `uname -m` says, in the words of releases.
pub fn architecture(machine: &str) -> &str {
    match machine {
        "armv7l" | "armv8l" => "armv7",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_read_line_by_line_and_noise_is_passed_over() {
        let mut facts = Facts::default();
        let lines = "Welcome!\nPS1=x\nfolder=/tmp/piccolo-deploy.abc\nroot=sudo\narch=armv7l\nhost=b1\n\
                     role=sub\nrole=master\nname=\njoined=yes\ncluster=c7";
        for line in lines.lines() {
            assert!(!facts.learn(line), "{line}");
        }
        assert!(facts.learn("facts=end"));
        let expect = Facts {
            folder: "/tmp/piccolo-deploy.abc".into(),
            root: Root::BySudo,
            arch: "armv7".into(),
            host: "b1".into(),
            roles: vec!["sub".into(), "master".into()],
            joined: true,
            cluster: Some("c7".into()),
            ..Facts::default()
        };
        assert_eq!(facts, expect);
    }
}
