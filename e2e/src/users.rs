//! Users, and calls of theirs by path and bytes: what no client library would send is sent as well.

use std::net::SocketAddr;
use std::time::Duration;

use engram_proto::authpb::Permission;
use engram_proto::etcdserverpb::auth_client::AuthClient;
use engram_proto::etcdserverpb::{
    AuthEnableRequest, AuthRoleAddRequest, AuthRoleGrantPermissionRequest, AuthUserAddRequest,
    AuthUserGrantRoleRequest, AuthenticateRequest,
};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::tokio_stream::{self, StreamExt as _};
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Request, Status};
use tonic_prost::prost::bytes::{Buf as _, BufMut as _, Bytes};

use crate::client::Client;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Passwords of users that [`make_users`] makes are their names behind this.
pub const PASSWORD: &str = "p4ss-of-";

/// A codec of plain bytes.
#[derive(Clone, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Raw;
    type Decoder = Raw;

    fn encoder(&mut self) -> Raw {
        Raw
    }

    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let len = source.remaining();
        Ok(Some(source.copy_to_bytes(len)))
    }
}

/// Who calls.
#[derive(Clone)]
pub struct Caller {
    /// The connection.
    pub channel: Channel,
    /// What is said of who calls.
    pub token: Option<String>,
}

impl Caller {
    /// Somebody without a token.
    ///
    /// # Panics
    /// If there is no connection.
    pub async fn nobody(address: SocketAddr) -> Caller {
        let channel = Client::connect(address).await.channel;
        Caller {
            channel,
            token: None,
        }
    }

    /// A user that [`make_users`] made.
    ///
    /// # Panics
    /// If there is no connection, or no token.
    pub async fn user(address: SocketAddr, name: &str) -> Caller {
        let nobody = Caller::nobody(address).await;
        let token = nobody.authenticate(name).await.expect("a token");
        Caller {
            token: Some(token),
            ..nobody
        }
    }

    /// A token of a user that [`make_users`] made.
    ///
    /// # Errors
    /// The server's.
    pub async fn authenticate(&self, name: &str) -> Result<String, Status> {
        let mut auth = AuthClient::new(self.channel.clone());
        let request = AuthenticateRequest {
            name: name.to_owned(),
            password: format!("{PASSWORD}{name}"),
        };
        Ok(auth.authenticate(request).await?.into_inner().token)
    }

    /// The message, with the caller's token.
    ///
    /// # Panics
    /// If that is no header's value.
    pub fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(token) = &self.token {
            let token = MetadataValue::try_from(token.as_str()).expect("a token is ASCII");
            request.metadata_mut().insert("token", token);
        }
        request
    }

    /// Sends one message, and with `is_open` leaves the request open; the first message of the
    /// answer, empty where there is none.
    ///
    /// # Errors
    /// The server's.
    ///
    /// # Panics
    /// If no answer comes.
    pub async fn call(&self, path: &str, message: Bytes, is_open: bool) -> Result<Bytes, Status> {
        let mut client = tonic::client::Grpc::new(self.channel.clone());
        let ready = client.ready().await;
        ready.map_err(|error| Status::unavailable(error.to_string()))?;
        let parsed = path.parse().expect("a path");
        let first = tokio_stream::once(message);
        let answering = async {
            let answer = match is_open {
                true => {
                    let request = self.request(first.chain(tokio_stream::pending()));
                    client.streaming(request, parsed, Raw).await?
                }
                false => client.streaming(self.request(first), parsed, Raw).await?,
            };
            let message = answer.into_inner().message().await?;
            Ok(message.unwrap_or_default())
        };
        let answered = tokio::time::timeout(PATIENCE, answering).await;
        answered.unwrap_or_else(|_| panic!("{path}: no answer within {PATIENCE:?}"))
    }
}

/// Users, each with a role of its name that may read and write what begins with the name and a slash.
/// `root` is one of them, and authentication is on afterwards.
///
/// # Panics
/// If the server refuses.
pub async fn make_users(address: SocketAddr, names: &[&str]) {
    let client = Client::connect(address).await;
    let mut auth = AuthClient::new(client.channel);
    for name in names.iter().chain([&"root"]) {
        add_user(&mut auth, name).await;
    }
    let enabled = auth.auth_enable(AuthEnableRequest {}).await;
    enabled.expect("root has the role root");
}

async fn add_user(auth: &mut AuthClient<Channel>, name: &str) {
    let user = AuthUserAddRequest {
        name: name.to_owned(),
        password: format!("{PASSWORD}{name}"),
        ..AuthUserAddRequest::default()
    };
    auth.user_add(user).await.expect("a new user");
    let role = AuthRoleAddRequest {
        name: name.to_owned(),
    };
    auth.role_add(role).await.expect("a new role");
    let both = AuthUserGrantRoleRequest {
        user: name.to_owned(),
        role: name.to_owned(),
    };
    auth.user_grant_role(both).await.expect("both are there");
    let permission = Permission {
        perm_type: 2,
        key: format!("{name}/").into(),
        range_end: format!("{name}0").into(),
    };
    let grant = AuthRoleGrantPermissionRequest {
        name: name.to_owned(),
        perm: Some(permission),
    };
    let granted = auth.role_grant_permission(grant).await;
    granted.expect("the role is there");
}
