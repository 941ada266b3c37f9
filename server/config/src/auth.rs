//! The flags of tokens and passwords. Nothing is read here: keys are opened by whoever signs.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Notice;
use super::golang::parse_duration;
use super::raw::Raw;
use super::settings::{AuthToken, path};
use crate::trace::Level;

const BCRYPT_COST_DEFAULT: u64 = 10;
const TOKEN_TTL_DEFAULT: Duration = Duration::from_secs(300);
const JWT_TTL_DEFAULT: Duration = Duration::from_secs(300);

/// Reads the kind of token; says of a cost that bcrypt does not have what etcd says.
pub(super) fn auth_token(raw: &Raw, notices: &mut Vec<Notice>) -> Result<AuthToken, String> {
    let given = raw.unsigned("bcrypt-cost");
    if !(4..=31).contains(&given) {
        let message = "use default bcrypt cost instead of the invalid given cost";
        let notice = Notice::new(Level::Warn, message)
            .with("min-cost", "4")
            .with("max-cost", "31")
            .with("default-cost", BCRYPT_COST_DEFAULT.to_string())
            .with("given-cost", given.to_string());
        notices.push(notice);
    }
    parse_auth_token(raw.text("auth-token"))
}

/// The cost of new hashes; the default for one that bcrypt does not have.
pub(super) fn bcrypt_cost(raw: &Raw) -> u32 {
    let given = raw.unsigned("bcrypt-cost");
    let valid = Some(given).filter(|cost| (4..=31).contains(cost));
    u32::try_from(valid.unwrap_or(BCRYPT_COST_DEFAULT)).expect("it is small")
}

/// Seconds that a simple token counts; the default for none.
pub(super) fn auth_token_ttl(raw: &Raw) -> Duration {
    match raw.unsigned("auth-token-ttl") {
        0 => TOKEN_TTL_DEFAULT,
        seconds => Duration::from_secs(seconds),
    }
}

/// A kind, then options: `jwt,sign-method=RS256,pub-key=…`.
fn parse_auth_token(text: &str) -> Result<AuthToken, String> {
    let invalid = || "auth: invalid auth options".to_owned();
    let mut parts = text.split(',');
    let kind = parts.next().unwrap_or_default();
    let mut options = BTreeMap::new();
    for part in parts {
        let (name, value) = part.split_once('=').ok_or_else(invalid)?;
        if value.contains('=') || options.insert(name, value).is_some() {
            return Err(invalid());
        }
    }
    let option = |name: &str| options.get(name).copied().unwrap_or_default();
    match kind {
        "" => Ok(AuthToken::None),
        "simple" => Ok(AuthToken::Simple),
        "jwt" if option("sign-method").is_empty() => {
            Err("auth: invalid auth signature method".to_owned())
        }
        "jwt" => Ok(AuthToken::Jwt {
            sign_method: option("sign-method").to_owned(),
            public_key: path(option("pub-key")),
            private_key: path(option("priv-key")),
            ttl: match option("ttl") {
                "" => JWT_TTL_DEFAULT,
                ttl => u64::try_from(parse_duration(ttl)?)
                    .map(Duration::from_nanos)
                    .map_err(|_| invalid())?,
            },
        }),
        _ => Err(invalid()),
    }
}
