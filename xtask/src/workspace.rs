//! Where things are: the checkout, the target folder and the tools that setup puts there.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

/// The checkout that this program was built from.
#[derive(Debug, Clone)]
pub(crate) struct Workspace {
    root: PathBuf,
    target: PathBuf,
}

impl Workspace {
    /// # Errors
    /// This program was started by hand and outside of the checkout.
    pub(crate) fn find() -> Result<Self> {
        let start = match env::var_os("CARGO_MANIFEST_DIR") {
            Some(dir) => PathBuf::from(dir),
            None => env::current_dir().context("the current folder cannot be read")?,
        };
        let root = start
            .ancestors()
            .find(|dir| dir.join("Cargo.lock").is_file())
            .with_context(|| format!("no checkout of PICCOLO holds {}", start.display()))?
            .to_owned();
        let target = match env::var_os("CARGO_TARGET_DIR") {
            Some(dir) => root.join(dir),
            None => root.join("target"),
        };
        Ok(Self { root, target })
    }

    /// Another checkout.
    pub(crate) fn at(root: PathBuf, target: PathBuf) -> Self {
        Self { root, target }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// Tools that setup installs for this checkout alone.
    pub(crate) fn tools(&self) -> PathBuf {
        self.target.join("tools")
    }

    pub(crate) fn buf(&self) -> PathBuf {
        self.tools().join("node_modules/.bin/buf")
    }

    /// The web console's sources.
    pub(crate) fn console(&self) -> PathBuf {
        self.root.join("console")
    }

    pub(crate) fn cargo_deny(&self) -> PathBuf {
        self.tools().join("bin/cargo-deny")
    }

    pub(crate) fn python(&self) -> PathBuf {
        self.tools().join("python/bin/python")
    }

    /// A program that a Python package brings.
    pub(crate) fn tool(&self, name: &str) -> PathBuf {
        self.tools().join("python/bin").join(name)
    }

    /// What Python packages the tools and tests need, pinned.
    pub(crate) fn python_requirements(&self) -> PathBuf {
        self.root.join("tests/wire/requirements.txt")
    }

    /// The executables of a build: `debug` or `release`.
    pub(crate) fn executables(&self, profile: &str) -> PathBuf {
        self.target.join(profile)
    }

    /// The very cargo that runs us.
    pub(crate) fn cargo(&self) -> Command {
        let cargo = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
        let mut command = Command::new(cargo);
        // Set for us by `cargo run`; a cargo below must not think it builds this package.
        command.current_dir(&self.root).env_remove("CARGO_MANIFEST_DIR");
        command
    }
}

/// The first `program` on the search path, or where root's programs are.
pub(crate) fn which(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let extra = ["/usr/sbin", "/sbin", "/usr/lib/podman", "/usr/libexec/podman"];
    env::split_paths(&path)
        .chain(extra.iter().map(PathBuf::from))
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
}
