//! Backups between real hosts: made by the master's unit, restored by root on another host with the commands of
//! docs/operations/recovery.md (HLD §10.3).

use std::{error::Error, os::unix::fs::PermissionsExt as _};

use piccolo_testkit::{
    cluster::{Client, Programs, client},
    testbed::{
        self,
        cluster::{HostCluster, MASTER, MASTER_UNIT},
        host::Host,
    },
};
use serde_json::Value;

type Story = Result<(), Box<dyn Error>>;

/// The host that becomes the master.
const OTHER: &str = "node-2";
const NODE: &str = "node-1";
/// Where systemd keeps what a user of its own making may write.
const STATE: &str = "/var/lib/private/piccolo";
const CONTEXT: &str = "/var/lib/piccolo/master/admin.context.yaml";
const PASSPHRASE: &str = "(umask 077; echo 'correct horse battery staple' >";

#[test]
fn root_restores_the_backup_of_the_unit_on_another_host_and_nodes_follow() -> Story {
    let folder = testbed::folder_beside_this_test()?;
    let cluster = HostCluster::with_bare_nodes(&folder, &Programs::beside_this_test()?, 2)?;
    let (master, other) = (cluster.host(MASTER)?, cluster.host(OTHER)?);
    back_up_by_itself(&cluster, master, other)?;
    cluster.install_agent(NODE)?;
    cluster.wait_until_in_session(NODE)?;
    cluster.run_container(NODE, "web", &[])?;
    let pid = pid_of_container(&cluster)?;
    let backup = newest_with_the_node(&cluster, master)?;
    owned_by_the_unit(master)?;

    typed(master, &format!("systemctl disable --now {MASTER_UNIT}"))?;
    cluster.install_master_without_starting(other)?;
    assert_eq!(other.unit(MASTER_UNIT, "ActiveState")?, "inactive");
    let text = master.shell(&format!("base64 -w0 {backup}"))?;
    other.write("/root/backup.base64", text)?;
    typed(
        other,
        &format!(
            "cd /root; {PASSPHRASE} passphrase); base64 -d backup.base64 >piccolo.backup; \
         piccolo backup restore piccolo.backup --passphrase-file passphrase; \
         systemctl enable --now {MASTER_UNIT} || {{ journalctl -u {MASTER_UNIT} -n 30; exit 1; }}"
        ),
    )?;
    follows(&cluster, other)?;

    typed(other, "piccolo doctor")?;
    // and once more, over what is there
    typed(
        other,
        &format!(
            "cd /root; systemctl stop {MASTER_UNIT}; \
         piccolo backup restore piccolo.backup --force --passphrase-file passphrase; \
         systemctl start {MASTER_UNIT}; ls -d {STATE}/master/before-restore-*"
        ),
    )?;
    follows(&cluster, other)?;
    assert_eq!(pid_of_container(&cluster)?, pid, "no container was touched");
    Ok(cluster.end()?)
}

/// As the documentation says it, but often; and the nodes are told both addresses.
fn back_up_by_itself(cluster: &HostCluster, master: &Host, other: &Host) -> Story {
    let (old, new) = (master.address(), other.address());
    typed(
        master,
        &format!(
            "{PASSPHRASE} /var/lib/piccolo/master/backup.passphrase); cd /etc/piccolo; \
         sed -i 's/^advertise:.*/advertise: [{old}, {new}]/' master.yaml; \
         printf '%s\n' 'backup:' '  folder: /var/lib/piccolo/backups' '  every: 5s' '  keep: 2' \
         '  passphrase_file: /var/lib/piccolo/master/backup.passphrase' >>master.yaml; \
         systemctl restart {MASTER_UNIT}"
        ),
    )?;
    Ok(cluster.wait("the master answers", |c| c.json(&["status", "-o", "json"]).map(|_| true))?)
}

/// The path of a backup in which the node is.
fn newest_with_the_node(cluster: &HostCluster, master: &Host) -> Result<String, Box<dyn Error>> {
    let newest = "ls /var/lib/piccolo/backups/*.backup | tail -n 1";
    cluster.wait("a backup knows the node", |_| {
        let survey = typed(
            master,
            &format!(
                "piccolo backup inspect \"$({newest})\" -o json \
             --passphrase-file /var/lib/piccolo/master/backup.passphrase"
            ),
        );
        let survey = survey.ok().and_then(|text| serde_json::from_str::<Value>(&text).ok());
        Ok(survey.is_some_and(|survey| survey["nodes"] == 1))
    })?;
    // it stays while its master makes more
    Ok(master
        .shell(&format!("cp -p \"$({newest})\" /root/kept.backup; echo /root/kept.backup"))?
        .trim()
        .to_owned())
}

/// The unit runs as its own user, everything is its own and nobody else's, and the node is there.
fn follows(cluster: &HostCluster, other: &Host) -> Story {
    let context = cluster.testbed.folder().join("moved.context.yaml");
    std::fs::write(&context, other.run(&["cat", CONTEXT])?)?;
    std::fs::set_permissions(&context, std::fs::Permissions::from_mode(0o600))?;
    let client = Client {
        cli: cluster.executables().join("piccolo"),
        context,
        namespace: Some(cluster.testbed.network()),
    };
    client::wait(
        "the node follows",
        || {
            let node = client.node(NODE)?;
            Ok(node["connected"] == true && node["status"] == "Ready")
        },
        || other.journal(MASTER_UNIT),
    )?;
    let audit = client.piccolo(&["audit", "verify"])?;
    assert!(audit.status.success(), "{audit:?}");
    owned_by_the_unit(other)
}

fn owned_by_the_unit(host: &Host) -> Story {
    let user = host.shell(&format!("stat -c %u {STATE}/master"))?;
    assert_ne!(user.trim(), "0", "a user of its own");
    let process = host.unit(MASTER_UNIT, "MainPID")?;
    let runs_as = host.shell(&format!("stat -c %u /proc/{process}"))?;
    assert_eq!(runs_as, user, "the unit's");
    let strange = format!(
        "find {STATE}/master {STATE}/backups ! -type l '(' ! -uid {} -o -perm /077 ')'",
        user.trim()
    );
    assert_eq!(host.shell(&strange)?.trim(), "", "another's, or open to others");
    Ok(())
}

/// As the operator of that host types it, as root.
fn typed(host: &Host, script: &str) -> Result<String, Box<dyn Error>> {
    let output = host.ssh(&format!("set -e; {script}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    Err(format!("{script}: {}{}", text(&output.stdout), text(&output.stderr)).into())
}

fn pid_of_container(cluster: &HostCluster) -> Result<String, Box<dyn Error>> {
    Ok(cluster.host(NODE)?.run(&["podman", "inspect", "--format", "{{.State.Pid}}", "web"])?)
}
