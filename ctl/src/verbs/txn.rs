//! `txn`: comparisons, then requests if they hold, then requests if they do not, from standard
//! input; an empty line ends each part. `get`, `put` and `del` have their flags; words may be quoted.

use std::io::BufRead;
use std::os::unix::ffi::OsStringExt as _;

use engram_proto::etcdserverpb as pb;
use pb::compare::{CompareResult, CompareTarget, TargetUnion};
use pb::request_op::Request as Operation;
use pb::response_op::Response;

use super::{kv, request};
use crate::cli::{Global, Request, Txn};
use crate::connect::{any, within};
use crate::failure::Failure;
use crate::go::words::{quoted, words};
use crate::output::{self, Answer, Fields};

/// `txn`.
pub async fn txn(global: &Global, txn: Txn) -> Result<(), Failure> {
    let request = read(&mut std::io::stdin().lock(), txn.interactive)?;
    let mut client = kv::client(global, any(global).await?.channel);
    let answer = within(global, client.txn(request)).await?.into_inner();
    Answer::new(|| text(kv::Text::of(global), &answer))
        .message("TxnResponse", &answer)
        .fields(global, |lines| fields(lines, &answer))
        .write(global)
}

fn read(input: &mut dyn BufRead, is_interactive: bool) -> Result<pb::TxnRequest, Failure> {
    let mut request = pb::TxnRequest::default();
    let prompt = |text: &str| match is_interactive {
        true => output::text(text),
        false => Ok(()),
    };
    prompt("compares:\n")?;
    for line in part(input)? {
        request.compare.push(comparison(&line)?);
    }
    prompt("success requests (get, put, del):\n")?;
    for line in part(input)? {
        request.success.push(operation(&line)?);
    }
    prompt("failure requests (get, put, del):\n")?;
    for line in part(input)? {
        request.failure.push(operation(&line)?);
    }
    Ok(request)
}

/// The lines up to an empty one. An input that ends before is one that was cut off: nothing of it is
/// done.
fn part(input: &mut dyn BufRead) -> Result<Vec<String>, Failure> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        input.read_line(&mut line)?;
        if !line.ends_with('\n') {
            return Err(Failure::input(
                "the input ends before the empty line behind the requests of a failure",
            ));
        }
        let line = line.trim();
        if line.is_empty() {
            return Ok(lines);
        }
        lines.push(line.to_owned());
    }
}

/// `value("k") = "v"`, `version("k") > "0"`, and so on.
fn comparison(line: &str) -> Result<pb::Compare, Failure> {
    let malformed = || Failure::input(format!("malformed comparison: {line}"));
    let (target, rest) = line.split_once('(').ok_or_else(malformed)?;
    let key_ends = |c: char| c == ')' || c.is_whitespace();
    let part = |text, ends| quoted(text, ends).ok().flatten().ok_or_else(malformed);
    let (key, rest) = part(rest, key_ends)?;
    let rest = rest.trim_start().strip_prefix(')').ok_or_else(malformed)?;
    let (operator, rest) = part(rest, char::is_whitespace)?;
    let (operand, rest) = part(rest, char::is_whitespace)?;
    if !rest.trim().is_empty() {
        return Err(malformed());
    }
    let result = match operator.to_str().unwrap_or_default() {
        "=" => CompareResult::Equal,
        ">" => CompareResult::Greater,
        "<" => CompareResult::Less,
        "!=" => CompareResult::NotEqual,
        _ => return Err(malformed()),
    };
    let text = || operand.to_str().ok_or_else(malformed);
    let number = || text()?.parse::<i64>().map_err(|_| malformed());
    let (target, union) = match target.trim() {
        "val" | "value" => {
            let value = operand.into_vec().into();
            (CompareTarget::Value, TargetUnion::Value(value))
        }
        "ver" | "version" => (CompareTarget::Version, TargetUnion::Version(number()?)),
        "c" | "create" => (
            CompareTarget::Create,
            TargetUnion::CreateRevision(number()?),
        ),
        "m" | "mod" => (CompareTarget::Mod, TargetUnion::ModRevision(number()?)),
        "lease" => (
            CompareTarget::Lease,
            TargetUnion::Lease(super::lease_id(text()?)?),
        ),
        _ => return Err(malformed()),
    };
    Ok(pb::Compare {
        result: result.into(),
        target: target.into(),
        key: key.into_vec().into(),
        range_end: Vec::new().into(),
        target_union: Some(union),
    })
}

fn operation(line: &str) -> Result<pb::RequestOp, Failure> {
    let invalid = |why: &str| Failure::input(format!("invalid txn request: {line}{why}"));
    let words =
        words(line).map_err(|_| invalid(" (a quote is not closed, or an escape unknown)"))?;
    let request =
        Request::read(words).map_err(|_| invalid(" (get KEY, put KEY VALUE, del KEY)"))?;
    let operation = match request {
        Request::Get(get) => Operation::RequestRange(request::get(get)?),
        Request::Put(mut put) => {
            let value = match (put.value.take(), put.ignore_value) {
                (Some(value), false) => value.into_vec(),
                (None, true) => Vec::new(),
                _ => return Err(invalid(" (put KEY VALUE, or put --ignore-value KEY)")),
            };
            Operation::RequestPut(request::put(put, value)?)
        }
        Request::Del(del) => Operation::RequestDeleteRange(request::delete(del)?),
    };
    Ok(pb::RequestOp {
        request: Some(operation),
    })
}

fn text(shown: kv::Text, answer: &pb::TxnResponse) -> Vec<u8> {
    let verdict = if answer.succeeded {
        "SUCCESS"
    } else {
        "FAILURE"
    };
    let mut out = format!("{verdict}\n").into_bytes();
    for response in &answer.responses {
        out.push(b'\n');
        out.extend(match &response.response {
            Some(Response::ResponseRange(answer)) => shown.range(answer, false),
            Some(Response::ResponsePut(answer)) => shown.put(answer),
            Some(Response::ResponseDeleteRange(answer)) => shown.delete(answer),
            Some(Response::ResponseTxn(answer)) => text(shown, answer),
            None => Vec::new(),
        });
    }
    out
}

fn fields(lines: &mut Fields, answer: &pb::TxnResponse) {
    lines.header(&answer.header);
    lines.line("Succeeded", answer.succeeded);
    for response in &answer.responses {
        match &response.response {
            Some(Response::ResponseRange(answer)) => kv::range_fields(lines, answer),
            Some(Response::ResponsePut(answer)) => kv::put_fields(lines, answer),
            Some(Response::ResponseDeleteRange(answer)) => kv::delete_fields(lines, answer),
            Some(Response::ResponseTxn(answer)) => fields(lines, answer),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_is_read_as_etcdctl_reads_it() {
        let mut text = concat!(
            "value(\"a b\") = \"x)\"\nmod(\"c)\") > \"3\"\nlease(`d\"`) = `1f`\n\n",
            "put k \"two words\" --lease=1f --prev-kv\nget k --prefix --limit=2\n\n",
            "del k --prev-kv\n\n"
        )
        .as_bytes();
        let request = read(&mut text, false).unwrap();
        let keys: Vec<&[u8]> = request.compare.iter().map(|c| c.key.as_ref()).collect();
        assert_eq!(keys, [b"a b".as_slice(), b"c)", b"d\""]);
        let targets: Vec<_> = request
            .compare
            .iter()
            .map(|c| c.target_union.clone())
            .collect();
        assert_eq!(
            targets,
            [
                Some(TargetUnion::Value(b"x)".to_vec().into())),
                Some(TargetUnion::ModRevision(3)),
                Some(TargetUnion::Lease(0x1f)),
            ]
        );
        let wanted = [
            Operation::RequestPut(pb::PutRequest {
                key: b"k".to_vec().into(),
                value: b"two words".to_vec().into(),
                lease: 0x1f,
                prev_kv: true,
                ..pb::PutRequest::default()
            }),
            Operation::RequestRange(pb::RangeRequest {
                key: b"k".to_vec().into(),
                range_end: b"l".to_vec().into(),
                limit: 2,
                ..pb::RangeRequest::default()
            }),
        ];
        let success: Vec<_> = request
            .success
            .into_iter()
            .filter_map(|op| op.request)
            .collect();
        assert_eq!(success, wanted);
        assert_eq!(request.failure.len(), 1);
    }

    #[test]
    fn what_makes_no_transaction_is_refused() {
        for bad in [
            "value(\"a\" = \"x\"\n\n\n\n",
            "value(\"a) = \"x\"\n\n\n\n",
            "value(\"a\") = \"x\" \"y\"\n\n\n\n",
            "size(\"a\") = \"1\"\n\n\n\n",
            "mod(\"a\") = \"x\"\n\n\n\n",
            "\nput k\n\n\n",
            "\nput \"k\n\n\n",
            "\nput --ignore-value k v\n\n\n",
            "\nget\n\n\n",
            "\nwatch k\n\n\n",
            "\nget k --prefix --from-key\n\n\n",
            "",
            "\nput k v\n",
            "\nput k v\n\nput k cut off",
            "\nput k v\n\nput k v\n",
        ] {
            assert!(read(&mut bad.as_bytes(), false).is_err(), "{bad}");
        }
    }
}
