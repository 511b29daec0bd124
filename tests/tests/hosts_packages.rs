//! The packages of a release: what is in them, and a Debian board that has them instead of the installer (HLD §12.1).

use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use piccolo_testkit::{
    cluster::Programs,
    podman::IMAGE,
    testbed::{
        cluster::{AGENT_UNIT, HostCluster, INSTALLER, MASTER, release},
        folder_beside_this_test,
        host::Host,
        witness::Witness,
    },
};
use tempfile::TempDir;

type Story = Result<(), Box<dyn Error>>;

/// With all that belongs to a package, which no other may have.
const UNITS: [(&str, &str); 2] = [
    ("piccolo-master", "piccolo-master.service"),
    ("piccolo-nodeagent", "piccolo-nodeagent.service"),
];

#[test]
fn both_families_get_the_same_files() -> Story {
    let packages = Packages::of(&executables()?)?;
    for name in ["piccolo", "piccolo-master", "piccolo-nodeagent"] {
        let debian = packages.find(name, "deb")?;
        let listed = said(Command::new("dpkg-deb").arg("--contents").arg(&debian))?;
        // the sixth word is the path, which begins with a dot
        let files = listed.lines().filter(|line| !line.starts_with('d'));
        let mut of_debian: Vec<_> = files
            .filter_map(|line| line.split_whitespace().nth(5)?.strip_prefix('.'))
            .map(ToOwned::to_owned)
            .collect();
        let listed = said(Command::new("rpm").args(["-qlp"]).arg(packages.find(name, "rpm")?))?;
        let mut of_rpm: Vec<_> = listed.lines().map(ToOwned::to_owned).collect();
        of_debian.sort();
        of_rpm.sort();
        assert_eq!(of_debian, of_rpm);
        assert!(of_rpm.contains(&format!("/usr/bin/{name}")), "{of_rpm:?}");
        let about = said(Command::new("dpkg-deb").arg("--info").arg(&debian))?;
        assert!(about.contains(&format!("Package: {name}\n")), "{about}");
    }
    for (package, unit) in UNITS {
        let listed = said(Command::new("rpm").args(["-qlp"]).arg(packages.find(package, "rpm")?))?;
        assert!(listed.contains(&format!("/usr/lib/systemd/system/{unit}")), "{listed}");
        let configured =
            said(Command::new("rpm").args(["-qcp"]).arg(packages.find(package, "rpm")?))?;
        assert!(configured.contains("/etc/piccolo/"), "{configured}");
    }
    Ok(())
}

#[test]
fn an_rpm_installs_where_rpm_is_at_home() -> Story {
    let packages = Packages::of(&executables()?)?;
    let root = tempfile::tempdir()?;
    let mut rpm = Command::new("rpm");
    rpm.arg("--root").arg(root.path()).args(["--install", "--nodeps", "--noscripts"]);
    for name in ["piccolo", "piccolo-master", "piccolo-nodeagent"] {
        rpm.arg(packages.find(name, "rpm")?);
    }
    said(&mut rpm)?;
    let at = |path: &str| root.path().join(path);
    let version = said(Command::new(at("usr/lib/piccolo/bin/piccolo-nodeagent")).arg("--version"))?;
    assert!(version.starts_with("piccolo-nodeagent "), "{version}");
    let unit = fs::read_to_string(at("usr/lib/systemd/system/piccolo-nodeagent.service"))?;
    assert!(unit.contains("ExecStart=/usr/lib/piccolo/bin/piccolo-nodeagent run"), "{unit}");
    assert!(!unit.contains("/opt/piccolo"), "{unit}");
    Ok(())
}

#[test]
fn a_board_with_the_debian_packages_joins_is_upgraded_and_purged() -> Story {
    let folder = folder_beside_this_test()?;
    let cluster = HostCluster::with_bare_nodes(&folder, &Programs::beside_this_test()?, 1)?;
    let host = cluster.host("node-1")?;
    host.run(&["podman", "run", "--detach", "--name", "web", IMAGE, "sleep", "100000"])?;
    let witness = Witness::of(&cluster)?;
    let packages = Packages::of(&cluster.executables())?;
    let bare = piccolos_files(host)?;

    let said = install(host, &packages, &["piccolo", "piccolo-nodeagent"])?;
    assert!(said.contains("piccolo-nodeagent join"), "{said}");
    assert_eq!(host.unit(AGENT_UNIT, "ActiveState")?, "inactive", "it has nobody to go to yet");
    let token = cluster.client().token(&["--node", "node-1"])?;
    host.write("/run/join-token", token)?;
    host.shell(&format!("printf 'masters: [{MASTER}]\\n' >>/etc/piccolo/nodeagent.yaml"))?;
    host.run(&["systemctl", "start", AGENT_UNIT])?;
    host.run(&["piccolo-nodeagent", "join", "--token-file", "/run/join-token"])?;
    cluster.wait_for_status("node-1", "Ready")?;
    cluster.wait_for_container("node-1", "web", "running")?;
    let check = host.shell("piccolo-system-check --json || true")?;
    assert!(check.contains("\"findings\""), "{check}");

    // the installer would hide what the packages have put in place, and be hidden by it
    cluster.bring_release("node-1")?;
    let Err(refused) = host.run(&[INSTALLER, "--role", "sub"]) else {
        return Err("the installer went in beside the packages".into());
    };
    assert!(refused.to_string().contains("packages of PICCOLO are installed here"), "{refused}");
    host.run(&["rm", "-r", "/root/release"])?;

    // the same version again is an upgrade for dpkg: configuration, identity and containers stay
    let pid = host.unit(AGENT_UNIT, "MainPID")?;
    install(host, &packages, &["piccolo-nodeagent"])?;
    cluster.wait_until_in_session("node-1")?;
    assert_ne!(host.unit(AGENT_UNIT, "MainPID")?, pid, "the new one took over");
    assert!(host.run(&["cat", "/etc/piccolo/nodeagent.yaml"])?.contains("masters: [master]"));
    witness.confirm(&cluster)?;

    host.run(&["dpkg", "--remove", "piccolo-nodeagent"])?;
    cluster.wait_for_status("node-1", "NotReady")?;
    assert!(
        host.shell("ls /var/lib/piccolo/nodeagent")?.contains("identity"),
        "only purging forgets it"
    );
    host.run(&["dpkg", "--purge", "piccolo-nodeagent", "piccolo"])?;
    assert_eq!(piccolos_files(host)?, bare, "nothing is left");
    assert_eq!(cluster.count("node-1", "ContainerDied")?, 0);
    Ok(cluster.end()?)
}

#[test]
fn packages_and_the_installer_do_not_mix() -> Story {
    let cluster = HostCluster::start(1)?;
    let host = cluster.host("node-1")?;
    let packages = Packages::of(&cluster.executables())?;
    let Err(refused) = install(host, &packages, &["piccolo-nodeagent"]) else {
        return Err("the package went in beside the installer's release".into());
    };
    let why = "/opt/piccolo/current/install.sh --uninstall removes it";
    assert!(refused.to_string().contains(why), "{refused}");
    cluster.wait_for_status("node-1", "Ready")?;
    Ok(cluster.end()?)
}

/// Made of executables, as `cargo xtask dist` does.
struct Packages(TempDir);

impl Packages {
    fn of(executables: &Path) -> Result<Self, Box<dyn Error>> {
        let folder = tempfile::tempdir()?;
        let xtask = Programs::beside_this_test()?.cli.with_file_name("xtask");
        let mut dist = Command::new(xtask);
        dist.arg("dist").arg("--executables").arg(executables).arg("--into").arg(folder.path());
        said(dist.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("..")))?;
        Ok(Self(folder))
    }

    fn find(&self, name: &str, format: &str) -> Result<PathBuf, Box<dyn Error>> {
        let between = if format == "deb" { '_' } else { '-' };
        let begin = format!("{name}{between}{}", env!("CARGO_PKG_VERSION"));
        let mut found =
            fs::read_dir(self.0.path())?.flatten().map(|entry| entry.path()).filter(|path| {
                let file = path.file_name().unwrap_or_default().to_string_lossy();
                file.starts_with(&begin) && path.extension().is_some_and(|ending| ending == format)
            });
        found.next().ok_or_else(|| format!("there is no {name}.{format}").into())
    }
}

/// Small enough to pack often.
fn executables() -> Result<PathBuf, Box<dyn Error>> {
    let folder = folder_beside_this_test()?;
    let release = release(&folder, &Programs::beside_this_test()?)?;
    Ok(release.join("bin"))
}

fn install(host: &Host, packages: &Packages, names: &[&str]) -> Result<String, Box<dyn Error>> {
    let mut paths = Vec::new();
    for name in names {
        let path = format!("/run/{name}.deb");
        host.write(&path, fs::read(packages.find(name, "deb")?)?)?;
        paths.push(path);
    }
    Ok(host.shell(&format!(
        "dpkg --install {} || {{ dpkg --purge {}; exit 1; }}",
        paths.join(" "),
        names.join(" ")
    ))?)
}

/// All that has our name, besides what runs now.
fn piccolos_files(host: &Host) -> Result<String, Box<dyn Error>> {
    Ok(host.shell(
        "find / -xdev -name '*piccolo*' ! -path '/proc/*' ! -path '/run/*' ! -path '/tmp/*' \
         ! -path '/var/lib/dpkg/*' ! -path '/var/log/*' | sort",
    )?)
}

fn said(command: &mut Command) -> Result<String, Box<dyn Error>> {
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(said);
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    Err(format!("{command:?} ({}): {said}{complaint}", output.status).into())
}
