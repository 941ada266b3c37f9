//! Requests as text for the log, in the shape that etcd's log has: protobuf's text format, values
//! replaced by their size (they may be secrets).

use std::fmt::Write;

use engram_proto::etcdserverpb as pb;
use pb::compare::TargetUnion;
use pb::request_op::Request;

/// The longest text of a request, bytes; the rest is left out.
const TEXT_MAX: usize = 8 << 10;

/// A text in the making, which stops to grow at [`TEXT_MAX`].
#[derive(Default)]
pub(super) struct Text(String);

impl Text {
    /// The text.
    pub(super) fn finish(self) -> String {
        self.0
    }

    /// Of a range.
    pub(super) fn range(mut self, range: &pb::RangeRequest) -> Text {
        self.bytes("key", &range.key);
        self.bytes("range_end", &range.range_end);
        self.number("limit", range.limit);
        self.number("revision", range.revision);
        self.name(
            "sort_order",
            range.sort_order,
            range.sort_order().as_str_name(),
        );
        self.name(
            "sort_target",
            range.sort_target,
            range.sort_target().as_str_name(),
        );
        self.flag("serializable", range.serializable);
        self.flag("keys_only", range.keys_only);
        self.flag("count_only", range.count_only);
        self.number("min_mod_revision", range.min_mod_revision);
        self.number("max_mod_revision", range.max_mod_revision);
        self.number("min_create_revision", range.min_create_revision);
        self.number("max_create_revision", range.max_create_revision);
        self
    }

    /// Of a put, without its value.
    pub(super) fn put(mut self, put: &pb::PutRequest) -> Text {
        self.bytes("key", &put.key);
        self.size("value_size", put.value.len());
        self.number("lease", put.lease);
        self.flag("prev_kv", put.prev_kv);
        self.flag("ignore_value", put.ignore_value);
        self.flag("ignore_lease", put.ignore_lease);
        self
    }

    /// Of a delete.
    pub(super) fn delete_range(mut self, delete: &pb::DeleteRangeRequest) -> Text {
        self.bytes("key", &delete.key);
        self.bytes("range_end", &delete.range_end);
        self.flag("prev_kv", delete.prev_kv);
        self
    }

    /// Of a transaction, without the values in it.
    pub(super) fn txn(self, txn: &pb::TxnRequest) -> Text {
        let compares = self.group("compare", |text| {
            txn.compare.iter().fold(text, Text::compare)
        });
        let then = compares.group("success", |text| txn.success.iter().fold(text, Text::op));
        then.group("failure", |text| txn.failure.iter().fold(text, Text::op))
    }

    fn op(self, op: &pb::RequestOp) -> Text {
        match &op.request {
            Some(Request::RequestRange(range)) => self.group("request_range", |t| t.range(range)),
            Some(Request::RequestPut(put)) => self.group("request_put", |t| t.put(put)),
            Some(Request::RequestDeleteRange(delete)) => {
                self.group("request_delete_range", |t| t.delete_range(delete))
            }
            Some(Request::RequestTxn(txn)) => self.group("request_txn", |t| t.txn(txn)),
            None => self,
        }
    }

    fn compare(mut self, compare: &pb::Compare) -> Text {
        self.name("result", compare.result, compare.result().as_str_name());
        self.name("target", compare.target, compare.target().as_str_name());
        self.bytes("key", &compare.key);
        match &compare.target_union {
            Some(TargetUnion::Version(version)) => self.number("version", *version),
            Some(TargetUnion::CreateRevision(at)) => self.number("create_revision", *at),
            Some(TargetUnion::ModRevision(at)) => self.number("mod_revision", *at),
            Some(TargetUnion::Value(value)) => self.size("value_size", value.len()),
            Some(TargetUnion::Lease(lease)) => self.number("lease", *lease),
            None => {}
        }
        self.bytes("range_end", &compare.range_end);
        self
    }

    fn group(mut self, name: &str, fill: impl FnOnce(Text) -> Text) -> Text {
        if !self.push(format_args!("{name}:<")) {
            return self;
        }
        let mut filled = fill(self);
        filled.0.push('>');
        filled
    }

    fn bytes(&mut self, name: &str, bytes: &[u8]) {
        if !bytes.is_empty() {
            let shown = bytes.get(..TEXT_MAX).unwrap_or(bytes);
            self.push(format_args!("{name}:\"{}\"", shown.escape_ascii()));
        }
    }

    fn number(&mut self, name: &str, number: i64) {
        if number != 0 {
            self.push(format_args!("{name}:{number}"));
        }
    }

    fn size(&mut self, name: &str, len: usize) {
        self.push(format_args!("{name}:{len}"));
    }

    fn flag(&mut self, name: &str, flag: bool) {
        if flag {
            self.push(format_args!("{name}:true"));
        }
    }

    fn name(&mut self, name: &str, number: i32, text: &str) {
        if number != 0 {
            self.push(format_args!("{name}:{text}"));
        }
    }

    /// False: the text is long enough without it.
    fn push(&mut self, field: std::fmt::Arguments<'_>) -> bool {
        if self.0.len() >= TEXT_MAX {
            return false;
        }
        if !self.0.is_empty() && !self.0.ends_with('<') {
            self.0.push(' ');
        }
        self.0
            .write_fmt(field)
            .expect("a string takes what is written to it");
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_is_told_without_its_values() {
        let put = pb::PutRequest {
            key: "k\0".into(),
            value: "secret".into(),
            ..Default::default()
        };
        let compare = pb::Compare {
            key: "k".into(),
            target: pb::compare::CompareTarget::Mod.into(),
            target_union: Some(TargetUnion::ModRevision(7)),
            ..Default::default()
        };
        let txn = pb::TxnRequest {
            compare: vec![compare],
            success: vec![pb::RequestOp {
                request: Some(Request::RequestPut(put)),
            }],
            failure: vec![],
        };
        assert_eq!(
            Text::default().txn(&txn).finish(),
            r#"compare:<target:MOD key:"k" mod_revision:7> success:<request_put:<key:"k\x00" value_size:6>> failure:<>"#
        );
    }

    #[test]
    fn a_long_request_is_cut() {
        let put = pb::RequestOp {
            request: Some(Request::RequestPut(pb::PutRequest::default())),
        };
        let txn = pb::TxnRequest {
            success: vec![put; 100_000],
            ..Default::default()
        };
        let text = Text::default().txn(&txn).finish();
        assert!(text.len() < TEXT_MAX + 100, "{}", text.len());
    }
}
