//! The one place where a gRPC status is made: every refusal the edge can answer with, in etcd's
//! exact code and text. Clients compare the texts (kube-apiserver by value), so a text is part of
//! the protocol.

use std::borrow::Cow;

use tonic::{Code, Status};

use super::backend::{MemberError, ServeError};
use crate::codec::{Invalid, MESSAGE_BYTES_MAX, TxnRefused, Undecodable};
use crate::types::MemberId;
use crate::types::auth::AuthError;
use crate::types::result::ApplyError;

/// A refusal: gRPC's code and the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Refusal {
    code: Code,
    text: Cow<'static, str>,
}

impl Refusal {
    /// Whether the member could not do it, whatever was asked.
    pub fn is_of_the_member(&self) -> bool {
        matches!(
            self.code,
            Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted
        )
    }

    const fn fixed(code: Code, text: &'static str) -> Refusal {
        Refusal {
            code,
            text: Cow::Borrowed(text),
        }
    }

    fn told(code: Code, text: String) -> Refusal {
        Refusal {
            code,
            text: Cow::Owned(text),
        }
    }

    /// The code, for the metrics.
    pub fn code(&self) -> Code {
        self.code
    }

    /// As Go prints a status: the text of a watch that was refused.
    pub fn as_go_says_it(&self) -> String {
        format!("rpc error: code = {:?} desc = {}", self.code, self.text)
    }

    /// The status that goes over the wire.
    pub fn into_status(self) -> Status {
        Status::new(self.code, self.text)
    }
}

macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident = $code:ident, $text:literal;)*) => {
        impl Refusal {
            $($(#[$doc])* pub const $name: Refusal = Refusal::fixed(Code::$code, $text);)*
        }
    };
}

refusals! {
    /// The key is empty.
    EMPTY_KEY = InvalidArgument, "etcdserver: key is not provided";
    /// The key does not exist, or an operation is empty.
    KEY_NOT_FOUND = InvalidArgument, "etcdserver: key not found";
    /// `ignore_value` with a value.
    VALUE_PROVIDED = InvalidArgument, "etcdserver: value is provided";
    /// `ignore_lease` with a lease.
    LEASE_PROVIDED = InvalidArgument, "etcdserver: lease is provided";
    /// More operations than a transaction may have.
    TOO_MANY_OPS = InvalidArgument, "etcdserver: too many operations in txn request";
    /// Two writes of one key in a transaction.
    DUPLICATE_KEY = InvalidArgument, "etcdserver: duplicate key given in txn request";
    /// The client's version is not text.
    INVALID_CLIENT_VERSION = InvalidArgument, "etcdserver: invalid client api version";
    /// An unknown sort order or target.
    INVALID_SORT_OPTION = InvalidArgument, "etcdserver: invalid sort option";
    /// The revision is compacted.
    COMPACTED = OutOfRange, "etcdserver: mvcc: required revision has been compacted";
    /// The revision has not happened.
    FUTURE_REVISION = OutOfRange, "etcdserver: mvcc: required revision is a future revision";
    /// The quota is reached.
    NO_SPACE = ResourceExhausted, "etcdserver: mvcc: database space exceeded";
    /// No such lease.
    LEASE_NOT_FOUND = NotFound, "etcdserver: requested lease not found";
    /// The lease's id is taken.
    LEASE_EXISTS = FailedPrecondition, "etcdserver: lease already exists";
    /// The time to live is beyond etcd's limit.
    LEASE_TTL_TOO_LARGE = OutOfRange, "etcdserver: too large lease TTL";
    /// Another member has that peer URL.
    PEER_URL_EXISTS = FailedPrecondition, "etcdserver: Peer URLs already exists";
    /// Removing it would leave too few. etcd answers it as Unknown.
    MEMBER_NOT_ENOUGH_STARTED =
        Unknown, "etcdserver: re-configuration failed due to not enough started members";
    /// The peer URLs are no URLs.
    MEMBER_BAD_URLS = InvalidArgument, "etcdserver: given member URLs are invalid";
    /// No such member.
    MEMBER_NOT_FOUND = NotFound, "etcdserver: member not found";
    /// The member votes already.
    MEMBER_NOT_LEARNER = FailedPrecondition, "etcdserver: can only promote a learner member";
    /// The id is, or was, a member's.
    MEMBER_EXISTS = FailedPrecondition, "etcdserver: member ID already exist";
    /// The learner lacks too much of the log.
    LEARNER_NOT_READY = FailedPrecondition,
        "etcdserver: can only promote a learner member which is in sync with leader";
    /// No more learners at a time.
    TOO_MANY_LEARNERS =
        FailedPrecondition, "etcdserver: too many learner members in cluster";
    /// A member is down that the cluster would need.
    UNHEALTHY = Unavailable, "etcdserver: unhealthy cluster";
    /// Handing leadership over took too long.
    TIMEOUT_LEADER_TRANSFER =
        Unavailable, "etcdserver: request timed out, leader transfer took too long";
    /// Larger than `--max-request-bytes`.
    REQUEST_TOO_LARGE = InvalidArgument, "etcdserver: request is too large";
    /// Too much waits. etcd answers it as Unknown.
    TOO_MANY_REQUESTS = Unknown, "etcdserver: too many requests";
    /// More is asked for at once than there is memory for. etcd's own refusal of this text is the
    /// client's; the code is the one that it gives it.
    OVERLOADED = ResourceExhausted, "etcdserver: too many requests";
    /// Auth needs a root user.
    ROOT_USER_NOT_EXIST = FailedPrecondition, "etcdserver: root user does not exist";
    /// Auth needs a root user that has the root role.
    ROOT_ROLE_NOT_EXIST = FailedPrecondition, "etcdserver: root user does not have root role";
    /// The user's name is taken.
    USER_EXISTS = FailedPrecondition, "etcdserver: user name already exists";
    /// The role's name is taken.
    ROLE_EXISTS = FailedPrecondition, "etcdserver: role name already exists";
    /// The user has not that role.
    ROLE_NOT_GRANTED = FailedPrecondition, "etcdserver: role is not granted to the user";
    /// The role has not that permission.
    PERMISSION_NOT_GRANTED =
        FailedPrecondition, "etcdserver: permission is not granted to the role";
    /// Whoever asks may not.
    PERMISSION_DENIED = PermissionDenied, "etcdserver: permission denied";
    /// Neither name nor password are told to be the wrong one.
    AUTH_FAILED =
        InvalidArgument, "etcdserver: authentication failed, invalid user ID or password";
    /// A user without a password has none to be checked. etcd answers it as Unknown.
    NO_PASSWORD_USER =
        Unknown, "auth: authentication failed, password was given for no password user";
    /// Users or roles changed since the caller was known.
    AUTH_OLD_REVISION = InvalidArgument, "etcdserver: revision of auth store is old";
    /// No such token, or one that has expired.
    INVALID_AUTH_TOKEN = Unauthenticated, "etcdserver: invalid auth token";
    /// What would leave nobody to manage users, or a range that is none.
    INVALID_AUTH_MANAGEMENT = InvalidArgument, "etcdserver: invalid auth management";
    /// The user's name is empty.
    USER_EMPTY = InvalidArgument, "etcdserver: user name is empty";
    /// No such user.
    USER_NOT_FOUND = FailedPrecondition, "etcdserver: user name not found";
    /// No such role.
    ROLE_NOT_FOUND = FailedPrecondition, "etcdserver: role name not found";
    /// The role's name is empty.
    ROLE_EMPTY = InvalidArgument, "etcdserver: role name is empty";
    /// A grant without its permission.
    PERMISSION_NOT_GIVEN = InvalidArgument, "etcdserver: permission not given";
    /// Auth is off.
    AUTH_NOT_ENABLED = FailedPrecondition, "etcdserver: authentication is not enabled";
    /// A password that bcrypt would cut short.
    PASSWORD_TOO_LONG = Unknown, "bcrypt: password length exceeds 72 bytes";
    /// Tokens are checked by a public key, and there is no private one. etcd answers it as Unknown.
    VERIFY_ONLY = Unknown, "auth: token signing attempted with verify-only key";
    /// Nobody leads.
    NO_LEADER = Unavailable, "etcdserver: no leader";
    /// Another member leads.
    NOT_LEADER = FailedPrecondition, "etcdserver: not leader";
    /// The leader changed while a read waited.
    LEADER_CHANGED = Unavailable, "etcdserver: leader changed";
    /// The member stops.
    STOPPED = Unavailable, "etcdserver: server stopped";
    /// The request timeout passed.
    TIMEOUT = Unavailable, "etcdserver: request timed out";
    /// The same, after a leader was lost.
    TIMEOUT_LEADER_FAIL =
        Unavailable, "etcdserver: request timed out, possibly due to previous leader failure";
    /// The same, without connection to a quorum.
    TIMEOUT_CONNECTION_LOST =
        Unavailable, "etcdserver: request timed out, possibly due to connection lost";
    /// Applying took too long.
    TIMEOUT_WAIT_APPLIED_INDEX = Unavailable,
        "etcdserver: request timed out, waiting for the applied index took too long";
    /// The CORRUPT alarm is raised.
    CORRUPT = DataLoss, "etcdserver: corrupt cluster";
    /// A learner does not serve it.
    NOT_SUPPORTED_FOR_LEARNER = FailedPrecondition, "etcdserver: rpc not supported for learner";
    /// Leadership cannot go there.
    BAD_LEADER_TRANSFEREE = FailedPrecondition, "etcdserver: bad leader transferee";
    /// The downgrade's version is no version.
    WRONG_DOWNGRADE_VERSION_FORMAT =
        InvalidArgument, "etcdserver: wrong downgrade target version format";
    /// Not the version below.
    INVALID_DOWNGRADE_TARGET = InvalidArgument, "etcdserver: invalid downgrade target version";
    /// One is under way.
    DOWNGRADE_IN_PROCESS =
        FailedPrecondition, "etcdserver: cluster has a downgrade job in progress";
    /// The cluster version is not decided.
    CLUSTER_VERSION_UNAVAILABLE =
        FailedPrecondition, "etcdserver: cluster version not found during downgrade";
    /// An unknown action.
    UNKNOWN_METHOD = Unknown, "etcdserver: unknown method";
    /// A range stream in another order than the keys'.
    STREAM_SORT = Unimplemented, "RangeStream does not support custom sort orders";
    /// A range stream with revision bounds.
    STREAM_FILTER = Unimplemented, "RangeStream does not support revision filters";
    /// The health of a service that is not there.
    UNKNOWN_SERVICE = NotFound, "unknown service";
    /// The client's deadline passed.
    DEADLINE_EXCEEDED = DeadlineExceeded, "context deadline exceeded";
    /// A request that its client did not send in time.
    REQUEST_NOT_SENT = DeadlineExceeded, "grpc: the request was not sent in time";
    /// A stream of answers without its request. grpc-go's words, as those of the next two.
    NO_REQUEST = Internal,
        "cardinality violation: received no request message from non-client-streaming RPC";
    /// A call without its request.
    REQUEST_MISSING = Unknown, "EOF";
    /// A call that ended within its request.
    REQUEST_CUT_SHORT = Unknown, "unexpected EOF";
    /// The work for the call panicked.
    PANICKED = Internal, "etcdserver: the call panicked: the server's log says why";
    /// A message says that it is compressed, its call does not say how. grpc-go's words.
    COMPRESSED_WITHOUT_ENCODING =
        Internal, "grpc: compressed flag set with identity or empty encoding";
    /// The key of a session that waited for a lock is gone.
    SESSION_EXPIRED = Unknown, "mutex: session is expired";
    /// A watch that a lock or campaign waits by ended for no reason that is known.
    LOST_WATCHER = Unknown, "lost watcher waiting for delete";
    /// A call of a leader that does not say which.
    NO_LEADER_KEY = Unknown, "\"leader\" field must be provided";
    /// The campaign's key is another's, or gone.
    NOT_ELECTED = Unknown, "election: not leader";
    /// The election has no leader.
    NOBODY_ELECTED = Unknown, "election: no leader";
    /// JSON that ends before it is whole.
    JSON_BROKEN_OFF = InvalidArgument, "unexpected EOF";
    /// A snapshot broke off.
    SNAPSHOT_BROKEN = Internal, "etcdserver: the snapshot ended before it was complete";
}

impl Refusal {
    /// The same as etcd's lock and election services tell it: they hand on errors of etcd's client,
    /// which have lost their code.
    pub fn through_client(self) -> Refusal {
        let code = if self.text.starts_with("etcdserver: ") {
            Code::Unknown
        } else {
            self.code
        };
        Refusal { code, ..self }
    }

    /// No such method or service.
    pub fn unknown_method(path: &str, service_known: bool) -> Refusal {
        let trimmed = path.strip_prefix('/').unwrap_or(path);
        let Some((service, method)) = trimmed.rsplit_once('/') else {
            let text = format!("malformed method name: {path:?}");
            return Refusal::told(Code::Unimplemented, text);
        };
        let text = if service_known {
            format!("unknown method {method} for service {service}")
        } else {
            format!("unknown service {service}")
        };
        Refusal::told(Code::Unimplemented, text)
    }

    /// A method that this release does not serve. Honest, and of the code by which clients detect
    /// features.
    pub fn not_served(service: &str, method: &str) -> Refusal {
        let text = format!("engram does not serve {service}/{method} in this release");
        Refusal::told(Code::Unimplemented, text)
    }

    /// A member could not apply it; etcd's words, and which.
    pub fn old_member(member: MemberId) -> Refusal {
        let text = format!(
            "etcdserver: not capable: member {member} does not say that its release knows users and \
             roles: upgrade every member and start it"
        );
        Refusal::told(Code::FailedPrecondition, text)
    }

    /// A message beyond the limit, in grpc-go's words.
    pub fn message_too_large(len: usize, max: usize) -> Refusal {
        let text = format!("grpc: received message larger than max ({len} vs. {max})");
        Refusal::told(Code::ResourceExhausted, text)
    }

    /// An answer beyond [`MESSAGE_BYTES_MAX`], in grpc-go's words.
    pub fn answer_too_large(len: usize) -> Refusal {
        let text =
            format!("grpc: trying to send message larger than max ({len} vs. {MESSAGE_BYTES_MAX})");
        Refusal::told(Code::ResourceExhausted, text)
    }

    /// A message compressed in a way that is not known here, in grpc-go's words.
    pub fn unknown_encoding(encoding: &str) -> Refusal {
        let text = format!("grpc: Decompressor is not installed for grpc-encoding {encoding:?}");
        Refusal::told(Code::Unimplemented, text)
    }

    /// A message whose first byte means nothing, in grpc-go's words.
    pub fn unexpected_payload_format(flag: u8) -> Refusal {
        let text = format!("grpc: received unexpected payload format {flag}");
        Refusal::told(Code::Internal, text)
    }

    /// A message that cannot be decompressed, in grpc-go's words.
    pub fn undecompressible(error: &std::io::Error) -> Refusal {
        let reason = match error.kind() {
            std::io::ErrorKind::UnexpectedEof => "unexpected EOF".to_owned(),
            std::io::ErrorKind::InvalidInput => "gzip: invalid header".to_owned(),
            _ => error.to_string(),
        };
        let text = format!("grpc: failed to decompress the message: {reason}");
        Refusal::told(Code::Internal, text)
    }

    /// A message that is beyond the limit once it is whole, in grpc-go's words.
    pub fn too_large_when_decompressed(len: usize, max: usize) -> Refusal {
        let text =
            format!("grpc: received message after decompression larger than max ({len} vs. {max})");
        Refusal::told(Code::ResourceExhausted, text)
    }

    /// A client's bytes that are not the message they should be, in Go's words: of a call's one request,
    /// or of a message of a stream.
    pub fn malformed(error: &prost::DecodeError, of_stream: bool) -> Refusal {
        let reason = match error.to_string().contains("UTF-8") {
            true => "string field contains invalid UTF-8",
            false => "proto: cannot parse invalid wire-format data",
        };
        let doing = match of_stream {
            true => "grpc: failed to unmarshal the received message",
            false => "grpc: error unmarshalling request",
        };
        Refusal::told(Code::Internal, format!("{doing}: {reason}"))
    }

    /// Bytes that are not the message they should be.
    pub fn undecodable(error: &dyn std::fmt::Display) -> Refusal {
        Refusal::told(
            Code::Internal,
            format!("grpc: error unmarshalling request: {error}"),
        )
    }

    /// JSON that is not the message it should be; etcd's words begin so, and go on otherwise.
    pub fn not_json(error: &dyn std::fmt::Display) -> Refusal {
        Refusal::told(Code::InvalidArgument, format!("proto: {error}"))
    }

    /// The connection broke while the request was read.
    pub fn transport(error: &dyn std::error::Error) -> Refusal {
        Refusal::told(Code::Unavailable, format!("transport: {error}"))
    }

    /// The JSON gateway: the body cannot be read to its end. As grpc-gateway, which takes that for JSON that
    /// is none: nothing was done, and doing it again will not help.
    pub fn unreadable_body(error: &dyn std::error::Error) -> Refusal {
        let mut cause = error;
        while let Some(source) = cause.source() {
            cause = source;
        }
        Refusal::told(Code::InvalidArgument, cause.to_string())
    }

    /// What tonic's decoder of streams said.
    pub fn of_stream(status: &Status) -> Refusal {
        Refusal::told(status.code(), status.message().to_owned())
    }
}

impl From<Invalid> for Refusal {
    fn from(error: Invalid) -> Refusal {
        match error {
            Invalid::EmptyKey => Refusal::EMPTY_KEY,
            Invalid::EmptyOperation => Refusal::KEY_NOT_FOUND,
            Invalid::SortOption => Refusal::INVALID_SORT_OPTION,
            Invalid::ValueProvided => Refusal::VALUE_PROVIDED,
            Invalid::LeaseProvided => Refusal::LEASE_PROVIDED,
            Invalid::TooManyOperations => Refusal::TOO_MANY_OPS,
        }
    }
}

impl From<TxnRefused> for Refusal {
    fn from(error: TxnRefused) -> Refusal {
        match error {
            TxnRefused::Undecodable(Undecodable::Protobuf(error)) => {
                Refusal::malformed(&error, false)
            }
            TxnRefused::Undecodable(error) => Refusal::undecodable(&error),
            TxnRefused::Invalid(error) => error.into(),
        }
    }
}

impl From<ApplyError> for Refusal {
    fn from(error: ApplyError) -> Refusal {
        match error {
            ApplyError::Compacted => Refusal::COMPACTED,
            ApplyError::FutureRevision => Refusal::FUTURE_REVISION,
            ApplyError::KeyNotFound => Refusal::KEY_NOT_FOUND,
            ApplyError::LeaseNotFound => Refusal::LEASE_NOT_FOUND,
            ApplyError::LeaseExists => Refusal::LEASE_EXISTS,
            ApplyError::NoSpace => Refusal::NO_SPACE,
            ApplyError::Corrupt => Refusal::CORRUPT,
            ApplyError::MemberNotFound => Refusal::MEMBER_NOT_FOUND,
            ApplyError::Auth(error) => error.into(),
        }
    }
}

impl From<AuthError> for Refusal {
    fn from(error: AuthError) -> Refusal {
        match error {
            AuthError::RootUserNotExist => Refusal::ROOT_USER_NOT_EXIST,
            AuthError::RootRoleNotExist => Refusal::ROOT_ROLE_NOT_EXIST,
            AuthError::UserExists => Refusal::USER_EXISTS,
            AuthError::UserEmpty => Refusal::USER_EMPTY,
            AuthError::UserNotFound => Refusal::USER_NOT_FOUND,
            AuthError::RoleExists => Refusal::ROLE_EXISTS,
            AuthError::RoleNotFound => Refusal::ROLE_NOT_FOUND,
            AuthError::RoleEmpty => Refusal::ROLE_EMPTY,
            AuthError::PermissionNotGiven => Refusal::PERMISSION_NOT_GIVEN,
            AuthError::Failed => Refusal::AUTH_FAILED,
            AuthError::NoPasswordUser => Refusal::NO_PASSWORD_USER,
            AuthError::PermissionDenied => Refusal::PERMISSION_DENIED,
            AuthError::RoleNotGranted => Refusal::ROLE_NOT_GRANTED,
            AuthError::PermissionNotGranted => Refusal::PERMISSION_NOT_GRANTED,
            AuthError::NotEnabled => Refusal::AUTH_NOT_ENABLED,
            AuthError::OldRevision => Refusal::AUTH_OLD_REVISION,
            AuthError::InvalidToken => Refusal::INVALID_AUTH_TOKEN,
            AuthError::InvalidManagement => Refusal::INVALID_AUTH_MANAGEMENT,
        }
    }
}

impl From<MemberError> for Refusal {
    fn from(error: MemberError) -> Refusal {
        match error {
            MemberError::Exists => Refusal::MEMBER_EXISTS,
            MemberError::UrlExists => Refusal::PEER_URL_EXISTS,
            MemberError::NotFound => Refusal::MEMBER_NOT_FOUND,
            MemberError::NotLearner => Refusal::MEMBER_NOT_LEARNER,
            MemberError::LearnerNotReady => Refusal::LEARNER_NOT_READY,
            MemberError::TooManyLearners => Refusal::TOO_MANY_LEARNERS,
            MemberError::Unhealthy => Refusal::UNHEALTHY,
            MemberError::NotEnoughStarted => Refusal::MEMBER_NOT_ENOUGH_STARTED,
            MemberError::BadTransferee => Refusal::BAD_LEADER_TRANSFEREE,
            MemberError::NotLeader => Refusal::NOT_LEADER,
            MemberError::Timeout => Refusal::TIMEOUT,
            MemberError::TimeoutLeaderFail => Refusal::TIMEOUT_LEADER_FAIL,
            MemberError::TimeoutConnectionLost => Refusal::TIMEOUT_CONNECTION_LOST,
            MemberError::TransferTimeout => Refusal::TIMEOUT_LEADER_TRANSFER,
            MemberError::Stopped => Refusal::STOPPED,
            MemberError::Internal(text) => Refusal::told(Code::Internal, text),
        }
    }
}

impl From<ServeError> for Refusal {
    fn from(error: ServeError) -> Refusal {
        match error {
            ServeError::Apply(error) => error.into(),
            ServeError::NoLeader => Refusal::NO_LEADER,
            ServeError::LeaderChanged => Refusal::LEADER_CHANGED,
            ServeError::Timeout => Refusal::TIMEOUT,
            ServeError::TimeoutLeaderFail => Refusal::TIMEOUT_LEADER_FAIL,
            ServeError::TimeoutConnectionLost => Refusal::TIMEOUT_CONNECTION_LOST,
            ServeError::TimeoutWaitAppliedIndex => Refusal::TIMEOUT_WAIT_APPLIED_INDEX,
            ServeError::Stopped => Refusal::STOPPED,
            ServeError::TooManyRequests => Refusal::TOO_MANY_REQUESTS,
            ServeError::Overloaded => Refusal::OVERLOADED,
            ServeError::AnswerTooLarge(bytes) => Refusal::answer_too_large(bytes),
            ServeError::RequestTooLarge => Refusal::REQUEST_TOO_LARGE,
            ServeError::NoSpace => Refusal::NO_SPACE,
            ServeError::NotLeader => Refusal::NOT_LEADER,
            ServeError::NotSupportedForLearner => Refusal::NOT_SUPPORTED_FOR_LEARNER,
            ServeError::NotPrimaryLessor => Refusal::fixed(Code::Unknown, "not a primary lessor"),
            ServeError::LeaseNotFound => Refusal::LEASE_NOT_FOUND,
            ServeError::VerifyOnly => Refusal::VERIFY_ONLY,
            ServeError::OldMember(member) => Refusal::old_member(member),
            ServeError::Unsupported(text) => Refusal::fixed(Code::Unimplemented, text),
            ServeError::Internal(text) => Refusal::told(Code::Internal, text),
        }
    }
}
