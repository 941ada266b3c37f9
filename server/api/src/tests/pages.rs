//! Plain HTTP: health, readiness, metrics, version.

use std::io::{Read, Write};
use std::sync::atomic::Ordering;

use engram_proto::etcdserverpb as pb;
use pb::kv_client::KvClient;

use super::Server;
use crate::backend::ServeError;
use crate::fake::HEADER;
use crate::types::MemberId;
use crate::types::request::AlarmType;
use crate::types::result::{Alarm, ApplyError};
use crate::{Access, Config};

/// The status line's code, the head, the body.
fn ask(server: &Server, method: &str, path: &str) -> (u16, String, String) {
    let mut stream = std::net::TcpStream::connect(server.address).unwrap();
    let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let code = head.split(' ').nth(1).unwrap().parse().unwrap();
    (code, head.to_owned(), body.to_owned())
}

fn get(server: &Server, path: &str) -> (u16, String) {
    let (code, _, body) = ask(server, "GET", path);
    (code, body)
}

#[test]
fn a_healthy_member_says_so() {
    let server = Server::start();
    assert_eq!(
        get(&server, "/health"),
        (200, r#"{"health":"true","reason":""}"#.into())
    );
    assert_eq!(get(&server, "/livez"), (200, "ok\n".into()));
    let verbose = "[+]threads ok\n[+]serializable_read ok\nok\n";
    assert_eq!(get(&server, "/livez?verbose"), (200, verbose.into()));
    let verbose = "[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\n\
                   [+]non_learner ok\n[+]disk_space ok\nok\n";
    assert_eq!(get(&server, "/readyz?verbose"), (200, verbose.into()));
    assert_eq!(
        get(&server, "/readyz/linearizable_read"),
        (200, "ok\n".into())
    );
    let (code, body) = get(&server, "/version");
    let versions: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!((code, &versions["etcdserver"]), (200, &"3.7.3".into()));
    assert_eq!(versions["etcdcluster"], "3.7.0");
}

#[test]
fn alarms_make_a_member_unhealthy_unless_excluded() {
    let server = Server::start();
    let alarm = |alarm| {
        vec![Alarm {
            member: HEADER.member,
            alarm,
        }]
    };
    *server.fake.alarms.lock() = alarm(AlarmType::NoSpace);
    let sick = "{\"health\":\"false\",\"reason\":\"ALARM NOSPACE\"}\n";
    assert_eq!(get(&server, "/health"), (503, sick.into()));
    assert_eq!(get(&server, "/health?exclude=NOSPACE").0, 200);
    assert_eq!(get(&server, "/readyz").0, 200);
    *server.fake.alarms.lock() = alarm(AlarmType::Corrupt);
    let (code, body) = get(&server, "/readyz");
    assert_eq!(code, 503);
    assert!(
        body.starts_with("[-]data_corruption failed: alarm activated: CORRUPT\n"),
        "{body}"
    );
    assert_eq!(get(&server, "/readyz?exclude=data_corruption").0, 200);
}

#[test]
fn a_corrupt_member_takes_no_other_out_of_service_and_is_alive() {
    let server = Server::start();
    let alarm = |member, alarm| vec![Alarm { member, alarm }];
    *server.fake.alarms.lock() = alarm(MemberId(7), AlarmType::Corrupt);
    for page in ["/health", "/readyz", "/livez"] {
        assert_eq!(get(&server, page).0, 200, "{page}");
    }
    *server.fake.alarms.lock() = alarm(MemberId(7), AlarmType::NoSpace);
    assert_eq!(get(&server, "/health").0, 503, "space is everybody's");
    *server.fake.alarms.lock() = alarm(HEADER.member, AlarmType::Corrupt);
    *server.fake.refuses.lock() = Some(ServeError::Apply(ApplyError::Corrupt));
    for (page, code) in [("/health", 503), ("/readyz", 503), ("/livez", 200)] {
        assert_eq!(get(&server, page).0, code, "{page}");
    }
}

/// The status line's code and the head of the answer to a request with these headers.
fn ask_with(server: &Server, method: &str, path: &str, headers: &str) -> (u16, String, String) {
    let mut stream = std::net::TcpStream::connect(server.address).unwrap();
    let request = format!("{method} {path} HTTP/1.1\r\n{headers}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let code = head.split(' ').nth(1).unwrap().parse().unwrap();
    (code, head.to_lowercase(), body.to_owned())
}

#[test]
fn hosts_that_nobody_listed_are_refused_and_origins_told() {
    let set = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    let server = Server::with(Config {
        access: Access {
            hosts: set(&["etcd.example", "::1"]),
            origins: set(&["http://ui.example:80"]),
        },
        ..Config::default()
    });
    let page = |host: &str| ask_with(&server, "GET", "/health", &format!("Host: {host}"));
    for known in ["etcd.example", "etcd.example:2379", "[::1]:2379"] {
        assert_eq!(page(known).0, 200, "{known}");
    }
    let (code, _, body) = page("attacker.example:2379");
    assert_eq!(code, 421);
    assert!(
        body.contains("CVE-2018-5702") && body.contains("\"attacker.example\""),
        "{body}"
    );
    let origin = |origin: &str| {
        let headers = format!("Host: etcd.example\r\nOrigin: {origin}");
        ask_with(&server, "OPTIONS", "/anything", &headers)
    };
    let (code, head, body) = origin("http://ui.example:80");
    assert_eq!((code, body.as_str()), (200, ""));
    assert!(
        head.contains("access-control-allow-origin: http://ui.example:80"),
        "{head}"
    );
    assert!(
        head.contains("access-control-allow-methods: post, get, options, put, delete"),
        "{head}"
    );
    let (code, head, _) = origin("http://other.example:80");
    assert_eq!(
        (code, head.contains("access-control")),
        (200, false),
        "{head}"
    );
    let anybody = Server::start();
    let (code, head, _) = ask_with(&anybody, "GET", "/version", "Host: whoever");
    assert_eq!(code, 200);
    assert!(head.contains("access-control-allow-origin: *"), "{head}");
}

#[test]
fn a_listener_of_one_protocol_has_no_other() {
    let server = Server::of(Config::default(), |edge, runtimes, listener| {
        runtimes.serve(listener, edge.grpc_only());
    });
    assert_eq!(get(&server, "/health").0, 404);
    server.calls(async |channel| {
        assert!(
            KvClient::new(channel)
                .put(pb::PutRequest {
                    key: "a".into(),
                    ..Default::default()
                })
                .await
                .is_ok()
        );
    });
    let server = Server::of(Config::default(), |edge, runtimes, listener| {
        runtimes.serve(listener, edge.http_only());
    });
    assert_eq!(get(&server, "/health").0, 200);
    server.calls(async |channel| {
        let put = pb::PutRequest {
            key: "a".into(),
            ..Default::default()
        };
        assert!(KvClient::new(channel).put(put).await.is_err());
    });
    assert!(server.fake.proposed.lock().is_empty());
}

#[test]
fn a_member_whose_disk_is_full_is_not_ready_and_lives() {
    let server = Server::start();
    server.fake.short_of_room.store(true, Ordering::SeqCst);
    let (code, body) = get(&server, "/readyz");
    let failed = "[-]disk_space failed: this member's disk is short of room";
    assert_eq!((code, body.contains(failed)), (503, true), "{body}");
    assert_eq!(get(&server, "/readyz?exclude=disk_space").0, 200);
    assert_eq!(get(&server, "/livez").0, 200);
}

#[test]
fn without_a_leader_only_local_checks_pass() {
    let server = Server::start();
    server.fake.leaderless.store(true, Ordering::SeqCst);
    *server.fake.refuses.lock() = Some(ServeError::Timeout);
    let (code, body) = get(&server, "/health");
    assert_eq!(
        (code, body.contains("RAFT NO LEADER")),
        (503, true),
        "{body}"
    );
    assert_eq!(get(&server, "/health?serializable=true").0, 200);
    assert_eq!(get(&server, "/livez").0, 200);
    let (code, body) = get(&server, "/readyz");
    let failed = "[-]linearizable_read failed: etcdserver: leader changed";
    assert_eq!((code, body.contains(failed)), (503, true), "{body}");
}

#[test]
fn health_does_not_wait_for_a_leader_that_is_lost_meanwhile() {
    let server = Server::start();
    server.fake.stuck.store(true, Ordering::SeqCst);
    let asked = std::time::Instant::now();
    let fake = server.fake.clone();
    let losing = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(100));
        fake.leaderless.store(true, Ordering::SeqCst);
    });
    let (code, body) = get(&server, "/health");
    losing.join().unwrap();
    let sick = "{\"health\":\"false\",\"reason\":\"RAFT NO LEADER\"}\n";
    assert_eq!((code, body.as_str()), (503, sick));
    assert!(asked.elapsed() < std::time::Duration::from_secs(2));
}

#[test]
fn other_methods_and_pages_are_refused() {
    let server = Server::start();
    let (code, head, body) = ask(&server, "POST", "/health");
    assert_eq!((code, body.as_str()), (405, "Method Not Allowed\n"));
    assert!(head.to_lowercase().contains("allow: get"), "{head}");
    for path in ["/readyz", "/debug/vars"] {
        assert_eq!(ask(&server, "POST", path).0, 405, "{path}");
    }
    for path in [
        "/",
        "/v2/keys",
        "/v3beta",
        "/readyz/nothing",
        "/livez/non_learner",
    ] {
        assert_eq!(
            get(&server, path),
            (404, "404 page not found\n".into()),
            "{path}"
        );
    }
}

#[test]
fn metrics_count_calls_and_begin_at_zero() {
    let server = Server::start();
    let line = |name: &str, method: &str, more: &str| {
        format!(
            "{name}{{{more}grpc_method=\"{method}\",grpc_service=\"etcdserverpb.KV\",\
             grpc_type=\"unary\"}}"
        )
    };
    server.calls(async |channel| {
        let mut kv = KvClient::new(channel);
        let put = pb::PutRequest {
            key: "a".into(),
            ..Default::default()
        };
        assert!(kv.put(put).await.is_ok());
        assert!(kv.put(pb::PutRequest::default()).await.is_err());
    });
    let (code, body) = get(&server, "/metrics");
    assert_eq!(code, 200);
    let has = |line: String| assert!(body.contains(&line), "{line}\n{body}");
    has(format!(
        "{} 2\n",
        line("grpc_server_started_total", "Put", "")
    ));
    has(format!(
        "{} 1\n",
        line("grpc_server_msg_sent_total", "Put", "")
    ));
    has(format!(
        "{} 1\n",
        line("grpc_server_handled_total", "Put", "grpc_code=\"OK\",")
    ));
    let invalid = "grpc_code=\"InvalidArgument\",";
    has(format!(
        "{} 1\n",
        line("grpc_server_handled_total", "Put", invalid)
    ));
    has(format!(
        "{} 0\n",
        line("grpc_server_started_total", "Txn", "")
    ));
    has("etcd_server_has_leader 1\n".into());
    assert!(
        !body.contains("\netcd_server_healthcheck{"),
        "nobody has asked: {body}"
    );
    get(&server, "/livez");
    let (_, asked) = get(&server, "/metrics");
    assert!(
        asked.contains("etcd_server_healthcheck{name=\"serializable_read\",type=\"livez\"} 1\n")
    );
    assert!(
        !asked.contains("type=\"readyz\""),
        "only what was asked for: {asked}"
    );
    has(
        "etcd_server_client_requests_total{client_api_version=\"unknown\",type=\"unary\"} 2".into(),
    );
    let help_lines = body.lines().filter(|line| line.starts_with("# TYPE"));
    let mut names: Vec<_> = help_lines.collect();
    let all = names.len();
    names.dedup();
    assert_eq!(names.len(), all, "a family is told of once");
}

#[test]
fn extensive_metrics_tell_how_long_calls_took() {
    let extensive = Config {
        extensive_metrics: true,
        ..Config::default()
    };
    let server = Server::with(extensive);
    server.calls(async |channel| {
        let mut kv = KvClient::new(channel);
        let put = |key: &'static str| pb::PutRequest {
            key: key.into(),
            ..Default::default()
        };
        assert!(kv.put(put("a")).await.is_ok());
        assert!(kv.put(put("")).await.is_err());
        let range = pb::RangeRequest {
            key: "k".into(),
            range_end: "l".into(),
            ..Default::default()
        };
        let mut chunks = kv.range_stream(range).await.unwrap().into_inner();
        while chunks.message().await.unwrap().is_some() {}
        assert!(kv.txn(pb::TxnRequest::default()).await.is_ok());
    });
    let (_, body) = get(&server, "/metrics");
    let has = |line: &str| assert!(body.contains(line), "{line}\n{body}");
    has("# TYPE grpc_server_handling_seconds histogram\n");
    let name = "grpc_server_handling_seconds";
    let labels = |method, kind| {
        format!("grpc_method=\"{method}\",grpc_service=\"etcdserverpb.KV\",grpc_type=\"{kind}\"")
    };
    let (put, stream) = (
        labels("Put", "unary"),
        labels("RangeStream", "server_stream"),
    );
    has(&format!("{name}_bucket{{{put},le=\"10\"}} 2\n"));
    has(&format!("{name}_count{{{put}}} 2\n"));
    has(&format!("{name}_count{{{stream}}} 1\n"));
    has(&format!(
        "{name}_count{{{}}} 0\n",
        labels("DeleteRange", "unary")
    ));
    let name = "etcd_server_request_duration_seconds";
    has(&format!(
        "{name}_count{{success=\"true\",type=\"Put\"}} 1\n"
    ));
    has(&format!(
        "{name}_count{{success=\"true\",type=\"ReadonlyTxn\"}} 1\n"
    ));
}

#[test]
fn basic_metrics_count_every_request_and_time_no_method() {
    let server = Server::start();
    server.calls(async |channel| {
        let range = pb::RangeRequest {
            key: "a".into(),
            ..Default::default()
        };
        assert!(KvClient::new(channel).range(range).await.is_ok());
    });
    let (_, body) = get(&server, "/metrics");
    let ranges = "etcd_server_range_duration_seconds_count{success=\"true\"} 1\n";
    let requests =
        "etcd_server_request_duration_seconds_count{success=\"true\",type=\"Range\"} 1\n";
    assert!(body.contains(ranges) && body.contains(requests), "{body}");
    assert!(!body.contains("grpc_server_handling_seconds"), "{body}");
}

#[test]
fn the_gateway_is_there_unless_it_is_switched_off() {
    let server = Server::start();
    for (path, code, body) in [
        (
            "/v3/kv/range",
            501,
            r#"{"code":12,"message":"Method Not Allowed"}"#,
        ),
        (
            "/v3beta/kv/range",
            501,
            r#"{"code":12,"message":"Method Not Allowed"}"#,
        ),
        ("/v3/kv/nothing", 404, r#"{"code":5,"message":"Not Found"}"#),
        ("/v3/", 404, r#"{"code":5,"message":"Not Found"}"#),
        ("/v3", 307, "<a href=\"/v3/\">Temporary Redirect</a>.\n\n"),
    ] {
        assert_eq!(get(&server, path), (code, body.into()), "{path}");
    }
    let without = Server::with(Config {
        gateway: false,
        ..Config::default()
    });
    for path in ["/v3", "/v3/", "/v3/kv/range"] {
        let refused = (404, "404 page not found\n".into());
        assert_eq!(get(&without, path), refused, "{path}");
    }
}
