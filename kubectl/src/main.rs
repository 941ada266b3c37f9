//! `kubectl engram`: a plugin of kubectl's. It reads and writes the objects of the group `engram.dev` with
//! the rights of whoever calls it; everything that is done is the operator's to do.

mod archive;
mod ask;
mod completion;
mod rebind;
mod report;
mod status;
mod through;

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
    #[command(flatten)]
    Ask(Ask),
    /// What members say.
    Logs(through::Logs),
    /// Runs engramctl, which knows etcdctl's words, beside a member with its certificates.
    Etcdctl {
        /// The cluster.
        cluster: String,
        /// Its words, such as `endpoint status --cluster`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
    /// Prints the program by which kubectl completes this plugin's words.
    Completion,
    #[command(name = "__complete", hide = true)]
    Complete {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
}

/// What is asked of the API server alone.
#[derive(Subcommand)]
enum Ask {
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
    /// Restores a backup: into the cluster, which goes back to it, or into a new one like it.
    Restore(ask::Restore),
    /// Has a cluster that follows another one (bootstrap.import) go on by itself, once both are equal.
    Promote {
        /// The cluster.
        cluster: String,
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
        /// How many members; default: as many as there are.
        #[arg(long)]
        replicas: Option<i32>,
    },
    /// Binds the volumes of a cluster anew whose Namespace was deleted, where they are retained: an EngramRestore of kind
    /// AdoptVolumes finds them then. The Namespace has to be there again.
    Rebind {
        /// The cluster that there was.
        cluster: String,
        /// Says what would be bound, and binds nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Writes all that a bug report needs into one archive; no Secret is read.
    Report {
        /// The cluster.
        cluster: String,
        /// The archive, which is made; default: engram-report-CLUSTER.tar.
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
    /// A wish that cannot be had.
    #[error("{0}")]
    Input(String),
    /// A file could not be written, or a program not be run.
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
        Ok(code) => code,
        Err(error) => {
            eprintln!("kubectl engram: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> Result<ExitCode, Failure> {
    let text = match &cli.verb {
        Verb::Completion => completion::PROGRAM.to_owned(),
        Verb::Complete { words } => Box::pin(completion::complete(&cli, words)).await?,
        Verb::Logs(wanted) => {
            let kube = Kube::of(&cli).await?;
            return through::kubectl(&cli, &kube.namespace, through::logs(wanted));
        }
        Verb::Etcdctl { cluster, words } => {
            let kube = Kube::of(&cli).await?;
            let found = kube.api::<EngramCluster>().get(cluster).await?;
            let all = kube::api::ListParams::default();
            let members = kube.api::<EngramMember>().list(&all).await?.items;
            let terminal = through::somebody_types();
            let words = through::etcdctl(&found, &members, words, terminal)?;
            return through::kubectl(&cli, &kube.namespace, words);
        }
        Verb::Ask(ask) => Box::pin(asked(&Kube::of(&cli).await?, ask)).await?,
    };
    print!("{text}");
    Ok(ExitCode::SUCCESS)
}

/// What is to be said of it.
async fn asked(kube: &Kube, ask: &Ask) -> Result<String, Failure> {
    match ask {
        Ask::Status { cluster } => Box::pin(status(kube, cluster.as_deref())).await,
        Ask::Backup {
            cluster,
            store,
            name,
            verify,
        } => ask::backup(kube, cluster, store, name.clone(), *verify).await,
        Ask::Restore(wanted) => Box::pin(ask::restore(kube, wanted)).await,
        Ask::Promote { cluster } => ask::promote(kube, cluster).await,
        Ask::Restart { cluster } => ask::restart(kube, cluster).await,
        Ask::Rollback { cluster } => ask::rollback(kube, cluster).await,
        Ask::Replace { member } => ask::replace(kube, member).await,
        Ask::MoveLeader { cluster, to } => ask::move_leader(kube, cluster, to.clone()).await,
        Ask::Hibernate { cluster } => ask::scale(kube, cluster, 0).await,
        Ask::Wake { cluster, replicas } => ask::wake(kube, cluster, *replicas).await,
        Ask::Rebind { cluster, dry_run } => Box::pin(rebind::rebind(kube, cluster, *dry_run)).await,
        Ask::Report { cluster, out } => Box::pin(report::report(kube, cluster, out.clone())).await,
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
