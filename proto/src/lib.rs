//! Generated code only: etcd's v3 messages and clients, the standard health check, and Engram's
//! own Raft, peer and store messages. The protos beside this crate's sources say what each field means.

#![allow(missing_docs, clippy::all, rustdoc::all)]

/// What the messages and services are, as protobuf's own `FileDescriptorSet`: for those who translate
/// them by description.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// etcd's packages, under the names etcd gives them.
pub mod etcd {
    pub mod authpb {
        tonic::include_proto!("authpb");
    }
    pub mod mvccpb {
        tonic::include_proto!("mvccpb");
    }
    pub mod etcdserverpb {
        tonic::include_proto!("etcdserverpb");
    }
    pub mod v3lockpb {
        tonic::include_proto!("v3lockpb");
    }
    pub mod v3electionpb {
        tonic::include_proto!("v3electionpb");
    }
}

pub use etcd::{authpb, etcdserverpb, mvccpb, v3electionpb, v3lockpb};

/// gRPC's standard health check.
pub mod health {
    tonic::include_proto!("grpc.health.v1");
}

pub mod engram {
    pub mod backup {
        pub mod v1 {
            tonic::include_proto!("engram.backup.v1");
        }
    }
    pub mod peer {
        pub mod v1 {
            include!(concat!(env!("OUT_DIR"), "/peer/engram.peer.v1.rs"));
        }
    }
    pub mod raft {
        pub mod v1 {
            tonic::include_proto!("engram.raft.v1");
        }
    }
    pub mod store {
        pub mod v1 {
            tonic::include_proto!("engram.store.v1");
        }
    }
}

/// What the chunks of a backup hold.
pub use engram::backup::v1 as backup;
/// What members say to each other.
pub use engram::peer::v1 as peer;
/// What a Raft log entry holds.
pub use engram::raft::v1 as raft;
/// What the store keeps beside the revisions.
pub use engram::store::v1 as store;
