//! Generates the wire code from `proto/` with protox: no `protoc` is needed (docs/adr/0002).
use std::{env, error::Error, path::PathBuf};

use prost::Message as _;

const FILES: [&str; 9] = [
    "piccolo/v1/node.proto",
    "piccolo/v1/topology.proto",
    "piccolo/v1/event.proto",
    "piccolo/v1/log.proto",
    "piccolo/v1/node_agent.proto",
    "piccolo/v1/access.proto",
    "piccolo/v1/monitoring_server.proto",
    "piccolo/v1/alert.proto",
    "piccolo/v1/api_server.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../../proto");
    println!("cargo:rerun-if-changed={}", root.display());
    let descriptors = protox::compile(FILES, [&root])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    std::fs::write(out.join("piccolo_descriptor.bin"), descriptors.encode_to_vec())?;
    let generate = || tonic_prost_build::configure().build_transport(false);
    generate()
        .build_client(false)
        .codec_path("crate::codec::RequestCodec")
        .compile_fds(descriptors.clone())?;
    // once more for the clients, with another codec and the same messages
    let clients = out.join("clients");
    std::fs::create_dir_all(&clients)?;
    generate()
        .build_server(false)
        .extern_path(".piccolo.v1", "crate::v1")
        .out_dir(clients)
        .compile_fds(descriptors)?;
    Ok(())
}
