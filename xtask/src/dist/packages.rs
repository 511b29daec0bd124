//! The release as packages for Debian and RPM families: `piccolo`, `piccolo-master`, `piccolo-nodeagent`.
//!
//! nfpm makes them, of a release folder and one description each. They put everything below `/usr/lib/piccolo`, with
//! links and units where a system looks for them; a configuration that was edited stays. The same release gives the
//! same bytes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::release::{time_of_files, write};
use crate::run;
use crate::workspace::Workspace;

const HOME: &str = "/usr/lib/piccolo";
const UNITS: &str = "/usr/lib/systemd/system";
const SCRIPTS: [(&str, &str); 4] = [
    ("preinstall", "before_install.sh"),
    ("postinstall", "after_install.sh"),
    ("preremove", "before_remove.sh"),
    ("postremove", "after_remove.sh"),
];

/// One package.
#[derive(Debug)]
struct Package {
    name: &'static str,
    about: &'static str,
    /// `NAME.service` and the state folder below `/var/lib/piccolo`.
    service: Option<(&'static str, &'static str)>,
    /// From the release, and to where.
    files: &'static [(&'static str, &'static str)],
    configuration: &'static [(&'static str, &'static str)],
    /// Links in `/usr/bin`, and what they lead to below [`HOME`].
    commands: &'static [(&'static str, &'static str)],
    recommends: &'static [&'static str],
    suggests: &'static [&'static str],
}

const PACKAGES: [Package; 3] = [
    Package {
        name: "piccolo",
        about: "The command line of PICCOLO, which manages clusters of embedded boards",
        service: None,
        files: &[
            ("bin/piccolo", "/usr/lib/piccolo/bin/piccolo"),
            ("man/man1/*", "/usr/share/man/man1/"),
            ("completions/piccolo.bash", "/usr/share/bash-completion/completions/piccolo"),
            ("completions/_piccolo", "/usr/share/zsh/site-functions/_piccolo"),
            ("completions/piccolo.fish", "/usr/share/fish/vendor_completions.d/piccolo.fish"),
            ("LICENSE", "/usr/share/doc/piccolo/copyright"),
        ],
        configuration: &[],
        commands: &[("piccolo", "bin/piccolo")],
        recommends: &[],
        suggests: &[],
    },
    Package {
        name: "piccolo-master",
        about: "The master of a PICCOLO cluster",
        service: Some(("piccolo-master", "master")),
        files: &[
            ("bin/piccolo-master", "/usr/lib/piccolo/bin/piccolo-master"),
            ("LICENSE", "/usr/share/doc/piccolo-master/copyright"),
        ],
        configuration: &[("config/master.yaml", "/etc/piccolo/master.yaml")],
        commands: &[("piccolo-master", "bin/piccolo-master")],
        recommends: &["piccolo"],
        suggests: &[],
    },
    Package {
        name: "piccolo-nodeagent",
        about: "The agent on every node of a PICCOLO cluster",
        service: Some(("piccolo-nodeagent", "nodeagent")),
        files: &[
            ("bin/piccolo-nodeagent", "/usr/lib/piccolo/bin/piccolo-nodeagent"),
            ("system_check.sh", "/usr/lib/piccolo/system_check.sh"),
            ("findings.sh", "/usr/lib/piccolo/findings.sh"),
            ("LICENSE", "/usr/share/doc/piccolo-nodeagent/copyright"),
        ],
        configuration: &[
            ("config/nodeagent.yaml", "/etc/piccolo/nodeagent.yaml"),
            ("config/system_check.conf", "/etc/piccolo/system_check.conf"),
        ],
        commands: &[
            ("piccolo-nodeagent", "bin/piccolo-nodeagent"),
            ("piccolo-system-check", "system_check.sh"),
        ],
        recommends: &["podman"],
        // the system check asks smartctl how the disks are
        suggests: &["smartmontools"],
    },
];

/// Makes the packages of the release in `folder` beside it, and returns them.
///
/// # Errors
/// nfpm is not here, or a part of the release is missing.
pub(crate) fn make(
    workspace: &Workspace,
    folder: &Path,
    architecture: &str,
) -> Result<Vec<PathBuf>> {
    let into = folder.parent().context("the release has no folder around it")?;
    let work = into.join(format!("packages-{architecture}"));
    fs::create_dir_all(&work).with_context(|| format!("cannot make {}", work.display()))?;
    let mut made = Vec::new();
    for package in &PACKAGES {
        let description = work.join(format!("{}.yaml", package.name));
        let text = package.description(workspace, folder, &work, architecture)?;
        fs::write(&description, text)
            .with_context(|| format!("cannot write {}", description.display()))?;
        for format in ["deb", "rpm"] {
            let file = into.join(file_name(package.name, format, architecture));
            let mut nfpm = Command::new(workspace.tool("nfpm"));
            nfpm.args(["package", "--packager", format, "--config"]).arg(&description);
            nfpm.arg("--target").arg(&file).env("SOURCE_DATE_EPOCH", time_of_files()?);
            run::answer(&mut nfpm).with_context(|| {
                format!("{} cannot be made; `cargo xtask setup dist` fetches nfpm", file.display())
            })?;
            made.push(file);
        }
    }
    fs::remove_dir_all(&work).with_context(|| format!("cannot remove {}", work.display()))?;
    Ok(made)
}

fn file_name(package: &str, format: &str, architecture: &str) -> String {
    let version = env!("CARGO_PKG_VERSION");
    match format {
        "deb" => format!("{package}_{version}_{}.deb", name_for(format, architecture)),
        _ => format!("{package}-{version}-1.{}.rpm", name_for(format, architecture)),
    }
}

/// Debian's and RPM's own words for a processor.
fn name_for<'a>(format: &str, architecture: &'a str) -> &'a str {
    match (format, architecture) {
        ("deb", "x86_64") => "amd64",
        ("deb", "aarch64") => "arm64",
        ("deb", "armv7") => "armhf",
        (_, "armv7") => "armv7hl",
        _ => architecture,
    }
}

impl Package {
    /// For nfpm, with the scripts and the unit that it names written to `work`.
    fn description(
        &self,
        workspace: &Workspace,
        folder: &Path,
        work: &Path,
        architecture: &str,
    ) -> Result<String> {
        let arch = match architecture {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "armv7" => "arm7",
            other => other,
        };
        let mut text = format!(
            "name: {}\narch: {arch}\nplatform: linux\nversion: {}\nrelease: \"1\"\nsection: admin\npriority: optional\n\
             maintainer: PICCOLO maintainers <maintainers@piccolo.invalid>\nlicense: Apache-2.0\ndescription: |\n  {}.\n\
             mtime: {}\nrpm:\n  buildhost: piccolo\ncontents:\n",
            self.name,
            env!("CARGO_PKG_VERSION"),
            self.about,
            rfc3339(&time_of_files()?)?,
        );
        for (from, to) in self.files {
            text += &content(&folder.join(from), to, "");
        }
        for (from, to) in self.configuration {
            text += &content(&folder.join(from), to, "  type: config|noreplace\n");
        }
        for (command, to) in self.commands {
            let to = format!("{HOME}/{to}");
            text += &content(Path::new(&to), &format!("/usr/bin/{command}"), "  type: symlink\n");
        }
        if let Some((service, _)) = self.service {
            let unit = format!("{service}.service");
            let from = folder.join("systemd").join(&unit);
            let written = fs::read_to_string(&from)
                .with_context(|| format!("the release has no {}", from.display()))?;
            let ours = work.join(&unit);
            let written = written.replace("/opt/piccolo/current/", &format!("{HOME}/"));
            write(&ours, written.as_bytes())?;
            text += &content(&ours, &format!("{UNITS}/{unit}"), "");
        }
        for (relation, names) in [("recommends", self.recommends), ("suggests", self.suggests)] {
            if !names.is_empty() {
                text += &format!("{relation}: [{}]\n", names.join(", "));
            }
        }
        self.scripts(workspace, work).map(|scripts| text + &scripts)
    }

    fn scripts(&self, workspace: &Workspace, work: &Path) -> Result<String> {
        let mut text = String::from("scripts:\n");
        for (when, file) in SCRIPTS {
            // a package without a service has nothing to start or stop
            if self.service.is_none() && when != "preinstall" {
                continue;
            }
            let from = workspace.root().join("scripts/package").join(file);
            let script = fs::read_to_string(&from)
                .with_context(|| format!("cannot read {}", from.display()))?;
            let (unit, state) = self.service.unwrap_or_default();
            let ours = work.join(format!("{}-{file}", self.name));
            let script = script.replace("@UNIT@", unit).replace("@STATE@", state);
            write(&ours, script.as_bytes())?;
            text += &format!("  {when}: {}\n", quoted(&ours));
        }
        Ok(text)
    }
}

fn content(from: &Path, to: &str, more: &str) -> String {
    let more = more.replace("  type", "    type");
    format!("  - src: {}\n    dst: {to}\n{more}", quoted(from))
}

fn quoted(path: &Path) -> String {
    format!("{:?}", path.display().to_string())
}

/// What nfpm takes for the time of files.
fn rfc3339(seconds: &str) -> Result<String> {
    let mut date = Command::new("date");
    run::answer(date.args(["--utc", "--date", &format!("@{seconds}"), "+%Y-%m-%dT%H:%M:%SZ"]))
        .context("`date` failed")
}
