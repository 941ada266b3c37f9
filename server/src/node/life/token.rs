//! The keys that `--auth-token` names, read once, at the start.

use std::path::{Path, PathBuf};

use crate::auth::{Jwt, JwtError};
use crate::config::AuthToken;
use crate::fs;

/// Keys have a few kilobytes.
const KEY_BYTES_MAX: u64 = 1 << 20;

/// Why tokens cannot be made as the flag asks.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The method or its keys are not fit for it.
    #[error("failed to create token provider: --auth-token: {0}")]
    Keys(#[from] JwtError),
    /// A key cannot be read.
    #[error("failed to create token provider: --auth-token: {path}: {reason}")]
    File {
        /// The key's file.
        path: String,
        /// What is wrong.
        reason: String,
    },
}

/// JSON Web Tokens, if the flag asks for them.
///
/// # Errors
/// See [`TokenError`].
pub fn open(token: &AuthToken) -> Result<Option<Jwt>, TokenError> {
    let AuthToken::Jwt {
        sign_method,
        public_key,
        private_key,
        ttl,
    } = token
    else {
        return Ok(None);
    };
    let read = |path: &Option<PathBuf>| path.as_deref().map(key).transpose();
    let (public, private) = (read(public_key)?, read(private_key)?);
    let (public, private) = (public.as_deref(), private.as_deref());
    Ok(Some(Jwt::new(sign_method, public, private, ttl.as_secs())?))
}

fn key(path: &Path) -> Result<Vec<u8>, TokenError> {
    fs::read_at_most(path, KEY_BYTES_MAX).map_err(|error| TokenError::File {
        path: path.display().to_string(),
        reason: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_key_that_is_not_there_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let junk = dir.path().join("junk");
        std::fs::write(&junk, "junk").unwrap();
        let jwt = |method: &str, public: Option<&PathBuf>, private: Option<&PathBuf>| {
            open(&AuthToken::Jwt {
                sign_method: method.to_owned(),
                public_key: public.cloned(),
                private_key: private.cloned(),
                ttl: Duration::from_secs(300),
            })
        };
        assert!(open(&AuthToken::Simple).is_ok_and(|jwt| jwt.is_none()));
        assert!(jwt("HS256", None, Some(&junk)).is_ok_and(|jwt| jwt.is_some()));
        let text = |refused: Result<Option<Jwt>, TokenError>| refused.err().unwrap().to_string();
        let gone = dir.path().join("gone");
        assert!(text(jwt("RS256", Some(&gone), None)).contains("No such file"));
        assert!(text(jwt("ES256", Some(&junk), None)).contains("no key"));
        assert!(text(jwt("RS256", None, None)).contains("missing key"));
        assert!(text(jwt("none", Some(&junk), None)).contains("signature method"));
    }
}
