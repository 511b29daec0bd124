//! What an operator does with a running cluster, through the command line alone.

use std::{
    collections::BTreeMap,
    error::Error,
    fs,
    process::{Command, Output},
};

use piccolo_testkit::{
    cluster::{Cluster, Options, Process},
    podman::PrivatePodman,
};

type Story = Result<(), Box<dyn Error>>;

/// Runs the command line, which must succeed; returns what it printed.
#[track_caller]
fn done(cluster: &Cluster, arguments: &[&str]) -> String {
    let output = cluster.piccolo(arguments).expect("piccolo starts");
    assert!(output.status.success(), "piccolo {}: {output:?}", arguments.join(" "));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs the command line, which must fail with this code and say this.
#[track_caller]
fn refused(cluster: &Cluster, arguments: &[&str], code: i32, part: &str) {
    let output = cluster.piccolo(arguments).expect("piccolo starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "piccolo {}: {said}", arguments.join(" "));
    assert!(said.contains("error: ") && said.contains(part), "{said}");
}

/// What is typed on the board itself.
fn on_board(cluster: &Cluster, name: &str, command: &str) -> std::io::Result<Output> {
    Command::new(&cluster.programs().agent)
        .arg("--config")
        .arg(cluster.agent_config(name))
        .arg(command)
        .output()
}

fn one_node(folder: &std::path::Path) -> Result<Cluster, Box<dyn Error>> {
    let mut cluster = Cluster::start(Options::new(folder)?)?;
    cluster.join("board-1")?;
    cluster.wait_for_status("board-1", "Ready")?;
    Ok(cluster)
}

#[test]
fn labels_select_and_maintenance_is_an_operators_word() -> Story {
    let folder = tempfile::tempdir()?;
    let cluster = one_node(folder.path())?;
    done(&cluster, &["node", "label", "board-1", "site=seoul"]);
    let listed = done(&cluster, &["node", "list", "-l", "label.site=seoul"]);
    assert!(listed.contains("board-1"), "{listed}");
    refused(&cluster, &["node", "list", "-l", "hue=red"], 2, "hue");
    done(&cluster, &["node", "maintenance", "on", "board-1", "--reason", "new fan"]);
    cluster.wait_for_status("board-1", "Maintenance")?;
    let told = done(&cluster, &["events"]);
    assert!(told.contains("node board-1 is in Maintenance: new fan"), "{told}");
    let first = done(&cluster, &["events", "--before", "2"]);
    assert!(first.contains("ClusterCreated") && !first.contains("NodeReady"), "{first}");
    done(&cluster, &["node", "maintenance", "off", "board-1"]);
    cluster.wait_for_status("board-1", "Ready")?;
    refused(&cluster, &["node", "describe", "board-7"], 3, "board-1");
    Ok(())
}

#[test]
fn a_changed_topology_is_confirmed_by_every_node() -> Story {
    let folder = tempfile::tempdir()?;
    let cluster = one_node(folder.path())?;
    let file = folder.path().join("topology.yaml");
    let path = file.display().to_string();
    let before = done(&cluster, &["topology", "get", "-o", "yaml"]);
    let changed = before.replace("config: {}", "config:\n  heartbeat_interval_seconds: \"7\"");
    assert_ne!(before, changed, "{before}");
    fs::write(&file, &changed)?;
    done(&cluster, &["topology", "apply", "-f", &path, "--wait"]);
    let topology = cluster.json(&["topology", "get", "-o", "json"])?;
    assert_eq!(topology["generation"], 2, "{topology}");
    assert_eq!(cluster.node("board-1")?["applied_generation"], 2);
    // what was read before somebody else's change overwrites nothing
    refused(&cluster, &["topology", "apply", "-f", &path], 1, "newest");
    fs::write(&file, changed.replace("\"7\"", "\"1\"").replace("generation: 1", "generation: 2"))?;
    refused(&cluster, &["topology", "apply", "-f", &path], 2, "heartbeat_interval_seconds");
    Ok(())
}

#[test]
fn the_log_level_changes_while_it_runs() -> Story {
    let folder = tempfile::tempdir()?;
    let cluster = one_node(folder.path())?;
    done(&cluster, &["log-level", "board-1", "debug"]);
    done(&cluster, &["log-level", "master", "info,piccolo_master=debug"]);
    refused(&cluster, &["log-level", "board-1", "piccolo=loud"], 2, "loud");
    Ok(())
}

#[test]
fn a_log_level_for_a_time_ends_by_itself_also_where_the_master_is_gone() -> Story {
    let folder = tempfile::tempdir()?;
    let mut cluster = one_node(folder.path())?;
    let said = done(&cluster, &["log-level", "board-1", "debug", "--for", "3s"]);
    assert!(said.contains("debug for 3 s"), "{said}");
    refused(&cluster, &["log-level", "board-1", "debug", "--for", "2d"], 2, "one day");
    cluster.master.kill();
    cluster.wait("the level is as configured again", |c| {
        Ok(!logged(c, "board-1", &["as configured again"]).is_empty())
    })?;
    Ok(())
}

#[test]
fn a_container_is_restarted_from_afar() -> Story {
    let folder = tempfile::tempdir()?;
    let podman = PrivatePodman::start(folder.path().join("podman"))?;
    podman.run("web", &["sleep", "1000"])?;
    let mut cluster = Cluster::start(Options::new(&folder.path().join("cluster"))?)?;
    let config = format!("podman:\n  socket: {}\n", podman.socket().display());
    cluster.join_with("board-1", &config)?;
    cluster.wait("its container is seen", |c| {
        Ok(c.node("board-1")?["containers"][0]["state"] == "running")
    })?;
    let before = podman.pid("web")?;
    done(&cluster, &["--timeout", "30s", "node", "restart-container", "board-1", "web"]);
    assert_ne!(podman.pid("web")?, before);
    refused(&cluster, &["node", "restart-container", "board-1", "ghost"], 1, "ghost");
    Ok(())
}

#[test]
fn a_node_that_leaves_is_gone_and_may_come_again() -> Story {
    let folder = tempfile::tempdir()?;
    let mut cluster = one_node(folder.path())?;
    let left = on_board(&cluster, "board-1", "leave")?;
    assert!(left.status.success(), "{left:?}");
    cluster.wait("it is gone", |c| Ok(c.node("board-1")?.is_null()))?;
    assert!(!cluster.agent_folder("board-1").join("identity.pem").exists());
    cluster.agent("board-1")?.kill();
    cluster.join("board-1")?;
    cluster.wait_for_status("board-1", "Ready")?;
    Ok(())
}

#[test]
fn a_node_whose_master_is_gone_leaves_and_says_so() -> Story {
    let folder = tempfile::tempdir()?;
    let mut cluster = one_node(folder.path())?;
    cluster.master.kill();
    cluster.wait("the agent is alone", |c| {
        let status = on_board(c, "board-1", "status").expect("the agent's program starts");
        Ok(String::from_utf8_lossy(&status.stdout).contains("waiting"))
    })?;
    let left = on_board(&cluster, "board-1", "leave")?;
    let said = String::from_utf8_lossy(&left.stdout).into_owned();
    assert!(left.status.success() && said.contains("the node has left its cluster"), "{left:?}");
    assert!(!cluster.agent_folder("board-1").join("identity.pem").exists());
    let agent = cluster.agent("board-1")?;
    assert!(agent.terminate()?.success(), "{}", agent.log_tail());
    Ok(())
}

/// Lines of an agent's log with all of these words.
fn logged(cluster: &Cluster, name: &str, words: &[&str]) -> Vec<String> {
    let log = fs::read_to_string(cluster.folder().join(format!("{name}.log"))).unwrap_or_default();
    log.lines().filter(|l| words.iter().all(|word| l.contains(word))).map(str::to_owned).collect()
}

#[test]
fn an_agents_log_says_what_matters_and_each_reason_once() -> Story {
    let folder = tempfile::tempdir()?;
    let mut cluster = Cluster::start(Options {
        master: "approval: manual\n".to_owned(),
        agent: "log_level: debug\n".to_owned(),
        ..Options::new(folder.path())?
    })?;
    let spent = cluster.token(&["--uses", "1"])?;
    cluster.prepare_agent("board-1", "", &spent)?;
    cluster.start_agent("board-1")?;
    cluster.wait("it has asked again and again", |c| {
        Ok(logged(c, "board-1", &["DEBUG", "registering"]).len() >= 3)
    })?;
    let waits = logged(&cluster, "board-1", &["WARN", "waits for approval"]);
    assert_eq!(waits.len(), 1, "{waits:?}");
    done(&cluster, &["node", "approve", "board-1"]);
    cluster.wait_for_status("board-1", "Ready")?;
    let opened = logged(&cluster, "board-1", &["INFO", "in session", &cluster.address, "session="]);
    assert_eq!(opened.len(), 1, "{opened:?}");

    cluster.prepare_agent("board-2", "", &spent)?;
    cluster.start_agent("board-2")?;
    cluster.wait("the refusal is told", |c| {
        Ok(logged(c, "board-2", &["WARN", "the token was used as often"]).len() == 1)
    })?;

    let check = on_board(&cluster, "board-2", "check")?;
    let said = String::from_utf8_lossy(&check.stdout).into_owned();
    let is_told =
        |line: &str| line.starts_with("error") && line.contains("the token was used as often");
    assert!(check.status.code() == Some(2) && said.lines().any(is_told), "{check:?}");

    let tried = logged(&cluster, "board-1", &["DEBUG", "connecting"]).len();
    cluster.master.kill();
    cluster.wait("it has tried again and again", |c| {
        Ok(logged(c, "board-1", &["DEBUG", "connecting"]).len() >= tried + 4)
    })?;
    let refused = logged(&cluster, "board-1", &["WARN", "refused"]);
    assert_eq!(refused.len(), 1, "{refused:?}");
    let left = on_board(&cluster, "board-1", "leave")?;
    assert!(left.status.success(), "{left:?}");
    assert_eq!(logged(&cluster, "board-1", &["INFO", "the node has left its cluster"]).len(), 1);
    Ok(())
}

#[test]
fn the_same_cluster_runs_on_etcd() -> Story {
    let folder = tempfile::tempdir()?;
    let etcd = folder.path().join("etcd");
    let (client, peer) = ("http://127.0.0.1:47379", "http://127.0.0.1:47380");
    let mut command = Command::new("etcd");
    command.arg("--data-dir").arg(&etcd).args(["--listen-client-urls", client]);
    command.args(["--advertise-client-urls", client, "--listen-peer-urls", peer]);
    command.args(["--initial-advertise-peer-urls", peer]);
    command.args(["--initial-cluster", &format!("default={peer}")]);
    let _etcd = Process::start("etcd", command, &folder.path().join("etcd.log"))?;
    let master = format!("store:\n  kind: etcd\n  endpoints: [\"{client}\"]\n");
    let options = Options { master, ..Options::new(&folder.path().join("cluster"))? };
    let mut cluster = Cluster::start(options)?;
    cluster.join("board-1")?;
    cluster.wait_for_status("board-1", "Ready")?;
    let status = done(&cluster, &["status"]);
    assert!(status.contains("etcd"), "{status}");
    cluster.master.kill();
    cluster.start_master()?;
    cluster.wait("the node is in session again", |c| {
        let node = c.node("board-1")?;
        Ok(node["connected"] == true && node["status"] == "Ready")
    })?;
    Ok(())
}

/// The files of a bundle by name, as `tar` unpacks them.
fn unpacked(
    bundle: &std::path::Path,
    folder: &std::path::Path,
) -> Result<BTreeMap<String, String>, Box<dyn Error>> {
    fs::create_dir(folder)?;
    let tar = Command::new("tar").arg("-xzf").arg(bundle).arg("-C").arg(folder).output()?;
    assert!(tar.status.success(), "{tar:?}");
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(within) = folders.pop() {
        for entry in fs::read_dir(within)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name: std::path::PathBuf = path.strip_prefix(folder)?.iter().skip(1).collect();
            files.insert(name.display().to_string(), fs::read_to_string(&path)?);
        }
    }
    Ok(files)
}

#[test]
fn a_support_bundle_has_what_helps_and_no_secret() -> Story {
    let folder = tempfile::tempdir()?;
    let cluster = one_node(folder.path())?;
    let place = |name: &str| folder.path().join(name);
    let words = |path: &std::path::Path| path.display().to_string();
    let join = done(&cluster, &["token", "create", "--role", "sub"]).trim().to_owned();
    let api = done(&cluster, &["api-token", "create", "ci", "--role", "viewer"]).trim().to_owned();
    let context = fs::read_to_string(cluster.context())?;
    let (_, key) = context.split_once("PRIVATE KEY-----").ok_or("the context has a key")?;
    let key = key.split_whitespace().find(|line| line.len() > 40).ok_or("the key has lines")?;
    let channel = "webhook: {url: 'https://127.0.0.1:1/hook', key: channel-hunter2}";
    fs::write(place("channels.yaml"), format!("channels:\n  - name: hook\n    {channel}\n"))?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(place("channels.yaml"), mode)?;
    done(&cluster, &["alert", "channel", "apply", "-f", &words(&place("channels.yaml"))]);
    // what a person writes where everybody reads it
    let reason = format!("joined with {join} and {api}");
    done(&cluster, &["node", "maintenance", "on", "board-1", "--reason", &reason]);
    let config =
        format!("listen: 0.0.0.0:50051\nstore:\n  password: config-hunter2\n# {join}\n{context}");
    fs::write(place("master.yaml"), config)?;

    let bundle = words(&place("bundle.tar.gz"));
    let [config, gone] = ["master.yaml", "gone.yaml"].map(|name| words(&place(name)));
    let asked = ["support-bundle", "-o", &bundle, "--config", &config, "--config", &gone];
    refused(&cluster, &asked, 2, "no terminal");
    let asked = [&asked[..], &["--yes"]].concat();
    let output = cluster.piccolo(&asked)?;
    let listed = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && listed.contains("nodes.json"), "{listed}");

    let files = unpacked(place("bundle.tar.gz").as_path(), &place("unpacked"))?;
    for (secret, what) in [
        (join.as_str(), "join token"),
        (api.as_str(), "API token"),
        (key, "private key of the context"),
        ("channel-hunter2", "key of a channel"),
        ("config-hunter2", "password in the configuration"),
    ] {
        let with: Vec<_> = files.iter().filter(|(_, text)| text.contains(secret)).collect();
        assert!(with.is_empty() && !listed.contains(secret), "{what}: {with:?}");
    }
    for (name, part) in [
        ("status.json", "board-1"),
        ("nodes.json", "board-1"),
        ("doctor.json", "findings"),
        ("events.json", "NodeMaintenance"),
        ("audit.json", "CreateToken"),
        ("alert-channels.json", "hook"),
        ("topology.yaml", "generation"),
        ("config/master.yaml", "0.0.0.0:50051"),
        ("config/master.yaml", "# [removed]"),
        ("LIST.txt", "config/gone.yaml: "),
    ] {
        let text = files.get(name).ok_or_else(|| format!("{name} is not in {listed}"))?;
        assert!(text.contains(part), "{name}: {text}");
    }
    let before = fs::read(place("bundle.tar.gz"))?;
    refused(&cluster, &asked, 1, "was not written");
    assert_eq!(fs::read(place("bundle.tar.gz"))?, before, "never in place of another");
    Ok(())
}
