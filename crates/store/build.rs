//! Generates the etcd client from `proto/etcd` with protox: no `protoc` is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    #[cfg(feature = "etcd")]
    {
        let root = std::path::PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?).join("proto");
        println!("cargo:rerun-if-changed={}", root.display());
        let descriptors = protox::compile(["etcd/etcdserverpb.proto"], [&root])?;
        tonic_prost_build::configure()
            .build_server(false)
            .build_transport(false)
            .compile_fds(descriptors)?;
    }
    Ok(())
}
