//! Killed at every step: an installation, an upgrade, a removal.
//!
//! In front of the search path stand programs of the names that change files; each counts, and the one whose turn
//! it is kills the whole process group instead of doing its work. Afterwards the next run must repair: one that is
//! then refused leaves what was before or what was to be, and a good one what was to be.

use std::{
    fs, os::unix::process::CommandExt as _, os::unix::process::ExitStatusExt as _, path::Path,
};

use tempfile::TempDir;

use crate::release::{Release, Root, Story, Tree, differences, make_program};

const CHANGING: [&str; 9] =
    ["mkdir", "cp", "mv", "ln", "rm", "rmdir", "chmod", "sync", "systemctl"];
const SIGKILL: i32 = 9;
/// More steps than any of these has.
const STEPS_MAX: u32 = 1000;

#[test]
fn a_killed_installation_is_repaired_by_the_next_run() -> Story {
    let release = Release::small("0.1.0")?;
    check(&release, &["--role", "sub", "--master", "192.0.2.10"], &|_| Ok(()))
}

#[test]
fn a_killed_upgrade_is_repaired_by_the_next_run() -> Story {
    let (old, new) = (Release::small("0.1.0")?, Release::small("0.2.0")?);
    new.write("config/master.yaml", &(new.read("config/master.yaml")? + "# more\n"))?;
    new.sum()?;
    check(&new, &["--role", "master"], &|root| root.install(&old, &["--role", "sub"]).map(drop))
}

#[test]
fn a_killed_removal_is_finished_by_the_next() -> Story {
    let release = Release::small("0.1.0")?;
    let killer = Killer::new()?;
    for step in 1..STEPS_MAX {
        let root = Root::new()?;
        let before = root.tree()?;
        root.install(&release, &["--role", "sub"])?;
        let finished = !killer.kills(&root, &release, &["--uninstall", "--purge"], step)?;
        root.install(&release, &["--uninstall", "--purge"])?;
        let left = differences(&before, &root.tree()?);
        assert_eq!(left, Vec::<String>::new(), "killed at step {step}");
        if finished {
            return enough(step);
        }
    }
    Err("it has more steps than expected".into())
}

fn check(release: &Release, arguments: &[&str], prepare: &dyn Fn(&Root) -> Story) -> Story {
    let damaged = Release::small("0.9.0")?;
    damaged.write("LICENSE", "damaged")?;
    let killer = Killer::new()?;
    let before = made(prepare)?;
    let after = made(&|root| {
        prepare(root)?;
        root.install(release, arguments).map(drop)
    })?;
    for step in 1..STEPS_MAX {
        let root = Root::new()?;
        prepare(&root)?;
        let finished = !killer.kills(&root, release, arguments, step)?;
        root.refuse(&damaged, &["--role", "sub"], 1, "the checksum of LICENSE is wrong")?;
        let repaired = root.tree()?;
        if repaired != after {
            assert_eq!(
                differences(&before, &repaired),
                Vec::<String>::new(),
                "killed at step {step}"
            );
        }
        root.install(release, arguments)?;
        assert_eq!(
            differences(&after, &root.tree()?),
            Vec::<String>::new(),
            "killed at step {step}"
        );
        if finished {
            return enough(step);
        }
    }
    Err("it has more steps than expected".into())
}

fn made(prepare: &dyn Fn(&Root) -> Story) -> Result<Tree, Box<dyn std::error::Error>> {
    let root = Root::new()?;
    prepare(&root)?;
    root.tree()
}

fn enough(steps: u32) -> Story {
    assert!(steps > 20, "only {steps} steps: the test kills nothing any more");
    Ok(())
}

struct Killer {
    folder: TempDir,
}

impl Killer {
    fn new() -> Result<Self, Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        for name in CHANGING {
            let script = format!(
                "here=${{0%/*}}\nread n <\"$here/count\"\nread at <\"$here/at\"\nn=$((n + 1))\necho $n >\"$here/count\"\n\
                 [ $n -ne $at ] || kill -9 0\nPATH=/usr/bin:/bin exec {name} \"$@\""
            );
            make_program(&folder.path().join(name), &script)?;
        }
        Ok(Self { folder })
    }

    /// Whether it was killed before it was done.
    fn kills(
        &self,
        root: &Root,
        release: &Release,
        arguments: &[&str],
        step: u32,
    ) -> Result<bool, Box<dyn std::error::Error>> {
        fs::write(self.path("count"), "0\n")?;
        fs::write(self.path("at"), format!("{step}\n"))?;
        let path = format!("{}:/usr/bin:/bin", self.folder.path().display());
        let output =
            root.command(release, arguments).env("PATH", path).process_group(0).output()?;
        if output.status.signal() == Some(SIGKILL) {
            return Ok(true);
        }
        assert!(
            output.status.success(),
            "step {step}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(false)
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        Path::new(self.folder.path()).join(name)
    }
}
