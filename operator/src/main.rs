//! The operator's entry point.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use engram_operator::apiserver::Clients;
use engram_operator::lease::Holder;
use engram_operator::pulse::Pulse;
use engram_operator::reconcile::{self, Context};
use engram_operator::serve;
use engram_operator::settings::{Settings, USAGE};
use engram_operator::telemetry::Metrics;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some("run") => run(arguments),
        Some("crdgen") => crdgen(arguments.next()),
        Some("version" | "--version") => {
            println!("engram-operator {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        Some("help" | "--help" | "-h") => {
            print!("{USAGE}");
            ExitCode::SUCCESS
        }
        _ => {
            eprint!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn crdgen(directory: Option<String>) -> ExitCode {
    let Some(directory) = directory else {
        eprintln!("crdgen: name the directory to write to");
        return ExitCode::from(2);
    };
    for (name, text) in engram_operator::crdgen::files() {
        let path = Path::new(&directory).join(name);
        if let Err(error) = std::fs::write(&path, text) {
            eprintln!("{}: {error}", path.display());
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn run(arguments: impl Iterator<Item = String>) -> ExitCode {
    let settings = match Settings::parse(arguments, |name| std::env::var(name).ok()) {
        Ok(settings) => settings,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env();
    let filter = filter.unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt()
        .json()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(operate(settings)) {
        Ok(code) => code,
        Err(error) => {
            tracing::error!(%error, "the operator does not run");
            ExitCode::FAILURE
        }
    }
}

async fn operate(settings: Settings) -> Result<ExitCode, Box<dyn std::error::Error + Send + Sync>> {
    // One cryptography for everything, said before anybody asks for it.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let metrics = Metrics::new()?;
    let clients = Clients::infer().await?;
    let pulse = Pulse::default();
    let served = (metrics.clone(), pulse.clone());
    let server = tokio::spawn(serve::serve(settings.listen, served.0, served.1));
    let work = work(clients, settings, metrics, pulse);
    tokio::select! {
        code = work => Ok(code),
        ended = server => {
            ended??;
            Err("the metrics listener ended".into())
        }
    }
}

/// Waits for the Lease, works while it is held, and gives it back.
async fn work(clients: Clients, settings: Settings, metrics: Metrics, pulse: Pulse) -> ExitCode {
    let mut holder = Holder::new(clients.calls.clone(), &settings);
    let elects = settings.leader_election;
    if elects {
        tracing::info!(identity = settings.identity, "waiting for the Lease");
        tokio::select! {
            () = holder.acquire() => {}
            () = asked_to_end() => return ExitCode::SUCCESS,
        }
    }
    metrics.leader.set(1);
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "the operator works");
    let controllers = reconcile::run(Arc::new(Context::new(
        clients,
        settings,
        metrics.clone(),
        pulse,
    )));
    let lost = async {
        match elects {
            true => holder.keep().await,
            false => std::future::pending().await,
        }
    };
    tokio::select! {
        () = controllers => {}
        () = lost => {
            metrics.leader.set(0);
            tracing::error!("the Lease is lost: another replica may work already");
            return ExitCode::FAILURE;
        }
    }
    if elects {
        holder.release().await;
    }
    ExitCode::SUCCESS
}

async fn asked_to_end() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}
