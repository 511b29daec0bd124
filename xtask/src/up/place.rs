//! `target/up`: where everything of the cluster on this machine is, and what is known of it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use piccolo_testkit::kept::Kept;
use serde_json::{Value, json};

use crate::workspace::Workspace;

/// The folder. Names of processes are `master`, `etcd`, `supervisor` and `node-1`, `node-2`, ...
#[derive(Debug, Clone)]
pub(crate) struct Place {
    dir: PathBuf,
    root: PathBuf,
}

/// What `up` decided, for whoever comes later.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) executables: PathBuf,
    pub(crate) nodes: u8,
    /// `host:port` of gRPC.
    pub(crate) master: String,
    pub(crate) https: String,
    pub(crate) has_etcd: bool,
}

impl Place {
    pub(crate) fn of(workspace: &Workspace) -> Self {
        Self { dir: workspace.target().join("up"), root: workspace.root().to_owned() }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// As one in the checkout would type it.
    pub(crate) fn shown(&self) -> String {
        self.dir.strip_prefix(&self.root).unwrap_or(&self.dir).display().to_string()
    }

    pub(crate) fn log(&self, process: &str) -> PathBuf {
        self.dir.join(format!("{process}.log"))
    }

    pub(crate) fn pid(&self, process: &str) -> PathBuf {
        self.dir.join(format!("{process}.pid"))
    }

    pub(crate) fn config(&self, process: &str) -> PathBuf {
        self.dir.join(format!("{process}.yaml"))
    }

    /// The process of that name, if it runs.
    pub(crate) fn process(&self, process: &str) -> Option<Kept> {
        Kept::recall(&self.pid(process))
    }

    pub(crate) fn state(&self, process: &str) -> PathBuf {
        self.dir.join(process)
    }

    /// The first administrator's, written by the master.
    pub(crate) fn context(&self) -> PathBuf {
        self.state("master").join("admin.context.yaml")
    }

    pub(crate) fn token(&self) -> PathBuf {
        self.dir.join("join.token")
    }

    pub(crate) fn podman(&self, node: u8) -> PathBuf {
        self.dir.join(format!("node-{node}")).join("podman")
    }

    /// An empty folder. Everything in it must have been ended.
    pub(crate) fn make_fresh(&self) -> Result<()> {
        if self.dir.exists() {
            fs::remove_dir_all(&self.dir)
                .with_context(|| format!("cannot empty {}", self.dir.display()))?;
        }
        fs::create_dir_all(&self.dir).with_context(|| format!("cannot make {}", self.dir.display()))
    }

    pub(crate) fn write(&self, record: &Record) -> Result<()> {
        let text = json!({
            "executables": record.executables,
            "nodes": record.nodes,
            "master": record.master,
            "https": record.https,
            "has_etcd": record.has_etcd,
        });
        fs::write(self.record(), text.to_string()).context("the cluster cannot be noted down")
    }

    /// What was noted down last, whether it runs or not.
    pub(crate) fn recorded(&self) -> Option<Record> {
        let value: Value = serde_json::from_slice(&fs::read(self.record()).ok()?).ok()?;
        let text = |key: &str| value[key].as_str().map(str::to_owned);
        Some(Record {
            executables: text("executables")?.into(),
            nodes: u8::try_from(value["nodes"].as_u64()?).ok()?,
            master: text("master")?,
            https: text("https")?,
            has_etcd: value["has_etcd"].as_bool()?,
        })
    }

    /// The cluster that is up now: its master runs.
    pub(crate) fn running(&self) -> Option<Record> {
        self.process("master")?;
        self.recorded()
    }

    fn record(&self) -> PathBuf {
        self.dir.join("cluster.json")
    }
}

pub(crate) fn node_name(node: u8) -> String {
    format!("node-{node}")
}
