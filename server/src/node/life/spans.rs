//! What sends the spans of calls, with `--enable-distributed-tracing`.

use engram_spans::{Exporter, Settings, StartError};
use prometheus::Registry;

use crate::config::Config;
use crate::node::boot::BootError;

/// Starts it, where the flags ask for it.
///
/// # Errors
/// The collector's address is none, or the system has no thread to give.
pub fn start(config: &Config, registry: &Registry) -> Result<Option<Exporter>, BootError> {
    let Some(tracing) = &config.tracing else {
        return Ok(None);
    };
    let settings = Settings {
        address: tracing.address.clone(),
        service: tracing.service_name.clone(),
        instance: tracing.instance_id.clone(),
        rate_per_million: tracing.rate_per_million,
    };
    crate::log!(
        debug,
        "distributed tracing enabled",
        address = settings.address.as_str(),
        "service-name" = settings.service.as_str(),
        "service-instance-id" = settings.instance.as_deref().unwrap_or_default(),
        "sampling-rate" = settings.rate_per_million
    );
    let started = engram_spans::start(&settings, registry).map_err(refused)?;
    crate::log!(info, "distributed tracing setup enabled");
    Ok(Some(started))
}

fn refused(error: StartError) -> BootError {
    let source = std::io::Error::other(error);
    BootError::System {
        what: "sending spans".into(),
        source,
    }
}
