//! A real S3 server as a pod: versitygw over a directory, with TLS and, on a port of its own, without.

use std::sync::Arc;

use engram_e2e::certificates::Authority;
use engram_e2e::kind::{Kind, S3_IMAGE};
use serde_json::{Value, json};

use crate::lab::LIMIT;

const NAMESPACE: &str = "s3";
const PORT: u16 = 7070;
const TLS_PORT: u16 = 7443;
/// The Secret of its certificate.
const CERTIFICATE: &str = "s3-tls";
const KEY: &str = "engram-key";
/// The right one.
pub const SECRET: &str = "engram-secret";
/// The bucket that is there.
pub const BUCKET: &str = "backups";

/// The server. Buckets are directories below `/data`.
pub struct S3 {
    kind: Arc<Kind>,
    authority: String,
}

impl S3 {
    /// Starts it and waits until it answers.
    pub fn start(kind: &Arc<Kind>) -> S3 {
        kind.must(&["create", "namespace", NAMESPACE]);
        let directory = tempfile::tempdir().expect("a temporary directory");
        let authority = Authority::new(directory.path());
        let tls = format!("--cert /tls/tls.crt --key /tls/tls.key --port :{TLS_PORT}");
        let containers = [
            container("s3", PORT, &format!("--port :{PORT}")),
            container("s3-tls", TLS_PORT, &tls),
        ];
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": "s3", "labels": { "app": "s3" } },
            "spec": {
                "containers": containers,
                "volumes": [
                    { "name": "data", "emptyDir": {} },
                    { "name": "tls", "secret": { "secretName": CERTIFICATE } },
                ],
                "terminationGracePeriodSeconds": 1,
            },
        });
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": { "name": "s3" },
            "spec": { "selector": { "app": "s3" }, "ports": [
                { "name": "http", "port": PORT }, { "name": "https", "port": TLS_PORT },
            ] },
        });
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": [certificate(&authority), pod, service] });
        kind.apply(NAMESPACE, &list.to_string());
        kind.wait(NAMESPACE, "condition=Ready", &["pod/s3"], LIMIT);
        S3 {
            kind: kind.clone(),
            authority: authority.pem().to_owned(),
        }
    }

    /// A Secret with the authority of its certificate.
    pub fn authority(&self, name: &str) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name },
            "stringData": { "ca.crt": self.authority },
        })
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
                "endpoint": format!("http://{}:{PORT}", host()),
                "allowHTTP": true,
                "credentialsSecretRef": { "name": credentials },
            } },
        })
    }

    /// The same over TLS, with the Secret of the authority that signed the server's certificate.
    pub fn store_over_tls(name: &str, bucket: &str, credentials: &str, authority: &str) -> Value {
        let mut store = S3::store(name, bucket, credentials);
        let s3 = &mut store["spec"]["s3"];
        s3["endpoint"] = json!(format!("https://{}:{TLS_PORT}", host()));
        s3["allowHTTP"] = json!(false);
        s3["caSecretRef"] = json!({ "name": authority });
        store
    }

    /// Objects whose path ends so, below a store's prefix.
    pub fn objects(&self, store: &str, ending: &str) -> Vec<String> {
        let bucket = format!("/data/{BUCKET}");
        let find = format!("find {bucket} -path '{bucket}/{store}/*{ending}'");
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
        let exec = [
            "-n", NAMESPACE, "exec", "s3", "-c", "s3", "--", "/bin/sh", "-c", script,
        ];
        self.kind.must(&exec)
    }
}

/// The Service's name.
fn host() -> String {
    format!("s3.{NAMESPACE}.svc")
}

/// A container that serves the directory both serve.
fn container(name: &str, port: u16, flags: &str) -> Value {
    let serve = format!("mkdir -p /data/{BUCKET} && exec versitygw {flags} posix /data");
    json!({
        "name": name, "image": S3_IMAGE, "command": ["/bin/sh", "-c", serve],
        "env": [
            { "name": "ROOT_ACCESS_KEY", "value": KEY },
            { "name": "ROOT_SECRET_KEY", "value": SECRET },
        ],
        "readinessProbe": { "tcpSocket": { "port": port }, "periodSeconds": 1 },
        "volumeMounts": [
            { "name": "data", "mountPath": "/data" },
            { "name": "tls", "mountPath": "/tls", "readOnly": true },
        ],
    })
}

/// The Secret of the server's certificate.
fn certificate(authority: &Authority) -> Value {
    let issued = authority.issue_for(&[host()], "s3", 1);
    let read = |path| std::fs::read_to_string(path).expect("the certificate is there");
    json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": CERTIFICATE },
        "stringData": { "tls.crt": read(issued.certificate), "tls.key": read(issued.key) },
    })
}
