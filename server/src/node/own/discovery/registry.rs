//! etcd's v3 discovery: members of a cluster that begins write themselves down at another cluster, and
//! wait until there are as many as somebody wrote down beforehand.

use std::collections::BTreeSet;
use std::time::Duration;

use engram_proto::etcdserverpb as pb;
use engram_proto::etcdserverpb::auth_client::AuthClient;
use engram_proto::etcdserverpb::kv_client::KvClient;
use engram_proto::mvccpb::KeyValue;
use tonic::Request;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};

use crate::config::{Discovery, ListenUrl, TlsPolicy};
use crate::net::tls::{Connector, Dial, KEEPALIVE_INTERVAL_MIN, Side};
use crate::types::MemberId;

/// Where clusters are written down.
const PREFIX: &str = "/_etcd/registry";
/// How often it is asked who has come.
const PAUSE: Duration = Duration::from_millis(500);

/// Why a member is not let in. The texts are etcd's.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// Nobody wrote down how many members there will be.
    #[error("size key not found")]
    NoSize,
    /// What is written down is no number of members.
    #[error("size key is bad")]
    BadSize,
    /// Others have come before.
    #[error("cluster is full")]
    Full,
    /// What the others wrote down names no cluster.
    #[error("invalid peer URL")]
    InvalidUrl,
    /// An endpoint, a certificate or a name makes no sense.
    #[error("{0}")]
    Settings(String),
}

/// What is written down of a cluster.
struct Registry<'a> {
    discovery: &'a Discovery,
    client: KvClient<Channel>,
    token: Option<MetadataValue<Ascii>>,
    /// Whose entries the log has told of.
    told: BTreeSet<Vec<u8>>,
}

/// Writes this member down as `own` (`name=url,…`), and waits for the others. The cluster, as
/// `--initial-cluster` names it.
///
/// # Errors
/// See [`RegistryError`]. A registry that does not answer is asked until it does.
pub async fn join(
    discovery: &Discovery,
    policy: &TlsPolicy,
    id: MemberId,
    own: &str,
) -> Result<String, RegistryError> {
    let mut registry = Registry::open(discovery, policy).await?;
    let key = format!("{PREFIX}/{}/members/{id}", discovery.token);
    registry.members(&key).await?;
    registry.write(&key, own).await;
    let mut is_told = false;
    loop {
        let (size, members) = registry.members(&key).await?;
        let found = members.len();
        if found >= size {
            crate::log!(
                info,
                "found all needed peers from discovery service",
                clusterSize = size,
                "found-peers" = found
            );
            return Ok(members[..size].join(","));
        }
        if !std::mem::replace(&mut is_told, true) {
            crate::log!(
                info,
                "waiting for peers from discovery service",
                clusterSize = size,
                "found-peers" = found
            );
        }
        tokio::time::sleep(PAUSE).await;
    }
}

impl<'d> Registry<'d> {
    async fn open(
        discovery: &'d Discovery,
        policy: &TlsPolicy,
    ) -> Result<Registry<'d>, RegistryError> {
        loop {
            for endpoint in &discovery.endpoints {
                match connect(discovery, policy, endpoint).await? {
                    Some((channel, token)) => {
                        return Ok(Registry {
                            discovery,
                            client: KvClient::new(channel),
                            token,
                            told: BTreeSet::new(),
                        });
                    }
                    None => tokio::time::sleep(PAUSE).await,
                }
            }
        }
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.discovery.request_timeout);
        if let Some(token) = &self.token {
            request.metadata_mut().insert("token", token.clone());
        }
        request
    }

    /// How many members there will be, and who has come, the first first. `own` is this member's key.
    async fn members(&mut self, own: &str) -> Result<(usize, Vec<String>), RegistryError> {
        let cluster = format!("{PREFIX}/{}", self.discovery.token);
        let size = self.range(&format!("{cluster}/_config/size"), "").await;
        let size = size.first().ok_or(RegistryError::NoSize)?;
        let size = str::from_utf8(&size.value).ok();
        let size = size.and_then(|text| text.parse().ok());
        let size = size
            .filter(|size: &usize| *size > 0)
            .ok_or(RegistryError::BadSize)?;
        let mut members = self
            .range(&format!("{cluster}/members"), &format!("{cluster}/membert"))
            .await;
        members.retain(|kv| self.tell(kv));
        let is_in = members.iter().take(size).any(|kv| kv.key == own.as_bytes());
        if !is_in && members.len() >= size {
            return Err(RegistryError::Full);
        }
        Ok((size, members.iter().map(|kv| text(&kv.value)).collect()))
    }

    /// Tells once of what is written down under a key. False if it is no member.
    fn tell(&mut self, kv: &KeyValue) -> bool {
        let is_member = kv.value.contains(&b'=');
        if self.told.insert(kv.key.to_vec()) {
            let (key, value) = (text(&kv.key), text(&kv.value));
            match is_member {
                true => crate::log!(
                    info,
                    "found peer from discovery service",
                    memberKey = key,
                    memberInfo = value
                ),
                false => crate::log!(
                    warn,
                    "invalid peer info returned from discovery service",
                    memberKey = key,
                    memberInfo = value
                ),
            }
        }
        is_member
    }

    /// A range, by creation; asked for until it is answered.
    async fn range(&mut self, key: &str, end: &str) -> Vec<KeyValue> {
        loop {
            let request = self.request(pb::RangeRequest {
                key: key.as_bytes().to_vec().into(),
                range_end: end.as_bytes().to_vec().into(),
                sort_order: pb::range_request::SortOrder::Ascend.into(),
                sort_target: pb::range_request::SortTarget::Create.into(),
                ..pb::RangeRequest::default()
            });
            match self.client.range(request).await {
                Ok(answer) => return answer.into_inner().kvs,
                Err(status) => self.again("cluster status check", &status).await,
            }
        }
    }

    async fn write(&mut self, key: &str, own: &str) {
        loop {
            let request = self.request(pb::PutRequest {
                key: key.as_bytes().to_vec().into(),
                value: own.as_bytes().to_vec().into(),
                ..pb::PutRequest::default()
            });
            match self.client.put(request).await {
                Ok(_) => {
                    crate::log!(
                        info,
                        "register member itself successfully",
                        memberKey = key,
                        memberInfo = own
                    );
                    return;
                }
                Err(status) => self.again("register member itself", &status).await,
            }
        }
    }

    async fn again(&self, step: &str, status: &tonic::Status) {
        crate::log!(
            warn,
            "retry connecting to discovery service",
            reason = step,
            error = status.message()
        );
        tokio::time::sleep(PAUSE).await;
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}

/// A connection, and the token it is used with; none where nobody answers.
async fn connect(
    discovery: &Discovery,
    policy: &TlsPolicy,
    endpoint: &str,
) -> Result<Option<(Channel, Option<MetadataValue<Ascii>>)>, RegistryError> {
    let settings = |error: &dyn std::fmt::Display| RegistryError::Settings(error.to_string());
    let text = match endpoint.contains("://") {
        true => endpoint.to_owned(),
        false if discovery.is_over_tls() => format!("https://{endpoint}"),
        false => format!("http://{endpoint}"),
    };
    let url = ListenUrl::parse(&text).map_err(|error| settings(&error))?;
    let connector = match url.scheme.is_tls() {
        false => Connector::plain(),
        true => Connector::new(Side::Client, &discovery.tls, policy)
            .map_err(|error| settings(&error))?,
    };
    let target = Endpoint::from_static("http://registry")
        .connect_timeout(discovery.dial_timeout)
        .http2_keep_alive_interval(discovery.keepalive_interval.max(KEEPALIVE_INTERVAL_MIN))
        .keep_alive_timeout(discovery.keepalive_timeout);
    let dial = Dial::new(connector, url);
    let channel = match target.connect_with_connector(dial).await {
        Ok(channel) => channel,
        Err(error) => {
            crate::log!(warn, "retry connecting to discovery service", endpoint = endpoint,
                error = %error);
            return Ok(None);
        }
    };
    let Some((name, password)) = discovery.user.clone() else {
        return Ok(Some((channel, None)));
    };
    let request = pb::AuthenticateRequest { name, password };
    let answer = AuthClient::new(channel.clone()).authenticate(request).await;
    let answer = answer.map_err(|status| settings(&status.message()))?;
    let token = MetadataValue::try_from(answer.get_ref().token.as_str());
    Ok(Some((
        channel,
        Some(token.map_err(|error| settings(&error))?),
    )))
}
