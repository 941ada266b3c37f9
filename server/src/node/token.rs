//! The keys that `--auth-token` names. There are no users yet, so that nobody signs with them; a
//! start that etcd would refuse is refused all the same.
//!
//! Source: etcd's `server/auth/options.go`.

use std::path::Path;

use crate::config::AuthToken;
use crate::fs;

/// Keys have a few kilobytes.
const KEY_BYTES_MAX: u64 = 1 << 20;

/// Why tokens could not be signed as the flag asks.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// There is no such method.
    #[error("auth: invalid auth signature method")]
    Method,
    /// The method needs a key that is not named.
    #[error("auth: missing key data")]
    NoKey,
    /// A key is not there or is none.
    #[error("failed to create token provider: --auth-token: {path}: {reason}")]
    Key {
        /// The key's file.
        path: String,
        /// What is wrong.
        reason: String,
    },
}

/// Checks the method and that its keys are there.
///
/// # Errors
/// See [`TokenError`].
pub fn check(token: &AuthToken) -> Result<(), TokenError> {
    let AuthToken::Jwt {
        sign_method,
        public_key,
        private_key,
        ..
    } = token
    else {
        return Ok(());
    };
    let is_pem = match sign_method.as_str() {
        "HS256" | "HS384" | "HS512" => false,
        "RS256" | "RS384" | "RS512" | "PS256" | "PS384" | "PS512" | "ES256" | "ES384" | "ES512"
        | "EdDSA" => true,
        _ => return Err(TokenError::Method),
    };
    // A shared key is a private one.
    if private_key.is_none() && (public_key.is_none() || !is_pem) {
        return Err(TokenError::NoKey);
    }
    let mut keys = public_key.iter().chain(private_key);
    keys.try_for_each(|path| check_key(path, is_pem))
}

fn check_key(path: &Path, is_pem: bool) -> Result<(), TokenError> {
    let failed = |reason: String| TokenError::Key {
        path: path.display().to_string(),
        reason,
    };
    let bytes = fs::read_at_most(path, KEY_BYTES_MAX).map_err(|error| failed(error.to_string()))?;
    let begins = b"-----BEGIN ";
    if is_pem && !bytes.windows(begins.len()).any(|window| window == begins) {
        return Err(failed("it holds no key in PEM".to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_key_that_is_not_there_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (key, junk) = (dir.path().join("key"), dir.path().join("junk"));
        std::fs::write(&key, "-----BEGIN PUBLIC KEY-----\n").unwrap();
        std::fs::write(&junk, "junk").unwrap();
        let jwt = |method: &str, public: Option<&PathBuf>, private: Option<&PathBuf>| {
            check(&AuthToken::Jwt {
                sign_method: method.to_owned(),
                public_key: public.cloned(),
                private_key: private.cloned(),
                ttl: Duration::from_secs(300),
            })
        };
        assert!(check(&AuthToken::Simple).is_ok());
        assert!(jwt("RS256", Some(&key), None).is_ok());
        assert!(jwt("HS256", None, Some(&junk)).is_ok());
        let text = |refused: Result<(), TokenError>| refused.unwrap_err().to_string();
        let gone = dir.path().join("gone");
        assert!(text(jwt("RS256", Some(&gone), None)).contains("No such file"));
        assert!(text(jwt("ES256", Some(&junk), None)).contains("no key in PEM"));
        assert!(text(jwt("RS256", None, None)).contains("missing key"));
        assert!(text(jwt("HS256", Some(&key), None)).contains("missing key"));
        assert!(text(jwt("none", Some(&key), None)).contains("signature method"));
    }
}
