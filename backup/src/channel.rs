//! A connection to a member, and who asks over it.

use std::fmt;

use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::{Request, Status};

/// Calls go out over it with the token of whoever opened it.
pub type Channel = InterceptedService<tonic::transport::Channel, Token>;

/// What a cluster with authentication knows a caller by; none where nobody says who they are.
#[derive(Clone, Default)]
pub struct Token(Option<MetadataValue<Ascii>>);

impl Token {
    /// A token as the cluster gave it; none for what can be no header's value.
    pub fn new(text: &str) -> Option<Token> {
        let mut value = MetadataValue::try_from(text).ok()?;
        value.set_sensitive(true);
        Some(Token(Some(value)))
    }

    /// The connection, over which it is shown.
    pub fn over(self, channel: tonic::transport::Channel) -> Channel {
        InterceptedService::new(channel, self)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

impl Interceptor for Token {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("token", token.clone());
        }
        Ok(request)
    }
}
