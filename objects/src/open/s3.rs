//! S3 and what is compatible with it.

use std::sync::Arc;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, Checksum};
use url::Url;

use super::{Named, client, flag, options, prefix, refused, retries, variables};

const OPTIONS: &str = "endpoint, region, allow_http, virtual_hosted";

pub(super) fn open(url: &Url, bucket: &str, before: &str) -> Result<Named, String> {
    if bucket.is_empty() {
        return Err("it names no bucket: s3://bucket/prefix".into());
    }
    let mut client = client(before)?;
    let builder = checked(builder(before));
    let mut builder = builder.with_bucket_name(bucket).with_retry(retries());
    options(url, OPTIONS, |name, value| {
        match name {
            "endpoint" => builder = builder.clone().with_endpoint(value),
            "region" => builder = builder.clone().with_region(value),
            "allow_http" => client = client.clone().with_allow_http(flag(name, value)?),
            "virtual_hosted" => {
                let is_virtual = flag(name, value)?;
                builder = builder
                    .clone()
                    .with_virtual_hosted_style_request(is_virtual);
            }
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    let built = builder.with_client_options(client).build();
    Ok(Named {
        store: Arc::new(built.map_err(|error| refused(&error))?),
        prefix: prefix(url.path())?,
        root: None,
    })
}

/// A bucket with a retention of its own takes no object without a checksum. SHA-256 costs nothing: the signature has it.
fn checked(builder: AmazonS3Builder) -> AmazonS3Builder {
    match builder.get_config_value(&AmazonS3ConfigKey::Checksum) {
        Some(_) => builder,
        None => builder.with_checksum_algorithm(Checksum::SHA256),
    }
}

/// Who asks: variables that begin with `before`, else the cloud's own.
fn builder(before: &str) -> AmazonS3Builder {
    let Some(own) = variables(before, "AWS_") else {
        return AmazonS3Builder::from_env();
    };
    let known = own.into_iter().filter_map(|(name, value)| {
        let key: AmazonS3ConfigKey = name.parse().ok()?;
        Some((key, value))
    });
    known.fold(AmazonS3Builder::new(), |builder, (key, value)| {
        builder.with_config(key, value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_has_a_checksum_without_which_a_locked_bucket_takes_nothing() {
        let told = |builder: AmazonS3Builder| {
            checked(builder).get_config_value(&AmazonS3ConfigKey::Checksum)
        };
        assert_eq!(told(AmazonS3Builder::new()), Some("sha256".to_owned()));
        let other = AmazonS3Builder::new().with_config(AmazonS3ConfigKey::Checksum, "crc64nvme");
        assert_eq!(told(other), Some("crc64nvme".to_owned()));
    }
}
