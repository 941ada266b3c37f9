//! Compiles the protos with protox (pure Rust: no protoc to install).

use std::path::PathBuf;

use prost::Message;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let protos = [
        "etcd/api/kv.proto",
        "etcd/api/auth.proto",
        "etcd/api/rpc.proto",
        "etcd/api/v3lock.proto",
        "etcd/api/v3election.proto",
        "engram/backup/v1/backup.proto",
        "engram/raft/v1/raft.proto",
        "engram/store/v1/store.proto",
        "grpc/health/v1/health.proto",
    ];
    let peer = "engram/peer/v1/peer.proto";
    for proto in protos.iter().chain([&peer]) {
        println!("cargo:rerun-if-changed={proto}");
    }
    let descriptors = protox::compile(protos, ["."])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .bytes(".")
        .build_server(false)
        .build_transport(false)
        .compile_fds(descriptors)?;
    // Members serve each other through the generated server; clients are served by the edge's own
    // table. In a directory of its own, so that the messages it imports are generated once.
    let out = out.join("peer");
    std::fs::create_dir_all(&out)?;
    tonic_prost_build::configure()
        .bytes(".")
        .build_transport(false)
        .out_dir(out)
        .compile_fds(protox::compile([peer], ["."])?)?;
    Ok(())
}
