//! Backups with the real executables: made beside a running master, restored elsewhere, and a cluster that was rebuilt
//! from nothing but its certificate authority (HLD §10.3).

use std::{
    error::Error,
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use piccolo_testkit::{
    cluster::{Client, Cluster, Options, Process, client},
    podman::PrivatePodman,
};

type Story = Result<(), Box<dyn Error>>;

const PASSPHRASE: &str = "correct horse battery staple";

/// A running cluster, and a backup of it.
struct BackedUp {
    cluster: Cluster,
    cli: PathBuf,
    config: PathBuf,
    passphrase: String,
    file: String,
}

impl BackedUp {
    fn start(folder: &Path) -> Result<Self, Box<dyn Error>> {
        let cluster = Cluster::start(Options::new(&folder.join("cluster"))?)?;
        let cli = cluster.programs().cli.clone();
        let config = cluster.folder().join("master.yaml");
        let passphrase = passphrase_file(folder, PASSPHRASE)?;
        let file = folder.join("cluster.backup").display().to_string();
        ok(&backup(&cli, &config, &["create", "--out", &file, "--passphrase-file", &passphrase])?)?;
        Ok(Self { cluster, cli, config, passphrase, file })
    }
}

/// A user that the backup does not have.
fn create_eve(cluster: &Cluster, folder: &Path) -> Story {
    let file = folder.join("eve").display().to_string();
    ok(&cluster.piccolo(&["user", "create", "eve", "--role", "viewer", "--file", &file])?)?;
    Ok(())
}

/// A master on another host, so to speak: other folder, other ports.
struct Elsewhere {
    folder: PathBuf,
    config: PathBuf,
    address: String,
    cli: PathBuf,
    program: PathBuf,
    process: Option<Process>,
}

impl Elsewhere {
    fn new(cluster: &Cluster) -> Result<Self, Box<dyn Error>> {
        let folder = cluster.folder().join("elsewhere");
        fs::create_dir_all(&folder)?;
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let config = folder.join("master.yaml");
        let state = folder.join("master");
        let text =
            format!("state_dir: {}\nlisten: {address}\nhttps_listen: none\n", state.display());
        fs::write(&config, text)?;
        let (cli, program) = (cluster.programs().cli.clone(), cluster.programs().master.clone());
        Ok(Self { folder, config, address, cli, program, process: None })
    }

    fn state(&self) -> PathBuf {
        self.folder.join("master")
    }

    /// `piccolo backup ...` on this host.
    fn backup(&self, arguments: &[&str]) -> std::io::Result<Output> {
        backup(&self.cli, &self.config, arguments)
    }

    fn start(&mut self) -> Story {
        let mut command = Command::new(&self.program);
        command.arg("run").arg("--config").arg(&self.config);
        self.process = Some(Process::start("master", command, &self.folder.join("master.log"))?);
        Ok(())
    }

    fn client(&self) -> Client<'static> {
        let context = self.state().join("admin.context.yaml");
        Client { cli: self.cli.clone(), context, namespace: None }
    }

    fn wait(&self, what: &str, holds: impl Fn(&Client<'_>) -> client::Held) -> Story {
        let client = self.client();
        let log = || self.process.as_ref().map(Process::log_tail).unwrap_or_default();
        Ok(client::wait(what, || holds(&client), log)?)
    }

    fn wait_for_ready(&self, name: &str) -> Story {
        self.wait(&format!("{name} is Ready"), |client| Ok(client.node(name)?["status"] == "Ready"))
    }

    fn count(&self, kind: &str) -> Result<usize, Box<dyn Error>> {
        let events = self.client().json(&["events", "-n", "1000", "-o", "json"])?;
        let events = events.as_array().or_else(|| events["events"].as_array()).cloned();
        Ok(events.unwrap_or_default().iter().filter(|event| event["kind"] == kind).count())
    }
}

fn backup(cli: &Path, config: &Path, arguments: &[&str]) -> std::io::Result<Output> {
    Command::new(cli).arg("backup").args(arguments).arg("--config").arg(config).output()
}

fn ok(output: &Output) -> Result<String, Box<dyn Error>> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    Err(format!("{}: {}{}", output.status, text(&output.stdout), text(&output.stderr)).into())
}

fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn passphrase_file(folder: &Path, text: &str) -> Result<String, Box<dyn Error>> {
    let path = folder.join("passphrase");
    fs::write(&path, format!("{text}\n"))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    Ok(path.display().to_string())
}

/// Both addresses, the lost master's first.
fn with_both_masters(cluster: &Cluster, name: &str, other: &str) -> Story {
    let config = cluster.agent_config(name);
    let one = format!("masters: [\"{}\"]", cluster.address);
    let both = format!("masters: [\"{}\", \"{other}\"]", cluster.address);
    Ok(fs::write(&config, fs::read_to_string(&config)?.replace(&one, &both))?)
}

/// Joins a node that knows both masters.
fn join(cluster: &mut Cluster, name: &str, other: &str, config: &str) -> Story {
    let token = cluster.token(&["--uses", "1"])?;
    cluster.prepare_agent(name, config, &token)?;
    with_both_masters(cluster, name, other)?;
    cluster.start_agent(name)?;
    Ok(cluster.wait_for_status(name, "Ready")?)
}

fn set_topology(cluster: &Cluster, value: &str) -> Story {
    let mut topology = cluster.json(&["topology", "get", "-o", "json"])?;
    topology["config"]["site"] = value.into();
    let file = cluster.folder().join("topology.json");
    fs::write(&file, topology.to_string())?;
    let output = cluster.piccolo(&["topology", "apply", "-f", &file.display().to_string()])?;
    ok(&output).map(drop)
}

fn generation(client: &Client<'_>) -> Result<u64, Box<dyn Error>> {
    let status = client.json(&["status", "-o", "json"])?;
    status["generation"].as_u64().ok_or_else(|| format!("{status}").into())
}

#[test]
fn a_master_moves_to_another_host_and_every_node_follows_without_a_join() -> Story {
    let folder = tempfile::tempdir()?;
    let podman = PrivatePodman::start(folder.path().join("podman"))?;
    podman.run("web", &["sleep", "1000"])?;
    let pid = podman.pid("web")?;
    let mut cluster = Cluster::start(Options::new(&folder.path().join("cluster"))?)?;
    let mut elsewhere = Elsewhere::new(&cluster)?;
    let other = elsewhere.address.clone();
    let with_podman = format!("podman:\n  socket: {}\n", podman.socket().display());
    join(&mut cluster, "board-1", &other, &with_podman)?;
    join(&mut cluster, "board-2", &other, "")?;
    cluster.token(&["--uses", "3"])?;

    // beside the running master
    let passphrase = passphrase_file(folder.path(), PASSPHRASE)?;
    let file = folder.path().join("cluster.backup").display().to_string();
    let config = cluster.folder().join("master.yaml");
    let create = ["create", "--out", &file, "--passphrase-file", &passphrase];
    ok(&backup(&elsewhere.cli, &config, &create)?)?;
    assert_eq!(fs::metadata(&file)?.permissions().mode() & 0o777, 0o600);
    let wrong = Command::new(&elsewhere.cli).args(["backup", "verify"]).output()?;
    let usage = String::from_utf8_lossy(&wrong.stderr);
    assert!(
        wrong.status.code() == Some(2) && usage.contains("Usage: piccolo backup verify"),
        "{usage}"
    );
    let verify = ["verify", &file, "--passphrase-file", &passphrase];
    let verified = ok(&elsewhere.backup(&verify)?)?;
    assert!(verified.contains("is whole and can be restored: 2 nodes, 1 users"), "{verified}");
    let inspect = ["inspect", &file, "--passphrase-file", &passphrase, "-o", "json"];
    let survey: serde_json::Value = serde_json::from_str(&ok(&elsewhere.backup(&inspect)?)?)?;
    assert_eq!((&survey["nodes"], &survey["tokens"]), (&2.into(), &3.into()), "{survey}");

    // the lost master goes on for a while
    for value in ["a", "b", "c"] {
        set_topology(&cluster, value)?;
    }
    join(&mut cluster, "board-3", &other, "")?;
    cluster.wait("board-1 has the newest configuration", |c| {
        let generation = &c.json(&["status", "-o", "json"])?["generation"];
        Ok(c.node("board-1")?["applied_generation"] == *generation)
    })?;
    cluster.master.kill();

    let restore = ["restore", &file, "--passphrase-file", &passphrase];
    let told = ok(&elsewhere.backup(&restore)?)?;
    assert!(told.contains("not restored: 3 join tokens"), "{told}");
    elsewhere.start()?;
    for name in ["board-1", "board-2", "board-3"] {
        elsewhere.wait_for_ready(name)?;
    }
    // what was restored is the newest configuration, also for a node that had a newer one
    elsewhere.wait("every node has the restored configuration", |client| {
        let topology = client.json(&["topology", "get", "-o", "json"])?;
        Ok(topology["applied_by"] == 3)
    })?;
    assert!(generation(&elsewhere.client())? > 4);
    assert_eq!(elsewhere.count("NodeAdopted")?, 1, "board-3 alone was not in the backup");
    assert_eq!(elsewhere.count("ClusterRestored")?, 1);
    assert_eq!(podman.pid("web")?, pid, "no container was touched");
    let tokens = elsewhere.client().json(&["token", "list", "-o", "json"])?;
    let tokens = tokens.as_array().or_else(|| tokens["tokens"].as_array()).cloned();
    assert_eq!(tokens.map(|tokens| tokens.len()), Some(0));
    ok(&elsewhere.client().piccolo(&["audit", "verify"])?)?;
    Ok(())
}

#[test]
fn a_restore_refuses_what_would_do_harm_and_keeps_the_old_state_where_it_is_forced() -> Story {
    let folder = tempfile::tempdir()?;
    let BackedUp { mut cluster, cli, config, passphrase, file } = BackedUp::start(folder.path())?;
    let again =
        backup(&cli, &config, &["create", "--out", &file, "--passphrase-file", &passphrase])?;
    assert!(refused(&again).contains("is there already"), "{again:?}");
    create_eve(&cluster, folder.path())?;

    let restore = ["restore", &file, "--force", "--passphrase-file", &passphrase];
    let running = backup(&cli, &config, &restore)?;
    assert!(refused(&running).contains("a master runs here; nothing was changed"), "{running:?}");
    cluster.master.kill();
    let unforced = backup(&cli, &config, &["restore", &file, "--passphrase-file", &passphrase])?;
    assert!(refused(&unforced).contains("is in use by a master"), "{unforced:?}");
    let other = passphrase_file(&cluster.folder().join("master"), "something else")?;
    let wrong = backup(&cli, &config, &["restore", &file, "--force", "--passphrase-file", &other])?;
    assert!(refused(&wrong).contains("the passphrase is wrong"), "{wrong:?}");
    let mut damaged = fs::read(&file)?;
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    let broken = folder.path().join("broken.backup").display().to_string();
    fs::write(&broken, damaged)?;
    let unread =
        backup(&cli, &config, &["restore", &broken, "--force", "--passphrase-file", &passphrase])?;
    assert!(refused(&unread).contains("it is damaged between byte"), "{unread:?}");

    // all of that has changed nothing
    cluster.start_master()?;
    cluster.wait("the old master is as it was", |c| {
        Ok(c.json(&["user", "list", "-o", "json"])?.to_string().contains("eve"))
    })?;
    cluster.master.kill();
    let told = ok(&backup(&cli, &config, &restore)?)?;
    assert!(told.contains("the old state is kept in"), "{told}");
    cluster.start_master()?;
    cluster
        .wait("the restored master answers", |c| Ok(c.piccolo(&["status"])?.status.success()))?;
    assert!(!cluster.json(&["user", "list", "-o", "json"])?.to_string().contains("eve"));
    let kept = fs::read_dir(cluster.folder().join("master"))?.filter_map(Result::ok);
    let kept = kept
        .map(|entry| entry.path())
        .find(|path| path.display().to_string().contains("before-restore-"));
    assert!(kept.is_some_and(|old| old.join("store.db").exists() && old.join("ca.pem").exists()));
    Ok(())
}

#[test]
fn a_restore_that_is_killed_leaves_the_old_state_or_the_new_one() -> Story {
    let folder = tempfile::tempdir()?;
    let BackedUp { mut cluster, cli, config, passphrase, file } = BackedUp::start(folder.path())?;
    // the old state has a user more than the backup
    create_eve(&cluster, folder.path())?;
    let (mut whole, mut killed) = (0, 0);
    for attempt in 0..8u64 {
        cluster.master.kill();
        let mut restore = Command::new(&cluster.programs().master)
            .args([
                "backup",
                "restore",
                &file,
                "--force",
                "--passphrase-file",
                &passphrase,
                "--config",
            ])
            .arg(&config)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()?;
        // whichever moment this hits: what is asserted holds at all of them
        std::thread::sleep(Duration::from_millis(100 * attempt));
        killed += usize::from(restore.try_wait()?.is_none());
        restore.kill()?;
        restore.wait()?;
        cluster.start_master()?;
        cluster.wait("some master answers", |c| Ok(c.piccolo(&["status"])?.status.success()))?;
        ok(&cluster.piccolo(&["audit", "verify"])?)?;
        let users = cluster.json(&["user", "list", "-o", "json"])?.to_string();
        let events = cluster.json(&["events", "-n", "1000", "-o", "json"])?.to_string();
        let restored = events.contains("ClusterRestored");
        assert_eq!(users.contains("eve"), !restored, "a mixture: {users} {events}");
        if restored {
            whole += 1;
            break;
        }
    }
    if whole == 0 {
        cluster.master.kill();
        ok(&backup(
            &cli,
            &config,
            &["restore", &file, "--force", "--passphrase-file", &passphrase],
        )?)?;
        cluster.start_master()?;
        cluster.wait("eve is gone", |c| {
            Ok(!c.json(&["user", "list", "-o", "json"])?.to_string().contains("eve"))
        })?;
    }
    assert!(killed > 0, "no restore was hit while it ran");
    Ok(())
}

#[test]
fn a_new_master_with_the_old_authority_alone_takes_its_nodes_in() -> Story {
    let folder = tempfile::tempdir()?;
    let mut cluster = Cluster::start(Options::new(&folder.path().join("cluster"))?)?;
    let mut elsewhere = Elsewhere::new(&cluster)?;
    let other = elsewhere.address.clone();
    join(&mut cluster, "board-1", &other, "")?;
    join(&mut cluster, "board-2", &other, "")?;
    set_topology(&cluster, "a")?;
    let id = cluster.node("board-1")?["id"].clone();
    cluster.master.kill();
    let authority = cluster.folder().join("master/ca.pem").display().to_string();
    let told = ok(&elsewhere.backup(&["rebuild", "--authority", &authority])?)?;
    assert!(told.contains("a new master of the same certificate authority"), "{told}");
    elsewhere.start()?;
    for name in ["board-1", "board-2"] {
        elsewhere.wait_for_ready(name)?;
    }
    assert_eq!(elsewhere.client().node("board-1")?["id"], id);
    assert_eq!(elsewhere.count("NodeAdopted")?, 2);
    // once is enough: whoever is removed now stays out
    ok(&elsewhere.client().piccolo(&["node", "remove", "board-2", "--yes"])?)?;
    elsewhere.wait("board-2 is gone", |client| Ok(client.node("board-2")?.is_null()))?;
    cluster.agent("board-2")?.kill();
    cluster.start_agent("board-2")?;
    elsewhere.wait("board-2 was refused", |client| {
        let audit = client.json(&["audit", "list", "-n", "100", "-o", "json"])?.to_string();
        Ok(audit.contains("was removed, or never joined"))
    })?;
    assert!(elsewhere.client().node("board-2")?.is_null());
    Ok(())
}

#[test]
fn with_a_new_authority_a_node_leaves_and_joins_again() -> Story {
    let folder = tempfile::tempdir()?;
    let mut cluster = Cluster::start(Options::new(&folder.path().join("cluster"))?)?;
    let mut elsewhere = Elsewhere::new(&cluster)?;
    join(&mut cluster, "board-1", &elsewhere.address.clone(), "")?;
    cluster.master.kill();
    elsewhere.start()?;
    elsewhere.wait("the new master answers", |client| {
        Ok(client.piccolo(&["status"])?.status.success())
    })?;
    let agent = |arguments: &[&str]| {
        let mut command = Command::new(&cluster.programs().agent);
        command.arg("--config").arg(cluster.agent_config("board-1")).args(arguments);
        command.output()
    };
    ok(&agent(&["leave"])?)?;
    let token = elsewhere.client().token(&["--uses", "1"])?;
    let token_file = folder.path().join("token");
    fs::write(&token_file, token)?;
    fs::set_permissions(&token_file, fs::Permissions::from_mode(0o600))?;
    ok(&agent(&["join", "--token-file", &token_file.display().to_string()])?)?;
    cluster.start_agent("board-1")?;
    elsewhere.wait_for_ready("board-1")
}

#[test]
fn the_master_makes_backups_keeps_the_newest_and_says_when_it_cannot() -> Story {
    let folder = tempfile::tempdir()?;
    let backups = folder.path().join("backups");
    fs::create_dir(&backups)?;
    let passphrase = passphrase_file(folder.path(), PASSPHRASE)?;
    let settings = format!(
        "backup:\n  folder: {}\n  every: 2s\n  keep: 2\n  passphrase_file: {passphrase}\n",
        backups.display()
    );
    let options = Options { master: settings, ..Options::new(&folder.path().join("cluster"))? };
    let cluster = Cluster::start(options)?;
    let names = || -> Result<Vec<String>, std::io::Error> {
        let entries = fs::read_dir(&backups)?.filter_map(Result::ok);
        let mut names: Vec<_> = entries.map(|entry| entry.path().display().to_string()).collect();
        names.retain(|name| name.ends_with(".backup"));
        names.sort();
        Ok(names)
    };
    let listed = || names().unwrap_or_default();
    cluster.wait("the first backup is there", |_| Ok(!listed().is_empty()))?;
    let first = listed().first().cloned();
    cluster.wait("the first one is gone again", |_| {
        let names = listed();
        Ok(names.len() == 2 && names.first() != first.as_ref())
    })?;
    let status = cluster.json(&["status", "-o", "json"])?;
    assert_eq!(
        (&status["backup"]["problem"], &status["backup"]["every_seconds"]),
        (&"".into(), &2.into())
    );
    let newest = listed().pop().unwrap_or_default();
    let config = cluster.folder().join("master.yaml");
    let verify = ["verify", &newest, "--passphrase-file", &passphrase];
    ok(&backup(&cluster.programs().cli, &config, &verify)?)?;

    fs::set_permissions(&passphrase, fs::Permissions::from_mode(0o644))?;
    let count = |c: &Cluster, kind: &str| {
        let events = c.json(&["events", "-n", "1000", "-o", "json"])?;
        let events = events.as_array().or_else(|| events["events"].as_array()).cloned();
        Ok(events.unwrap_or_default().iter().filter(|event| event["kind"] == kind).count())
    };
    cluster.wait("the failure is told", |c| Ok(count(c, "BackupFailed")? == 1))?;
    cluster.wait("the status says why", |c| {
        let status = c.json(&["status", "-o", "json"])?;
        Ok(status["backup"]["problem"].as_str().is_some_and(|why| why.contains("has mode 644")))
    })?;
    fs::set_permissions(&passphrase, fs::Permissions::from_mode(0o600))?;
    cluster.wait("and when it works again", |c| Ok(count(c, "BackupMade")? == 1))?;
    assert_eq!(count(&cluster, "BackupFailed")?, 1, "told once");
    Ok(())
}
