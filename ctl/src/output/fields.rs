//! `-w fields`: a line a field, `"Name" : value`.

use std::fmt::{Display, Write as _};

use engram_proto::etcdserverpb as pb;
use engram_proto::mvccpb::KeyValue;

use crate::go::numbers::Hex16;
use crate::go::quoted::quoted;

/// Lines under way. With `--hex`, ids are hexadecimal.
#[derive(Debug, Default)]
pub struct Fields {
    text: String,
    is_hex: bool,
}

impl Fields {
    /// No lines yet.
    pub fn new(is_hex: bool) -> Fields {
        Fields {
            text: String::new(),
            is_hex,
        }
    }

    /// A value as it is.
    pub fn line(&mut self, name: &str, value: impl Display) {
        writeln!(self.text, "\"{name}\" : {value}").expect("a string takes what is written");
    }

    /// Text or bytes, quoted.
    pub fn quoted(&mut self, name: &str, value: impl AsRef<[u8]>) {
        self.line(name, quoted(value.as_ref()));
    }

    /// Texts of one field, each quoted behind a space.
    pub fn list(&mut self, name: &str, texts: &[String]) {
        let quoted: String = texts
            .iter()
            .map(|text| format!(" {}", quoted(text.as_bytes())))
            .collect();
        writeln!(self.text, "\"{name}\" :{quoted}").expect("a string takes what is written");
    }

    /// An empty line.
    pub fn gap(&mut self) {
        self.text.push('\n');
    }

    /// The id of a member or cluster.
    pub fn id(&mut self, name: &str, id: u64) {
        match self.is_hex {
            true => self.line(name, format_args!("{id:x}")),
            false => self.line(name, id),
        }
    }

    /// The id of a lease.
    pub fn lease(&mut self, name: &str, id: i64) {
        match self.is_hex {
            true => self.line(name, Hex16(id)),
            false => self.line(name, id),
        }
    }

    /// What an answer begins with.
    pub fn header(&mut self, header: &Option<pb::ResponseHeader>) {
        let header = header.unwrap_or_default();
        self.id("ClusterID", header.cluster_id);
        self.id("MemberID", header.member_id);
        if header.revision > 0 {
            self.line("Revision", header.revision);
        }
        self.line("RaftTerm", header.raft_term);
    }

    /// A key-value; `prefix` is "Prev" for one from before.
    pub fn key_value(&mut self, prefix: &str, kv: &KeyValue) {
        self.quoted(&format!("{prefix}Key"), &kv.key);
        self.line(&format!("{prefix}CreateRevision"), kv.create_revision);
        self.line(&format!("{prefix}ModRevision"), kv.mod_revision);
        self.line(&format!("{prefix}Version"), kv.version);
        self.quoted(&format!("{prefix}Value"), &kv.value);
        self.lease(&format!("{prefix}Lease"), kv.lease);
    }

    /// The lines.
    pub fn into_text(self) -> String {
        self.text
    }
}
