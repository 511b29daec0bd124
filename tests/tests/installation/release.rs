//! What is installed, and where: releases made by `cargo xtask dist`, and roots of boards that are folders.
//!
//! Most tests install executables of a few kilobytes that say their name and version and nothing else: how
//! files come to their places does not depend on what is in them.

use std::{
    collections::BTreeMap,
    error::Error,
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use piccolo_testkit::cluster::Programs;
use tempfile::TempDir;

pub(crate) type Story = Result<(), Box<dyn Error>>;
pub(crate) const EXECUTABLES: [&str; 3] = ["piccolo-master", "piccolo-nodeagent", "piccolo"];

const SMALL: &str = r#"
#include <stdio.h>
#include <string.h>
int main(int count, char **words) {
  char *name = strrchr(words[0], '/'), line[256];
  FILE *file = count > 3 && !strcmp(words[count - 1], "check-config") ? fopen(words[2], "r") : 0;
  for (int at = 1; file && fgets(line, sizeof line, file); at++)
    if (!strncmp(line, "mastres", 7)) {
      fprintf(stderr, "error: %s:%d:1: unknown key `mastres`\n", words[2], at);
      return 1;
    }
  printf("%s %s\n", name ? name + 1 : words[0], VERSION);
  return count < 0;
}
"#;

/// A release folder.
pub(crate) struct Release {
    folder: TempDir,
}

impl Release {
    /// With the real executables.
    pub(crate) fn real() -> Result<Self, Box<dyn Error>> {
        let programs = Programs::beside_this_test()?;
        let executables = programs.cli.parent().ok_or("the executables have no folder")?;
        Self::of(executables)
    }

    fn of(executables: &Path) -> Result<Self, Box<dyn Error>> {
        let folder = tempfile::tempdir()?;
        let programs = Programs::beside_this_test()?;
        let mut dist = Command::new(programs.cli.with_file_name("xtask"));
        dist.arg("dist").arg("--executables").arg(executables).arg("--folder-only");
        dist.arg("--into").arg(folder.path()).current_dir(checkout());
        succeed(&mut dist)?;
        Ok(Self { folder })
    }

    /// With executables that say their name and `version`, and refuse one misspelt key; and one manual page.
    pub(crate) fn small(version: &str) -> Result<Self, Box<dyn Error>> {
        let build = tempfile::tempdir()?;
        let (source, small) = (build.path().join("small.c"), build.path().join("small"));
        fs::write(&source, SMALL)?;
        let mut compile = Command::new("cc");
        compile.arg(format!("-DVERSION=\"{version}\"")).arg("-o").args([&small, &source]);
        succeed(&mut compile)?;
        // pages and completions are made by the real one
        std::os::unix::fs::symlink(
            Programs::beside_this_test()?.cli,
            build.path().join("piccolo"),
        )?;
        fs::copy(&small, build.path().join("piccolo-master"))?;
        fs::copy(&small, build.path().join("piccolo-nodeagent"))?;
        let release = Self::of(build.path())?;
        fs::copy(&small, release.path().join("bin/piccolo"))?;
        for page in fs::read_dir(release.path().join("man/man1"))?.flatten() {
            if page.file_name() != "piccolo.1" {
                fs::remove_file(page.path())?;
            }
        }
        release.write("RELEASE", &format!("version={version}\narch={}\n", machine()?))?;
        release.sum()?;
        Ok(release)
    }

    pub(crate) fn path(&self) -> PathBuf {
        let entries = fs::read_dir(self.folder.path()).into_iter().flatten().flatten();
        let mut folders = entries.map(|entry| entry.path()).filter(|path| path.is_dir());
        folders.next().unwrap_or_default()
    }

    pub(crate) fn read(&self, file: &str) -> Result<String, Box<dyn Error>> {
        Ok(fs::read_to_string(self.path().join(file))?)
    }

    pub(crate) fn write(&self, file: &str, content: &str) -> Story {
        Ok(fs::write(self.path().join(file), content)?)
    }

    /// Makes the checksums right again after a change.
    pub(crate) fn sum(&self) -> Story {
        let script = "find . -type f ! -name SHA256SUMS | sed 's,^./,,' | sort | xargs sha256sum >SHA256SUMS";
        succeed(Command::new("sh").args(["-c", script]).current_dir(self.path()))?;
        Ok(())
    }

    /// Packs it, in a folder of its own.
    pub(crate) fn tarball(&self) -> Result<PathBuf, Box<dyn Error>> {
        let path = self.path();
        let name = path.file_name().ok_or("the release has no name")?;
        let packed = self.folder.path().join("packed.tar.gz");
        succeed(
            Command::new("tar")
                .arg("-czf")
                .arg(&packed)
                .arg("-C")
                .arg(self.folder.path())
                .arg(name),
        )?;
        Ok(packed)
    }
}

/// The root of a board that is a folder.
pub(crate) struct Root {
    folder: TempDir,
}

impl Root {
    pub(crate) fn new() -> Result<Self, Box<dyn Error>> {
        let folder = tempfile::tempdir()?;
        for name in
            ["etc/systemd/system", "opt", "usr/local/bin", "var/lib", "usr/lib/systemd/system"]
        {
            fs::create_dir_all(folder.path().join(name))?;
        }
        fs::write(folder.path().join("usr/lib/systemd/system/podman.socket"), "[Socket]\n")?;
        Ok(Self { folder })
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn at(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    pub(crate) fn read(&self, path: &str) -> Result<String, Box<dyn Error>> {
        Ok(fs::read_to_string(self.at(path)).map_err(|error| format!("{path}: {error}"))?)
    }

    pub(crate) fn command(&self, release: &Release, arguments: &[&str]) -> Command {
        let mut command = Command::new("bash");
        command.arg(release.path().join("install.sh")).arg("--root").arg(self.path());
        command.args(arguments).stdin(Stdio::null());
        command
    }

    pub(crate) fn run(
        &self,
        release: &Release,
        arguments: &[&str],
    ) -> Result<Output, Box<dyn Error>> {
        Ok(self.command(release, arguments).output()?)
    }

    /// Installs, and returns what was said.
    pub(crate) fn install(
        &self,
        release: &Release,
        arguments: &[&str],
    ) -> Result<String, Box<dyn Error>> {
        succeed(&mut self.command(release, arguments))
    }

    /// Fails with this code and message, and returns what was said.
    #[track_caller]
    pub(crate) fn refuse(
        &self,
        release: &Release,
        arguments: &[&str],
        code: i32,
        why: &str,
    ) -> Story {
        let output = self.run(release, arguments)?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(why), "{arguments:?}: {said}");
        assert!(said.contains("help: "), "{arguments:?}: {said}");
        Ok(())
    }

    /// Every path below it: its kind, mode, inode-independent, and its content.
    pub(crate) fn tree(&self) -> Result<Tree, Box<dyn Error>> {
        let mut tree = Tree::new();
        collect(self.path(), self.path(), &mut tree)?;
        Ok(tree)
    }
}

/// By path: what is there, in a form to compare.
pub(crate) type Tree = BTreeMap<String, String>;

fn collect(root: &Path, folder: &Path, tree: &mut Tree) -> Story {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let metadata = fs::symlink_metadata(&path)?;
        let what = if metadata.is_symlink() {
            format!("link to {}", fs::read_link(&path)?.display())
        } else if metadata.is_dir() {
            format!("folder {:o}", metadata.mode())
        } else {
            let content = fs::read(&path)?;
            let text = String::from_utf8(content).unwrap_or_else(|error| {
                // executables: their sum is enough
                let sum = error
                    .as_bytes()
                    .iter()
                    .fold(0_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
                format!("{sum:x}")
            });
            format!("file {:o} {text}", metadata.mode())
        };
        tree.insert(path.strip_prefix(root)?.display().to_string(), what);
        if metadata.is_dir() {
            collect(root, &path, tree)?;
        }
    }
    Ok(())
}

/// What differs, for a message that can be read.
pub(crate) fn differences(left: &Tree, right: &Tree) -> Vec<String> {
    let keys: std::collections::BTreeSet<_> = left.keys().chain(right.keys()).collect();
    let short = |tree: &Tree, key: &str| {
        tree.get(key).map(|text| text.chars().take(200).collect::<String>())
    };
    let differing = keys.into_iter().filter(|key| left.get(*key) != right.get(*key));
    differing
        .map(|key| format!("{key}: {:?} / {:?}", short(left, key), short(right, key)))
        .collect()
}

pub(crate) fn succeed(command: &mut Command) -> Result<String, Box<dyn Error>> {
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(said);
    }
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(format!("{command:?} ({}): {said}{complaint}", output.status).into())
}

pub(crate) fn make_program(path: &Path, script: &str) -> Story {
    fs::write(path, format!("#!/bin/sh\n{script}\n"))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// As `RELEASE` calls it.
pub(crate) fn machine() -> Result<String, Box<dyn Error>> {
    let name = succeed(Command::new("uname").arg("-m"))?;
    let name = name.trim_end();
    Ok(if name.starts_with("armv") { "armv7" } else { name }.to_owned())
}

pub(crate) fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
