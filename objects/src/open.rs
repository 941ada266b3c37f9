//! Stores by their URLs.

use std::sync::Arc;
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ClientOptions, ObjectStore, RetryConfig};
use url::Url;

use crate::error::{UNTRUSTED, root_cause};
use crate::{ObjectError, Objects};

/// How long a request may take: a chunk of 8 MiB over a slow line.
const REQUEST_LIMIT: Duration = Duration::from_secs(120);
/// How long reaching the store may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// How often, and for how long, a request is tried again after the store's own faults.
const RETRIES_MAX: usize = 5;
const RETRY_LIMIT: Duration = Duration::from_secs(60);

impl Objects {
    /// Opens the store that a URL names: `file:///directory`, or
    /// `s3://bucket/prefix?endpoint=…&region=…&allow_http=true` with credentials from the `AWS_*`
    /// environment (else what the machine's role gives). Nothing is asked of it yet.
    ///
    /// # Errors
    /// The URL names none.
    pub fn open(text: &str) -> Result<Objects, ObjectError> {
        let shown = text.split('?').next().unwrap_or_default();
        let shown = shown.trim_end_matches('/').to_owned();
        let refuse = |what: String| ObjectError::Url {
            url: shown.clone(),
            what,
        };
        let url = Url::parse(text).map_err(|error| refuse(error.to_string()))?;
        let objects = match url.scheme() {
            "file" => directory(&url).map_err(&refuse)?,
            "s3" => s3(&url).map_err(&refuse)?,
            other => {
                return Err(refuse(format!(
                    "{other}:// is not known here: use s3:// or file://"
                )));
            }
        };
        let prefix = match url.scheme() {
            "s3" => Path::from_url_path(url.path()).map_err(|error| refuse(error.to_string()))?,
            _ => Path::default(),
        };
        Ok(Objects::new(objects, prefix, shown))
    }
}

fn directory(url: &Url) -> Result<Arc<dyn ObjectStore>, String> {
    if url.query().is_some() || !url.host_str().unwrap_or_default().is_empty() {
        return Err("a directory is named as file:///path, without host and options".into());
    }
    let path = url.to_file_path();
    let path = path.map_err(|()| "it is no path".to_owned())?;
    // The volume must be there: a directory made beside a missing mount would hold the backups.
    let store = LocalFileSystem::new_with_prefix(&path);
    let store = store.map_err(|error| format!("the directory must be there: {error}"))?;
    let store = store.with_fsync(true).with_automatic_cleanup(true);
    Ok(Arc::new(store))
}

fn s3(url: &Url) -> Result<Arc<dyn ObjectStore>, String> {
    let bucket = url.host_str().filter(|host| !host.is_empty());
    let bucket = bucket.ok_or("it names no bucket: s3://bucket/prefix")?;
    let mut client = ClientOptions::new()
        .with_timeout(REQUEST_LIMIT)
        .with_connect_timeout(CONNECT_LIMIT);
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(bucket)
        .with_retry(RetryConfig {
            max_retries: RETRIES_MAX,
            retry_timeout: RETRY_LIMIT,
            ..RetryConfig::default()
        });
    for (name, value) in url.query_pairs() {
        match name.as_ref() {
            "endpoint" => builder = builder.with_endpoint(value.into_owned()),
            "region" => builder = builder.with_region(value.into_owned()),
            "allow_http" => client = client.with_allow_http(flag(&name, &value)?),
            "virtual_hosted" => {
                builder = builder.with_virtual_hosted_style_request(flag(&name, &value)?);
            }
            other => {
                return Err(format!(
                    "option {other} is not known: endpoint, region, allow_http, virtual_hosted"
                ));
            }
        }
    }
    let built = builder.with_client_options(client).build();
    Ok(Arc::new(built.map_err(|error| refused(&error))?))
}

/// Why no client can be made.
fn refused(error: &object_store::Error) -> String {
    let cause = root_cause(error);
    match cause.contains("CA certificates") {
        true => format!("{UNTRUSTED}: {cause}"),
        false => cause,
    }
}

fn flag(name: &str, value: &str) -> Result<bool, String> {
    value
        .parse()
        .map_err(|_| format!("option {name} is true or false, not {value}"))
}
