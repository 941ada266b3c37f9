//! Directories that etcd 3.5 and 3.6 made: `e2e/tools/build.sh old` builds both.

use std::path::PathBuf;

use engram_e2e::{tools, turn};

use super::users::are_adopted;
use super::{
    ALL_IN_THE_LOG, End, adopt, beside, end, identity, is_adopted_restored, is_adopted_whole,
    prepare,
};
use crate::content::{everything, fill, hash};

const RELEASES: [&str; 2] = ["3.5", "3.6"];
/// How their stores and logs come to be read: all in the store, some of it, nothing.
const ENDS: [(End, &[&str]); 3] = [
    (End::Stopped, &[]),
    (End::Killed, &[]),
    (End::Killed, &[ALL_IN_THE_LOG]),
];

fn program(name: &str, release: &str) -> PathBuf {
    tools::tool(&format!("{name}-{release}"))
}

#[test]
#[ignore = "takes long: make adopt-versions"]
fn directories_of_older_etcds_are_adopted_whole() {
    let _turn = turn::take("older etcds");
    for release in RELEASES {
        for (how, flags) in ENDS {
            println!("etcd {release}, {how:?} {flags:?}");
            is_adopted_whole(&program("etcd", release), how, flags);
            are_adopted(&program("etcd", release), how, flags);
        }
        is_adopted_restored(&program("etcd", release), &program("etcdutl", release));
    }
}

/// Changes of the members lie in the log, and in etcd 3.5's what its old store was asked for.
#[test]
#[ignore = "takes long: make adopt-versions"]
fn what_else_lies_in_the_logs_of_older_etcds_is_adopted() {
    let _turn = turn::take("older logs");
    for release in RELEASES {
        let mut etcd = prepare(&program("etcd", release), &[ALL_IN_THE_LOG]);
        etcd.start();
        fill(&etcd);
        if release == "3.5" {
            for (method, body) in [("PUT", "value=x"), ("PUT", "value=y&ttl=1"), ("DELETE", "")] {
                let url = format!("{}/v2/keys/old/store", etcd.client_url());
                let mut ask = std::process::Command::new("curl");
                ask.args(["-sS", "-f", "-X", method, "-d", body, &url]);
                tools::must_succeed(&mut ask);
            }
        }
        let learner = [
            "member",
            "add",
            "away",
            "--learner",
            "--peer-urls=http://127.0.0.1:1",
        ];
        let added = etcd.etcdctl_json(&learner);
        let id = format!("{:x}", added["member"]["ID"].as_u64().expect("an id"));
        etcd.etcdctl(&["member", "update", &id, "--peer-urls=http://127.0.0.1:2"]);
        etcd.etcdctl(&["member", "remove", &id]);
        etcd.etcdctl(&[
            "member",
            "add",
            "stays",
            "--learner",
            "--peer-urls=http://127.0.0.1:3",
        ]);
        etcd.etcdctl(&["put", "last", "write"]);
        let (who, read) = (identity(&etcd), everything(&etcd, 0));
        end(&mut etcd, End::Killed);
        let mut real = beside(&etcd);
        real.become_program(program("etcd", release));
        let engram = adopt(etcd);
        real.start();
        assert_eq!(identity(&engram)["members"], who["members"], "{release}");
        assert_eq!(everything(&engram, 0).kvs, read.kvs, "{release}");
        assert_eq!(hash(&engram, 0), hash(&real, 0), "{release}");
        let mut again = engram.etcdctl_command();
        again.args(["member", "remove", &id]);
        let refused = tools::run(&mut again, tools::TOOL_LIMIT).text();
        assert!(refused.contains("member not found"), "{refused}");
    }
}
