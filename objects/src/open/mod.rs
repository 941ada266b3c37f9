//! Stores by their URLs.
//!
//! ```text
//! s3://bucket/prefix                  AWS_*, or what the machine's role gives
//! gs://bucket/prefix                  GOOGLE_*, or what the machine's service account gives
//! az://account/container/prefix       AZURE_*, or what the machine's identity gives
//! file:///directory
//! ```

mod azure;
mod directory;
mod gcs;
mod s3;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use object_store::path::Path;
use object_store::{Certificate, ClientOptions, ObjectStore, RetryConfig};
use url::{ParseError, Url};

use crate::error::{UNTRUSTED, root_cause};
use crate::{ObjectError, Objects};

/// How long a request may take: a chunk of 8 MiB over a slow line.
const REQUEST_LIMIT: Duration = Duration::from_secs(120);
/// How long reaching the store may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// How often, and for how long, a request is tried again after the store's own faults.
const RETRIES_MAX: usize = 5;
const RETRY_LIMIT: Duration = Duration::from_secs(60);

/// Where a URL's bucket or container begins, and what follows it.
struct Named {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    /// Where it is a directory: which.
    root: Option<PathBuf>,
}

impl Objects {
    /// Opens the store that a URL names (see the module's form of them; `https://` as the clouds
    /// themselves have it), with options behind `?`: `endpoint`, `allow_http`, of S3 `region` and
    /// `virtual_hosted`. Credentials come from the environment, else from the machine. Nothing is asked of
    /// it yet.
    ///
    /// # Errors
    /// The URL names none.
    pub fn open(text: &str) -> Result<Objects, ObjectError> {
        Objects::open_as(text, "")
    }

    /// The same where another store is open with other credentials: they are the variables whose names begin
    /// with `before`, if there are any; `SSL_CERT_FILE` too.
    ///
    /// # Errors
    /// As [`Objects::open`].
    pub fn open_as(text: &str, before: &str) -> Result<Objects, ObjectError> {
        let parsed = Url::parse(text);
        let shown = shown(text, &parsed);
        let refuse = |what: String| ObjectError::Url {
            url: shown.clone(),
            what,
        };
        let url = parsed.map_err(|error| refuse(no_url(error)))?;
        must_name_a_store(&url).map_err(|what| refuse(what.into()))?;
        let named = match (url.scheme(), url.host_str().unwrap_or_default()) {
            ("file", _) => directory::open(&url),
            ("s3", bucket) => s3::open(&url, bucket, before),
            ("gs", bucket) => gcs::open(&url, bucket, url.path(), before),
            ("https", gcs::HOST) => {
                let (bucket, prefix) = first_part(&url);
                gcs::open(&url, bucket, prefix, before)
            }
            ("az", account) => azure::open(&url, account, before),
            ("https", host) if host.ends_with(azure::DOMAIN) => {
                azure::open(&url, host.trim_end_matches(azure::DOMAIN), before)
            }
            ("https", _) => Err(format!(
                "it is of no cloud that is known here: https://{}/bucket/prefix, https://ACCOUNT{}/container/prefix; others by s3://…?endpoint=…",
                gcs::HOST,
                azure::DOMAIN
            )),
            (other, _) => Err(format!(
                "{other}:// is not known here: use s3://, gs://, az:// or file://"
            )),
        };
        let Named {
            store,
            prefix,
            root,
        } = named.map_err(refuse)?;
        let objects = Objects::new(store, prefix, shown);
        Ok(match root {
            Some(root) => objects.in_directory(root),
            None => objects,
        })
    }
}

/// A URL without its options, and without what may be somebody's key.
fn shown(text: &str, parsed: &Result<Url, ParseError>) -> String {
    let shown = text.split(['?', '#']).next().unwrap_or_default();
    let shown = shown.trim_end_matches('/');
    let may_have_a_key = parsed.as_ref().map_or(true, has_credentials);
    let parts = shown
        .split_once("://")
        .and_then(|(scheme, rest)| Some((scheme, rest.rsplit_once('@')?.1)));
    match parts {
        Some((scheme, rest)) if may_have_a_key => format!("{scheme}://…@{rest}"),
        _ => shown.to_owned(),
    }
}

fn has_credentials(url: &Url) -> bool {
    !url.username().is_empty() || url.password().is_some()
}

fn no_url(error: ParseError) -> String {
    match error {
        ParseError::RelativeUrlWithoutBase => {
            format!("it is no URL ({error}): s3://…, gs://…, az://… or file:///directory")
        }
        error => error.to_string(),
    }
}

/// Refuses what a URL may have and no store does: left out in silence, it would name another place.
fn must_name_a_store(url: &Url) -> Result<(), &'static str> {
    if has_credentials(url) {
        return Err("credentials belong in the environment, not in a URL");
    }
    if url.fragment().is_some() {
        return Err("what is behind a # is no part of a place: write %23 for the character");
    }
    match url.port() {
        Some(_) => Err("a store has no port: ?endpoint=… says where it is reached"),
        None => Ok(()),
    }
}

/// The first part of a URL's path, and what follows it.
fn first_part(url: &Url) -> (&str, &str) {
    let path = url.path().trim_start_matches('/');
    path.split_once('/').unwrap_or((path, ""))
}

fn prefix(path: &str) -> Result<Path, String> {
    Path::from_url_path(path).map_err(|error| error.to_string())
}

fn retries() -> RetryConfig {
    RetryConfig {
        max_retries: RETRIES_MAX,
        retry_timeout: RETRY_LIMIT,
        ..RetryConfig::default()
    }
}

/// How it is spoken to; `before` is what the variable begins with that names its authorities.
fn client(before: &str) -> Result<ClientOptions, String> {
    let mut client = ClientOptions::new()
        .with_timeout(REQUEST_LIMIT)
        .with_connect_timeout(CONNECT_LIMIT);
    let file = format!("{before}SSL_CERT_FILE");
    if let Some(path) = std::env::var_os(&file).filter(|_| !before.is_empty()) {
        let read = std::fs::read(path).map_err(|error| error.to_string());
        let bundle = read
            .and_then(|pem| Certificate::from_pem_bundle(&pem).map_err(|error| error.to_string()));
        for authority in bundle.map_err(|error| format!("{UNTRUSTED}: {file}: {error}"))? {
            client = client.with_root_certificate(authority);
        }
    }
    Ok(client)
}

/// Variables of a cloud that begin with `before`, without it; none where there are none.
fn variables(before: &str, cloud: &str) -> Option<Vec<(String, String)>> {
    if before.is_empty() {
        return None;
    }
    let own = std::env::vars().filter_map(|(name, value)| {
        let name = name.strip_prefix(before)?;
        let is_clouds = name.starts_with(cloud);
        is_clouds.then(|| (name.to_ascii_lowercase(), value))
    });
    let own: Vec<_> = own.collect();
    (!own.is_empty()).then_some(own)
}

/// Why no client can be made.
fn refused(error: &object_store::Error) -> String {
    let cause = root_cause(error);
    match cause.contains("CA certificates") {
        true => format!("{UNTRUSTED}: {cause}"),
        false => cause,
    }
}

/// The options behind a URL; `take` says whether it knows one.
fn options(
    url: &Url,
    known: &str,
    mut take: impl FnMut(&str, &str) -> Result<bool, String>,
) -> Result<(), String> {
    for (name, value) in url.query_pairs() {
        if !take(&name, &value)? {
            return Err(format!("option {name} is not known: {known}"));
        }
    }
    Ok(())
}

fn flag(name: &str, value: &str) -> Result<bool, String> {
    value
        .parse()
        .map_err(|_| format!("option {name} is true or false, not {value}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_be_left_out_is_refused_and_no_key_is_shown() {
        let directory = tempfile::tempdir().expect("a directory");
        let directory = directory.path().display();
        for (text, what, shown) in [
            (
                "s3://AKIA:hidden@bucket/a",
                "credentials",
                "s3://…@bucket/a",
            ),
            ("s3://AKIA:hid/den@bucket/a", "port", "s3://…@bucket/a"),
            (
                "az://hidden@account/c/a",
                "credentials",
                "az://…@account/c/a",
            ),
            ("s3://bucket/a#b?endpoint=hidden", "%23", "s3://bucket/a"),
            ("s3://bucket:9000/a", "?endpoint=", "s3://bucket:9000/a"),
            (
                &format!("file://{directory}#b"),
                "%23",
                &format!("file://{directory}"),
            ),
            ("/backups", "file:///directory", "/backups"),
            ("", "file:///directory", ""),
        ] {
            let refused = Objects::open(text).expect_err(text).to_string();
            assert!(refused.contains(what), "{text}: {refused}");
            assert!(
                refused.starts_with(&format!("{shown}: ")),
                "{text}: {refused}"
            );
            assert!(!refused.contains("hid"), "{refused}");
        }
        for text in [
            "s3://bucket/user@example.org/a",
            &format!("file://{directory}"),
        ] {
            let opened = Objects::open(text).expect(text);
            assert_eq!(opened.url(), text);
        }
    }
}
