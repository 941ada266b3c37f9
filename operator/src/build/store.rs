//! How a pod reaches a backup store: its URL, environment and volumes.

use serde_json::{Value, json};

use crate::api::{EngramBackupStore, PvcStore, S3Store, StorePods};

/// Where a store's volume is mounted.
const MOUNT: &str = "/var/lib/engram-backups";
/// Where the authorities of a store's certificate are.
const AUTHORITIES: &str = "/etc/engram/store-ca";
/// The Secret's key that they are kept under.
pub const AUTHORITIES_KEY: &str = "ca.crt";

/// How a pod reaches a store.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StoreAccess {
    /// As engramctl is given it; holds no secret.
    pub url: String,
    /// Environment variables.
    pub env: Vec<Value>,
    /// Mounts of the container.
    pub mounts: Vec<Value>,
    /// Volumes of the pod.
    pub volumes: Vec<Value>,
    /// The Secret with the authorities of the store's certificate, among the volumes.
    pub authorities: Option<String>,
    /// What the pods that reach it are like.
    pub pods: StorePods,
}

/// How a pod reaches `store`. A store without a place (which its schema refuses) has an empty URL.
#[must_use]
pub fn access(store: &EngramBackupStore) -> StoreAccess {
    let access = match (&store.spec.s3, &store.spec.pvc) {
        (Some(s3), _) => bucket(s3),
        (None, Some(pvc)) => volume(pvc),
        (None, None) => StoreAccess::default(),
    };
    StoreAccess {
        pods: store.spec.pods.clone(),
        ..access
    }
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
    let slash = if prefix.is_empty() { "" } else { "/" };
    let mut url = format!("s3://{bucket}{slash}{prefix}?region={region}");
    if let Some(endpoint) = endpoint {
        url.push_str(&format!("&endpoint={endpoint}"));
    }
    if *allow_http {
        url.push_str("&allow_http=true");
    }
    let mut access = StoreAccess {
        url,
        ..StoreAccess::default()
    };
    if let Some(secret) = credentials_secret_ref {
        access.env = credentials(&secret.name);
    }
    if let Some(secret) = ca_secret_ref {
        let file = format!("{AUTHORITIES}/{AUTHORITIES_KEY}");
        access
            .env
            .push(json!({ "name": "SSL_CERT_FILE", "value": file }));
        access
            .mounts
            .push(json!({ "name": "store-ca", "mountPath": AUTHORITIES, "readOnly": true }));
        // Named by its key: a Secret without it keeps the pod waiting instead of failing engramctl.
        let item = json!({ "key": AUTHORITIES_KEY, "path": AUTHORITIES_KEY });
        let source = json!({ "secretName": secret.name, "items": [item] });
        access
            .volumes
            .push(json!({ "name": "store-ca", "secret": source }));
        access.authorities = Some(secret.name.clone());
    }
    access
}

fn volume(pvc: &PvcStore) -> StoreAccess {
    let PvcStore { claim_name, path } = pvc;
    let mut place = MOUNT.to_owned();
    let mut mount = json!({ "name": "store" });
    if !path.is_empty() {
        place = format!("{MOUNT}/{path}");
        // The kubelet makes the directory where it is missing; engramctl never does.
        mount["subPath"] = json!(path);
    }
    mount["mountPath"] = json!(place);
    let volume = json!({ "name": "store", "persistentVolumeClaim": { "claimName": claim_name } });
    StoreAccess {
        url: format!("file://{place}"),
        mounts: vec![mount],
        volumes: vec![volume],
        ..StoreAccess::default()
    }
}

fn credentials(secret: &str) -> Vec<Value> {
    let variable = |name: &str, optional: bool| {
        let from = json!({ "name": secret, "key": name, "optional": optional });
        json!({ "name": name, "valueFrom": { "secretKeyRef": from } })
    };
    vec![
        variable("AWS_ACCESS_KEY_ID", false),
        variable("AWS_SECRET_ACCESS_KEY", false),
        variable("AWS_SESSION_TOKEN", true),
    ]
}
