//! Real hosts, with systemd as PID 1: from bare to Ready by `piccolo node deploy`, and back by
//! `undeploy` (HLD §1.2.4, §12.1).

use std::{
    collections::BTreeMap,
    error::Error,
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use piccolo_testkit::{
    cluster::Programs,
    podman::IMAGE,
    testbed::{
        cluster::{AGENT_UNIT, HostCluster, MASTER, MASTER_UNIT},
        folder_beside_this_test,
        host::Host,
        witness::{Witness, numbers_of_events},
    },
};
use serde_json::Value;

type Story = Result<(), Box<dyn Error>>;
type Told<T> = Result<T, Box<dyn Error>>;

/// Where PICCOLO, or a deployment, could leave something.
const PLACES: &str = "/etc /opt /usr/local /root /run/piccolo /var/lib/piccolo /var/lib/private";

#[test]
fn three_bare_hosts_are_deployed_at_once_and_go_again_without_a_trace() -> Story {
    let cluster = bare(3)?;
    let before = traces_of_all(&cluster)?;
    for host in cluster.nodes() {
        host.run(&["podman", "run", "--detach", "--name", "web", IMAGE, "sleep", "100000"])?;
    }
    let witness = Witness::of(&cluster)?;
    let inventory = cluster.testbed.folder().join("inventory.yaml");
    fs::write(
        &inventory,
        "hosts:\n  - address: node-1\n    labels: {site: seoul}\n  - address: node-2\n    user: root\n    \
         name: zone-b\n  - address: node-3\n",
    )?;
    let file = ["--file", &inventory.display().to_string()].map(str::to_owned);
    let file = file.each_ref().map(String::as_str);
    let results = ["would-deploy"; 3];
    deploy(&cluster, &[&file[..], &["--dry-run"]].concat(), 0)?.are(&results)?;
    assert_eq!(traces_of_all(&cluster)?, before, "a dry run has left something");

    let deployed = deploy(&cluster, &file, 0)?;
    deployed.are(&["deployed"; 3])?;
    for name in ["node-1", "zone-b", "node-3"] {
        cluster.wait_for_container(name, "web", "running")?;
        assert_eq!(cluster.node(name)?["status"], "Ready");
    }
    assert_eq!(cluster.node("node-1")?["labels"]["site"], "seoul");
    assert_eq!(cluster.node("node-2")?, Value::Null);
    no_token_is_left(&cluster)?;

    let pids = pids(&cluster)?;
    deploy(&cluster, &file, 0)?.are(&["unchanged"; 3])?;
    assert_eq!(self::pids(&cluster)?, pids, "agents were restarted");
    // an agent that was stopped by hand
    cluster.host("node-3")?.run(&["systemctl", "stop", AGENT_UNIT])?;
    cluster.wait_for_status("node-3", "NotReady")?;
    deploy(&cluster, &["root@node-3"], 0)?.are(&["renewed"])?;
    // a newer release
    let newer = newer_release(&cluster)?;
    let renewing = ["--release", &newer, "root@node-1", "root@node-3"];
    deploy(&cluster, &renewing, 0)?.are(&["renewed"; 2])?;
    deploy(&cluster, &renewing, 0)?.are(&["unchanged"; 2])?;
    assert_ne!(self::pids(&cluster)?[0], pids[0]);
    witness.confirm(&cluster)?;

    run(&cluster, "undeploy", &["root@node-3"], 0)?.are(&["undeployed"])?;
    assert_ne!(traces(cluster.host("node-3")?)?, before["node-3"], "without --purge");
    let away = run(&cluster, "undeploy", &["--purge", "root@node-1", "root@node-3"], 0)?;
    away.are(&["undeployed"; 2])?;
    // a node is looked for at its address, where ssh knows only names
    let key = cluster.testbed.folder().join("ssh-key").display().to_string();
    let config = cluster.testbed.folder().join("addresses");
    let known = cluster.testbed.folder().join("known-hosts");
    fs::write(&config, format!("UserKnownHostsFile {}\n", known.display()))?;
    let config = config.display().to_string();
    let by_name =
        ["--purge", "zone-b", "--user", "root", "--identity", &key, "--ssh-config", &config];
    command(&cluster, "undeploy", &by_name, 0)?.are(&["undeployed"])?;
    assert_eq!(traces_of_all(&cluster)?, before);
    assert_eq!(cluster.json(&["node", "list", "-o", "json"])?["nodes"], Value::Array(vec![]));
    run(&cluster, "undeploy", &["root@node-1"], 0)?.are(&["unchanged"])?;
    for host in cluster.nodes() {
        assert_eq!(host.run(&["podman", "ps", "--format", "{{.Names}}"])?, "web");
    }
    Ok(cluster.end()?)
}

#[test]
fn a_host_out_of_reach_fails_alone_and_the_next_run_goes_on() -> Story {
    let cluster = bare(2)?;
    let both = ["root@node-1", "root@node-2", "--connect-timeout", "3"];
    // ssh knows neither host, and decides
    let config = cluster.testbed.folder().join("stranger");
    let text = fs::read_to_string(cluster.testbed.ssh_config())?;
    let known = cluster.testbed.folder().join("known-hosts").display().to_string();
    fs::write(&config, text.replace(&known, "/dev/null"))?;
    let stranger = ["node-1", "--ssh-config", &config.display().to_string()].map(str::to_owned);
    let strange = command(&cluster, "deploy", &stranger.each_ref().map(String::as_str), 1)?;
    strange.are(&["failed"])?;
    strange.fails(0, "connect", "", "does not know the host yet")?;

    cluster.host("node-2")?.cut_link()?;
    let told = deploy(&cluster, &both, 1)?;
    told.are(&["deployed", "failed"])?;
    told.fails(1, "connect", "timed out", "is the host on")?;
    assert!(told.stderr.contains("error: root@node-2: step connect failed"), "{}", told.stderr);
    assert_eq!(cluster.node("node-1")?["status"], "Ready");
    cluster.host("node-2")?.heal_link()?;
    deploy(&cluster, &both, 0)?.are(&["unchanged", "deployed"])?;

    cluster.host("node-2")?.cut_link()?;
    let away = run(&cluster, "undeploy", &["root@node-2", "--connect-timeout", "3"], 1)?;
    away.fails(0, "connect", "timed out", "is the host on")?;
    assert_ne!(cluster.node("node-2")?, Value::Null);
    Ok(cluster.end()?)
}

#[test]
fn what_fails_on_the_way_leaves_the_host_as_it_was_and_is_done_by_the_next_run() -> Story {
    let cluster = bare(2)?;
    let (once, always) = (cluster.host("node-1")?, cluster.host("node-2")?);
    // A board on which the installer is killed, once and whenever it has begun its work.
    kill_the_installer(once, "&& [ ! -e /run/killed ] && touch /run/killed")?;
    kill_the_installer(always, "")?;
    let before = (traces(once)?, traces(always)?);
    let both = ["root@node-1", "root@node-2"];
    let told = deploy(&cluster, &both, 1)?;
    told.are(&["failed", "failed"])?;
    told.fails(0, "install", "", "")?;
    assert_eq!(told.hosts[0]["problem"]["left"], Value::Null, "{}", told.stderr);
    assert_eq!(traces(once)?, before.0);
    let left = told.hosts[1]["problem"]["left"].as_str().unwrap_or_default();
    assert!(left.contains("what was installed is still there"), "{left}");
    assert!(always.run(&["ls", "/opt/piccolo/transaction"]).is_ok());
    no_token_is_left(&cluster)?;

    // A join that comes to nothing: nobody is at that address.
    let nowhere = ["root@node-1", "--master", "10.77.0.99", "--wait-timeout", "3s"];
    let told = deploy(&cluster, &nowhere, 1)?;
    told.fails(0, "join", "the master has not heard node node-1", "--master says")?;
    assert_eq!(traces(once)?, before.0);
    assert_eq!(cluster.node("node-1")?, Value::Null);
    no_token_is_left(&cluster)?;

    // One that is given up while it joins: whichever is quicker, neither side has it afterwards.
    let at_once = ["root@node-1", "--wait-timeout", "1ms"];
    let told = deploy(&cluster, &at_once, 1)?;
    told.fails(0, "join", "the master has not heard node node-1 within 0.001 s", "")?;
    assert_eq!(told.hosts[0]["problem"]["left"], Value::Null, "{}", told.stderr);
    assert_eq!(traces(once)?, before.0);
    cluster.wait("the cluster does not list it", |c| Ok(c.node("node-1")? == Value::Null))?;
    no_token_is_left(&cluster)?;

    always.run(&["rm", "/usr/local/bin/sync"])?;
    deploy(&cluster, &both, 0)?.are(&["deployed", "deployed"])?;
    assert!(always.run(&["ls", "/opt/piccolo/transaction"]).is_err());
    for name in ["node-1", "node-2"] {
        assert_eq!(cluster.node(name)?["status"], "Ready");
    }
    Ok(cluster.end()?)
}

#[test]
fn who_interrupts_it_finds_the_host_as_it_was() -> Story {
    let cluster = bare(1)?;
    let host = cluster.host("node-1")?;
    let before = traces(host)?;
    let (config, release) = (ssh(&cluster), release(&cluster)?);
    let mut piccolo = Command::new(cluster.client().cli);
    piccolo.args(["node", "deploy", "-o", "json", "root@node-1", "--ssh-config", &config]);
    // It is installed, and then waits: nobody is at that address.
    piccolo.args(["--master", "10.77.0.99", "--wait-timeout", "1h", "--release"]).arg(&release);
    piccolo.env("PICCOLO_CONTEXT", cluster.context());
    let mut piccolo = cluster.testbed.network().command(&piccolo);
    let running = piccolo.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    cluster.wait("the token is on the host", |_| {
        Ok(host.run(&["sh", "-c", "ls /var/lib/piccolo/nodeagent/*token*"]).is_ok())
    })?;
    let interrupted = Command::new("kill").args(["-INT", &running.id().to_string()]).status()?;
    assert!(interrupted.success());
    let output = running.wait_with_output()?;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let document: Value = serde_json::from_slice(&output.stdout)?;
    let problem = &document["hosts"][0]["problem"];
    assert_eq!((&problem["cause"], &problem["left"]), (&"interrupted".into(), &Value::Null));
    assert_eq!(traces(host)?, before);
    no_token_is_left(&cluster)?;
    Ok(cluster.end()?)
}

#[test]
fn two_deployments_of_one_bare_host_leave_one_node_and_nothing_half_done() -> Story {
    let cluster = bare(1)?;
    let host = cluster.host("node-1")?;
    let before = traces(host)?;
    // How far the first one is when the second begins.
    for so_far in [
        "true",
        "ls -d /tmp/piccolo-deploy.*",
        "[ -e /opt/piccolo/transaction ] || [ -e /opt/piccolo/manifest ]",
        "[ -e /opt/piccolo/manifest ]",
        "[ -e /var/lib/piccolo/nodeagent/identity.pem ]",
    ] {
        let first = begin(&cluster)?;
        cluster.wait(so_far, |_| Ok(host.shell(so_far).is_ok()))?;
        let second = begin(&cluster)?;
        let ends = [outcome(first)?, outcome(second)?];
        assert!(ends.iter().any(|end| end["result"] != "failed"), "{so_far}: {ends:?}");
        for end in ends.iter().filter(|end| end["result"] == "failed") {
            let problem = &end["problem"];
            let told = |key: &str| problem[key].as_str().is_some_and(|text| !text.is_empty());
            assert!(told("cause") && told("help") && problem["left"].is_null(), "{so_far}: {end}");
            assert!(AT_ONCE.iter().any(|why| problem.to_string().contains(why)), "{so_far}: {end}");
        }
        assert_eq!(cluster.node("node-1")?["status"], "Ready", "{so_far}");
        let nodes = cluster.json(&["node", "list", "-o", "json"])?;
        assert_eq!(nodes["nodes"].as_array().map(Vec::len), Some(1), "{so_far}: {nodes}");
        no_token_is_left(&cluster)?;
        let half =
            "ls -d /opt/piccolo/transaction /tmp/piccolo* /var/lib/piccolo/nodeagent/*token*";
        assert!(host.shell(half).is_err(), "{so_far}: {}", traces(host)?);
        deploy(&cluster, &["root@node-1"], 0)?.are(&["unchanged"])?;
        run(&cluster, "undeploy", &["--purge", "root@node-1"], 0)?.are(&["undeployed"])?;
        assert_eq!(traces(host)?, before, "{so_far}");
    }
    Ok(cluster.end()?)
}

/// Why a deployment may fail while another one is at work on its host.
const AT_ONCE: [&str; 3] = [
    "another install.sh is at work here",
    "PICCOLO was installed here meanwhile",
    "is in session now",
];

/// A deployment of node-1 that goes on by itself.
fn begin(cluster: &HostCluster) -> Told<Child> {
    let mut piccolo = Command::new(cluster.client().cli);
    piccolo.args(["node", "deploy", "-o", "json", "root@node-1", "--ssh-config", &ssh(cluster)]);
    piccolo.arg("--release").arg(release(cluster)?);
    piccolo.env("PICCOLO_CONTEXT", cluster.context());
    let mut piccolo = cluster.testbed.network().command(&piccolo);
    Ok(piccolo.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?)
}

/// What it says of its host at the end.
fn outcome(running: Child) -> Told<Value> {
    let output = running.wait_with_output()?;
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let document: Value = serde_json::from_slice(&output.stdout).map_err(|_| stderr)?;
    Ok(document["hosts"][0].clone())
}

#[test]
fn nodes_of_a_lost_master_follow_its_authority_or_are_taken_over_without() -> Story {
    let mut cluster = bare(3)?;
    let [lost, new] = [MASTER, "node-3"].map(|name| cluster.host(name).map(Host::address));
    let (lost, new) = (lost?.to_owned(), new?.to_owned());
    // one has a configuration as the installer writes it, one a name in it, and somebody's words
    let masters = ["--master", &lost, "--master", &new];
    deploy(&cluster, &[&masters[..], &["root@node-1"]].concat(), 0)?.are(&["deployed"])?;
    let named = ["--name", "zone-b", "root@node-2"];
    deploy(&cluster, &[&masters[..], &named].concat(), 0)?.are(&["deployed"])?;
    cluster.host("node-2")?.shell("echo '# by hand' >>/etc/piccolo/nodeagent.yaml")?;
    for (name, host) in [("node-1", "node-1"), ("zone-b", "node-2")] {
        let run = ["podman", "run", "--detach", "--name", "web", IMAGE, "sleep", "100000"];
        cluster.host(host)?.run(&run)?;
        cluster.wait_for_container(name, "web", "running")?;
    }
    let witness = Witness::of(&cluster)?;
    let id = cluster.node("node-1")?["id"].clone();

    // The authority alone is left: a new master on another host, and nothing to be done on the boards.
    let authority = cluster.host(MASTER)?.run(&["cat", "/var/lib/piccolo/master/ca.pem"])?;
    cluster.testbed.host_mut(MASTER)?.power_off()?;
    for host in cluster.nodes().take(2) {
        host.run(&["podman", "run", "--name", "told-later", IMAGE, "true"])?;
    }
    begin_anew(&cluster, cluster.host("node-3")?, Some(authority))?;
    for name in ["node-1", "zone-b"] {
        cluster.wait_until_in_session(name)?;
        cluster.wait_for_count(name, "NodeAdopted", 1)?;
        events_are_whole(&cluster, name)?;
    }
    assert_eq!(cluster.node("node-1")?["id"], id);
    witness.confirm_containers(&cluster)?;

    // And then nothing is: neither that master nor its authority.
    let host = cluster.host("node-3")?;
    host.run(&["/opt/piccolo/current/install.sh", "--uninstall", "--purge"])?;
    begin_anew(&cluster, host, None)?;
    are_taken_over_only_where_it_is_asked_for(&cluster)?;

    let take_over = ["--take-over", "root@node-1", "root@node-2"];
    deploy(&cluster, &take_over, 0)?.are(&["taken-over"; 2])?;
    for name in ["node-1", "zone-b"] {
        cluster.wait_until_in_session(name)?;
        cluster.wait_for_container(name, "web", "running")?;
        cluster.wait_for_count(name, "NodeAdopted", 0)?;
        events_are_whole(&cluster, name)?;
    }
    for host in cluster.nodes().take(2) {
        let masters = "sed -n '/^masters:/,/^[^ ]*:/p' /etc/piccolo/nodeagent.yaml | grep '  - '";
        assert_eq!(host.shell(masters)?.trim(), format!("- \"{new}:47098\""));
    }
    deploy(&cluster, &take_over, 0)?.are(&["unchanged"; 2])?;
    no_token_is_left(&cluster)?;
    witness.confirm_containers(&cluster)?;
    Ok(cluster.end()?)
}

/// A new master on that host, with the lost one's authority or with one of its own.
fn begin_anew(cluster: &HostCluster, host: &Host, authority: Option<String>) -> Story {
    cluster.install_master_without_starting(host)?;
    if let Some(authority) = authority {
        host.write("/root/ca.pem", authority)?;
        let piccolo = "/opt/piccolo/current/bin/piccolo";
        host.run(&[piccolo, "backup", "rebuild", "--authority", "/root/ca.pem"])?;
    }
    host.run(&["systemctl", "enable", "--now", MASTER_UNIT])?;
    Ok(cluster.speak_to(host)?)
}

/// And belong where they belonged until they have joined here.
fn are_taken_over_only_where_it_is_asked_for(cluster: &HostCluster) -> Story {
    let before = belonging(cluster)?;
    let both = ["root@node-1", "root@node-2"];
    let refused = deploy(cluster, &both, 1)?;
    refused.are(&["failed"; 2])?;
    refused.fails(
        1,
        "look",
        "a node of another cluster",
        "deploy to root@node-2 again, with --take-over",
    )?;
    let take_over = [&["--take-over"][..], &both].concat();
    let dry = deploy(cluster, &[&take_over[..], &["--dry-run"]].concat(), 0)?;
    dry.are(&["would-take-over"; 2])?;
    assert_eq!(belonging(cluster)?, before);

    // A join that comes to nothing: they belong where they belonged.
    let nowhere = ["--master", "10.77.0.99", "--wait-timeout", "3s"];
    let told = deploy(cluster, &[&take_over[..], &nowhere].concat(), 1)?;
    told.fails(0, "join", "the master has not heard node node-1", "--master says")?;
    told.fails(1, "join", "the master has not heard node zone-b", "")?;
    assert_eq!(told.hosts[0]["problem"]["left"], Value::Null, "{}", told.stderr);
    assert_eq!(belonging(cluster)?, before);
    no_token_is_left(cluster)?;
    Ok(())
}

/// What says on a host which cluster it belongs to; not what a running agent replaces all the time.
fn belonging(cluster: &HostCluster) -> Told<Vec<String>> {
    let script = "cd /var/lib/piccolo/nodeagent; ls --ignore=kept.cursor.new --ignore=ledger.new; \
                  sha256sum identity.pem /etc/piccolo/nodeagent.yaml; \
                  grep ^master= /opt/piccolo/settings; systemctl is-active piccolo-nodeagent";
    cluster.nodes().take(2).map(|host| Ok(host.shell(script)?)).collect()
}

/// From the first one that this master heard of: none is lost, and none is doubled.
fn events_are_whole(cluster: &HostCluster, node: &str) -> Story {
    cluster.wait("the journal was delivered", |c| Ok(!numbers_of_events(c, node)?.is_empty()))?;
    let numbers = numbers_of_events(cluster, node)?;
    let all: Vec<u64> = (numbers[0]..).take(numbers.len()).collect();
    if numbers == all { Ok(()) } else { Err(format!("{node}: {numbers:?}").into()) }
}

fn bare(nodes: usize) -> Told<HostCluster> {
    let programs = Programs::beside_this_test()?;
    Ok(HostCluster::with_bare_nodes(&folder_beside_this_test()?, &programs, nodes)?)
}

/// `sync` is what the installer runs between its steps.
fn kill_the_installer(host: &Host, condition: &str) -> Story {
    let script = format!(
        "#!/bin/sh\n[ -e /opt/piccolo/transaction ] {condition} && kill -9 $PPID\nexec /usr/bin/sync \"$@\"\n"
    );
    host.write("/usr/local/bin/sync", script)?;
    host.run(&["chmod", "0755", "/usr/local/bin/sync"])?;
    Ok(())
}

/// What a command said of the hosts, in their order.
struct Outcomes {
    hosts: Vec<Value>,
    stderr: String,
}

impl Outcomes {
    fn are(&self, results: &[&str]) -> Story {
        let found: Vec<_> = self.hosts.iter().filter_map(|host| host["result"].as_str()).collect();
        if found == results { Ok(()) } else { Err(format!("{found:?}: {}", self.stderr).into()) }
    }

    fn fails(&self, host: usize, step: &str, cause: &str, help: &str) -> Story {
        let problem = &self.hosts[host]["problem"];
        let has =
            |key: &str, part: &str| problem[key].as_str().is_some_and(|text| text.contains(part));
        let is_so = problem["step"] == step && has("cause", cause) && has("help", help);
        if is_so { Ok(()) } else { Err(format!("{problem}").into()) }
    }
}

fn ssh(cluster: &HostCluster) -> String {
    cluster.testbed.ssh_config().display().to_string()
}

fn deploy(cluster: &HostCluster, arguments: &[&str], code: i32) -> Told<Outcomes> {
    run(cluster, "deploy", arguments, code)
}

/// With the testbed's keys and known hosts.
fn run(cluster: &HostCluster, verb: &str, arguments: &[&str], code: i32) -> Told<Outcomes> {
    let config = ssh(cluster);
    command(cluster, verb, &[arguments, &["--ssh-config", &config]].concat(), code)
}

fn command(cluster: &HostCluster, verb: &str, arguments: &[&str], code: i32) -> Told<Outcomes> {
    let release = release(cluster)?.display().to_string();
    let mut words = vec!["node", verb, "-o", "json"];
    if verb == "deploy" && !arguments.contains(&"--release") {
        words.extend(["--release", &release]);
    }
    words.extend(arguments);
    let output = cluster.piccolo(&words)?;
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{words:?}: {stderr}");
    assert!(!stderr.contains("PICCOLO1-"), "a token is shown: {stderr}");
    let document: Value = serde_json::from_slice(&output.stdout)?;
    let hosts = document["hosts"].as_array().cloned().ok_or("no list of hosts")?;
    Ok(Outcomes { hosts, stderr })
}

/// The folder that the testbed installs the master from.
fn release(cluster: &HostCluster) -> Told<PathBuf> {
    Ok(cluster.executables().parent().ok_or("executables without a release")?.to_owned())
}

/// Bytes after an executable's end change its digest, and nothing else.
fn newer_release(cluster: &HostCluster) -> Told<String> {
    let newer = cluster.testbed.folder().join("newer").display().to_string();
    let script = "cp -r \"$1\" \"$2\"; cd \"$2\"; printf newer >>bin/piccolo-nodeagent; \
                  find . -type f ! -name SHA256SUMS -printf '%P\\0' | sort -z | xargs -0 sha256sum >SHA256SUMS";
    let mut sh = Command::new("sh");
    let made = sh.args(["-ec", script, "sh"]).arg(release(cluster)?).arg(&newer).status()?;
    assert!(made.success());
    Ok(newer)
}

fn no_token_is_left(cluster: &HostCluster) -> Story {
    let tokens = cluster.json(&["token", "list", "-o", "json"])?;
    assert_eq!(tokens["tokens"], Value::Array(vec![]), "{tokens}");
    Ok(())
}

fn pids(cluster: &HostCluster) -> Told<Vec<String>> {
    cluster.nodes().map(|host| Ok(host.unit(AGENT_UNIT, "MainPID")?)).collect()
}

/// Every file in those places, and what a deployment has in /tmp.
fn traces(host: &Host) -> Told<String> {
    let script = format!(
        "find {PLACES} 2>/dev/null | sort; ls -d /tmp/piccolo* 2>/dev/null; \
         systemctl list-unit-files --no-legend 'piccolo*' || true"
    );
    Ok(host.run(&["sh", "-c", &script])?)
}

fn traces_of_all(cluster: &HostCluster) -> Told<BTreeMap<String, String>> {
    cluster.nodes().map(|host| Ok((host.name().to_owned(), traces(host)?))).collect()
}
