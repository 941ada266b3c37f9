//! Google Cloud Storage.

use std::sync::Arc;

use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use url::Url;

use super::{Named, client, flag, options, prefix, refused, retries, variables};

/// Where it answers.
pub(super) const HOST: &str = "storage.googleapis.com";
const OPTIONS: &str = "endpoint, allow_http";

pub(super) fn open(url: &Url, bucket: &str, path: &str, before: &str) -> Result<Named, String> {
    if bucket.is_empty() {
        return Err("it names no bucket: gs://bucket/prefix".into());
    }
    let mut client = client(before)?;
    let builder = builder(before);
    let mut builder = builder.with_bucket_name(bucket).with_retry(retries());
    options(url, OPTIONS, |name, value| {
        match name {
            "endpoint" => builder = builder.clone().with_base_url(value),
            "allow_http" => client = client.clone().with_allow_http(flag(name, value)?),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    let built = builder.with_client_options(client).build();
    let refused = |error: object_store::Error| match &error {
        // A key that is no JSON, or no key.
        object_store::Error::Generic { .. } if is_of_credentials(&error) => format!(
            "these credentials cannot be read: GOOGLE_SERVICE_ACCOUNT_KEY holds a service account's key as JSON, GOOGLE_APPLICATION_CREDENTIALS names a file with one: {}",
            refused(&error)
        ),
        other => refused(other),
    };
    Ok(Named {
        store: Arc::new(built.map_err(refused)?),
        prefix: prefix(path)?,
        root: None,
    })
}

fn is_of_credentials(error: &object_store::Error) -> bool {
    let said = format!("{error:?}").to_lowercase();
    ["credential", "key", "json"]
        .iter()
        .any(|word| said.contains(word))
}

/// Who asks: variables that begin with `before`, else the cloud's own.
fn builder(before: &str) -> GoogleCloudStorageBuilder {
    let Some(own) = variables(before, "GOOGLE_") else {
        return GoogleCloudStorageBuilder::from_env();
    };
    let known = own.into_iter().filter_map(|(name, value)| {
        let key: GoogleConfigKey = name.parse().ok()?;
        Some((key, value))
    });
    known.fold(GoogleCloudStorageBuilder::new(), |builder, (key, value)| {
        builder.with_config(key, value)
    })
}
