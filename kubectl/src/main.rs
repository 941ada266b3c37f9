//! `kubectl engram`: a plugin of kubectl's. It reads and writes the objects of the group `engram.dev` with
//! the rights of whoever calls it; everything that is done is the operator's to do.

mod ask;
mod report;
mod status;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use kube::config::{Config, KubeConfigOptions};
use kube::{Api, Client};

use engram_operator::api::{EngramBackup, EngramCluster, EngramMember};

/// Looks at clusters of Engram, and asks things of them.
#[derive(Parser)]
#[command(name = "kubectl-engram", bin_name = "kubectl engram", version)]
struct Cli {
    /// The namespace; default: the context's.
    #[arg(short, long, global = true)]
    namespace: Option<String>,
    /// The context of the kubeconfig; default: the current one.
    #[arg(long, global = true)]
    context: Option<String>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// What a cluster is, what is wrong with it, and what the operator does about it.
    Status {
        /// The cluster; none: all of the namespace.
        cluster: Option<String>,
    },
    /// Takes a backup.
    Backup {
        /// The cluster.
        cluster: String,
        /// The EngramBackupStore that it is kept in.
        #[arg(long)]
        store: String,
        /// Its name; default: the cluster's with the time.
        #[arg(long)]
        name: Option<String>,
        /// Has it read back and compared.
        #[arg(long)]
        verify: bool,
    },
    /// Restarts the members, one after the other.
    Restart {
        /// The cluster.
        cluster: String,
    },
    /// Has the last change taken back: members run what they last worked with.
    Rollback {
        /// The cluster.
        cluster: String,
    },
    /// Has a member replaced by a new one.
    Replace {
        /// The member, such as demo-2.
        member: String,
    },
    /// Has another member lead.
    MoveLeader {
        /// The cluster.
        cluster: String,
        /// The member that shall lead; default: any that is ready.
        to: Option<String>,
    },
    /// Stops the members and keeps their data.
    Hibernate {
        /// The cluster.
        cluster: String,
    },
    /// Starts them again.
    Wake {
        /// The cluster.
        cluster: String,
        /// How many members.
        #[arg(long, default_value_t = 3)]
        replicas: i32,
    },
    /// Writes all that a bug report needs into a directory; no Secret is read.
    Report {
        /// The cluster.
        cluster: String,
        /// The directory, which is made; default: engram-report-CLUSTER.
        #[arg(long)]
        out: Option<std::path::PathBuf>,
    },
}

/// What a verb could not do.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// There is no kubeconfig that could be used.
    #[error("kubeconfig: {0}")]
    Config(Box<kube::config::KubeconfigError>),
    /// The API server refused, or was not reached.
    #[error("{0}")]
    Kube(Box<kube::Error>),
    /// A file could not be written.
    #[error("{0}: {1}")]
    File(std::path::PathBuf, std::io::Error),
    /// What was found cannot be written as YAML.
    #[error("{0}")]
    Yaml(#[from] serde_yaml_ng::Error),
}

impl From<kube::config::KubeconfigError> for Failure {
    fn from(error: kube::config::KubeconfigError) -> Self {
        Self::Config(Box::new(error))
    }
}

impl From<kube::Error> for Failure {
    fn from(error: kube::Error) -> Self {
        Self::Kube(Box::new(error))
    }
}

/// The API server, in one namespace.
struct Kube {
    client: Client,
    namespace: String,
}

impl Kube {
    async fn of(cli: &Cli) -> Result<Self, Failure> {
        let options = KubeConfigOptions {
            context: cli.context.clone(),
            ..KubeConfigOptions::default()
        };
        let config = Config::from_kubeconfig(&options).await?;
        let namespace = cli.namespace.clone();
        let namespace = namespace.unwrap_or_else(|| config.default_namespace.clone());
        let client = Client::try_from(config)?;
        Ok(Self { client, namespace })
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    match Box::pin(run(Cli::parse())).await {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("kubectl engram: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> Result<String, Failure> {
    let kube = Kube::of(&cli).await?;
    match cli.verb {
        Verb::Status { cluster } => Box::pin(status(&kube, cluster.as_deref())).await,
        Verb::Backup {
            cluster,
            store,
            name,
            verify,
        } => ask::backup(&kube, &cluster, &store, name, verify).await,
        Verb::Restart { cluster } => ask::restart(&kube, &cluster).await,
        Verb::Rollback { cluster } => ask::rollback(&kube, &cluster).await,
        Verb::Replace { member } => ask::replace(&kube, &member).await,
        Verb::MoveLeader { cluster, to } => ask::move_leader(&kube, &cluster, to).await,
        Verb::Hibernate { cluster } => ask::scale(&kube, &cluster, 0).await,
        Verb::Wake { cluster, replicas } => ask::scale(&kube, &cluster, replicas).await,
        Verb::Report { cluster, out } => Box::pin(report::report(&kube, &cluster, out)).await,
    }
}

async fn status(kube: &Kube, name: Option<&str>) -> Result<String, Failure> {
    let all = kube::api::ListParams::default();
    let clusters: Vec<EngramCluster> = match name {
        Some(name) => vec![kube.api::<EngramCluster>().get(name).await?],
        None => kube.api::<EngramCluster>().list(&all).await?.items,
    };
    if clusters.is_empty() {
        return Ok(format!("no EngramCluster in {}\n", kube.namespace));
    }
    let members = kube.api::<EngramMember>().list(&all).await?.items;
    let backups = kube.api::<EngramBackup>().list(&all).await?.items;
    let now = jiff::Timestamp::now().as_second();
    let texts: Vec<String> = clusters
        .iter()
        .map(|cluster| status::render(cluster, &members, &backups, now))
        .collect();
    Ok(texts.join("\n"))
}
