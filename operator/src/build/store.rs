//! How a pod reaches a backup store: its URL, environment and volumes.

use serde_json::{Value, json};

use crate::api::EngramBackupStore;

/// Where a store's volume is mounted.
const MOUNT: &str = "/var/lib/engram-backups";

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
}

/// How a pod reaches `store`. A store without a place (which its schema refuses) has an empty URL.
#[must_use]
pub fn access(store: &EngramBackupStore) -> StoreAccess {
    if let Some(s3) = &store.spec.s3 {
        let prefix = if s3.prefix.is_empty() {
            String::new()
        } else {
            format!("/{}", s3.prefix)
        };
        let mut url = format!("s3://{}{prefix}?region={}", s3.bucket, s3.region);
        if let Some(endpoint) = &s3.endpoint {
            url.push_str(&format!("&endpoint={endpoint}"));
        }
        if s3.allow_http {
            url.push_str("&allow_http=true");
        }
        let secret = s3.credentials_secret_ref.as_ref();
        let env = secret
            .map(|secret| credentials(&secret.name))
            .unwrap_or_default();
        return StoreAccess {
            url,
            env,
            ..StoreAccess::default()
        };
    }
    let Some(pvc) = &store.spec.pvc else {
        return StoreAccess::default();
    };
    let path = if pvc.path.is_empty() {
        MOUNT.to_owned()
    } else {
        format!("{MOUNT}/{}", pvc.path)
    };
    StoreAccess {
        url: format!("file://{path}"),
        env: Vec::new(),
        mounts: vec![json!({ "name": "store", "mountPath": MOUNT })],
        volumes: vec![
            json!({ "name": "store", "persistentVolumeClaim": { "claimName": pvc.claim_name } }),
        ],
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
