//! How a pod reaches a backup store: its URL, environment and volumes.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{
    EnvVar, EnvVarSource, SecretKeySelector, SecretVolumeSource, Volume, VolumeMount,
};
use serde::Serialize;

use crate::api::{
    AzureStore, EncryptionKey, EngramBackupStore, EngramBackupStoreSpec, GcsStore, LocalRef,
    PvcStore, S3Store, StorePods,
};

use super::parts::{GROUP_READS, claimed, item, mount, mount_to_read, variable};

/// Where a store's volume is mounted.
const MOUNT: &str = "/var/lib/engram-backups";
/// Where the authorities of a store's certificate are.
const AUTHORITIES: &str = "/etc/engram/store-ca";
/// The Secret's key that they are kept under.
pub(super) const AUTHORITIES_KEY: &str = "ca.crt";
/// The variable that names their file.
const AUTHORITIES_FILE: &str = "SSL_CERT_FILE";
/// Where the keys are that its objects are encrypted with, each in a directory of its number.
const KEYS: &str = "/etc/engram/store-keys";
/// The name of its file there.
const KEY_FILE: &str = "key";

/// How a pod reaches a store.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StoreAccess {
    /// As engramctl is given it; holds no secret.
    pub url: String,
    /// Environment variables.
    pub env: Vec<EnvVar>,
    /// Mounts of the container.
    pub mounts: Vec<VolumeMount>,
    /// Volumes of the pod.
    pub volumes: Vec<Volume>,
    /// The files with its keys, the one that encrypts first.
    pub key_files: Vec<String>,
    /// What has to be in Secrets among the volumes.
    pub needs: Vec<Needed>,
    /// What the pods that reach it are like.
    pub pods: StorePods,
}

/// Where what belongs to a second store is mounted below.
const OTHERS: &str = "/to";

impl StoreAccess {
    /// How a pod reaches this store that is copied to from another one: its variables begin with `TO_`, and its
    /// files lie elsewhere.
    #[must_use]
    pub fn beside(&self) -> StoreAccess {
        // No `..`: what is new has to be beside the other's, too.
        let StoreAccess {
            url,
            env,
            mounts,
            volumes,
            key_files,
            needs,
            pods,
        } = self;
        let other = |name: &str| format!("to-{name}");
        let moved = |path: &str| format!("{OTHERS}{path}");
        let renamed = |one: &EnvVar| EnvVar {
            name: format!("TO_{}", one.name),
            value: one.value.as_deref().map(moved),
            value_from: one.value_from.clone(),
        };
        let mounted = |one: &VolumeMount| VolumeMount {
            name: other(&one.name),
            mount_path: moved(&one.mount_path),
            ..one.clone()
        };
        let held = |one: &Volume| Volume {
            name: other(&one.name),
            ..one.clone()
        };
        StoreAccess {
            url: match url.strip_prefix("file://") {
                Some(path) => format!("file://{OTHERS}{path}"),
                None => url.clone(),
            },
            env: env.iter().map(renamed).collect(),
            mounts: mounts.iter().map(mounted).collect(),
            volumes: volumes.iter().map(held).collect(),
            key_files: key_files.iter().map(|file| moved(file)).collect(),
            needs: needs.clone(),
            pods: pods.clone(),
        }
    }

    /// How one pod reaches both this store and what is [`beside`](StoreAccess::beside) it.
    #[must_use]
    pub fn with(mut self, other: &StoreAccess) -> StoreAccess {
        // Where this one has authorities of its own the other may have the public ones.
        if self.env.iter().any(|one| one.name == AUTHORITIES_FILE) {
            let public = "/etc/ssl/certs".to_owned();
            self.env.push(variable("SSL_CERT_DIR", public));
        }
        self.env.extend(other.env.iter().cloned());
        self.mounts.extend(other.mounts.iter().cloned());
        self.volumes.extend(other.volumes.iter().cloned());
        self.needs.extend(other.needs.iter().cloned());
        self
    }

    /// The Secrets that it is reached by.
    #[must_use]
    pub fn secrets(&self) -> BTreeSet<&str> {
        let variables = self.env.iter().filter_map(|one| {
            let from = one.value_from.as_ref()?.secret_key_ref.as_ref()?;
            Some(from.name.as_str())
        });
        let volumes = self.volumes.iter();
        let volumes = volumes.filter_map(|one| one.secret.as_ref()?.secret_name.as_deref());
        variables.chain(volumes).collect()
    }

    /// The flags by which engramctl is given the keys.
    pub(super) fn key_flags(&self) -> impl Iterator<Item = String> {
        let files = self.key_files.iter();
        files.map(|file| format!("--encryption-key-file={file}"))
    }
}

/// What a pod waits for without saying so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Needed {
    /// The Secret.
    pub secret: String,
    /// What has to be in it.
    pub key: String,
    /// What the specification calls it, and what it is.
    pub what: String,
}

/// Whether a pod that reaches both would ask `other` with the credentials of `own`, for they are of one cloud and the
/// other has none: what engramctl does not find for the second store it takes from the first one's variables.
#[must_use]
pub fn would_borrow(own: &EngramBackupStore, other: &EngramBackupStore) -> bool {
    let secrets = |store: &EngramBackupStore| {
        let spec = &store.spec;
        [
            spec.s3
                .as_ref()
                .map(|one| one.credentials_secret_ref.is_some()),
            spec.gcs
                .as_ref()
                .map(|one| one.credentials_secret_ref.is_some()),
            spec.azure
                .as_ref()
                .map(|one| one.credentials_secret_ref.is_some()),
        ]
    };
    let mut pairs = secrets(own).into_iter().zip(secrets(other));
    pairs.any(|pair| pair == (Some(true), Some(false)))
}

/// How a pod reaches `store`. A store without a place (which its schema refuses) has an empty URL.
#[must_use]
pub fn access(store: &EngramBackupStore) -> StoreAccess {
    // No `..`: a new kind of place does not compile until it is reached.
    let EngramBackupStoreSpec {
        s3,
        gcs,
        azure,
        pvc,
        encryption,
        pods,
    } = &store.spec;
    let access = match (s3, gcs, azure, pvc) {
        (Some(s3), ..) => bucket(s3),
        (_, Some(gcs), ..) => google(gcs),
        (_, _, Some(azure), _) => container(azure),
        (.., Some(pvc)) => volume(pvc),
        (None, None, None, None) => StoreAccess::default(),
    };
    let mut access = StoreAccess {
        pods: pods.clone(),
        ..access
    };
    let keys = encryption.iter().flat_map(|all| &all.keys);
    for (place, key) in keys.enumerate() {
        encrypt(&mut access, place, key);
    }
    access
}

/// Mounts a key.
fn encrypt(access: &mut StoreAccess, place: usize, key: &EncryptionKey) {
    // No `..`: a new setting does not compile until it reaches engramctl.
    let EncryptionKey { secret_ref, key } = key;
    let (name, directory) = (format!("store-key-{place}"), format!("{KEYS}/{place}"));
    access.key_files.push(format!("{directory}/{KEY_FILE}"));
    access.mounts.push(mount_to_read(&name, &directory));
    let source = SecretVolumeSource {
        secret_name: Some(secret_ref.name.clone()),
        items: Some(vec![item(key, KEY_FILE)]),
        default_mode: Some(GROUP_READS),
        ..SecretVolumeSource::default()
    };
    access.volumes.push(out_of(name, source));
    access.needs.push(Needed {
        secret: secret_ref.name.clone(),
        key: key.clone(),
        what: format!(
            "encryption.keys[{place}] of the EngramBackupStore names, with the key as {key}"
        ),
    });
}

fn bucket(s3: &S3Store) -> StoreAccess {
    // No `..`: a new setting does not compile until it reaches engramctl.
    let S3Store {
        bucket,
        prefix,
        region,
        endpoint,
        allow_http,
        credentials_secret_ref,
        ca_secret_ref,
    } = s3;
    let options = [
        Some(format!("region={region}")),
        endpoint
            .as_ref()
            .map(|endpoint| format!("endpoint={endpoint}")),
        allow_http.then(|| "allow_http=true".to_owned()),
    ];
    let mut access = at(&format!("s3://{bucket}"), prefix, options);
    let variables = [
        ("AWS_ACCESS_KEY_ID", false),
        ("AWS_SECRET_ACCESS_KEY", false),
        ("AWS_SESSION_TOKEN", true),
    ];
    credentials(&mut access, credentials_secret_ref.as_ref(), &variables);
    believe(&mut access, ca_secret_ref.as_ref());
    access
}

fn google(gcs: &GcsStore) -> StoreAccess {
    let GcsStore {
        bucket,
        prefix,
        endpoint,
        allow_http,
        credentials_secret_ref,
        ca_secret_ref,
    } = gcs;
    let options = [
        endpoint
            .as_ref()
            .map(|endpoint| format!("endpoint={endpoint}")),
        allow_http.then(|| "allow_http=true".to_owned()),
    ];
    let mut access = at(&format!("gs://{bucket}"), prefix, options);
    let variables = [("GOOGLE_SERVICE_ACCOUNT_KEY", false)];
    credentials(&mut access, credentials_secret_ref.as_ref(), &variables);
    believe(&mut access, ca_secret_ref.as_ref());
    access
}

fn container(azure: &AzureStore) -> StoreAccess {
    let AzureStore {
        account,
        container,
        prefix,
        endpoint,
        allow_http,
        credentials_secret_ref,
        ca_secret_ref,
    } = azure;
    let options = [
        endpoint
            .as_ref()
            .map(|endpoint| format!("endpoint={endpoint}")),
        allow_http.then(|| "allow_http=true".to_owned()),
    ];
    let mut access = at(&format!("az://{account}/{container}"), prefix, options);
    // One of three sets of them.
    let variables = [
        ("AZURE_STORAGE_ACCOUNT_KEY", true),
        ("AZURE_STORAGE_SAS_TOKEN", true),
        ("AZURE_CLIENT_ID", true),
        ("AZURE_TENANT_ID", true),
        ("AZURE_CLIENT_SECRET", true),
    ];
    credentials(&mut access, credentials_secret_ref.as_ref(), &variables);
    believe(&mut access, ca_secret_ref.as_ref());
    access
}

/// How a URL is reached that is made of these parts.
fn at(place: &str, prefix: &str, options: impl IntoIterator<Item = Option<String>>) -> StoreAccess {
    let slash = if prefix.is_empty() { "" } else { "/" };
    let options: Vec<String> = options.into_iter().flatten().collect();
    let mark = if options.is_empty() { "" } else { "?" };
    StoreAccess {
        url: format!("{place}{slash}{prefix}{mark}{}", options.join("&")),
        ..StoreAccess::default()
    }
}

/// Has the endpoint's certificate checked against these authorities.
fn believe(access: &mut StoreAccess, secret: Option<&LocalRef>) {
    if let Some(secret) = secret {
        let file = format!("{AUTHORITIES}/{AUTHORITIES_KEY}");
        access.env.push(variable(AUTHORITIES_FILE, file));
        access.mounts.push(mount_to_read("store-ca", AUTHORITIES));
        let source = SecretVolumeSource {
            secret_name: Some(secret.name.clone()),
            // Named by its key: a Secret without it keeps the pod waiting instead of failing engramctl.
            items: Some(vec![item(AUTHORITIES_KEY, AUTHORITIES_KEY)]),
            ..SecretVolumeSource::default()
        };
        access.volumes.push(out_of("store-ca".to_owned(), source));
        access.needs.push(Needed {
            secret: secret.name.clone(),
            key: AUTHORITIES_KEY.to_owned(),
            what: format!("caSecretRef names, with the authorities as {AUTHORITIES_KEY}"),
        });
    }
}

fn volume(pvc: &PvcStore) -> StoreAccess {
    let PvcStore { claim_name, path } = pvc;
    let inner = (!path.is_empty()).then(|| path.clone());
    let place = match &inner {
        Some(path) => format!("{MOUNT}/{path}"),
        None => MOUNT.to_owned(),
    };
    let mount = VolumeMount {
        // The kubelet makes the directory where it is missing; engramctl never does.
        sub_path: inner,
        ..mount("store", &place)
    };
    StoreAccess {
        url: format!("file://{place}"),
        mounts: vec![mount],
        volumes: vec![claimed("store", claim_name)],
        ..StoreAccess::default()
    }
}

fn out_of(name: String, secret: SecretVolumeSource) -> Volume {
    Volume {
        name,
        secret: Some(secret),
        ..Volume::default()
    }
}

/// Sets variables out of a Secret; those that may be missing there are marked.
fn credentials(access: &mut StoreAccess, secret: Option<&LocalRef>, variables: &[(&str, bool)]) {
    let Some(secret) = secret else {
        return;
    };
    access.env.extend(variables.iter().map(|(name, optional)| {
        let from = SecretKeySelector {
            name: secret.name.clone(),
            key: (*name).to_owned(),
            optional: Some(*optional),
        };
        EnvVar {
            name: (*name).to_owned(),
            value_from: Some(EnvVarSource {
                secret_key_ref: Some(from),
                ..EnvVarSource::default()
            }),
            ..EnvVar::default()
        }
    }));
}
