//! bcrypt, on threads for blocking work: a hash takes tens of milliseconds, and more with a higher
//! cost.

use std::time::Duration;

use crate::budget::Budget;
use crate::types::auth::Secret;

/// Hashes under way at once.
const AT_ONCE: u32 = 2;
/// Those that wait for their turn, and for how long.
const WAITING_MAX: usize = 64;
const PATIENCE: Duration = Duration::from_secs(5);

/// See the module.
pub struct Passwords {
    cost: u32,
    seats: Budget,
}

/// Too many passwords are to be hashed at once, or the system has no randomness to give.
#[derive(Debug, thiserror::Error)]
#[error("no password can be hashed now")]
pub struct Busy;

impl Passwords {
    /// New hashes are of `cost`: two to the power of it rounds, 4 to 31.
    pub fn new(cost: u32) -> Passwords {
        Passwords {
            cost,
            seats: Budget::of_seats(AT_ONCE, WAITING_MAX, PATIENCE),
        }
    }

    /// Hashes a password, of which bcrypt looks at 72 bytes.
    ///
    /// # Errors
    /// See [`Busy`].
    pub async fn hash(&self, password: Secret) -> Result<Secret, Busy> {
        let cost = self.cost;
        self.work(move || {
            let mut salt = [0; 16];
            getrandom::fill(&mut salt).ok()?;
            let hashed = bcrypt::hash_with_salt(&password.0, cost, salt).ok()?;
            // As Go writes it, so that etcd reads it from a snapshot.
            let text = hashed.format_for_version(bcrypt::Version::TwoA);
            Some(Secret(text.into_bytes()))
        })
        .await?
        .ok_or(Busy)
    }

    /// Whether `hash` is that of `password`.
    ///
    /// # Errors
    /// See [`Busy`].
    pub async fn matches(&self, hash: Secret, password: Secret) -> Result<bool, Busy> {
        self.work(move || {
            let hash = std::str::from_utf8(&hash.0).ok();
            hash.is_some_and(|hash| bcrypt::verify(&password.0, hash).unwrap_or(false))
        })
        .await
    }

    async fn work<R: Send + 'static>(
        &self,
        work: impl FnOnce() -> R + Send + 'static,
    ) -> Result<R, Busy> {
        let seat = self.seats.take(1).await.map_err(|_| Busy)?;
        // The seat goes when the work ends, whoever still waits for it.
        let working = crate::threads::spawn_blocking(move || {
            let done = work();
            drop(seat);
            done
        });
        working.await.map_err(|_| Busy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret(text.as_bytes().to_vec())
    }

    #[tokio::test]
    async fn a_password_is_known_by_its_hash_alone() {
        let passwords = Passwords::new(4);
        let hash = passwords.hash(secret("p4ss")).await.unwrap();
        assert!(hash.0.starts_with(b"$2a$04$"));
        assert!(
            passwords
                .matches(hash.clone(), secret("p4ss"))
                .await
                .unwrap()
        );
        assert!(!passwords.matches(hash, secret("p4sS")).await.unwrap());
        for broken in ["", "$2a$", "x", "$2a$04$short"] {
            let broken = secret(broken);
            assert!(!passwords.matches(broken, secret("")).await.unwrap());
        }
    }

    #[tokio::test]
    async fn a_hash_of_go_is_known() {
        // From golang.org/x/crypto/bcrypt's tests.
        let hash = secret("$2a$10$XajjQvNhvvRt5GSeFk1xFeyqRrsxkhBkUiQeg0dt.wU1qD4aFDcga");
        let passwords = Passwords::new(4);
        assert!(passwords.matches(hash, secret("allmine")).await.unwrap());
    }
}
