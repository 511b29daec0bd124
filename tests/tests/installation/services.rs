//! Systemd and file systems that cannot be written: what install.sh tells the one and how it goes round the
//! others. The board is a folder that becomes the root (chroot) in a mount namespace, with this machine's /usr,
//! read-only. A program called systemctl writes down what it is told.

use std::{
    error::Error,
    fs,
    path::Path,
    process::{Command, Output, Stdio},
};

use crate::release::{Release, Root, Story, differences, make_program, succeed};

/// Tenths of what `systemd-analyze security` gives: 3.0 at most.
const EXPOSURE_MAX: &str = "30";

#[test]
fn systemd_is_told_what_has_changed_and_no_more() -> Story {
    let (old, new) = (Release::small("0.1.0")?, Release::small("0.2.0")?);
    let board = Board::new()?;
    let told = board.install(&old, &["--role", "sub"])?;
    assert!(told.contains(&"daemon-reload".to_owned()), "{told:?}");
    assert!(told.contains(&"restart piccolo-nodeagent.service".to_owned()), "{told:?}");
    assert!(!told.iter().any(|line| line.contains("restart piccolo-master")), "{told:?}");
    let told = board.install(&old, &[])?;
    assert_eq!(restarts(&told), Vec::<String>::new(), "nothing has changed");
    let told = board.install(&new, &[])?;
    assert_eq!(restarts(&told), ["restart piccolo-nodeagent.service"]);
    let told = board.install(&new, &["--master", "192.0.2.10"])?;
    assert_eq!(restarts(&told), ["restart piccolo-nodeagent.service"], "its configuration");
    fs::remove_file(board.root.at("active/piccolo-nodeagent.service"))?;
    let told = board.install(&new, &[])?;
    assert_eq!(restarts(&told), ["restart piccolo-nodeagent.service"], "it did not run");
    let told = board.install(&new, &["--role", "master", "--no-start"])?;
    assert_eq!(restarts(&told), Vec::<String>::new());
    let told = board.install(&new, &["--uninstall"])?;
    for unit in ["piccolo-nodeagent", "piccolo-master"] {
        assert!(told.contains(&format!("disable --now {unit}.service")), "{told:?}");
    }
    Ok(())
}

#[test]
fn a_service_that_does_not_start_brings_the_old_release_back() -> Story {
    let (old, new) = (Release::small("0.1.0")?, Release::small("0.2.0")?);
    let board = Board::new()?;
    board.install(&old, &["--role", "sub"])?;
    fs::write(board.root.at("broken"), "0.2.0")?;
    let before = board.files()?;
    let output = board.run(&new, &["--role", "master"])?;
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("does not start") && said.contains("journalctl -u"), "{said}");
    assert_eq!(differences(&before, &board.files()?), Vec::<String>::new());
    let told = board.told()?;
    assert!(told.contains(&"--no-block restart piccolo-nodeagent.service".to_owned()), "{told:?}");
    assert!(told.contains(&"--no-block stop piccolo-master.service".to_owned()), "{told:?}");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        said.contains("as it was before, and piccolo-nodeagent.service starts again\n"),
        "{said}"
    );
    Ok(())
}

/// The old agent would not start either: it must not even be stopped.
#[test]
fn a_configuration_that_the_new_release_refuses_stops_nothing() -> Story {
    let (old, new) = (Release::small("0.1.0")?, Release::small("0.2.0")?);
    let board = Board::new()?;
    board.install(&old, &["--role", "sub"])?;
    let config = board.root.at("etc/piccolo/nodeagent.yaml");
    let good = fs::read_to_string(&config)?;
    fs::write(&config, format!("{good}mastres: [x]\n"))?;
    let place = format!("/etc/piccolo/nodeagent.yaml:{}:1: unknown key", good.lines().count() + 1);
    let before = board.files()?;
    for arguments in [&[][..], &["--dry-run"], &["--no-start"]] {
        let output = board.run(&new, arguments)?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(&place) && !said.contains("error: error"), "{said}");
        assert_eq!(differences(&before, &board.files()?), Vec::<String>::new());
        assert!(board.told()?.iter().all(|line| !line.contains("start") && !line.contains("stop")));
    }
    // what its own release runs on is not touched by a second run either, nor by what is kept of a removal
    let output = board.run(&old, &[])?;
    assert_eq!(output.status.code(), Some(1));
    board.install(&old, &["--uninstall"])?;
    let output = board.run(&new, &["--role", "sub"])?;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains(&place), "{said}");
    // of the other role it is nobody's business
    board.install(&new, &["--role", "master"])?;
    fs::write(&config, good)?;
    let told = board.install(&new, &["--role", "sub"])?;
    assert!(told.contains(&"restart piccolo-nodeagent.service".to_owned()), "{told:?}");
    Ok(())
}

/// What fails before a service was touched leaves them running.
#[test]
fn who_rolls_back_before_anything_was_restarted_restarts_nothing() -> Story {
    let (old, new) = (Release::small("0.1.0")?, Release::small("0.2.0")?);
    let board = Board::new()?;
    board.install(&old, &["--role", "sub"])?;
    let before = board.files()?;
    // found out only by trying: it says another version
    new.write("RELEASE", &format!("version=0.3.0\narch={}\n", crate::release::machine()?))?;
    new.sum()?;
    let output = board.run(&new, &[])?;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("does not run here"), "{said}");
    assert_eq!(differences(&before, &board.files()?), Vec::<String>::new());
    assert_eq!(restarts(&board.told()?), Vec::<String>::new());
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("rolled back: everything is as it was before\n"), "{said}");
    Ok(())
}

#[test]
fn the_units_are_right_and_closed() -> Story {
    let release = Release::small("0.1.0")?;
    let board = Board::new()?;
    board.install(&release, &["--role", "master"])?;
    for unit in ["piccolo-master.service", "piccolo-nodeagent.service"] {
        let path = format!("/etc/systemd/system/{unit}");
        let output = board
            .inside(&release.path(), "systemd-analyze", &["verify", "--man=no", &path])
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && !said.contains("piccolo"), "{unit}: {said}");
        let threshold = format!("--threshold={EXPOSURE_MAX}");
        succeed(&mut board.inside(
            &release.path(),
            "systemd-analyze",
            &["security", "--no-pager", "--offline=true", &threshold, &path],
        ))?;
        let text = fs::read_to_string(crate::checkout().join("systemd").join(unit))?;
        let never_gives_up =
            ["Restart=always", "StartLimitIntervalSec=0", "Type=notify", "WatchdogSec=30s"];
        for line in never_gives_up {
            assert!(text.lines().any(|found| found == line), "{unit} has no {line}");
        }
        assert!(!text.contains("network-online"), "{unit} must come up offline");
    }
    Ok(())
}

/// Only /etc and /var can be written, as on many images.
#[test]
fn a_read_only_root_gets_its_releases_below_var() -> Story {
    let release = Release::small("0.1.0")?;
    let root = Root::new()?;
    let before = root.tree()?;
    read_only(&root, &release, &["--role", "sub"])?;
    assert_eq!(fs::read_link(root.at("var/lib/piccolo/current"))?.to_str(), Some("releases/0.1.0"));
    let unit = root.read("etc/systemd/system/piccolo-nodeagent.service")?;
    assert!(
        unit.contains("\nExecStart=/var/lib/piccolo/current/bin/piccolo-nodeagent run\n"),
        "{unit}"
    );
    assert!(!unit.contains("/opt/"), "{unit}");
    assert!(root.read("etc/profile.d/piccolo.sh")?.contains("/var/lib/piccolo/current/bin"));
    let first = root.tree()?;
    read_only(&root, &release, &[])?;
    assert_eq!(differences(&first, &root.tree()?), Vec::<String>::new());
    let state = root.at("var/lib/piccolo/nodeagent");
    fs::create_dir(&state)?;
    fs::write(state.join("journal"), "x")?;
    read_only(&root, &release, &["--uninstall"])?;
    assert!(state.join("journal").exists() && !root.at("var/lib/piccolo/releases").exists());
    read_only(&root, &release, &["--uninstall", "--purge"])?;
    assert_eq!(differences(&before, &root.tree()?), Vec::<String>::new());
    Ok(())
}

/// The disk is full half-way: what was put there until then goes away again.
#[test]
fn a_full_disk_leaves_everything_as_it_was() -> Story {
    let release = Release::small("0.1.0")?;
    let root = Root::new()?;
    let before = root.tree()?;
    let script = "mount -t tmpfs -o size=64k none \"$1/opt\"; bash \"$2\" --root \"$1\" --role sub
        code=$?; [ -z \"$(ls -A \"$1/opt\")\" ] || exit 99; exit $code";
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "bash", "-c", script, "-"]);
    let install = release.path().join("install.sh");
    let output = command.arg(root.path()).arg(install).stdin(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("the release cannot be copied"), "{said}");
    assert_eq!(differences(&before, &root.tree()?), Vec::<String>::new());
    Ok(())
}

fn read_only(root: &Root, release: &Release, arguments: &[&str]) -> Story {
    let script = "set -e; cd \"$1\"; mount --bind . .; cd \"$1\"; for part in etc var; do mount --bind $part $part; done
        mount -o remount,bind,ro \"$1\"; root=$1 install=$2; shift 2; exec bash \"$install\" --root \"$root\" \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "bash", "-c", script, "-"]);
    command.arg(root.path()).arg(release.path().join("install.sh")).args(arguments);
    succeed(command.stdin(Stdio::null())).map(drop)
}

fn restarts(told: &[String]) -> Vec<String> {
    told.iter().filter(|line| line.contains("restart")).cloned().collect()
}

/// A folder to become the root of.
struct Board {
    root: Root,
}

impl Board {
    fn new() -> Result<Self, Box<dyn Error>> {
        let root = Root::new()?;
        for folder in ["run/systemd/system", "programs", "active", "proc", "dev", "tmp", "release"]
        {
            fs::create_dir_all(root.at(folder))?;
        }
        make_program(&root.at("programs/systemctl"), SYSTEMCTL)?;
        make_program(&root.at("programs/podman"), "exit 127")?;
        Ok(Self { root })
    }

    /// A program with this board as its root, and the release at /release.
    fn inside(&self, release: &Path, program: &str, arguments: &[&str]) -> Command {
        let script = "set -e; cd \"$1\"
            mount --bind /usr usr; mount -o remount,bind,ro usr; mount --rbind /dev dev; mount -t proc proc proc
            for part in bin sbin lib lib32 lib64; do
              if [ -L /$part ]; then ln -sfn \"$(readlink /$part)\" $part
              elif [ -d /$part ]; then mkdir -p $part; mount --bind /$part $part; fi
            done
            mount --bind \"$2\" release
            root=$1; shift 2; exec chroot \"$root\" \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "bash", "-c", script, "-"]);
        command.arg(self.root.path()).arg(release).arg(program).args(arguments);
        command.env("PATH", "/programs:/usr/sbin:/usr/bin:/sbin:/bin").env_remove("TMPDIR");
        command.stdin(Stdio::null());
        command
    }

    fn run(&self, release: &Release, arguments: &[&str]) -> Result<Output, Box<dyn Error>> {
        fs::remove_file(self.root.at("told")).ok();
        // what this machine is like is not what is tested
        let all: Vec<&str> =
            ["/release/install.sh", "--force"].iter().chain(arguments).copied().collect();
        let mut command = self.inside(&release.path(), "bash", &all);
        Ok(command.output()?)
    }

    /// Installs, and returns what systemctl was told.
    fn install(
        &self,
        release: &Release,
        arguments: &[&str],
    ) -> Result<Vec<String>, Box<dyn Error>> {
        let output = self.run(release, arguments)?;
        let said = String::from_utf8_lossy(&output.stdout);
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}{complaint}");
        self.told()
    }

    fn told(&self) -> Result<Vec<String>, Box<dyn Error>> {
        Ok(self.root.read("told").unwrap_or_default().lines().map(str::to_owned).collect())
    }

    /// Without what systemctl writes.
    fn files(&self) -> Result<crate::release::Tree, Box<dyn Error>> {
        let mut tree = self.root.tree()?;
        tree.retain(|path, _| ["etc", "opt", "var"].iter().any(|part| path.starts_with(part)));
        Ok(tree)
    }
}

/// `broken` names a release whose services do not start.
const SYSTEMCTL: &str = r#"echo "$*" >>/told
for unit; do :; done
case $* in
  is-active*) [ -e "/active/$unit" ] && echo active || { echo inactive; exit 3; } ;;
  *restart*|start*)
    if [ -e /broken ] && [ "$(readlink /opt/piccolo/current)" = "releases/$(cat /broken)" ]; then exit 1; fi
    touch "/active/$unit" ;;
  *stop*|disable*) rm -f "/active/$unit" ;;
esac"#;
