//! `scripts/install.sh` into folders that stand for boards: what it puts where, that it does so twice with
//! the same result, that it can be killed anywhere, and that it goes away again.

mod killed;
mod release;
mod services;

use std::{
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    process::{Command, Output, Stdio},
};

use piccolo_testkit::cluster::{Cluster, Options, Process, Programs};
use release::{EXECUTABLES, Release, Root, Story, checkout, differences, machine, succeed};

#[test]
fn the_same_release_twice_changes_nothing() -> Story {
    let release = Release::small("0.1.0")?;
    let root = Root::new()?;
    let arguments = ["--role", "sub", "--master", "192.0.2.10", "--master", "[2001:db8::1]:5000"];
    root.install(&release, &arguments)?;
    let first = root.tree()?;
    let said = root.install(&release, &arguments)?;
    assert!(said.contains("everything is in place already"), "{said}");
    assert_eq!(differences(&first, &root.tree()?), Vec::<String>::new());
    // role and masters are known now, and from a tarball it is the same
    let tarball = release.tarball()?.display().to_string();
    let said = root.install(&release, &["--from", &tarball])?;
    assert!(said.contains("everything is in place already"), "{said}");
    assert_eq!(differences(&first, &root.tree()?), Vec::<String>::new());
    let other = Root::new()?;
    other.install(&release, &arguments)?;
    assert_eq!(differences(&first, &other.tree()?), Vec::<String>::new());

    let config = root.read("etc/piccolo/nodeagent.yaml")?;
    assert!(
        config.contains("\nmasters:\n  - \"192.0.2.10:47098\"\n  - \"[2001:db8::1]:5000\"\n"),
        "{config}"
    );
    assert_eq!(fs::read_link(root.at("opt/piccolo/current"))?.to_str(), Some("releases/0.1.0"));
    let units = root.at("etc/systemd/system");
    assert!(units.join("multi-user.target.wants/piccolo-nodeagent.service").is_symlink());
    assert!(units.join("sockets.target.wants/podman.socket").is_symlink());
    assert!(!units.join("multi-user.target.wants/piccolo-master.service").is_symlink());
    root.install(&release, &["--role", "master"])?;
    assert!(units.join("multi-user.target.wants/piccolo-master.service").is_symlink());
    assert!(
        units.join("multi-user.target.wants/piccolo-nodeagent.service").is_symlink(),
        "roles add up"
    );
    Ok(())
}

#[test]
fn an_edited_configuration_is_never_overwritten() -> Story {
    let (old, new) = (Release::small("0.1.0")?, Release::small("0.2.0")?);
    let root = Root::new()?;
    root.install(&old, &["--role", "sub", "--master", "192.0.2.10"])?;
    let edited = root.read("etc/piccolo/nodeagent.yaml")? + "name: board-9\n";
    fs::write(root.at("etc/piccolo/nodeagent.yaml"), &edited)?;
    for file in ["config/nodeagent.yaml", "config/master.yaml"] {
        new.write(file, &(new.read(file)? + "# more\n"))?;
    }
    new.sum()?;
    let said = root.install(&new, &[])?;
    assert!(said.contains("nodeagent.yaml was edited and stays as it is"), "{said}");
    assert_eq!(root.read("etc/piccolo/nodeagent.yaml")?, edited);
    let beside = root.read("etc/piccolo/nodeagent.yaml.new")?;
    assert!(beside.ends_with("# more\n") && beside.contains("\"192.0.2.10:47098\""), "{beside}");
    assert!(root.read("etc/piccolo/master.yaml")?.ends_with("# more\n"), "it was not edited");
    let before = root.tree()?;
    let said = root.install(&new, &[])?;
    assert!(said.contains("everything is in place already"), "{said}");
    assert_eq!(differences(&before, &root.tree()?), Vec::<String>::new());
    root.refuse(&new, &["--master", "192.0.2.99"], 1, "was edited, and names other masters")?;
    root.install(&new, &["--master", "192.0.2.10"])?;
    // who has written another master into it names none to the installer
    let moved = edited.replace("192.0.2.10", "192.0.2.20");
    fs::write(root.at("etc/piccolo/nodeagent.yaml"), &moved)?;
    root.install(&new, &[])?;
    assert_eq!(root.read("etc/piccolo/nodeagent.yaml")?, moved);
    // whoever takes the new one is rid of the question
    fs::rename(root.at("etc/piccolo/nodeagent.yaml.new"), root.at("etc/piccolo/nodeagent.yaml"))?;
    root.install(&new, &["--master", "192.0.2.11"])?;
    assert!(root.read("etc/piccolo/nodeagent.yaml")?.contains("\"192.0.2.11:47098\""));
    Ok(())
}

#[test]
fn what_is_damaged_or_for_another_processor_is_refused() -> Story {
    let root = Root::new()?;
    let before = root.tree()?;
    let sub = ["--role", "sub"];
    let check = |spoil: &dyn Fn(&Release) -> Story, why: &str| -> Story {
        let release = Release::small("0.1.0")?;
        spoil(&release)?;
        root.refuse(&release, &sub, 1, why)?;
        assert_eq!(differences(&before, &root.tree()?), Vec::<String>::new(), "{why}");
        Ok(())
    };
    check(&|r| r.write("config/master.yaml", "x"), "the checksum of config/master.yaml is wrong")?;
    check(&|r| Ok(fs::remove_file(r.path().join("bin/piccolo"))?), "bin/piccolo is missing")?;
    check(&|r| Ok(fs::remove_file(r.path().join("SHA256SUMS"))?), "no SHA256SUMS")?;
    let escape = |r: &Release| {
        r.write(
            "SHA256SUMS",
            &format!("{}  ../../etc/passwd\n{}", "0".repeat(64), r.read("SHA256SUMS")?),
        )
    };
    check(&escape, "a line that makes no sense")?;
    let other = if machine()? == "aarch64" { "x86_64" } else { "aarch64" };
    let foreign = |r: &Release| {
        r.write("RELEASE", &format!("version=0.1.0\narch={other}\n"))?;
        r.sum()
    };
    check(&foreign, &format!("the release is for {other}, and this is {}", machine()?))?;
    let alien = |r: &Release| {
        let path = r.path().join("bin/piccolo-nodeagent");
        let mut bytes = fs::read(&path)?;
        bytes[18] = 0xf3; // RISC-V
        fs::write(path, bytes)?;
        r.sum()
    };
    check(&alien, "piccolo-nodeagent is not an executable for")?;
    // found out only when it is run where it was installed: rolled back
    let broken = |r: &Release| {
        let path = r.path().join("bin/piccolo-nodeagent");
        let bytes = fs::read(&path)?;
        fs::write(path, &bytes[..100])?;
        r.sum()
    };
    check(&broken, "piccolo-nodeagent does not run here")?;
    Ok(())
}

#[test]
fn where_packages_are_the_installer_is_not() -> Story {
    let root = Root::new()?;
    let program = root.at("usr/lib/piccolo/bin/piccolo");
    fs::create_dir_all(program.parent().ok_or("no folder")?)?;
    fs::write(&program, "")?;
    let before = root.tree()?;
    let release = Release::small("0.1.0")?;
    root.refuse(&release, &["--role", "sub"], 1, "packages of PICCOLO are installed here")?;
    assert_eq!(differences(&before, &root.tree()?), Vec::<String>::new());
    // removed packages may leave the folder
    fs::remove_file(&program)?;
    root.install(&release, &["--role", "sub"])?;
    Ok(())
}

#[test]
fn a_tarball_is_held_to_the_digest_beside_it() -> Story {
    let release = Release::small("0.1.0")?;
    let root = Root::new()?;
    let tarball = release.tarball()?;
    let name = tarball.file_name().and_then(|name| name.to_str()).ok_or("no name")?.to_owned();
    let sums = tarball.with_file_name("SHA256SUMS");
    let arguments = ["--role", "sub", "--from", tarball.to_str().ok_or("no path")?];
    fs::write(&sums, format!("{}  {name}\n", "0".repeat(64)))?;
    root.refuse(&release, &arguments, 1, &format!("the checksum of {name} is wrong"))?;
    let sum = succeed(
        Command::new("sha256sum").arg(&name).current_dir(tarball.parent().ok_or("no folder")?),
    )?;
    fs::write(&sums, sum)?;
    root.install(&release, &arguments)?;
    fs::write(&tarball, "no tarball")?;
    fs::remove_file(&sums)?;
    root.refuse(&release, &arguments, 1, "cannot be unpacked")
}

/// It may have been killed in the middle; another one may still be at work, and others have folders of their own.
#[test]
fn what_a_killed_run_has_unpacked_is_removed_by_the_next() -> Story {
    let release = Release::small("0.1.0")?;
    let (root, tmp) = (Root::new()?, tempfile::tempdir()?);
    let at = |name: &str| tmp.path().join(name);
    for folder in ["left01/bin", "held01", "too-long", "dotted.x"] {
        fs::create_dir_all(at(&format!("piccolo-install.{folder}")))?;
    }
    fs::create_dir(at("theirs"))?;
    std::os::unix::fs::symlink(at("theirs"), at("piccolo-install.link01"))?;
    fs::write(at("piccolo-install.file01"), "")?;
    let held = fs::File::open(at("piccolo-install.held01"))?;
    succeed(Command::new("flock").arg("--nonblock").arg("0").stdin(held.try_clone()?))?;
    let all = |root: &Root, arguments: &[&str]| {
        succeed(root.command(&release, arguments).env("TMPDIR", tmp.path()))?;
        let mut names: Vec<_> = fs::read_dir(tmp.path())?
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().replace("piccolo-install.", ""))
            .collect();
        names.sort();
        Ok::<_, Box<dyn std::error::Error>>(names)
    };
    let tarball = release.tarball()?.display().to_string();
    let arguments = ["--role", "sub", "--from", &tarball];
    let others = ["dotted.x", "file01", "held01", "link01", "theirs", "too-long"];
    assert_eq!(
        all(&root, &[&arguments[..], &["--dry-run"]].concat())?.len(),
        7,
        "it changes nothing"
    );
    assert_eq!(all(&root, &arguments)?, others);
    drop(held);
    assert_eq!(
        all(&root, &["--uninstall", "--purge"])?,
        ["dotted.x", "file01", "link01", "theirs", "too-long"]
    );
    Ok(())
}

#[test]
fn an_upgrade_keeps_the_release_before_and_no_more() -> Story {
    let root = Root::new()?;
    let releases = ["0.1.0", "0.2.0", "0.3.0"].map(Release::small);
    let [first, second, third] = releases;
    let (first, second, third) = (first?, second?, third?);
    second.write("man/man1/piccolo-new.1", ".TH new\n")?;
    second.sum()?;
    root.install(&first, &["--role", "sub"])?;
    root.install(&second, &[])?;
    let page = root.at("usr/local/share/man/man1/piccolo-new.1");
    assert!(page.is_symlink());
    root.install(&third, &[])?;
    assert!(!page.is_symlink(), "a page that is gone from the release");
    assert_eq!(names(&root, "opt/piccolo/releases")?, ["0.2.0", "0.3.0"]);
    // the same version, built anew
    third.write("LICENSE", "another")?;
    third.sum()?;
    root.install(&third, &[])?;
    let current = fs::read_link(root.at("opt/piccolo/current"))?.display().to_string();
    assert!(current.starts_with("releases/0.3.0-"), "{current}");
    // and back to the one before, from where it is kept
    let before = root.at("opt/piccolo/releases/0.3.0").display().to_string();
    root.install(&third, &["--from", &before])?;
    assert_eq!(fs::read_link(root.at("opt/piccolo/current"))?.to_str(), Some("releases/0.3.0"));
    // one that does not run leaves everything as it was
    let good = root.tree()?;
    second.write("RELEASE", &format!("version=0.4.0\narch={}\n", machine()?))?;
    second.sum()?;
    root.refuse(&second, &[], 1, "does not run here")?;
    assert_eq!(differences(&good, &root.tree()?), Vec::<String>::new());
    Ok(())
}

#[test]
fn nothing_is_left_after_a_purge() -> Story {
    let release = Release::small("0.1.0")?;
    for role in ["master", "sub"] {
        let root = Root::new()?;
        let before = root.tree()?;
        root.install(&release, &["--role", role])?;
        fs::create_dir_all(root.at("var/lib/piccolo/nodeagent"))?;
        fs::write(root.at("var/lib/piccolo/nodeagent/journal"), "x")?;
        root.install(&release, &["--uninstall", "--dry-run"])?;
        assert!(root.at("opt/piccolo/current").is_symlink());
        root.install(&release, &["--uninstall"])?;
        assert!(!root.at("opt/piccolo").exists());
        assert!(
            root.at("etc/piccolo/master.yaml").exists()
                && root.at("var/lib/piccolo/nodeagent/journal").exists()
        );
        // again, over what was left
        let said = root.install(&release, &["--role", role])?;
        assert_eq!(said.contains("set `masters`"), role == "sub", "{said}");
        root.install(&release, &["--role", "sub", "--master", "192.0.2.10"])?;
        root.install(&release, &["--uninstall"])?;
        let said = root.install(&release, &["--role", "sub"])?;
        assert!(!said.contains("set `masters`"), "the file that was kept names them: {said}");
        root.install(&release, &["--uninstall", "--purge"])?;
        assert_eq!(differences(&before, &root.tree()?), Vec::<String>::new());
        root.install(&release, &["--role", role])?;
        root.install(&release, &["--uninstall"])?;
        root.install(&release, &["--uninstall", "--purge"])?;
        // the folder of the configuration was there when it was installed again, as far as it knows
        assert_eq!(differences(&before, &root.tree()?), Vec::<String>::new());
    }
    Ok(())
}

#[test]
fn a_configuration_that_nobody_has_edited_follows_the_next_installation_after_a_removal() -> Story {
    let release = Release::small("0.1.0")?;
    let root = Root::new()?;
    let file = "etc/piccolo/nodeagent.yaml";
    let sub = |more: &[&'static str]| [&["--role", "sub"], more].concat();
    root.install(&release, &sub(&["--master", "192.0.2.10"]))?;
    root.install(&release, &["--uninstall"])?;
    let other = sub(&["--master", "192.0.2.11", "--name", "zone-x"]);
    root.install(&release, &other)?;
    let config = root.read(file)?;
    assert!(config.contains("\"192.0.2.11:47098\"") && config.contains("\nname: zone-x\n"));
    let said = root.install(&release, &[])?;
    assert!(said.contains("everything is in place already"), "{said}");
    root.install(&release, &["--uninstall"])?;
    for more in [&other, &sub(&[])] {
        root.install(&release, more)?;
        assert_eq!(root.read(file)?, config, "{more:?}");
        root.install(&release, &["--uninstall"])?;
    }
    // but what somebody has edited is theirs
    fs::write(root.at(file), config + "# mine\n")?;
    let kept = root.tree()?;
    for (more, why) in [
        (["--master", "192.0.2.12"], "was edited, and names other masters"),
        (["--name", "zone-y"], "was edited, and does not say name: zone-y"),
    ] {
        for dry in [&["--dry-run"][..], &[]] {
            root.refuse(&release, &[&sub(&more)[..], dry].concat(), 1, why)?;
        }
    }
    assert_eq!(differences(&kept, &root.tree()?), Vec::<String>::new());
    let said = root.install(&release, &other)?;
    assert!(said.contains("was edited and stays as it is"), "{said}");
    Ok(())
}

#[test]
fn who_comes_second_neither_changes_nor_removes_what_the_first_has_installed() -> Story {
    let release = Release::small("0.1.0")?;
    let root = Root::new()?;
    let before = root.tree()?;
    let by = |mark| ["--role", "sub", "--master", "192.0.2.10", "--first", mark];
    let away = |mark| ["--uninstall", "--purge", "--first", mark];
    root.install(&release, &by("one"))?;
    let first = root.tree()?;
    root.refuse(&release, &by("two"), 1, "was installed here meanwhile, by somebody else")?;
    let said = root.install(&release, &away("two"))?;
    assert!(said.contains("what is installed here is somebody else's, and stays"), "{said}");
    assert_eq!(differences(&first, &root.tree()?), Vec::<String>::new());
    root.install(&release, &by("one"))?;
    assert_eq!(differences(&first, &root.tree()?), Vec::<String>::new());
    // it has been taken over by somebody who knows what is there
    root.install(&release, &[])?;
    let kept = root.tree()?;
    root.install(&release, &away("one"))?;
    assert_eq!(differences(&kept, &root.tree()?), Vec::<String>::new());
    root.install(&release, &["--uninstall", "--purge"])?;
    assert_eq!(differences(&before, &root.tree()?), Vec::<String>::new());
    // and an installation that was rolled back is nobody's: what else it has left goes
    root.install(&release, &by("one"))?;
    root.install(&release, &away("one"))?;
    fs::create_dir_all(root.at("var/lib/piccolo/nodeagent"))?;
    root.install(&release, &away("one"))?;
    assert_eq!(differences(&before, &root.tree()?), Vec::<String>::new());
    Ok(())
}

#[test]
fn a_dry_run_tells_and_changes_nothing() -> Story {
    let release = Release::small("0.1.0")?;
    let root = Root::new()?;
    let before = root.tree()?;
    let said = root.install(&release, &["--role", "sub", "--dry-run"])?;
    for line in [
        "would copy the release to /opt/piccolo/releases/0.1.0",
        "would write /etc/piccolo/nodeagent.yaml",
    ] {
        assert!(said.contains(line), "{said}");
    }
    assert_eq!(differences(&before, &root.tree()?), Vec::<String>::new());
    Ok(())
}

#[test]
fn a_file_in_the_way_is_replaced_by_force_only() -> Story {
    let release = Release::small("0.1.0")?;
    for by_hand in ["usr/local/bin/piccolo", "etc/systemd/system/piccolo-master.service"] {
        let root = Root::new()?;
        fs::write(root.at(by_hand), "by hand")?;
        let before = root.tree()?;
        root.refuse(&release, &["--role", "sub"], 1, &format!("/{by_hand} is in the way"))?;
        assert_eq!(differences(&before, &root.tree()?), Vec::<String>::new());
        root.install(&release, &["--role", "sub", "--force"])?;
        let replaced = root.tree()?.get(by_hand).cloned().unwrap_or_default();
        assert!(!replaced.contains("by hand") && !replaced.is_empty(), "{by_hand}: {replaced}");
    }
    let root = Root::new()?;
    fs::create_dir(root.at("usr/local/bin/piccolo"))?;
    root.refuse(&release, &["--role", "sub", "--force"], 1, "/usr/local/bin/piccolo is in the way")
}

#[test]
fn wrong_usage_is_said_and_a_token_on_the_command_line_is_refused() -> Story {
    let release = Release::small("0.1.0")?;
    let root = Root::new()?;
    let wrong: &[(&[&str], &str)] = &[
        (&[], "--role is missing"),
        (&["--role", "king"], "`king` is no role"),
        (&["--frob"], "`--frob` is no option"),
        (&["--role"], "--role wants a value"),
        (&["--purge"], "--purge goes with --uninstall"),
        (&["--role", "sub", "--master", "a b"], "`a b` is no master"),
        (&["--role", "sub", "--name", "a/b"], "`a/b` is no name"),
        (&["--role", "sub", "--first", "a b"], "`a b` is no mark"),
        (&["--role", "sub", "--master", "host:0"], "`host:0` is no master"),
        (&["--role", "sub", "--master", "x\"\nrole: master"], "is no master"),
        (&["--role", "sub", "--token-file", "PICCOLO1-a-b"], "revoke it"),
        (&["--role", "master", "--token-file", "-"], "a token is for an agent"),
        (&["--role", "sub", "--token-file", "/nowhere"], "/nowhere cannot be read"),
    ];
    for (arguments, why) in wrong {
        root.refuse(&release, arguments, 64, why)?;
    }
    let help = root.install(&release, &["--help"])?;
    assert!(help.contains("Examples:") && help.contains("Exit code:"), "{help}");
    Ok(())
}

#[test]
fn a_board_that_is_not_ready_is_not_installed_on_unless_forced() -> Story {
    let release = Release::small("0.1.0")?;
    let root = Root::new()?;
    fs::create_dir_all(root.at("proc"))?;
    fs::write(root.at("proc/meminfo"), "MemTotal: 262144 kB\nMemAvailable: 200000 kB\n")?;
    let before = root.tree()?;
    let arguments = ["--role", "sub", "--check"];
    root.refuse(&release, &arguments, 2, "not ready for role sub; nothing was changed")?;
    assert_eq!(differences(&before, &root.tree()?), Vec::<String>::new());
    let said = root.install(&release, &["--role", "sub", "--check", "--force"])?;
    assert!(said.contains("256 MiB") && said.contains("in spite of the errors"), "{said}");
    Ok(())
}

/// The real executables, from where they were installed.
#[test]
fn an_installed_board_joins_with_the_token_it_was_given() -> Story {
    let release = Release::real()?;
    let folder = tempfile::tempdir()?;
    let cluster = Cluster::start(Options::new(folder.path())?)?;
    let token = cluster.token(&["--node", "board-9"])?;
    let root = Root::new()?;
    let arguments = ["--role", "sub", "--master", cluster.address.as_str(), "--token-file", "-"];
    let install = |token: &str| -> Result<Output, Box<dyn std::error::Error>> {
        let mut install = root.command(&release, &arguments);
        install.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut install = install.spawn()?;
        install.stdin.take().ok_or("no stdin")?.write_all(token.as_bytes())?;
        Ok(install.wait_with_output()?)
    };
    // what was done stays done, and is not called rolled back
    let output = install("PICCOLO1-bad")?;
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("PICCOLO is installed, but the agent does not take the token"), "{said}");
    assert!(!said.contains("rolled back") && root.at("opt/piccolo/current").is_symlink());
    let output = install(&token)?;
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("the token is in place"), "{said}");
    let state = root.at("var/lib/piccolo/nodeagent");
    assert_eq!(fs::metadata(state.join("token"))?.permissions().mode() & 0o777, 0o600);
    assert!(!said.contains(token.trim()), "the token is shown");

    let mut agent = Command::new(root.at("opt/piccolo/current/bin/piccolo-nodeagent"));
    agent.args(["--name", "board-9", "--podman-socket", "none"]);
    agent.arg("--config").arg(root.at("etc/piccolo/nodeagent.yaml")).arg("--state-dir").arg(&state);
    agent.arg("--control-socket").arg(root.at("agent.sock")).arg("run");
    let _agent = Process::start("board-9", agent, &folder.path().join("board-9.log"))?;
    cluster.wait_for_status("board-9", "Ready")?;
    let said = root.install(&release, &["--token-file", "/dev/null"])?;
    assert!(said.contains("has joined already"), "{said}");

    // the master's template is one that it takes
    let mut master = Command::new(root.at("opt/piccolo/current/bin/piccolo-master"));
    succeed(master.arg("--config").arg(root.at("etc/piccolo/master.yaml")).arg("check-config"))?;
    Ok(())
}

/// The real executables, on what somebody has left in /etc: the key is named, and nothing is installed.
#[test]
fn a_configuration_that_was_kept_and_is_wrong_is_refused_with_its_place() -> Story {
    let release = Release::real()?;
    for (role, file, line, why) in [
        ("sub", "nodeagent.yaml", "mastres: [x]", "unknown key `mastres`; did you mean `masters`?"),
        (
            "master",
            "master.yaml",
            "advertize: x",
            "unknown key `advertize`; did you mean `advertise`?",
        ),
    ] {
        let root = Root::new()?;
        let config = root.at("etc/piccolo").join(file);
        fs::create_dir_all(root.at("etc/piccolo"))?;
        fs::write(&config, format!("# ours\n{line}\n"))?;
        let before = root.tree()?;
        let why = format!("error: {}:2:1: {why}", config.display());
        root.refuse(&release, &["--role", role], 1, &why)?;
        assert_eq!(differences(&before, &root.tree()?), Vec::<String>::new());
        fs::write(&config, "# ours\n")?;
        root.install(&release, &["--role", role])?;
    }
    Ok(())
}

/// `cargo xtask dist` twice, of executables that were stripped so that packing them is quick.
#[test]
fn the_same_executables_make_the_same_tarball_and_packages() -> Story {
    let folder = tempfile::tempdir()?;
    let programs = Programs::beside_this_test()?;
    let built = programs.cli.parent().ok_or("no folder")?;
    for name in EXECUTABLES {
        succeed(
            Command::new("strip").arg("-o").arg(folder.path().join(name)).arg(built.join(name)),
        )?;
    }
    let mut digests = Vec::new();
    for (round, umask) in ["first", "second"].into_iter().zip(["022", "077"]) {
        let into = folder.path().join(round);
        let script = format!("umask {umask}; exec \"$0\" dist --executables \"$1\" --into \"$2\"");
        let mut dist = Command::new("sh");
        dist.args(["-c", &script]).arg(built.join("xtask")).arg(folder.path()).arg(&into);
        let made = succeed(dist.current_dir(checkout()))?;
        let sums = succeed(Command::new("sha256sum").args(made.lines()))?;
        let sums = sums.lines().map(|line| line.split(' ').next().unwrap_or_default().to_owned());
        digests.push(sums.collect::<Vec<_>>());
    }
    assert_eq!(digests[0].len(), 7, "a tarball, and three packages for each family");
    assert_eq!(digests[0], digests[1]);
    Ok(())
}

fn names(root: &Root, path: &str) -> Result<Vec<String>, Box<dyn std::error::Error>> {
    let entries = fs::read_dir(root.at(path))?.flatten();
    let mut names: Vec<_> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    Ok(names)
}
