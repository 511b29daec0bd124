//! Real hosts that are not who they were, or that are there twice: cloned disks, new disks, other names and
//! addresses (HLD §5.1, §10.3).

use std::error::Error;

use piccolo_testkit::testbed::{
    cluster::{AGENT_UNIT, HostCluster, MASTER},
    witness::Witness,
};

type Story = Result<(), Box<dyn Error>>;

const STATE: &str = "/var/lib/piccolo/nodeagent";

#[test]
fn a_board_with_a_cloned_disk_is_refused_and_the_first_one_works_on() -> Story {
    let cluster = HostCluster::start(2)?;
    cluster.run_container("node-1", "web", &[])?;
    let witness = Witness::of(&cluster)?;
    let id = cluster.node("node-1")?["id"].clone();
    let (one, two) = (cluster.host("node-1")?, cluster.host("node-2")?);
    let packed = one.shell(&format!("tar -C {STATE} -c . | base64 --wrap=0"))?;
    two.run(&["systemctl", "stop", AGENT_UNIT])?;
    two.write("/root/clone", packed)?;
    two.shell(&format!(
        "rm -rf {STATE}/*; base64 -d /root/clone | tar -C {STATE} -x; systemctl start {AGENT_UNIT}"
    ))?;
    cluster.wait("somebody is told of the clone", |c| {
        Ok(c.count("node-1", "DuplicateIdentity")? >= 1)
    })?;
    // the clone says itself what is wrong
    cluster.wait("the clone's own status names the reason", |_| {
        Ok(two.run(&["piccolo-nodeagent", "status"])?.contains("is this a cloned disk?"))
    })?;
    let node = cluster.node("node-1")?;
    assert_eq!((&node["id"], &node["ip"]), (&id, &one.address().into()), "{node}");
    assert_eq!((&node["status"], &node["connected"]), (&"Ready".into(), &true.into()), "{node}");
    assert_eq!(cluster.count("node-1", "NodeNotReady")?, 0);
    two.run(&["systemctl", "stop", AGENT_UNIT])?;
    witness.confirm(&cluster)?;
    Ok(cluster.end()?)
}

#[test]
fn a_board_with_a_new_disk_takes_its_old_name_only_when_an_operator_says_so() -> Story {
    let cluster = HostCluster::start(1)?;
    let label = cluster.piccolo(&["node", "label", "node-1", "site=seoul"])?;
    assert!(label.status.success(), "{label:?}");
    let id = cluster.node("node-1")?["id"].clone();
    let host = cluster.host("node-1")?;
    host.run(&["systemctl", "stop", AGENT_UNIT])?;
    host.shell(&format!("rm -rf {STATE}/*"))?;
    let token = cluster.client().token(&["--ttl", "10m"])?;
    host.write("/root/token", token)?;
    host.shell(&format!(
        "piccolo-nodeagent join --token-file /root/token; systemctl start {AGENT_UNIT}"
    ))?;
    cluster.wait("the board is told why it is refused, and what to do", |_| {
        let said = host.run(&["piccolo-nodeagent", "status"])?;
        Ok(said.contains("is the name of node"))
    })?;
    assert_eq!(cluster.node("node-1")?["id"], id);
    let reset = cluster.piccolo(&["node", "reset-identity", "node-1"])?;
    assert!(reset.status.success(), "{reset:?}");
    // it tries again by itself after a minute or two; a person starts it anew
    host.run(&["systemctl", "restart", AGENT_UNIT])?;
    cluster.wait("the name has a new identity", |c| {
        let node = c.node("node-1")?;
        Ok(node["id"] != id && node["status"] == "Ready" && node["connected"] == true)
    })?;
    let node = cluster.node("node-1")?;
    assert_eq!(node["labels"]["site"], "seoul", "what people said of it stays: {node}");
    Ok(cluster.end()?)
}

#[test]
fn a_host_with_another_name_and_address_is_the_node_that_it_was() -> Story {
    let cluster = HostCluster::start(1)?;
    cluster.run_container("node-1", "web", &[])?;
    let witness = Witness::of(&cluster)?;
    let id = cluster.node("node-1")?["id"].clone();
    let host = cluster.host("node-1")?;
    let other =
        cluster.host(MASTER)?.address().rsplit_once('.').ok_or("no address")?.0.to_owned() + ".200";
    host.shell(&format!(
        "hostname zone-b; echo zone-b >/etc/hostname; \
         device=$(ip -o -4 address show to {old} | awk '{{print $2}}'); \
         prefix=$(ip -o -4 address show to {old} | awk '{{print $4}}' | cut -d/ -f2); \
         ip address delete {old}/$prefix dev $device; ip address add {other}/$prefix dev $device; \
         systemctl restart {AGENT_UNIT}",
        old = host.address()
    ))?;
    cluster.wait("the node has its new name and address", |c| {
        let node = c.node("zone-b")?;
        Ok(node["id"] == id && node["ip"] == other.as_str() && node["connected"] == true)
    })?;
    assert!(cluster.node("node-1")?.is_null(), "its old name is free");
    cluster.wait_for_status("zone-b", "Ready")?;
    assert_eq!(cluster.count("zone-b", "NodeRegistered")?, 0, "it did not join again");
    witness.confirm(&cluster)?;
    Ok(cluster.end()?)
}
