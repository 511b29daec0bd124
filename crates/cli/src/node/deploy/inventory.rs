//! The inventory: a YAML file with the hosts to deploy to.
//!
//! ```yaml
//! hosts:
//!   - address: 192.0.2.21       # or a name, as ssh knows it
//!     user: root
//!     port: 22
//!     name: zone-a              # in the cluster, in place of the host's own name
//!     identity: ~/.ssh/boards
//!     jump: gate.example.org
//!     labels:
//!       site: seoul
//! ```
//!
//! Only `address` must be there. It is read strictly: what is wrong is told with file, line and what was
//! expected, and nothing is deployed.

use std::{collections::BTreeMap, fs, io::Read as _, path::Path};

use piccolo_core::model::{NodeName, check_labels};
use serde::Deserialize;
use serde_saphyr::Spanned;

use super::{
    Host,
    ssh::{SshArgs, Target, jump as jump_of},
};
use crate::failure::{Exit, Failure};

/// PICCOLO is for ten boards; a hundred is a mistake, or a test.
pub const HOSTS_MAX: usize = 100;
const FILE_BYTES_MAX: u64 = 1024 * 1024;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Inventory {
    hosts: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    address: Spanned<String>,
    #[serde(default)]
    user: Option<String>,
    #[serde(default)]
    port: Option<Spanned<u16>>,
    #[serde(default)]
    name: Option<Spanned<String>>,
    #[serde(default)]
    identity: Option<String>,
    #[serde(default)]
    jump: Option<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

/// The hosts of a file; what it does not say of one is taken from the command line.
///
/// # Errors
/// The file cannot be read, or says something else than an inventory.
pub fn read(file: &Path, ssh: &SshArgs) -> Result<Vec<Host>, Failure> {
    let unreadable = |error: std::io::Error| {
        let exit = Exit::of_unreadable(&error);
        Failure::new(exit, format!("{} cannot be read", file.display())).because(&error)
    };
    let mut text = String::new();
    let opened = fs::File::open(file).map_err(unreadable)?;
    opened.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(unreadable)?;
    let problem = if text.len() as u64 > FILE_BYTES_MAX {
        format!("it is longer than {FILE_BYTES_MAX} bytes")
    } else {
        match parse(&text, ssh) {
            Ok(hosts) => return Ok(hosts),
            Err(problem) => problem,
        }
    };
    Err(Failure::usage(format!("{} is no inventory; nothing was done", file.display()))
        .cause(format!("{}: {problem}", file.display()))
        .help("piccolo node deploy --help shows how one is written"))
}

/// # Errors
/// The line, what is wrong there, and what was expected.
fn parse(text: &str, ssh: &SshArgs) -> Result<Vec<Host>, String> {
    if text.trim().is_empty() {
        return Err("line 1: expected `hosts:`, and the file is empty".to_owned());
    }
    let inventory: Inventory = serde_saphyr::from_str(text).map_err(|error| {
        let error = error.without_snippet();
        let line = error.location().map_or(1, |at| at.line());
        format!("line {line}: {}", problem_of(error))
    })?;
    if inventory.hosts.is_empty() || inventory.hosts.len() > HOSTS_MAX {
        return Err(format!(
            "line 1: expected 1 to {HOSTS_MAX} hosts, found {}",
            inventory.hosts.len()
        ));
    }
    let mut hosts: Vec<Host> = Vec::new();
    for entry in inventory.hosts {
        let line = entry.address.referenced.line();
        let name_line = entry.name.as_ref().map_or(line, |name| name.referenced.line());
        let host = host(entry, ssh)?;
        if hosts.iter().any(|other| other.target == host.target && other.ssh.port == host.ssh.port)
        {
            return Err(format!("line {line}: {} is there twice", host.target));
        }
        let names = hosts.iter().filter_map(|other| other.name.as_deref());
        if let Some(name) = &host.name
            && names.into_iter().any(|other| other.eq_ignore_ascii_case(name))
        {
            return Err(format!("line {name_line}: two hosts have the name {name}"));
        }
        hosts.push(host);
    }
    Ok(hosts)
}

fn host(entry: Entry, ssh: &SshArgs) -> Result<Host, String> {
    let line = entry.address.referenced.line();
    let address = entry.address.value;
    let full = match &entry.user {
        Some(user) => format!("{user}@{address}"),
        None => address,
    };
    let target =
        Target::parse(&full).map_err(|problem| format!("line {line}: address: {problem}"))?;
    let mut ssh = ssh.clone();
    if let Some(port) = entry.port {
        if port.value == 0 {
            return Err(format!("line {}: port: expected 1 to 65535", port.referenced.line()));
        }
        ssh.port = Some(port.value);
    }
    if let Some(identity) = entry.identity {
        ssh.identity = Some(identity.into());
    }
    if let Some(jump) = entry.jump {
        let jump = jump_of(&jump).map_err(|problem| format!("line {line}: jump: {problem}"))?;
        ssh.jump = Some(jump);
    }
    let name = match entry.name {
        None => None,
        Some(name) => {
            let line = name.referenced.line();
            NodeName::parse("name", &name.value)
                .map_err(|error| format!("line {line}: {error}"))?;
            Some(name.value)
        }
    };
    check_labels("labels", &entry.labels).map_err(|error| format!("line {line}: {error}"))?;
    Ok(Host { target, ssh, name, labels: entry.labels })
}

/// In our words, without the place, which is said before it.
fn problem_of(error: &serde_saphyr::Error) -> String {
    use serde_saphyr::Error as Yaml;
    if let Yaml::SerdeUnknownField { field, expected, .. } = error {
        return format!("there is no key `{field}`; expected one of {}", expected.join(", "));
    }
    if let Yaml::SerdeInvalidType { unexpected, expected, .. } = error {
        return format!("expected {expected}, found {unexpected}");
    }
    if let Yaml::DuplicateMappingKey { key, .. } = error {
        return format!("`{}` is given twice", key.as_deref().unwrap_or("?"));
    }
    let text = error.to_string();
    // Only a port is such a number.
    if text.contains("u16") {
        return "port: expected 1 to 65535".to_owned();
    }
    let place = text.find(" at line ").or_else(|| text.find('\n'));
    text.get(..place.unwrap_or(text.len())).unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inventory_says_of_each_host_what_differs() {
        let text = "hosts:\n  - address: 192.0.2.21\n    user: root\n    port: 2222\n    name: zone-a\n    \
                    identity: /keys/a\n    jump: gate\n    labels: {site: seoul}\n  - address: board-2\n";
        let usual = SshArgs { identity: Some("/keys/all".into()), ..SshArgs::default() };
        let hosts = parse(text, &usual).unwrap();
        let [first, second] = hosts.as_slice() else { panic!("{hosts:?}") };
        assert_eq!(first.target.to_string(), "root@192.0.2.21");
        assert_eq!((first.ssh.port, first.name.as_deref()), (Some(2222), Some("zone-a")));
        assert_eq!(first.ssh.identity.as_deref(), Some(Path::new("/keys/a")));
        assert_eq!(first.labels.get("site").map(String::as_str), Some("seoul"));
        assert_eq!((second.target.to_string().as_str(), second.ssh.port), ("board-2", None));
        assert_eq!(second.ssh.identity.as_deref(), Some(Path::new("/keys/all")));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line_and_what_was_expected() {
        for (text, line, part) in [
            ("", 1, "hosts"),
            ("hosts: []", 1, "expected 1 to 100 hosts"),
            ("boards:\n  - address: a\n", 1, "there is no key `boards`; expected one of hosts"),
            (
                "hosts:\n  - adress: a\n",
                2,
                "there is no key `adress`; expected one of address, user",
            ),
            ("hosts:\n  - user: root\n", 2, "address"),
            ("hosts:\n  - address: a\n    port: many\n", 3, "expected 1 to 65535"),
            ("hosts:\n  - address: a\n    port: 0\n", 3, "expected 1 to 65535"),
            ("hosts:\n  - address: a\n    port: 70000\n", 3, "expected 1 to 65535"),
            ("hosts:\n  - address: -oProxyCommand=x\n", 2, "[USER@]HOST"),
            ("hosts:\n  - address: a\n    name: -x\n", 3, "must not begin or end with '-'"),
            ("hosts:\n  - address: a\n  - address: a\n", 3, "a is there twice"),
            (
                "hosts:\n  - address: a\n    name: x\n  - address: b\n    name: X\n",
                5,
                "have the name X",
            ),
            ("hosts:\n  - address: a\n    address: b\n", 3, "`address` is given twice"),
            ("hosts:\n  - address: a\n    labels: {\"\": x}\n", 2, "labels"),
            ("hosts:\n  address: a\n", 2, "expected"),
        ] {
            let problem = parse(text, &SshArgs::default()).unwrap_err();
            assert!(problem.starts_with(&format!("line {line}: ")), "{text:?}: {problem}");
            assert!(problem.contains(part), "{text:?}: {problem}");
        }
    }
}
