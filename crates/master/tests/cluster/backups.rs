//! Backups of a master with its state in etcd, and of one that is busy.

use std::{os::unix::fs::PermissionsExt as _, path::Path};

use piccolo_master::{Master, config::Config};
use piccolo_rpc::v1;
use piccolo_store::testing::Etcd;
use tokio::process::Command;

use crate::{
    harness::{Cluster, Session, hello},
    stores::in_etcd,
};

/// `piccolo-master backup ...` with the same settings as the running master: exit code, and what it said.
async fn backup(config: &Config, etcd: Option<&Etcd>, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_piccolo-master"));
    command.arg("backup").args(arguments).arg("--state-dir").arg(&config.state_dir);
    // a restore takes the port for itself
    command.args(["--listen", "127.0.0.1:0", "--https-listen", "none"]);
    if let Some(etcd) = etcd {
        command.args(["--store", "etcd", "--store-endpoint", &etcd.endpoint()]);
    }
    let output = command.output().await.unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

fn passphrase_in(folder: &Path) -> String {
    let path = folder.join("passphrase");
    std::fs::write(&path, "correct horse battery staple\n").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path.display().to_string()
}

/// A backup of this cluster, its passphrase's file, and the folder of both.
async fn backed_up(cluster: &Cluster, etcd: Option<&Etcd>) -> (String, String, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let passphrase = passphrase_in(folder.path());
    let file = folder.path().join("cluster.backup").display().to_string();
    let create = ["create", "--out", &file, "--passphrase-file", &passphrase];
    let (code, said) = backup(&cluster.config, etcd, &create).await;
    assert_eq!(code, Some(0), "{said}");
    (file, passphrase, folder)
}

async fn label(cluster: &Cluster, value: &str) {
    let set = [("site".to_owned(), value.to_owned())].into();
    let label = v1::LabelNodeRequest { node_id: "n1".to_owned(), set, remove: vec![] };
    cluster.admin().await.label_node(label).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_in_etcd_is_backed_up_while_it_runs_and_restored_over_what_is_there() {
    let etcd = Etcd::start();
    let cluster = Cluster::start_with(|config| config.store = in_etcd(&etcd)).await;
    let identity = cluster.join("n1").await;
    label(&cluster, "before").await;
    let (file, passphrase, _folder) = backed_up(&cluster, Some(&etcd)).await;
    label(&cluster, "after").await;
    let config = cluster.config.clone();
    let restore = ["restore", &file, "--passphrase-file", &passphrase];
    let forced = ["restore", &file, "--force", "--passphrase-file", &passphrase];
    cluster.master.stop().await;

    let (code, said) = backup(&config, Some(&etcd), &restore).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("is in use by a master"), "{said}");
    let (code, said) = backup(&config, Some(&etcd), &forced).await;
    assert_eq!(code, Some(0), "{said}");
    // what etcd held is kept as a backup of its own
    let kept = std::fs::read_dir(&config.state_dir).unwrap().map(|entry| entry.unwrap().path());
    let kept: Vec<_> =
        kept.filter(|path| path.extension().is_some_and(|e| e == "backup")).collect();
    assert_eq!(kept.len(), 1);
    let kept = kept[0].display().to_string();
    let verify = ["verify", &kept, "--passphrase-file", &passphrase];
    let (code, said) = backup(&config, None, &verify).await;
    assert_eq!(code, Some(0), "{said}");

    let restored = Cluster::on(Master::start(config.clone()).await.unwrap(), config);
    assert_eq!(restored.node("n1").await.labels["site"], "before");
    let mut agent = restored.agent(&identity).await;
    let mut session = Session::open(&mut agent, hello("n1")).await;
    session.configure().await;
    restored.wait_for("n1", v1::NodeStatus::Ready).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_of_a_busy_master_is_of_one_moment() {
    let cluster = Cluster::start().await;
    cluster.join("n1").await;
    let folder = tempfile::tempdir().unwrap();
    let passphrase = passphrase_in(folder.path());
    let file = folder.path().join("busy.backup").display().to_string();
    let create = ["create", "--out", &file, "--passphrase-file", &passphrase];
    let busy = async {
        for i in 0.. {
            // an audit entry, its sealed end, an event and a node in one commit
            label(&cluster, &i.to_string()).await;
        }
    };
    let (code, said) = tokio::select! {
        done = backup(&cluster.config, None, &create) => done,
        () = busy => unreachable!("it goes on"),
    };
    assert_eq!(code, Some(0), "{said}");
    // the audit log ends where its sealed end says: both are of the same commit
    let verify = ["verify", &file, "--passphrase-file", &passphrase];
    let (code, said) = backup(&cluster.config, None, &verify).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("the audit log is intact"), "{said}");
}

#[tokio::test]
async fn a_store_that_was_only_half_restored_is_not_started_on() {
    let etcd = Etcd::start();
    let cluster = Cluster::start_with(|config| config.store = in_etcd(&etcd)).await;
    cluster.join("n1").await;
    let (file, passphrase, _folder) = backed_up(&cluster, Some(&etcd)).await;
    let config = cluster.config.clone();
    cluster.master.stop().await;
    // as a restore leaves it that was killed while it wrote
    let store = piccolo_store::EtcdStore::new(etcd.options("test")).unwrap();
    drop(piccolo_store::Import::begin(&store, "a test", true).await.unwrap());
    let error = format!("{:#}", Master::start(config.clone()).await.unwrap_err());
    assert!(error.contains("was not finished"), "{error}");
    let forced = ["restore", &file, "--force", "--passphrase-file", &passphrase];
    let (code, said) = backup(&config, Some(&etcd), &forced).await;
    assert_eq!(code, Some(0), "{said}");
    let restored = Cluster::on(Master::start(config.clone()).await.unwrap(), config);
    assert_eq!(restored.node("n1").await.name, "host-n1");
}

#[tokio::test]
async fn commands_about_backups_end_with_the_exit_code_that_says_why() {
    let cluster = Cluster::start().await;
    let folder = tempfile::tempdir().unwrap();
    let passphrase = passphrase_in(folder.path());
    let missing = folder.path().join("missing.backup").display().to_string();
    let file = folder.path().join("a.backup").display().to_string();
    let ends = async |expected: i32, arguments: &[&str]| {
        let (code, said) = backup(&cluster.config, None, arguments).await;
        assert_eq!(code, Some(expected), "{arguments:?}: {said}");
    };
    ends(0, &["create", "--out", &file, "--passphrase-file", &passphrase]).await;
    ends(0, &["verify", &file, "--passphrase-file", &passphrase]).await;
    // it is there already
    ends(1, &["create", "--out", &file, "--passphrase-file", &passphrase]).await;
    ends(1, &["restore", &file, "--passphrase-file", &passphrase]).await;
    ends(2, &["verify"]).await;
    ends(2, &["create", "--certificate-lifetime", "soon", "--out", &file]).await;
    for verb in ["verify", "inspect", "restore"] {
        ends(3, &[verb, &missing, "--passphrase-file", &passphrase]).await;
        ends(3, &[verb, &file, "--passphrase-file", &missing]).await;
    }
    ends(3, &["rebuild", "--authority", &missing]).await;
    // nobody listens there
    let etcd = ["--store", "etcd", "--store-endpoint", "http://127.0.0.1:1"];
    let create = ["create", "--passphrase-file", &passphrase];
    ends(4, &[&create[..], &etcd].concat()).await;
}
