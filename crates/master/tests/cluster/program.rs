//! The program itself: its start, its end, and its errors.

use std::{
    fs::Permissions,
    os::unix::fs::PermissionsExt as _,
    process::{Output, Stdio},
    time::Duration,
};

use piccolo_store::testing::Etcd;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

use crate::harness::PATIENCE;

fn command(folder: &TempDir, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_piccolo-master"));
    command
        .args(arguments)
        .arg("--state-dir")
        .arg(folder.path().join("m"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

async fn output(folder: &TempDir, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output: Output = command(folder, arguments).output().await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// Starts the master and waits until it says that it serves.
async fn serve(folder: &TempDir) -> Child {
    let ports = ["--listen", "127.0.0.1:0", "--https-listen", "none"];
    let mut child = command(folder, &ports).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let serves = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.contains("the master serves") {
                return true;
            }
        }
        false
    };
    assert!(tokio::time::timeout(PATIENCE, serves).await.unwrap(), "it ended before it served");
    // whatever it says later must find a reader
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    child
}

#[tokio::test]
async fn it_ends_with_success_when_it_is_asked_to() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = serve(&folder).await;
    let pid = Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    let status = tokio::time::timeout(PATIENCE, child.wait()).await.unwrap().unwrap();
    assert!(status.success(), "{status}");
}

#[tokio::test]
async fn it_can_be_killed_at_any_time_and_starts_again() {
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..5 {
        let mut child = serve(&folder).await;
        child.kill().await.unwrap();
    }
    let context = folder.path().join("m/admin.context.yaml");
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(context).unwrap());
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn a_wrong_configuration_is_named_and_nothing_is_started() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("master.yaml");
    std::fs::write(&file, "listen: here\n").unwrap();
    let file = file.to_str().unwrap();
    for verb in ["run", "check-config"] {
        let (code, _, error) = output(&folder, &[verb, "--config", file]).await;
        assert_eq!(code, Some(1));
        assert!(error.starts_with(&format!("error: {file}:1:9: expected ADDRESS:PORT")), "{error}");
    }
    let etcd = ["--store", "etcd", "--store-endpoint", "http://192.0.2.1:2379"];
    for verb in ["run", "check-config"] {
        let arguments = [&[verb, "--listen", "127.0.0.1:0"], &etcd[..]].concat();
        let (code, _, error) = output(&folder, &arguments).await;
        assert_eq!(code, Some(1));
        assert!(error.contains("would carry everything unencrypted"), "{error}");
    }
    let misspelt = command(&folder, &["check-config"]).env("PICCOLO_MASTER_LISDEN", "x").output();
    let error = String::from_utf8(misspelt.await.unwrap().stderr).unwrap();
    assert!(error.starts_with("error: PICCOLO_MASTER_LISDEN in the environment"), "{error}");
    assert!(!folder.path().join("m").exists());
    let (code, text, _) = output(&folder, &["check-config", "--listen", "127.0.0.1:7"]).await;
    assert_eq!(code, Some(0));
    assert!(text.contains("\nlisten: 127.0.0.1:7\n"), "{text}");
}

#[tokio::test]
async fn a_configuration_is_as_good_as_the_files_that_it_finds() {
    let folder = tempfile::tempdir().unwrap();
    drop(serve(&folder).await.kill().await);
    for name in ["ca.pem", "seal.key", "server.pem"] {
        let file = folder.path().join("m").join(name);
        let open_to = |mode| std::fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
        open_to(0o644);
        for verb in ["run", "check-config"] {
            let (code, _, error) = output(&folder, &[verb, "--listen", "127.0.0.1:0"]).await;
            assert_eq!(code, Some(1), "{verb} takes {name} although others can read it");
            assert!(error.contains(name) && error.contains("644"), "{error}");
        }
        open_to(0o600);
    }
    assert_eq!(output(&folder, &["check-config"]).await.0, Some(0));
}

#[tokio::test]
async fn a_second_master_on_the_same_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let _first = serve(&folder).await;
    let arguments = ["--listen", "127.0.0.1:0", "--https-listen", "none"];
    let second = tokio::time::timeout(Duration::from_secs(60), output(&folder, &arguments));
    let (code, _, error) = second.await.unwrap();
    assert_eq!(code, Some(1));
    assert!(error.contains("only one master may use it at a time"), "{error}");
}

#[tokio::test]
async fn a_lost_store_is_told_with_its_remedy() {
    let folder = tempfile::tempdir().unwrap();
    drop(serve(&folder).await.kill().await);
    for name in ["store.db", "store.db-wal", "store.db-shm"] {
        std::fs::remove_file(folder.path().join("m").join(name)).ok();
    }
    let (code, _, error) = output(&folder, &["--listen", "127.0.0.1:0"]).await;
    assert_eq!(code, Some(1));
    assert!(error.contains("store.db is gone, but this master has served a cluster"), "{error}");
    assert!(error.contains("Mount the disk that it was on, or restore the backup of"), "{error}");
    assert!(!folder.path().join("m/store.db").exists());
}

#[tokio::test]
async fn a_migration_to_an_etcd_that_is_not_there_ends_with_a_remedy() {
    let folder = tempfile::tempdir().unwrap();
    drop(serve(&folder).await.kill().await);
    let to = "etcd:http://127.0.0.1:1";
    let arguments = ["store", "migrate", "--from", "embedded", "--to", to];
    let ended = tokio::time::timeout(PATIENCE, output(&folder, &arguments)).await;
    let (code, _, error) = ended.expect("it gives up by itself");
    assert_eq!(code, Some(4));
    let expected =
        "etcd at http://127.0.0.1:1 did not answer within 10 s; nothing was changed. Start it";
    assert!(error.contains(expected), "{error}");
}

#[tokio::test]
async fn the_state_moves_between_the_stores_and_back() {
    let folder = tempfile::tempdir().unwrap();
    drop(serve(&folder).await.kill().await);
    let etcd = Etcd::start();
    let to_etcd = format!("etcd:{}", etcd.endpoint());
    let migrate = async |from: &str, to: &str| {
        output(&folder, &["store", "migrate", "--from", from, "--to", to]).await
    };
    let (code, text, error) = migrate("embedded", &to_etcd).await;
    assert_eq!(code, Some(0), "{error}");
    assert!(text.contains("were copied and compared"), "{text}");
    let (code, _, error) = migrate("embedded", &to_etcd).await;
    assert_eq!(code, Some(1));
    assert!(error.contains("is not empty"), "{error}");
    let back = format!("embedded:{}", folder.path().join("back.db").display());
    assert_eq!(migrate(&to_etcd, &back).await.0, Some(0));
    let (code, _, error) = migrate("redis", &back).await;
    assert_eq!(code, Some(1));
    assert!(error.contains("is no store; expected embedded"), "{error}");
}
