//! Azure Blob Storage.

use std::sync::Arc;

use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use url::Url;

use super::{Named, client, first_part, flag, options, prefix, refused, retries, variables};

/// Behind the account's name, where it answers.
pub(super) const DOMAIN: &str = ".blob.core.windows.net";
const OPTIONS: &str = "endpoint, allow_http";

pub(super) fn open(url: &Url, account: &str, before: &str) -> Result<Named, String> {
    let (container, path) = first_part(url);
    if account.is_empty() || container.is_empty() {
        return Err("it names no account and container: az://account/container/prefix".into());
    }
    let mut client = client(before)?;
    let builder = builder(before)
        .with_account(account)
        .with_container_name(container);
    let mut builder = builder.with_retry(retries());
    options(url, OPTIONS, |name, value| {
        match name {
            "endpoint" => builder = builder.clone().with_endpoint(value.to_owned()),
            "allow_http" => client = client.clone().with_allow_http(flag(name, value)?),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    let built = builder.with_client_options(client).build();
    let refused = |error: object_store::Error| {
        let said = error.to_string().to_lowercase();
        match said.contains("access key") || said.contains("sas ") {
            true => format!(
                "these credentials cannot be read: AZURE_STORAGE_ACCOUNT_KEY is an account's key in base64, AZURE_STORAGE_SAS_TOKEN a token: {}",
                refused(&error)
            ),
            false => refused(&error),
        }
    };
    Ok(Named {
        store: Arc::new(built.map_err(refused)?),
        prefix: prefix(path)?,
        root: None,
    })
}

/// Who asks: variables that begin with `before`, else the cloud's own.
fn builder(before: &str) -> MicrosoftAzureBuilder {
    let Some(own) = variables(before, "AZURE_") else {
        return MicrosoftAzureBuilder::from_env();
    };
    let known = own.into_iter().filter_map(|(name, value)| {
        let key: AzureConfigKey = name.parse().ok()?;
        Some((key, value))
    });
    known.fold(MicrosoftAzureBuilder::new(), |builder, (key, value)| {
        builder.with_config(key, value)
    })
}
