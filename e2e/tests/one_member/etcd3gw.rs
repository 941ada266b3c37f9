//! Python's etcd3gw, a client of the JSON gateway, on Engram and on a real etcd.

use std::path::Path;

use engram_e2e::server::{Server, Setup};
use engram_e2e::{tools, turn};

#[test]
#[ignore = "needs packages of Python's registry: make python-clients"]
fn etcd3gw_is_told_what_a_real_etcd_tells_it() {
    let _turn = turn::take("etcd3gw");
    let python = std::env::var("ENGRAM_PYTHON").expect("make python-clients sets ENGRAM_PYTHON");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/through_gateway.py");
    let said = |server: &Server| {
        let mut command = tools::command(Path::new(&python));
        command
            .arg(&script)
            .arg(server.address().port().to_string());
        let output = command.output().expect("python starts");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{text}{errors}");
        text
    };
    let (etcd, server) = (Setup::etcd().start(), Setup::engram().start());
    let wanted = said(&etcd);
    assert_eq!(said(&server), wanted);
    assert!(wanted.lines().count() > 10, "{wanted}");
}
