//! A real S3 server as a pod: versitygw over a directory.

use std::sync::Arc;

use engram_e2e::kind::{Kind, S3_IMAGE};
use serde_json::{Value, json};

use crate::lab::LIMIT;

const NAMESPACE: &str = "s3";
const PORT: u16 = 7070;
const KEY: &str = "engram-key";
/// The right one.
pub const SECRET: &str = "engram-secret";
/// The bucket that is there.
pub const BUCKET: &str = "backups";

/// The server. Buckets are directories below `/data`.
pub struct S3 {
    kind: Arc<Kind>,
}

impl S3 {
    /// Starts it and waits until it answers.
    pub fn start(kind: &Arc<Kind>) -> S3 {
        kind.must(&["create", "namespace", NAMESPACE]);
        let serve = format!("mkdir -p /data/{BUCKET} && exec versitygw --port :{PORT} posix /data");
        let container = json!({
            "name": "s3", "image": S3_IMAGE, "command": ["/bin/sh", "-c", serve],
            "env": [
                { "name": "ROOT_ACCESS_KEY", "value": KEY },
                { "name": "ROOT_SECRET_KEY", "value": SECRET },
            ],
            "readinessProbe": { "tcpSocket": { "port": PORT }, "periodSeconds": 1 },
            "volumeMounts": [{ "name": "data", "mountPath": "/data" }],
        });
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": "s3", "labels": { "app": "s3" } },
            "spec": {
                "containers": [container],
                "volumes": [{ "name": "data", "emptyDir": {} }],
                "terminationGracePeriodSeconds": 1,
            },
        });
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": { "name": "s3" },
            "spec": { "selector": { "app": "s3" }, "ports": [{ "port": PORT }] },
        });
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": [pod, service] });
        kind.apply(NAMESPACE, &list.to_string());
        kind.wait(NAMESPACE, "condition=Ready", &["pod/s3"], LIMIT);
        S3 { kind: kind.clone() }
    }

    /// A Secret for this server, with the right secret key or a wrong one.
    pub fn credentials(name: &str, secret: &str) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name },
            "stringData": { "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": secret },
        })
    }

    /// An EngramBackupStore in a bucket of this server.
    pub fn store(name: &str, bucket: &str, credentials: &str) -> Value {
        json!({
            "apiVersion": "engram.dev/v1alpha1", "kind": "EngramBackupStore",
            "metadata": { "name": name },
            "spec": { "s3": {
                "bucket": bucket,
                "prefix": name,
                "endpoint": format!("http://s3.{NAMESPACE}.svc:{PORT}"),
                "allowHTTP": true,
                "credentialsSecretRef": { "name": credentials },
            } },
        })
    }

    /// Objects whose path ends so, below a store's prefix.
    pub fn objects(&self, store: &str, ending: &str) -> Vec<String> {
        let find = format!("find /data/{BUCKET}/{store} -path '*{ending}'");
        let found = self.run(&find);
        found.lines().map(str::to_owned).collect()
    }

    /// Changes one byte in the middle of an object, behind the server's back.
    pub fn damage(&self, object: &str) {
        self.run(&format!(
            "printf '\\377' | dd of={object} bs=1 seek=60 conv=notrunc 2>/dev/null"
        ));
    }

    fn run(&self, script: &str) -> String {
        let exec = ["-n", NAMESPACE, "exec", "s3", "--", "/bin/sh", "-c", script];
        self.kind.must(&exec)
    }
}
