//! Compiles the protos with protox (pure Rust: no protoc to install).

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let protos = [
        "etcd/api/kv.proto",
        "etcd/api/auth.proto",
        "etcd/api/rpc.proto",
        "etcd/api/v3lock.proto",
        "etcd/api/v3election.proto",
        "engram/raft/v1/raft.proto",
        "engram/store/v1/store.proto",
        "grpc/health/v1/health.proto",
    ];
    for proto in protos {
        println!("cargo:rerun-if-changed={proto}");
    }
    let descriptors = protox::compile(protos, ["."])?;
    tonic_prost_build::configure()
        .bytes(".")
        .build_server(false)
        .build_transport(false)
        .compile_fds(descriptors)?;
    Ok(())
}
