//! A cluster that begins with what another one holds.

use serde_json::{Value, json};

use super::{CLUSTER, CORE, Lab, cluster};
use crate::api::EngramCluster;
use crate::played::Fault;

/// A cluster that imports; nobody of it answers here, so that the import's own part is called.
struct Story(Lab);

impl Story {
    fn new() -> Self {
        Self(Lab::new(json!({
            "bootstrap": { "import": { "endpoints": ["https://etcd:2379"] } },
        })))
    }

    /// One pass by an operator that was started just before.
    async fn pass(&self) {
        let lab = Lab::on(self.0.server.clone());
        lab.import().await.unwrap();
    }

    fn pod(&self) -> Option<Value> {
        self.0.server.object(&format!("{CORE}/pods/demo-import"))
    }

    fn ends(&self, phase: &str, code: i64, said: &str) {
        let mut pod = self.pod().unwrap();
        pod["status"] = json!({ "phase": phase, "containerStatuses": [{
            "name": "engramctl", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
            "state": { "terminated": { "exitCode": code, "message": said } },
        }] });
        self.0.server.put(&format!("{CORE}/pods/demo-import"), pod);
    }

    fn runs(&self) {
        let path = format!("{CORE}/pods/demo-import");
        self.0
            .server
            .change(&path, |pod| pod["status"] = is_running());
    }

    fn spec(&self, key: &str, value: Value) {
        let mut cluster = self.0.server.object(CLUSTER).unwrap();
        cluster["spec"]["bootstrap"]["import"][key] = value;
        self.0.server.put(CLUSTER, cluster);
    }

    fn status(&self) -> Value {
        self.0.server.object(CLUSTER).unwrap()["status"].clone()
    }

    fn imported(&self) -> (String, String) {
        let (status, reason, _) = self.0.condition("Imported");
        (status, reason)
    }
}

fn words(pod: &Value) -> String {
    pod["spec"]["containers"][0]["command"].to_string()
}

/// What a kubelet says of a pod whose container runs.
fn is_running() -> Value {
    json!({ "phase": "Running", "containerStatuses": [{
        "name": "engramctl", "image": "i", "imageID": "", "ready": true, "restartCount": 0,
        "state": { "running": {} },
    }] })
}

#[tokio::test]
pub(super) async fn it_follows_until_it_is_cut_over_and_says_at_which_revisions() {
    let story = Story::new();
    story.pass().await;
    let pod = story.pod().unwrap();
    assert!(words(&pod).contains("--from=https://etcd:2379"), "{pod}");
    assert!(!words(&pod).contains("--replace"), "{pod}");
    assert_eq!(pod["metadata"]["annotations"], Value::Null);
    story.runs();
    story.pass().await;
    assert_eq!(story.imported(), ("False".into(), "Running".into()));
    assert!(story.0.condition("Imported").2.contains("cutOver"));
    story.spec("cutOver", json!(true));
    story.pass().await;
    let annotations = story.pod().unwrap()["metadata"]["annotations"].clone();
    assert_eq!(annotations, json!({ "engram.dev/cut-over": "true" }));
    let said = r#"{"equal":true,"sourceRevision":70,"targetRevision":12,"keys":9}"#;
    story.ends("Succeeded", 0, said);
    story.pass().await;
    assert_eq!(story.imported(), ("True".into(), "Succeeded".into()));
    let import = story.status()["import"].clone();
    assert_eq!(
        (
            &import["sourceRevision"],
            &import["revision"],
            &import["keys"]
        ),
        (&json!(70), &json!(12), &json!(9))
    );
    story.pass().await;
    assert_eq!(story.pod(), None, "it is over");
    story.pass().await;
    assert_eq!(story.pod(), None, "and not done again");
}

#[tokio::test]
async fn a_lost_attempt_is_made_again_without_what_it_had_copied() {
    let story = Story::new();
    story.pass().await;
    story.runs();
    story.pass().await;
    story.0.server.remove(&format!("{CORE}/pods/demo-import"));
    story.pass().await;
    assert!(words(&story.pod().unwrap()).contains("--replace"));
    assert_eq!(story.status()["import"]["attempts"], 2);
    // One that failed waits.
    story.ends("Failed", 1, "Error: no endpoint answers");
    story.pass().await;
    assert_eq!(story.imported(), ("False".into(), "Retrying".into()));
    assert_eq!(story.pod(), None);
    story.pass().await;
    assert_eq!(story.pod(), None, "it is not its time yet");
    assert!(
        story
            .0
            .condition("Imported")
            .2
            .contains("no endpoint answers")
    );
}

#[tokio::test]
async fn an_attempt_that_never_ran_has_copied_nothing_and_the_next_one_removes_nothing() {
    // Its pod is refused, or its answer is lost.
    for (after, fault) in
        (0..9).flat_map(|after| [(after, Fault::Refused(500)), (after, Fault::Reset)])
    {
        let story = Story::new();
        story.0.server.goes_wrong(after, 1, fault);
        // What fails is tried again.
        for _ in 0..4 {
            drop(Lab::on(story.0.server.clone()).import().await);
            if story.pod().is_some() {
                break;
            }
        }
        let pod = story.pod().expect("an attempt is made");
        assert!(
            !words(&pod).contains("--replace"),
            "{fault:?} after {after}: {pod}"
        );
    }
    // No node took it before it was lost.
    let story = Story::new();
    story.pass().await;
    story.0.server.remove(&format!("{CORE}/pods/demo-import"));
    story.pass().await;
    assert_eq!(story.status()["import"]["attempts"], 2);
    assert!(!words(&story.pod().unwrap()).contains("--replace"));
}

#[tokio::test]
async fn a_pod_that_kubernetes_refuses_is_said_and_asked_for_later_and_later() {
    let story = Story::new();
    let server = &story.0.server;
    let words =
        "pods \"demo-import\" is forbidden: exceeded quota: all, requested: requests.cpu=100m";
    server.refuses_to_make("/pods/demo-import", words);
    story.pass().await;
    let (status, reason, message) = story.0.condition("Imported");
    assert_eq!((&*status, &*reason), ("False", "Retrying"));
    assert!(message.contains("exceeded quota"), "{message}");
    assert_eq!(server.notes("Importing"), [""; 0], "nothing is copied");
    // Not in each pass.
    story.pass().await;
    assert_eq!(story.status()["import"]["attempts"], 1);
    assert!(story.0.condition("Imported").2.contains("exceeded quota"));
    // There is room again, and it is time.
    server.makes_all();
    server.change(CLUSTER, |cluster| {
        cluster["status"]["import"]["retryAt"] = json!("2026-01-01T00:00:00Z");
    });
    story.pass().await;
    assert!(!words_of(&story).contains("--replace"));
    assert_eq!(story.imported(), ("False".into(), "Running".into()));
}

/// The command of the pod that copies.
fn words_of(story: &Story) -> String {
    words(&story.pod().expect("it is made"))
}

#[tokio::test]
async fn keys_that_are_not_its_own_are_never_removed() {
    let story = Story::new();
    story.pass().await;
    let said = "Error: the target has 3 keys there already: import into an empty cluster, or --replace them";
    story.ends("Failed", 1, said);
    story.pass().await;
    assert_eq!(story.imported(), ("False".into(), "InvalidSpec".into()));
    assert!(story.pod().is_some(), "a person has to look");
    story.0.server.remove(&format!("{CORE}/pods/demo-import"));
    story.pass().await;
    assert!(!words(&story.pod().unwrap()).contains("--replace"));
}

#[tokio::test]
async fn one_that_is_over_is_not_begun_anew_though_somebody_wrote_to_the_cluster_meanwhile() {
    let story = Story::new();
    story.pass().await;
    let said = r#"{"equal":true,"sourceRevision":70,"targetRevision":12,"keys":9}"#;
    story.ends("Succeeded", 0, said);
    // A user edits the cluster while a pass looks at it: what that pass writes is refused.
    let seen: EngramCluster =
        serde_json::from_value(story.0.server.object(CLUSTER).unwrap()).unwrap();
    story.spec("cutOver", json!(true));
    let late = cluster::import_once(&story.0.context, &seen).await;
    assert!(late.is_err(), "it was overtaken");
    assert!(story.pod().is_some(), "it says what it has done");
    story.pass().await;
    assert_eq!(story.imported(), ("True".into(), "Succeeded".into()));
    for _ in 0..2 {
        story.pass().await;
        assert_eq!(story.pod(), None, "nothing is removed and copied again");
    }
    assert_eq!(story.status()["import"]["attempts"], 1);
}
