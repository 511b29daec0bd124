//! The NodeAgents for ARM, as they are shipped, under an emulator of their processors: they join a real master (HLD §13).

use std::{
    error::Error,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use piccolo_testkit::cluster::{Cluster, Options};

type Story = Result<(), Box<dyn Error>>;

#[test]
fn an_agent_for_aarch64_joins_and_comes_back() -> Story {
    joins_and_comes_back("aarch64", "qemu-aarch64-static")
}

#[test]
fn an_agent_for_armv7_joins_and_comes_back() -> Story {
    joins_and_comes_back("armv7", "qemu-arm-static")
}

fn joins_and_comes_back(architecture: &str, emulator: &str) -> Story {
    let folder = tempfile::tempdir()?;
    let mut options = Options::new(folder.path())?;
    options.programs.agent = emulated(folder.path(), architecture, emulator)?;
    let mut cluster = Cluster::start(options)?;
    cluster.join("board-1")?;
    cluster.wait_for_status("board-1", "Ready")?;
    let node = cluster.node("board-1")?;
    assert!(node["resources"]["memory"].as_u64().is_some_and(|mebibytes| mebibytes > 0), "{node}");
    cluster.agent("board-1")?.kill();
    cluster.wait_for_status("board-1", "NotReady")?;
    cluster.start_agent("board-1")?;
    cluster.wait_for_status("board-1", "Ready")?;
    assert_eq!(cluster.node("board-1")?["id"], node["id"], "it is the same node");
    Ok(())
}

/// A program that runs the agent on this machine.
fn emulated(folder: &Path, architecture: &str, emulator: &str) -> Result<PathBuf, Box<dyn Error>> {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
    let agent = target.join("dist").join(architecture).join("piccolo-nodeagent");
    let emulator = target.join("cross/root/usr/bin").join(emulator);
    for needed in [&agent, &emulator] {
        if !needed.exists() {
            let path = needed.display();
            return Err(format!(
                "there is no {path}; cargo xtask dist --agents --only {architecture}"
            )
            .into());
        }
    }
    let program = folder.join("piccolo-nodeagent");
    let script = format!("#!/bin/sh\nexec {} {} \"$@\"\n", emulator.display(), agent.display());
    fs::write(&program, script)?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    Ok(program)
}
