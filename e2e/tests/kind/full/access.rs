//! A cluster that asks its clients who they are: a user has what its role allows and nothing else, also
//! after somebody changed that in the cluster itself; the operator goes on with its own work.

use std::time::Duration;

use engram_e2e::client::{self, Client};
use engram_e2e::kind::{Access, Declared, condition, wait_for};
use engram_proto::etcdserverpb as pb;
use engram_proto::etcdserverpb::auth_client::AuthClient;
use serde_json::{Value, json};
use tonic::transport::Channel;

use super::restore_in_place::{change, confirm, phase};
use crate::lab::{LIMIT, Lab, READY_LIMIT};
use crate::steps::step;

const NAMESPACE: &str = "access";
/// The role, the user and both objects.
const APP: &str = "app";
const SECRET: &str = "app-user";
/// The operator's own name among the users.
const OPERATOR_USER: &str = "engram-operator";
const CALL_LIMIT: Duration = Duration::from_secs(5);
/// What somebody changed in the cluster is put back within a minute.
const REPAIRED_LIMIT: Duration = Duration::from_secs(120);

/// Tells the story.
pub fn tell(lab: &Lab) {
    let demo = lab.cluster(NAMESPACE, 1, &json!({ "auth": { "enabled": true } }));
    demo.node_ports();
    step("a role and a user", || grant(&demo));
    step(
        "it may do what its role allows, and nobody else anything",
        || {
            let user = user(&demo);
            wait_for("the user writes", LIMIT, || {
                put(&demo, &user, "/app/a").ok()
            });
            let refused = put(&demo, &user, "/other/a").unwrap_err();
            assert!(refused.contains("permission denied"), "{refused}");
            let refused = put(&demo, &demo.access(), "/app/b").unwrap_err();
            assert!(refused.contains("permission denied"), "{refused}");
        },
    );
    step("members join a cluster that asks who they are", || {
        demo.change(&json!({ "replicas": 3 }));
        demo.ready(3, READY_LIMIT);
    });
    step("a backup is made and verified", || backup(&demo));
    step("root introduces the operator that it does not know", || {
        client::runtime().block_on(delete_operator(&demo));
        wait_for("the operator is a user again", REPAIRED_LIMIT, || {
            let roles = client::runtime().block_on(roles_of_operator(&demo));
            (roles? == ["root"]).then_some(())
        });
        demo.ready(3, READY_LIMIT);
    });
    step("restored in place it knows them all", || {
        let spec = json!({
            "kind": "InPlace", "source": { "backupRef": { "name": "guarded" } },
            "target": { "name": demo.name() }, "dryRun": true,
        });
        let restore = object("EngramRestore", "guarded", &spec);
        demo.kind().apply(NAMESPACE, &restore.to_string());
        phase(&demo, "guarded", "Planned");
        confirm(&demo, "guarded");
        phase(&demo, "guarded", "Completed");
        demo.ready(3, READY_LIMIT);
        let user = user(&demo);
        wait_for("the user writes", REPAIRED_LIMIT, || {
            put(&demo, &user, "/app/restored").ok()
        });
        let refused = put(&demo, &user, "/other/a").unwrap_err();
        assert!(refused.contains("permission denied"), "{refused}");
        change(&demo, "guarded", &json!({ "decision": "Accept" }));
        wait_for("it is over", READY_LIMIT, || {
            let object = demo.object()?;
            object["status"]["restoring"].is_null().then_some(())
        });
    });
    step("a role that was taken from it comes back", || {
        let user = user(&demo);
        client::runtime().block_on(revoke(&demo));
        assert!(put(&demo, &user, "/app/c").is_err(), "it was taken away");
        wait_for("the user writes again", REPAIRED_LIMIT, || {
            put(&demo, &user, "/app/c").ok()
        });
    });
    step(
        "its Secret is deleted: another password, another certificate",
        || {
            let before = password(&demo, SECRET);
            demo.kind()
                .must(&["-n", NAMESPACE, "delete", "secret", SECRET]);
            wait_for("another password is right", REPAIRED_LIMIT, || {
                let secret = ["secret", SECRET];
                demo.kind().get(NAMESPACE, &secret)?;
                let after = password(&demo, SECRET);
                let right = client::runtime()
                    .block_on(token(&demo, APP, &after))
                    .is_ok();
                (after != before && right).then_some(())
            });
            let old = client::runtime().block_on(token(&demo, APP, &before));
            assert!(old.is_err(), "the password before is right as well");
        },
    );
    step("the user goes with its object", || {
        let user = user(&demo);
        let delete = [
            "-n",
            NAMESPACE,
            "delete",
            "engramuser",
            APP,
            "--timeout=60s",
        ];
        demo.kind().must(&delete);
        let refused = put(&demo, &user, "/app/d").unwrap_err();
        assert!(refused.contains("permission denied"), "{refused}");
    });
    step("nobody is asked any more", || {
        demo.change(&json!({ "auth": { "enabled": false } }));
        let anybody = demo.access();
        wait_for("anybody writes", LIMIT, || {
            put(&demo, &anybody, "/any").ok()
        });
        demo.ready(3, READY_LIMIT);
    });
    lab.clear(NAMESPACE);
}

fn grant(demo: &Declared) {
    let made = |kind: &str, more: Value| {
        let mut spec = json!({ "clusterRef": { "name": demo.name() } });
        let more = more.as_object().cloned().unwrap_or_default();
        spec.as_object_mut().expect("an object").extend(more);
        let object = object(kind, APP, &spec);
        demo.kind().apply(NAMESPACE, &object.to_string());
    };
    // The user first: it waits for its role.
    made("EngramUser", json!({ "roles": [APP] }));
    let permissions = json!([{ "access": "ReadWrite", "prefix": "/app/" }]);
    made("EngramRole", json!({ "permissions": permissions }));
    for kind in ["engramuser", "engramrole"] {
        wait_for(&format!("{kind} {APP} is ready"), LIMIT, || {
            let object = demo.kind().get(NAMESPACE, &[kind, APP])?;
            (condition(&object, "Ready")?.status == "True").then_some(())
        });
    }
}

/// Takes a backup onto a volume, which is read back and compared. Where users are asked who they are, its pod is
/// known by the operator's certificate.
pub(super) fn backup(demo: &Declared) {
    let kind = demo.kind();
    let claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": { "name": "backups" },
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": { "requests": { "storage": "1Gi" } },
        },
    });
    kind.apply(demo.namespace(), &claim.to_string());
    let store = json!({ "pvc": { "claimName": "backups" } });
    let store = object("EngramBackupStore", "volume", &store);
    kind.apply(demo.namespace(), &store.to_string());
    let spec = json!({
        "clusterRef": { "name": demo.name() }, "storeRef": { "name": "volume" }, "verify": true,
    });
    let backup = object("EngramBackup", "guarded", &spec);
    kind.apply(demo.namespace(), &backup.to_string());
    wait_for("the backup is verified", READY_LIMIT, || {
        let backup = kind.get(demo.namespace(), &["engrambackup", "guarded"])?;
        assert_ne!(backup["status"]["phase"], "Failed", "{backup:#}");
        (condition(&backup, "Verified")?.status == "True").then_some(())
    });
}

fn object(kind: &str, name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "engram.dev/v1alpha1", "kind": kind,
        "metadata": { "name": name }, "spec": spec,
    })
}

/// As the holder of the user's certificate.
fn user(demo: &Declared) -> Access {
    demo.kind().access_with(NAMESPACE, demo.name(), SECRET)
}

fn password(demo: &Declared, secret: &str) -> String {
    demo.kind().secret_file(NAMESPACE, secret, "password")
}

async fn reach(demo: &Declared, access: &Access) -> Client {
    let ports = demo.node_ports();
    access.reach(ports[0], CALL_LIMIT).await
}

fn put(demo: &Declared, access: &Access, key: &str) -> Result<(), String> {
    client::runtime().block_on(async {
        let mut client = reach(demo, access).await;
        let written = client.put(key, "v").await;
        written
            .map(drop)
            .map_err(|status| status.message().to_owned())
    })
}

async fn auth(demo: &Declared) -> AuthClient<Channel> {
    AuthClient::new(reach(demo, &demo.access()).await.channel)
}

/// A token for a password.
async fn token(demo: &Declared, name: &str, password: &str) -> Result<String, String> {
    let request = pb::AuthenticateRequest {
        name: name.to_owned(),
        password: password.to_owned(),
    };
    let answer = auth(demo).await.authenticate(request).await;
    let answer = answer.map_err(|status| status.message().to_owned())?;
    Ok(answer.into_inner().token)
}

/// A request of root's.
async fn by_root<T>(demo: &Declared, request: T) -> tonic::Request<T> {
    let root = password(demo, "demo-root");
    let token = token(demo, "root", &root).await.expect("root's password");
    let mut request = tonic::Request::new(request);
    let token = token.parse().expect("a token is a header's value");
    request.metadata_mut().insert("token", token);
    request
}

/// Root takes the user's role from it, by hand.
async fn revoke(demo: &Declared) {
    let revoke = pb::AuthUserRevokeRoleRequest {
        name: APP.to_owned(),
        role: APP.to_owned(),
    };
    let request = by_root(demo, revoke).await;
    let revoked = auth(demo).await.user_revoke_role(request).await;
    revoked.expect("root may do everything");
}

/// Root takes the operator away.
async fn delete_operator(demo: &Declared) {
    let name = OPERATOR_USER.to_owned();
    let request = by_root(demo, pb::AuthUserDeleteRequest { name }).await;
    let deleted = auth(demo).await.user_delete(request).await;
    deleted.expect("root may do everything");
}

/// What the operator may do; none where it is no user.
async fn roles_of_operator(demo: &Declared) -> Option<Vec<String>> {
    let name = OPERATOR_USER.to_owned();
    let request = by_root(demo, pb::AuthUserGetRequest { name }).await;
    let user = auth(demo).await.user_get(request).await;
    Some(user.ok()?.into_inner().roles)
}
