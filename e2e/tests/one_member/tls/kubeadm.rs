//! A member that is started as kubeadm starts etcd passes what CIS's benchmark for Kubernetes audits of it,
//! as kube-bench does: by the process list, and by the data directory's mode.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use engram_e2e::certificates::Authority;
use engram_e2e::server::{Server, Setup};
use engram_e2e::{ports, tools, turn};

/// kubeadm 1.37's flags for etcd, all of them, given to engram under a name; the image has it under the name
/// `etcd` too.
fn as_kubeadm(scratch: &Path, name: &str) -> Server {
    let program = scratch.join(name);
    symlink(tools::engram(), &program).expect("a link");
    let clients = Authority::new(&scratch.join("etcd-ca"));
    let own = clients.issue("server", 1);
    let peer = clients.issue("peer", 2);
    let (ca, metrics) = (clients.bundle(), ports::free());
    let mut server = Setup::engram().only_given_flags().prepare();
    let (client, peers) = (server.address(), server.peer_address());
    server.become_program(program);
    for flag in [
        format!("--advertise-client-urls=https://{client}"),
        format!("--cert-file={}", own.certificate.display()),
        "--client-cert-auth=true".to_owned(),
        format!("--data-dir={}", server.data_dir().display()),
        "--feature-gates=InitialCorruptCheck=true".to_owned(),
        format!("--initial-advertise-peer-urls=https://{peers}"),
        format!("--initial-cluster=node=https://{peers}"),
        format!("--key-file={}", own.key.display()),
        format!("--listen-client-urls=https://{client}"),
        format!("--listen-metrics-urls=http://127.0.0.1:{metrics}"),
        format!("--listen-peer-urls=https://{peers}"),
        "--name=node".to_owned(),
        format!("--peer-cert-file={}", peer.certificate.display()),
        "--peer-client-cert-auth=true".to_owned(),
        format!("--peer-key-file={}", peer.key.display()),
        format!("--peer-trusted-ca-file={}", ca.display()),
        "--snapshot-count=10000".to_owned(),
        format!("--trusted-ca-file={}", ca.display()),
        "--watch-progress-notify-interval=5s".to_owned(),
    ] {
        server.add_flag(flag);
    }
    server.start();
    server
}

/// An audit's number, the flags that have to be there, and those that must not.
const AUDITS: [(&str, &[&str], &[&str]); 6] = [
    ("2.1", &["--cert-file=", "--key-file="], &[]),
    ("2.2", &["--client-cert-auth=true"], &[]),
    ("2.3", &[], &["--auto-tls=true"]),
    ("2.4", &["--peer-cert-file=", "--peer-key-file="], &[]),
    ("2.5", &["--peer-client-cert-auth=true"], &[]),
    ("2.6", &[], &["--peer-auto-tls=true"]),
];

#[test]
fn what_kubeadm_starts_passes_the_audit_of_etcd() {
    let _turn = turn::take("kubeadm's flags, CIS's audit");
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let server = as_kubeadm(scratch.path(), "etcd");
    // kube-bench looks for a process of the name etcd, and reads its arguments.
    let mut list = tools::command("ps".as_ref());
    let processes = tools::must_succeed(list.args(["-C", "etcd", "-o", "pid=,args="]));
    let own = server.pid().to_string();
    let is_own = |line: &&str| line.split_whitespace().next() == Some(&own);
    let line = processes.lines().find(is_own);
    let line = line.unwrap_or_else(|| panic!("{own} is not among {processes}"));
    for (audit, present, absent) in AUDITS {
        assert!(
            present.iter().all(|flag| line.contains(flag)),
            "{audit}: {line}"
        );
        assert!(
            !absent.iter().any(|flag| line.contains(flag)),
            "{audit}: {line}"
        );
    }
    // 2.7: an authority of its own. 1.1.11: nobody else reads the data.
    assert!(line.contains("--trusted-ca-file="), "2.7: {line}");
    let directory = std::fs::metadata(server.data_dir()).expect("the data directory");
    assert_eq!(directory.permissions().mode() & 0o777, 0o700, "1.1.11");
    let process = std::fs::metadata(format!("/proc/{own}")).expect("the process");
    assert_eq!(directory.uid(), process.uid(), "1.1.12");
}

/// A name that no other process of the machine has: kube-bench looks through all of them.
const AUDITED: &str = "engram-audited";
/// Where kube-bench's file names the program of an etcd, after the line that begins the section.
const SECTION: &str = "\netcd:\n";
const PROGRAM: &str = "- \"etcd\"\n";
/// How long kube-bench may take for a benchmark.
const BENCH_LIMIT: Duration = Duration::from_secs(60);

/// kube-bench's configuration, told the program's name as docs/compatibility.md says.
fn configuration(of_kube_bench: &Path) -> String {
    let whole = std::fs::read_to_string(of_kube_bench.join("cfg/config.yaml"));
    let whole = whole.expect("kube-bench's configuration");
    let (before, section) = whole.split_once(SECTION).expect("a section on etcd");
    let section = section.replacen(PROGRAM, &format!("- \"{AUDITED}\"\n"), 1);
    assert!(section.contains(AUDITED), "{section}");
    format!("{before}{SECTION}{section}")
}

/// The CIS benchmarks for Kubernetes itself that have a section on etcd.
fn benchmarks(of_kube_bench: &Path) -> Vec<String> {
    let cfg = of_kube_bench.join("cfg");
    let listed = std::fs::read_dir(&cfg).expect("benchmarks");
    let names = listed.map(|entry| {
        let name = entry.expect("an entry").file_name();
        name.to_string_lossy().into_owned()
    });
    let of_kubernetes = |name: &String| {
        let release = name.strip_prefix("cis-1.");
        release.is_some_and(|release| release.parse::<u32>().is_ok())
            && cfg.join(name).join("etcd.yaml").is_file()
    };
    names.filter(of_kubernetes).collect()
}

#[test]
#[ignore = "needs kube-bench, which is in no registry that CI reaches: make kube-bench KUBE_BENCH=directory"]
fn kube_bench_passes_what_kubeadm_starts() {
    let _turn = turn::take("kube-bench");
    let of_kube_bench = std::env::var_os("ENGRAM_KUBE_BENCH");
    let of_kube_bench =
        of_kube_bench.expect("ENGRAM_KUBE_BENCH: the directory of kube-bench and cfg");
    let of_kube_bench = PathBuf::from(of_kube_bench);
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let _server = as_kubeadm(scratch.path(), AUDITED);
    let file = scratch.path().join("config.yaml");
    std::fs::write(&file, configuration(&of_kube_bench)).expect("a file");
    let benchmarks = benchmarks(&of_kube_bench);
    assert!(benchmarks.len() >= 5, "{benchmarks:?}");
    for benchmark in benchmarks {
        let mut command = tools::command(&of_kube_bench.join("kube-bench"));
        command
            .args([
                "run",
                "--targets",
                "etcd",
                "--json",
                "--benchmark",
                &benchmark,
            ])
            .arg("--config-dir")
            .arg(of_kube_bench.join("cfg"))
            .arg("--config")
            .arg(&file);
        let finished = tools::run(&mut command, BENCH_LIMIT);
        let said: serde_json::Value = serde_json::from_str(&finished.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", finished.text()));
        let (totals, controls) = (&said["Totals"], &said["Controls"]);
        println!("{benchmark}: {totals}");
        assert_eq!(totals["total_pass"], 7, "{benchmark}: {controls}");
        assert_eq!(totals["total_fail"], 0, "{benchmark}: {controls}");
        assert_eq!(totals["total_warn"], 0, "{benchmark}: {controls}");
    }
}
