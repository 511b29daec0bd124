//! The real hosts themselves: what the other stories stand on.

use std::{error::Error, fs};

use piccolo_testkit::{
    podman::IMAGE,
    testbed::{Testbed, folder_beside_this_test, runs},
};

type Story = Result<(), Box<dyn Error>>;

#[test]
fn a_power_loss_ends_all_that_runs_and_leaves_what_was_written() -> Story {
    let mut testbed = Testbed::start(1)?;
    let host = testbed.host_mut("node-1")?;
    assert_eq!(host.run(&["systemctl", "is-system-running"])?, "running");
    let identity = host.shell("cat /etc/machine-id /etc/ssh/ssh_host_ed25519_key.pub")?;
    host.shell("for folder in /etc /var/lib /opt /run; do echo here >$folder/note; done")?;
    host.run(&["podman", "run", "--detach", "--name", "web", IMAGE, "sleep", "100000"])?;
    let boot = host.run(&["cat", "/proc/sys/kernel/random/boot_id"])?;
    host.power_off()?;
    assert!(!host.is_on());
    assert!(host.run(&["true"]).is_err());
    host.boot()?;
    assert_eq!(host.shell("cat /etc/machine-id /etc/ssh/ssh_host_ed25519_key.pub")?, identity);
    assert_eq!(host.shell("cat /etc/note /var/lib/note /opt/note")?, "here\nhere\nhere");
    assert!(host.run(&["cat", "/run/note"]).is_err(), "/run is new with every boot");
    assert_eq!(host.run(&["podman", "ps", "--quiet"])?, "");
    assert_eq!(host.run(&["podman", "ps", "--all", "--format", "{{.Names}}"])?, "web");
    assert_ne!(host.run(&["cat", "/proc/sys/kernel/random/boot_id"])?, boot);
    Ok(testbed.end()?)
}

#[test]
fn testbeds_with_the_same_addresses_do_not_meet() -> Story {
    let (one, other) = (Testbed::start(2)?, Testbed::start(1)?);
    let (mine, yours) = (one.host("node-1")?, other.host("node-1")?);
    assert_eq!(mine.address(), yours.address());
    mine.run(&["touch", "/root/mine"])?;
    assert!(mine.ssh("ls /root/mine")?.status.success());
    assert_eq!(yours.ssh("ls /root/mine")?.status.code(), Some(2));
    let ping = "ping -c 1 -W 1 node-2";
    assert!(mine.ssh(ping)?.status.success());
    one.host("node-2")?.cut_link()?;
    assert!(mine.run(&["sh", "-c", ping]).is_err());
    one.host("node-2")?.heal_link()?;
    one.end()?;
    assert!(yours.ssh("true")?.status.success());
    Ok(other.end()?)
}

#[test]
fn what_a_killed_run_left_is_removed_by_the_next_one() -> Story {
    let testbed = Testbed::start(1)?;
    let name = testbed.network_name().to_owned();
    // As after SIGKILL: nobody cleans up, and the process that is noted as the owner is gone.
    let mut gone = std::process::Command::new("true").spawn()?;
    gone.wait()?;
    fs::write(testbed.folder().join("owner"), format!("{} 1\n", gone.id()))?;
    std::mem::forget(testbed);
    assert!(runs::remains(&name).len() >= 3, "{:?}", runs::remains(&name));
    runs::make_ready(&folder_beside_this_test()?)?;
    assert_eq!(runs::remains(&name), Vec::<String>::new());
    Ok(())
}
