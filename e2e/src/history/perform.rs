//! One operation, sent.

use engram_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use engram_proto::etcdserverpb::{
    Compare, LeaseGrantRequest, LeaseRevokeRequest, PutRequest, RangeRequest, RangeResponse,
    RequestOp, ResponseHeader, TxnRequest, TxnResponse, request_op, response_op,
};
use tonic::{Code, Status};

use super::{Action, Answer, Kv, Outcome};
use crate::client::{Client, revision_of};

/// Far longer than any recording, so that no lease expires in one. Seconds.
const LEASE_TTL: i64 = 7_200;

/// Sends one operation and judges what an error means.
pub async fn perform(client: &mut Client, action: &Action) -> Outcome {
    match send(client, action).await {
        Ok(answer) => Outcome::Done(answer),
        Err(status) if is_refusal(status.code()) => Outcome::Refused(status.to_string()),
        Err(status) => Outcome::Unknown(status.to_string()),
    }
}

/// With these codes etcd says that it has changed nothing, nor will; others leave it open.
fn is_refusal(code: Code) -> bool {
    matches!(
        code,
        Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::ResourceExhausted
    )
}

async fn send(client: &mut Client, action: &Action) -> Result<Answer, Status> {
    match action {
        Action::Put { key, value, lease } => {
            let answer = client.kv.put(put_request(key, value, *lease)).await?;
            Ok(at(answer.into_inner().header.as_ref()))
        }
        Action::Swap { .. } => {
            let answer = client.kv.txn(swap_request(action)).await?;
            Ok(answer_of_swap(&answer.into_inner()))
        }
        Action::Delete { key } => {
            let (revision, deleted) = client.delete(key.as_str()).await?;
            Ok(Answer {
                revision,
                deleted,
                ..Answer::default()
            })
        }
        Action::Get { key } => range(client, key, "", false).await,
        Action::Peek { key } => range(client, key, "", true).await,
        Action::List { from, to } => range(client, from, to, false).await,
        Action::Grant { lease } => {
            let request = LeaseGrantRequest {
                id: *lease,
                ttl: LEASE_TTL,
            };
            let answer = client.lease.lease_grant(request).await?;
            Ok(at(answer.into_inner().header.as_ref()))
        }
        Action::Revoke { lease } => {
            let request = LeaseRevokeRequest { id: *lease };
            let answer = client.lease.lease_revoke(request).await?;
            Ok(at(answer.into_inner().header.as_ref()))
        }
    }
}

fn at(header: Option<&ResponseHeader>) -> Answer {
    Answer {
        revision: revision_of(header),
        ..Answer::default()
    }
}

async fn range(
    client: &mut Client,
    key: &str,
    end: &str,
    serializable: bool,
) -> Result<Answer, Status> {
    let request = RangeRequest {
        key: key.as_bytes().to_vec().into(),
        range_end: end.as_bytes().to_vec().into(),
        serializable,
        ..RangeRequest::default()
    };
    let answer = client.kv.range(request).await?.into_inner();
    Ok(Answer {
        kvs: kvs_of(&answer),
        ..at(answer.header.as_ref())
    })
}

fn kvs_of(answer: &RangeResponse) -> Vec<Kv> {
    answer.kvs.iter().map(Kv::of).collect()
}

fn put_request(key: &str, value: &str, lease: i64) -> PutRequest {
    PutRequest {
        key: key.as_bytes().to_vec().into(),
        value: value.as_bytes().to_vec().into(),
        lease,
        ..PutRequest::default()
    }
}

fn swap_request(action: &Action) -> TxnRequest {
    let Action::Swap {
        key,
        expected,
        value,
        other,
    } = action
    else {
        panic!("{action:?} is no swap");
    };
    let compare = Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Mod.into(),
        key: key.as_bytes().to_vec().into(),
        target_union: Some(TargetUnion::ModRevision(*expected)),
        ..Compare::default()
    };
    let operation = |request| RequestOp {
        request: Some(request),
    };
    let put = |key: &String| operation(request_op::Request::RequestPut(put_request(key, value, 0)));
    let read = RangeRequest {
        key: key.as_bytes().to_vec().into(),
        ..RangeRequest::default()
    };
    TxnRequest {
        compare: vec![compare],
        success: std::iter::once(key).chain(other).map(put).collect(),
        failure: vec![operation(request_op::Request::RequestRange(read))],
    }
}

fn answer_of_swap(answer: &TxnResponse) -> Answer {
    let first = answer.responses.first();
    let kvs = match first.and_then(|first| first.response.as_ref()) {
        Some(response_op::Response::ResponseRange(range)) => kvs_of(range),
        _ => Vec::new(),
    };
    Answer {
        succeeded: answer.succeeded,
        kvs,
        ..at(answer.header.as_ref())
    }
}
