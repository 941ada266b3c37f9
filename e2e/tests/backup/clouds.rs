//! Backups in stores that speak Google's and Azure's APIs, with what goes wrong there: the stories that S3 has.

use std::path::{Path, PathBuf};
use std::process::Command;

use engram_e2e::cloud::{BUCKET, Cloud, Dialect, KEY_ID, SAS};
use engram_e2e::kind::wait_for;
use engram_e2e::server::Setup;
use engram_e2e::{ports, tools, turn};
use tempfile::TempDir;

use crate::content::{fill, must_equal, restored};

/// How long the archive may take to hold what was written.
const ARCHIVED_LIMIT: std::time::Duration = std::time::Duration::from_secs(20);

/// Variables that say who asks.
type Identity = Vec<(&'static str, String)>;

/// A service account's key, as Google gives it: a file of JSON.
fn service_account(directory: &Path, id: &str) -> String {
    let key = directory.join("account.pem");
    let mut openssl = Command::new("openssl");
    openssl.args(["genrsa", "-out"]).arg(&key).arg("2048");
    tools::must_succeed(&mut openssl);
    let key = std::fs::read_to_string(key).expect("a key");
    serde_json::json!({
        "type": "service_account", "private_key": key, "private_key_id": id,
        "client_email": "backups@engram.iam.gserviceaccount.com",
    })
    .to_string()
}

fn engramctl(who: &Identity, arguments: &[&str]) -> Command {
    let mut command = tools::command(&tools::engramctl());
    command.envs(who.iter().map(|(name, value)| (name, value)));
    command.args(arguments);
    command
}

fn succeed(who: &Identity, arguments: &[&str]) -> String {
    tools::must_succeed(&mut engramctl(who, arguments))
}

fn fail(who: &Identity, arguments: &[&str]) -> String {
    let finished = tools::run(&mut engramctl(who, arguments), tools::TOOL_LIMIT);
    assert!(!finished.status.success(), "{}", finished.text());
    finished.text()
}

/// What is done with S3: backups made, refused under a name that is taken, listed, verified, restored, copied,
/// pruned, deleted; an archive that goes on.
fn tell(cloud: &Cloud, who: &Identity, wrong: &Identity) {
    let lock = |is_locked| cloud.lock_objects(is_locked);
    tell_of(&|bucket| cloud.store(bucket), Some(&lock), who, wrong);
}

/// The same of any store; `lock` has it keep what is there, where it can.
fn tell_of(
    store_of: &dyn Fn(&str) -> String,
    lock: Option<&dyn Fn(bool)>,
    who: &Identity,
    wrong: &Identity,
) {
    let store = store_of(BUCKET);
    let flags = [
        format!("--archive-url={store}"),
        "--archive-cluster=demo".to_owned(),
        "--archive-max-delay=200ms".to_owned(),
    ];
    let mut setup = flags
        .iter()
        .fold(Setup::engram(), |setup, flag| setup.flag(flag));
    for (name, value) in who {
        setup = setup.environment(name, value);
    }
    let server = setup.start();
    let revision = fill(&server);
    let store = format!("--store={store}");
    let endpoints = format!("--endpoints={}", server.address());
    let create = |name| {
        [
            "backup",
            "create",
            &store,
            "--cluster=demo",
            &endpoints,
            name,
        ]
    };
    succeed(who, &create("--name=one"));
    succeed(who, &create("--name=two"));
    let taken = fail(who, &create("--name=two"));
    assert!(taken.contains("there is a backup two already"), "{taken}");
    let listed = succeed(who, &["backup", "list", &store]);
    assert_eq!(listed.lines().count(), 2, "{listed}");
    succeed(who, &["backup", "verify", &store, "--backup=one"]);
    let same = restored(|flags| {
        succeed(who, &[&["restore", &store, "--backup=two"], flags].concat());
    });
    must_equal(&server, &same, revision);
    archived(&server.address().to_string(), who, &store);
    let elsewhere = TempDir::with_prefix("engram-copies-").expect("a temporary directory");
    let to = format!("file://{}", elsewhere.path().display());
    succeed(
        who,
        &["backup", "copy", &store, "--all", &format!("--to={to}")],
    );
    succeed(who, &["backup", "verify", &format!("--store={to}")]);
    let prune = ["backup", "prune", &store, "--cluster=demo", "--keep-last=1"];
    if let Some(lock) = lock {
        lock(true);
        let kept = succeed(who, &prune);
        assert!(
            kept.contains("the store's retention keeps one yet"),
            "{kept}"
        );
        let refused = fail(who, &["backup", "delete", &store, "--backup=one"]);
        assert!(
            refused.contains("does not let it be deleted yet"),
            "{refused}"
        );
        let listed = succeed(who, &["backup", "list", &store]);
        assert_eq!(listed.lines().count(), 2, "{listed}");
        lock(false);
    }
    succeed(who, &prune);
    let listed = succeed(who, &["backup", "list", &store]);
    assert!(
        listed.lines().count() == 1 && listed.starts_with("two"),
        "{listed}"
    );
    succeed(who, &["backup", "delete", &store, "--backup=two"]);
    assert_eq!(succeed(who, &["backup", "list", &store]), "");
    let missing = format!("--store={}", store_of("missing"));
    let said = fail(who, &["backup", "list", &missing]);
    assert!(said.contains("there is no such bucket"), "{said}");
    let said = fail(wrong, &["backup", "list", &store]);
    assert!(said.contains("these credentials"), "{said}");
}

/// Members archive there too: with a backup, any later revision comes back.
fn archived(address: &str, who: &Identity, store: &str) {
    let endpoints = format!("--endpoints={address}");
    succeed(who, &[&endpoints, "put", "later", "value"]);
    let put = succeed(who, &["-w", "json", &endpoints, "put", "later", "again"]);
    let put: serde_json::Value = serde_json::from_str(&put).expect("JSON");
    let revision = put["header"]["revision"].as_i64().expect("a revision");
    wait_for("the archive", ARCHIVED_LIMIT, || {
        let listed = succeed(who, &["-w", "json", "archive", "list", store]);
        let listed: serde_json::Value = serde_json::from_str(&listed).expect("JSON");
        let end = listed[0]["toRevision"].as_i64().unwrap_or_default();
        (end >= revision).then_some(())
    });
    let moment = format!("--to-revision={}", revision - 1);
    let before = restored(|flags| {
        let arguments = [&["restore", store, "--cluster=demo", &moment], flags].concat();
        succeed(who, &arguments);
    });
    let endpoints = format!("--endpoints={}", before.address());
    let found = succeed(who, &[&endpoints, "get", "later", "--print-value-only"]);
    assert_eq!(found.trim(), "value");
}

#[test]
fn a_backup_in_googles_store_is_verified_restored_and_pruned() {
    let _turn = turn::take("Google");
    let directory = TempDir::with_prefix("engram-google-").expect("a temporary directory");
    let cloud = Cloud::start(Dialect::Google);
    let account = |id| {
        vec![(
            "GOOGLE_SERVICE_ACCOUNT_KEY",
            service_account(directory.path(), id),
        )]
    };
    tell(&cloud, &account(KEY_ID), &account("another"));
    let nonsense = vec![("GOOGLE_SERVICE_ACCOUNT_KEY", "{}".to_owned())];
    let store = format!("--store={}", cloud.store(BUCKET));
    let said = fail(&nonsense, &["backup", "list", &store]);
    assert!(said.contains("these credentials cannot be read"), "{said}");
}

#[test]
fn a_machine_of_googles_needs_no_key() {
    let _turn = turn::take("Google's machine");
    let cloud = Cloud::start(Dialect::Google);
    let who = vec![("GCE_METADATA_HOST", cloud.address().to_string())];
    let store = format!("--store={}", cloud.store(BUCKET));
    assert_eq!(succeed(&who, &["backup", "list", &store]), "");
}

#[test]
fn a_backup_in_azures_store_is_verified_restored_and_pruned() {
    let _turn = turn::take("Azure");
    let cloud = Cloud::start(Dialect::Azure);
    let token = |token: &str| vec![("AZURE_STORAGE_SAS_TOKEN", token.to_owned())];
    let wrong = SAS.replace("engram-signature", "another");
    tell(&cloud, &token(SAS), &token(&wrong));
    let nonsense = vec![("AZURE_STORAGE_ACCOUNT_KEY", "no base64!".to_owned())];
    let store = format!("--store={}", cloud.store(BUCKET));
    let said = fail(&nonsense, &["backup", "list", &store]);
    assert!(said.contains("these credentials cannot be read"), "{said}");
}

#[test]
fn a_workload_on_azure_shows_what_kubernetes_gave_it() {
    let _turn = turn::take("Azure's workload");
    let directory = TempDir::with_prefix("engram-azure-").expect("a temporary directory");
    let cloud = Cloud::start(Dialect::Azure);
    let who = |token: &str| -> Identity {
        let file: PathBuf = directory.path().join("token");
        std::fs::write(&file, token).expect("writing a file");
        vec![
            ("AZURE_CLIENT_ID", "client".into()),
            ("AZURE_TENANT_ID", "tenant".into()),
            ("AZURE_FEDERATED_TOKEN_FILE", file.display().to_string()),
            (
                "AZURE_AUTHORITY_HOST",
                format!("http://{}", cloud.address()),
            ),
        ]
    };
    let store = format!("--store={}", cloud.store(BUCKET));
    let good = who("token-of-kubernetes");
    assert_eq!(succeed(&good, &["backup", "list", &store]), "");
    let said = fail(&who("another"), &["backup", "list", &store]);
    assert!(said.contains("these credentials"), "{said}");
}

#[test]
fn a_copy_goes_between_clouds_with_the_credentials_and_keys_of_each() {
    let _turn = turn::take("between clouds");
    let directory = TempDir::with_prefix("engram-between-").expect("a temporary directory");
    let [google, azure] = [Dialect::Google, Dialect::Azure].map(Cloud::start);
    let file = |name: &str, text: String| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).expect("writing a file");
        path.display().to_string()
    };
    let here = format!("--encryption-key-file={}", file("here", "0a".repeat(32)));
    let there = file("there", "0b".repeat(32));
    let account = service_account(directory.path(), KEY_ID);
    let who = |token: &str| -> Identity {
        vec![
            ("GOOGLE_SERVICE_ACCOUNT_KEY", account.clone()),
            ("TO_AZURE_STORAGE_SAS_TOKEN", token.to_owned()),
        ]
    };
    let server = Setup::engram().start();
    let revision = fill(&server);
    let endpoints = format!("--endpoints={}", server.address());
    let from = format!("--store={}", google.store(BUCKET));
    let create = [
        "backup",
        "create",
        &from,
        &here,
        "--cluster=demo",
        &endpoints,
        "--name=one",
    ];
    succeed(&who(SAS), &create);
    let to = format!("--to={}", azure.store(BUCKET));
    let key = format!("--to-encryption-key-file={there}");
    let copy = ["backup", "copy", &from, &here, &to, &key];
    let wrong = SAS.replace("engram-signature", "another");
    let said = fail(&who(&wrong), &copy);
    assert!(said.contains("these credentials"), "{said}");
    assert_eq!(azure.objects(), 0);
    succeed(&who(SAS), &copy);
    assert_eq!(azure.objects_with(b"EGBK"), 0, "no chunk is readable");
    let store = format!("--store={}", azure.store(BUCKET));
    let own = vec![("AZURE_STORAGE_SAS_TOKEN", SAS.to_owned())];
    let said = fail(&own, &["backup", "show", &store, &here]);
    assert!(said.contains("it is encrypted with key"), "{said}");
    let key = format!("--encryption-key-file={there}");
    let same = restored(|flags| {
        succeed(&own, &[&["restore", &store, &key], flags].concat());
    });
    must_equal(&server, &same, revision);
}

#[test]
fn a_copy_into_a_bucket_that_keeps_what_is_there_is_gone_on_with() {
    let _turn = turn::take("a bucket with a retention");
    let directory = TempDir::with_prefix("engram-kept-").expect("a temporary directory");
    let from = format!("--store=file://{}", directory.path().display());
    let server = Setup::engram().start();
    let revision = fill(&server);
    let endpoints = format!("--endpoints={}", server.address());
    for name in ["--name=one", "--name=two"] {
        let create = ["backup", "create", &from, "--cluster=demo", &endpoints];
        succeed(&vec![], &[&create[..], &[name]].concat());
    }
    let account = service_account(directory.path(), KEY_ID);
    for (dialect, names, secret) in [
        (
            Dialect::Google,
            [
                "GOOGLE_SERVICE_ACCOUNT_KEY",
                "TO_GOOGLE_SERVICE_ACCOUNT_KEY",
            ],
            account.as_str(),
        ),
        (
            Dialect::Azure,
            ["AZURE_STORAGE_SAS_TOKEN", "TO_AZURE_STORAGE_SAS_TOKEN"],
            SAS,
        ),
    ] {
        let who = names.map(|name| (name, secret.to_owned())).to_vec();
        let cloud = Cloud::start(dialect);
        let store = format!("--store={}", cloud.store(BUCKET));
        gone_on_with(&cloud, &who, &from);
        let same = restored(|flags| {
            succeed(
                &who,
                &[&["restore", &store, "--backup=two"], flags].concat(),
            );
        });
        must_equal(&server, &same, revision);
    }
}

/// A copy that was cut short, and marks of what came of reading one back, where nothing can be written over.
fn gone_on_with(cloud: &Cloud, who: &Identity, from: &str) {
    let store = format!("--store={}", cloud.store(BUCKET));
    let to = format!("--to={}", cloud.store(BUCKET));
    let copy = ["backup", "copy", from, "--all", &to];
    let copied = succeed(who, &copy);
    assert_eq!(copied.matches("copied to").count(), 2, "{copied}");
    let of_two = |name: &str, ending: &str| name.contains("/two/") && name.ends_with(ending);
    let lost = cloud.lose(|name| of_two(name, "/MANIFEST") || of_two(name, "00000001.chunk"));
    assert_eq!(lost, 2);
    cloud.lock_objects(true);
    let copied = succeed(who, &copy);
    assert_eq!(copied.matches("copied to").count(), 1, "{copied}");
    assert_eq!(copied.matches("is there already").count(), 1, "{copied}");
    let verify = ["backup", "verify", &store, "--backup=two"];
    let latest = || succeed(who, &["-w", "json", "backup", "show", &store]);
    succeed(who, &verify);
    cloud.lock_objects(true);
    let before = cloud.objects();
    succeed(who, &verify);
    assert_eq!(cloud.objects(), before, "that it is good is said already");
    assert!(latest().contains("\"two\""), "{}", latest());
    let damage = || cloud.damage(|name| of_two(name, "00000000.chunk"));
    assert_eq!(damage(), 1);
    fail(who, &verify);
    assert!(latest().contains("\"one\""), "{}", latest());
    assert_eq!(damage(), 1);
    cloud.lock_objects(true);
    succeed(who, &verify);
    assert!(latest().contains("\"two\""), "{}", latest());
    assert_eq!(cloud.objects(), before + 2, "each says something else");
}

/// Azurite's account and key, which are the same everywhere.
const AZURITE: (&str, &str) = (
    "devstoreaccount1",
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==",
);

/// A running Azurite.
struct Azurite {
    child: std::process::Child,
    port: u16,
    _directory: TempDir,
}

impl Azurite {
    fn start() -> Azurite {
        let program = tools::cache().join("clients/bin/azurite-blob");
        assert!(
            program.is_file(),
            "{} is missing: make backup-clouds",
            program.display()
        );
        let directory = TempDir::with_prefix("engram-azurite-").expect("a temporary directory");
        let port = ports::free();
        let child = Command::new(program)
            .args(["--silent", "--skipApiVersionCheck", "--blobHost=127.0.0.1"])
            .arg(format!("--blobPort={port}"))
            .arg("--location")
            .arg(directory.path())
            .spawn()
            .expect("Azurite starts");
        let azurite = Azurite {
            child,
            port,
            _directory: directory,
        };
        wait_for("Azurite", ARCHIVED_LIMIT, || {
            std::net::TcpStream::connect(("127.0.0.1", port)).ok()
        });
        azurite.create();
        azurite
    }

    fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}/{}", self.port, AZURITE.0)
    }

    /// Makes the container: a request that is signed as Azure wants it.
    fn create(&self) {
        let date = tools::must_succeed(
            Command::new("date")
                .args(["-u", "+%a, %d %b %Y %H:%M:%S GMT"])
                .env("LC_ALL", "C"),
        );
        let (date, account) = (date.trim(), AZURITE.0);
        let signed = format!(
            "PUT\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:{date}\nx-ms-version:2023-11-03\n/{account}/{account}/{BUCKET}\nrestype:container"
        );
        let script = format!(
            "key=$(printf %s '{}' | base64 -d | od -An -vtx1 | tr -d ' \\n'); printf %s \"$SIGNED\" | openssl dgst -sha256 -mac HMAC -macopt hexkey:$key -binary | base64 -w0",
            AZURITE.1
        );
        let mut sign = Command::new("sh");
        sign.args(["-c", &script]).env("SIGNED", signed);
        let signature = tools::must_succeed(&mut sign);
        let mut curl = Command::new("curl");
        curl.args(["-sSf", "-X", "PUT", "-H", "content-length: 0"])
            .args([
                "-H",
                &format!("x-ms-date: {date}"),
                "-H",
                "x-ms-version: 2023-11-03",
            ])
            .args([
                "-H",
                &format!("authorization: SharedKey {account}:{}", signature.trim()),
            ])
            .arg(format!("{}/{BUCKET}?restype=container", self.endpoint()));
        tools::must_succeed(&mut curl);
    }
}

impl Drop for Azurite {
    fn drop(&mut self) {
        // Our own child, whatever became of it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
#[ignore = "needs Azurite: make backup-clouds"]
fn a_backup_in_azurite_is_verified_restored_and_pruned() {
    let _turn = turn::take("Azurite");
    let azurite = Azurite::start();
    let store = |bucket: &str| {
        let endpoint = azurite.endpoint();
        format!(
            "az://{}/{bucket}/some/prefix?endpoint={endpoint}&allow_http=true",
            AZURITE.0
        )
    };
    let key = |key: &str| vec![("AZURE_STORAGE_ACCOUNT_KEY", key.to_owned())];
    let wrong = AZURITE.1.replace("Eby8", "Abcd");
    tell_of(&store, None, &key(AZURITE.1), &key(&wrong));
}
