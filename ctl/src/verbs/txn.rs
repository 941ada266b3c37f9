//! `txn`: comparisons, then requests if they hold, then requests if they do not, from standard
//! input; an empty line ends each part. `get`, `put` and `del` without flags; values may be quoted.

use std::io::BufRead;

use engram_proto::etcdserverpb as pb;
use pb::compare::{CompareResult, CompareTarget, TargetUnion};
use pb::request_op::Request;
use pb::response_op::Response;
use serde_json::{Value, json};

use super::kv;
use crate::cli::Global;
use crate::connect::{any, within};
use crate::failure::Failure;
use crate::{json as answers, output};

/// `txn`.
pub async fn txn(global: &Global) -> Result<(), Failure> {
    let request = read(&mut std::io::stdin().lock())?;
    let mut client = kv::client(any(global).await?.channel);
    let answer = within(global, client.txn(request)).await?.into_inner();
    output::answer(global, || text(&answer), || value(&answer))
}

fn read(input: &mut dyn BufRead) -> Result<pb::TxnRequest, Failure> {
    let mut request = pb::TxnRequest::default();
    for line in part(input)? {
        request.compare.push(comparison(&line)?);
    }
    for line in part(input)? {
        request.success.push(operation(&line)?);
    }
    for line in part(input)? {
        request.failure.push(operation(&line)?);
    }
    Ok(request)
}

/// The lines up to an empty one or the end.
fn part(input: &mut dyn BufRead) -> Result<Vec<String>, Failure> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        let is_end = input.read_line(&mut line)? == 0;
        let line = line.trim();
        if is_end || line.is_empty() {
            return Ok(lines);
        }
        lines.push(line.to_owned());
    }
}

/// `value("k") = "v"`, `version("k") > "0"`, and so on.
fn comparison(line: &str) -> Result<pb::Compare, Failure> {
    let malformed = || Failure::arguments(format!("malformed comparison: {line}"));
    let (target, rest) = line.split_once('(').ok_or_else(malformed)?;
    let (key, rest) = rest.rsplit_once(')').ok_or_else(malformed)?;
    let words = words(rest)?;
    let [operator, operand] = &words[..] else {
        return Err(malformed());
    };
    let result = match operator.as_str() {
        "=" => CompareResult::Equal,
        ">" => CompareResult::Greater,
        "<" => CompareResult::Less,
        "!=" => CompareResult::NotEqual,
        _ => return Err(malformed()),
    };
    let number = || operand.parse::<i64>().map_err(|_| malformed());
    let (target, union) = match target.trim() {
        "val" | "value" => {
            let value = operand.clone().into_bytes().into();
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
            TargetUnion::Lease(super::lease_id(operand)?),
        ),
        _ => return Err(malformed()),
    };
    let key = self::words(key)?.pop().ok_or_else(malformed)?;
    Ok(pb::Compare {
        result: result.into(),
        target: target.into(),
        key: key.into_bytes().into(),
        range_end: Vec::new().into(),
        target_union: Some(union),
    })
}

fn operation(line: &str) -> Result<pb::RequestOp, Failure> {
    let words = words(line)?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let bytes = |text: &str| text.as_bytes().to_vec().into();
    let request = match words[..] {
        ["get", key] => Request::RequestRange(pb::RangeRequest {
            key: bytes(key),
            ..pb::RangeRequest::default()
        }),
        ["put", key, value] => Request::RequestPut(pb::PutRequest {
            key: bytes(key),
            value: bytes(value),
            ..pb::PutRequest::default()
        }),
        ["del", key] => Request::RequestDeleteRange(pb::DeleteRangeRequest {
            key: bytes(key),
            ..pb::DeleteRangeRequest::default()
        }),
        _ => {
            return Err(Failure::arguments(format!(
                "invalid txn request: {line} (get KEY, put KEY VALUE, del KEY)"
            )));
        }
    };
    Ok(pb::RequestOp {
        request: Some(request),
    })
}

/// Words between blanks; a quoted one may hold blanks, and `\"`, `\\`, `\n`, `\t`.
fn words(line: &str) -> Result<Vec<String>, Failure> {
    let mut words = Vec::new();
    let mut chars = line.chars().peekable();
    while let Some(&first) = chars.peek() {
        if first.is_whitespace() {
            chars.next();
            continue;
        }
        let mut word = String::new();
        if first != '"' {
            while let Some(c) = chars.next_if(|c| !c.is_whitespace()) {
                word.push(c);
            }
            words.push(word);
            continue;
        }
        chars.next();
        loop {
            let escaped = |c| match c {
                'n' => '\n',
                't' => '\t',
                other => other,
            };
            match chars.next() {
                Some('"') => break,
                Some('\\') => word.extend(chars.next().map(escaped)),
                Some(c) => word.push(c),
                None => return Err(Failure::arguments(format!("a quote is not closed: {line}"))),
            }
        }
        words.push(word);
    }
    Ok(words)
}

fn text(answer: &pb::TxnResponse) -> Vec<u8> {
    let verdict = if answer.succeeded {
        "SUCCESS"
    } else {
        "FAILURE"
    };
    let mut out = format!("{verdict}\n").into_bytes();
    for response in &answer.responses {
        out.push(b'\n');
        out.extend(match &response.response {
            Some(Response::ResponseRange(answer)) => kv::range_text(answer, false),
            Some(Response::ResponsePut(answer)) => kv::put_text(answer),
            Some(Response::ResponseDeleteRange(answer)) => kv::delete_text(answer),
            Some(Response::ResponseTxn(answer)) => text(answer),
            None => Vec::new(),
        });
    }
    out
}

fn value(answer: &pb::TxnResponse) -> Value {
    let response = |response: &pb::ResponseOp| {
        let inner = match &response.response {
            Some(Response::ResponseRange(answer)) => {
                json!({ "response_range": answers::range(answer) })
            }
            Some(Response::ResponsePut(answer)) => json!({ "response_put": answers::put(answer) }),
            Some(Response::ResponseDeleteRange(answer)) => {
                json!({ "response_delete_range": answers::delete(answer) })
            }
            Some(Response::ResponseTxn(answer)) => json!({ "response_txn": value(answer) }),
            None => Value::Null,
        };
        json!({ "Response": inner })
    };
    let responses: Vec<Value> = answer.responses.iter().map(response).collect();
    answers::without_zeros(json!({
        "header": answers::header(&answer.header),
        "succeeded": answer.succeeded,
        "responses": responses,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_is_read_as_etcdctl_reads_it() {
        let mut text =
            b"value(\"a b\") = \"x\"\nmod(\"c\") > \"3\"\n\nput k \"two words\"\nget k\n\ndel k\n"
                .as_slice();
        let request = read(&mut text).unwrap();
        assert_eq!(request.compare.len(), 2);
        assert_eq!(request.compare[0].key.as_ref(), b"a b");
        assert_eq!(
            request.compare[1].target_union,
            Some(TargetUnion::ModRevision(3))
        );
        assert_eq!((request.success.len(), request.failure.len()), (2, 1));
        for bad in [
            "value(\"a\" = \"x\"\n",
            "size(\"a\") = \"1\"\n",
            "\nput k\n",
            "\nput \"k\n",
        ] {
            assert!(read(&mut bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
