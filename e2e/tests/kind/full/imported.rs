//! A cluster begins with what another one holds, which is written to all the while, and is cut over.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use engram_e2e::client;
use engram_e2e::kind::{Declared, condition, wait_for};
use serde_json::json;

use crate::ci::content;
use crate::lab::{Lab, READY_LIMIT};
use crate::steps::step;

const NAMESPACE: &str = "imported";
/// For how long the source is written to while it is followed.
const LOAD: Duration = Duration::from_secs(5);

/// Tells the story.
pub fn tell(lab: &Lab) {
    let source = lab.cluster(NAMESPACE, 1, &json!({}));
    content::fill(&source);
    let stop = Arc::new(AtomicBool::new(false));
    let writer = write(&source, &stop);
    let target = step("another cluster follows it, under load", || {
        let import = json!({
            "endpoints": ["https://demo-client.imported.svc:2379"],
            "tlsSecretRef": { "name": "demo-client-tls" },
        });
        let spec = json!({
            "replicas": 1, "storage": { "size": "1Gi" }, "clientService": { "type": "NodePort" },
            "bootstrap": { "import": import },
        });
        let target = Declared::declare(lab.kind(), NAMESPACE, "next", &spec);
        target.ready(1, READY_LIMIT);
        wait_for("keys are there", READY_LIMIT, || {
            let (keys, _) = content::everything(&target, 0).ok()?;
            keys.iter()
                .any(|one| one.key.starts_with(b"load/"))
                .then_some(())
        });
        thread::sleep(LOAD);
        target
    });
    step("it is cut over, and no key is lost", || {
        stop.store(true, Ordering::Relaxed);
        let told = writer.join().expect("the writer is told of everything");
        assert!(told.len() > 20, "{} keys", told.len());
        target.change(&json!({ "bootstrap": { "import": { "cutOver": true } } }));
        let object = wait_for("it is imported", READY_LIMIT, || {
            let object = target.object()?;
            let imported = condition(&object, "Imported")?;
            (imported.status == "True").then_some(object)
        });
        let (there, revision) = content::everything(&source, 0).expect("a read");
        let (here, _) = content::everything(&target, 0).expect("a read");
        let import = &object["status"]["import"];
        assert_eq!(import["sourceRevision"], json!(revision), "{import}");
        assert_eq!(import["keys"], json!(here.len()), "{import}");
        let values = |all: Vec<engram_proto::mvccpb::KeyValue>| -> BTreeMap<Vec<u8>, Vec<u8>> {
            let pairs = all.into_iter();
            pairs
                .map(|one| (one.key.to_vec(), one.value.to_vec()))
                .collect()
        };
        let (there, here) = (values(there), values(here));
        assert_eq!(there, here);
        for (key, value) in told {
            assert_eq!(here.get(key.as_bytes()), Some(&value.into_bytes()), "{key}");
        }
    });
    lab.clear(NAMESPACE);
}

/// Puts until it is stopped; every key that was acknowledged.
fn write(demo: &Declared, stop: &Arc<AtomicBool>) -> JoinHandle<BTreeMap<String, String>> {
    let demo = Declared::named(demo.kind(), demo.namespace(), demo.name());
    let stop = stop.clone();
    demo.node_ports();
    thread::spawn(move || {
        client::runtime().block_on(async {
            let mut client = content::client_of(&demo).await;
            let mut told = BTreeMap::new();
            for number in 0_u64.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let (key, value) = (format!("load/{:03}", number % 200), number.to_string());
                client.put(key.clone(), value.clone()).await.expect("a put");
                told.insert(key, value);
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            told
        })
    })
}
