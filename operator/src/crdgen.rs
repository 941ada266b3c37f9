//! The custom resource definitions as YAML, one file a kind.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;

use crate::api;

const HEAD: &str = "# Made by `make manifests` from operator/src/api: change it there.\n";

/// Every definition.
#[must_use]
pub fn definitions() -> Vec<CustomResourceDefinition> {
    vec![
        api::EngramCluster::crd(),
        api::EngramMember::crd(),
        api::EngramBackupStore::crd(),
        api::EngramBackup::crd(),
        api::EngramBackupSchedule::crd(),
        api::EngramRestore::crd(),
        api::EngramOperation::crd(),
        api::EngramUser::crd(),
        api::EngramRole::crd(),
        api::EngramImageCatalog::crd(),
    ]
}

/// Every definition as the name of its file and its text.
///
/// # Panics
/// Never: a definition is plain data.
#[must_use]
pub fn files() -> Vec<(String, String)> {
    let text = |crd: &CustomResourceDefinition| {
        let mut value = serde_json::to_value(crd).expect("a definition is plain data");
        tidy(&mut value);
        let yaml = serde_yaml_ng::to_string(&value).expect("JSON is YAML");
        format!("{HEAD}{yaml}")
    };
    let file =
        |crd: &CustomResourceDefinition| (format!("{}.yaml", crd.spec.names.plural), text(crd));
    definitions().iter().map(file).collect()
}

/// Takes away what says nothing: formats that JSON Schema does not know (`uint32`) draw a warning
/// from kubectl.
fn tidy(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Object(map) => {
            let unknown = |format: &str| format.starts_with("uint") || format.starts_with("int8");
            if map
                .get("format")
                .and_then(|f| f.as_str())
                .is_some_and(unknown)
            {
                map.remove("format");
            }
            map.values_mut().for_each(tidy);
        }
        serde_json::Value::Array(all) => all.iter_mut().for_each(tidy),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Fields with their types, one a line, of a part of a schema.
    fn fields(kind: &str, path: &str, schema: &serde_json::Value, all: &mut Vec<String>) {
        let any = match schema["x-kubernetes-int-or-string"].as_bool() {
            Some(true) => "int-or-string",
            _ => "any",
        };
        let of = schema["type"].as_str().unwrap_or(any);
        all.push(format!("{kind} {path} {of}"));
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            fields(kind, &format!("{path}.{name}"), field, all);
        }
        if schema["items"].is_object() {
            fields(kind, &format!("{path}[]"), &schema["items"], all);
        }
    }

    #[test]
    fn no_field_is_lost() {
        let mut all = Vec::new();
        for crd in definitions() {
            let crd = serde_json::to_value(crd).unwrap();
            let kind = crd["spec"]["names"]["plural"].as_str().unwrap();
            let versions = crd["spec"]["versions"].as_array().unwrap();
            let stored = versions.iter().filter(|one| one["storage"] == true);
            assert_eq!(stored.count(), 1, "{kind}");
            for version in versions {
                let parts = &version["schema"]["openAPIV3Schema"]["properties"];
                for part in ["spec", "status"] {
                    fields(kind, part, &parts[part], &mut all);
                }
            }
        }
        let kept = include_str!("api/v1alpha1.fields").lines();
        let kept: Vec<&str> = kept.filter(|line| !line.starts_with('#')).collect();
        assert!(kept.len() > 300, "{}", kept.len());
        let lost = kept
            .iter()
            .filter(|line| !all.iter().any(|one| one == *line));
        let lost: Vec<_> = lost.collect();
        assert!(
            lost.is_empty(),
            "fields that were are gone or have another type (docs/api-versions.md): {lost:#?}"
        );
    }

    #[test]
    fn what_is_committed_is_what_is_made() {
        let dir = Path::new(&std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo says it"))
            .join("../manifests/crds");
        for (name, text) in files() {
            let committed = std::fs::read_to_string(dir.join(&name)).unwrap_or_default();
            assert!(
                committed == text,
                "manifests/crds/{name} is stale: run `make manifests`"
            );
        }
    }
}
