//! A real Prometheus beside a real cluster, with what `deploy/` has for it (HLD §11.1).

use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use piccolo_testkit::{
    cluster::{Cluster, Options, PATIENCE, Process, free_port},
    podman::PrivatePodman,
};
use serde_json::Value;

type Story = Result<(), Box<dyn Error>>;

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

fn promtool(arguments: &[&str]) -> Result<String, Box<dyn Error>> {
    let folder = deploy().join("prometheus");
    let output = Command::new("promtool").args(arguments).current_dir(folder).output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(format!("promtool {}: {said}{why}", arguments.join(" ")).into());
    }
    Ok(said)
}

#[test]
fn the_rules_are_well_formed_and_fire_when_they_are_to() -> Story {
    promtool(&["check", "rules", "piccolo.rules.yml"])?;
    promtool(&["test", "rules", "piccolo.rules.test.yml"])?;
    Ok(())
}

/// The shipped configuration, with the files of a viewer's context and this master's port in it.
fn configure(cluster: &Cluster, folder: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let viewer = folder.join("viewer.yaml");
    let made = ["user", "create", "prometheus", "--role", "viewer", "--file"];
    let made = cluster.piccolo(&[&made[..], &[&viewer.display().to_string()]].concat())?;
    assert!(made.status.success(), "{made:?}");
    let context: Value = serde_saphyr::from_str(&fs::read_to_string(viewer)?)?;
    for part in ["ca", "certificate", "key"] {
        let text = context[part].as_str().ok_or("the context has no such part")?;
        fs::write(folder.join(format!("{part}.pem")), text)?;
    }
    for file in ["prometheus.yml", "piccolo.rules.yml"] {
        let text = fs::read_to_string(deploy().join("prometheus").join(file))?;
        let text = text
            .replace("master.example:47099", &cluster.https_address)
            .replace("interval: 15s", "interval: 1s");
        fs::write(folder.join(file), text)?;
    }
    Ok(folder.join("prometheus.yml"))
}

struct Prometheus {
    address: String,
    process: Process,
}

impl Prometheus {
    fn start(cluster: &Cluster, folder: &Path) -> Result<Self, Box<dyn Error>> {
        let address = format!("127.0.0.1:{}", free_port()?);
        let mut command = Command::new("prometheus");
        command
            .arg(format!("--config.file={}", configure(cluster, folder)?.display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            .arg(format!("--web.listen-address={address}"));
        let process = Process::start("prometheus", command, &folder.join("prometheus.log"))?;
        Ok(Self { address, process })
    }

    /// What it answers; an error where it does not, or where the expression makes no sense.
    fn ask(&self, expression: &str) -> Result<String, Box<dyn Error>> {
        promtool(&["query", "instant", "--", &format!("http://{}", self.address), expression])
    }

    fn waits_for(&self, expression: &str) -> Story {
        let begun = std::time::Instant::now();
        while begun.elapsed() < PATIENCE {
            if self.ask(expression).is_ok_and(|answer| !answer.trim().is_empty()) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        Err(format!("{expression} is nothing\n{}", self.process.log_tail()).into())
    }
}

#[test]
fn prometheus_scrapes_the_cluster_and_every_panel_of_the_dashboard_has_an_answer() -> Story {
    let folder = tempfile::tempdir()?;
    let podman = PrivatePodman::start(folder.path().join("podman"))?;
    let cluster = folder.path().join("cluster");
    fs::create_dir(&cluster)?;
    let mut cluster = Cluster::start(Options::new(&cluster)?)?;
    podman.run("web", &["sleep", "100000"])?;
    let socket = format!("podman:\n  socket: {}\n", podman.socket().display());
    cluster.join_with("board-1", &socket)?;
    cluster.join("board-2")?;
    cluster.wait_for_status("board-1", "Ready")?;
    cluster.wait_for_status("board-2", "Ready")?;
    let prometheus = Prometheus::start(&cluster, folder.path())?;
    prometheus.waits_for("up{job=\"piccolo\"} == 1")?;
    prometheus.waits_for("sum(piccolo_node_up) == 2")?;
    prometheus.waits_for("piccolo_container_running{node=\"board-1\",container=\"web\"} == 1")?;
    prometheus.waits_for("count(piccolo_node_cpu_ratio) == 2")?;
    let dashboard: Value =
        serde_json::from_slice(&fs::read(deploy().join("grafana/piccolo.json"))?)?;
    let panels = dashboard["panels"].as_array().ok_or("a dashboard without panels")?;
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let expressions: Vec<&str> = targets.filter_map(|target| target["expr"].as_str()).collect();
    assert!(expressions.len() > 15, "{expressions:?}");
    for expression in expressions {
        prometheus.ask(&expression.replace("$node", ".*"))?;
    }
    // the alert of a node that is lost is on its way
    cluster.agent("board-2")?.kill();
    prometheus.waits_for("ALERTS{alertname=\"PiccoloNodeNotReady\",node=\"board-2\"}")?;
    prometheus.waits_for("piccolo_node_figures_stale{node=\"board-2\"} == 1")?;
    Ok(())
}
