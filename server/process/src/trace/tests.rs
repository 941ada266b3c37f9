//! The log as a reader sees it. The log is one per process, so these tests take turns.

use std::collections::BTreeMap;
use std::fs;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use proptest::prelude::*;
use serde_json::Value;

use super::record::Record;
use super::*;

fn take_turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What this file logged; tests of other rooms may log into the same capture at the same time.
fn own_lines(log: &str) -> String {
    let own = log
        .split_inclusive('\n')
        .filter(|line| line.contains("trace/tests.rs:"));
    own.collect()
}

fn text(lines: &Arc<Mutex<Vec<u8>>>) -> String {
    own_lines(std::str::from_utf8(&lines.lock().unwrap()).unwrap())
}

#[test]
fn a_json_line_has_etcds_keys_in_etcds_order() {
    let _turn = take_turn();
    let lines = output::capture(Level::Info, Format::Json);
    crate::log!(
        info,
        "serving \"client\"\ntraffic",
        traffic = "grpc",
        local_member_id = %format_args!("{:x}", 0x1f_u8),
        took = Duration::from_millis(100),
        "dotted.key" = 7_u64,
        secure = true,
        urls = vec!["http://a:1".to_owned(), "http://b:2".to_owned()],
        lease = None::<i64>,
        ratio = 0.5,
        not_a_number = f64::NAN,
        range = ?(1, "x"),
    );
    let line = text(&lines);
    assert_eq!(line.lines().count(), 1, "{line}");
    let (head, rest) = line.split_once(",\"caller\":").unwrap();
    assert!(
        head.starts_with("{\"level\":\"info\",\"ts\":\"20"),
        "{head}"
    );
    assert!(head.ends_with("Z\""), "{head}");
    assert!(rest.starts_with("\"trace/tests.rs:"), "{rest}");
    let (_, rest) = rest.split_once(",\"msg\":").unwrap();
    assert_eq!(
        rest,
        concat!(
            r#""serving \"client\"\ntraffic","traffic":"grpc","local-member-id":"1f","#,
            r#""took":"100ms","dotted.key":7,"secure":true,"urls":["http://a:1","http://b:2"],"#,
            r#""lease":null,"ratio":0.5,"not-a-number":"NaN","range":"(1, \"x\")"}"#,
            "\n"
        )
    );
}

#[test]
fn a_console_line_is_tab_separated() {
    let _turn = take_turn();
    let lines = output::capture(Level::Info, Format::Console);
    crate::log!(warn, "two\nlines", count = 3, names = ["a,b", "c\\\":d"]);
    crate::log!(error, "no fields");
    let text = text(&lines);
    let columns: Vec<Vec<&str>> = text
        .lines()
        .map(|line| line.split('\t').collect())
        .collect();
    assert_eq!(columns.len(), 2);
    assert_eq!(columns[0][1], "warn");
    assert!(columns[0][2].starts_with("trace/tests.rs:"));
    assert_eq!(
        columns[0][3..],
        [
            "two\\nlines",
            r#"{"count": 3, "names": ["a,b", "c\\\":d"]}"#
        ]
    );
    assert_eq!(columns[1][3..], ["no fields"]);
}

#[test]
fn a_level_that_is_off_evaluates_nothing() {
    let _turn = take_turn();
    let lines = output::capture(Level::Warn, Format::Json);
    let mut evaluated = false;
    let mut evaluate = || {
        evaluated = true;
        1
    };
    crate::log!(info, "silent", value = evaluate());
    assert!(!evaluated);
    assert_eq!(text(&lines), "");
}

#[test]
fn every_level_is_written_with_its_name() {
    let _turn = take_turn();
    let lines = output::capture(Level::Debug, Format::Json);
    crate::log!(debug, "m");
    crate::log!(info, "m");
    crate::log!(warn, "m");
    crate::log!(error, "m");
    crate::log!(dpanic, "m");
    crate::log!(panic, "m");
    crate::log!(fatal, "m");
    let names: Vec<String> = text(&lines)
        .lines()
        .map(|line| {
            serde_json::from_str::<Value>(line).unwrap()["level"]
                .as_str()
                .unwrap()
                .into()
        })
        .collect();
    assert_eq!(names, Level::ALL.map(|level| level.name().to_owned()));
}

#[test]
fn a_hot_loop_is_thinned_out() {
    let _turn = take_turn();
    let lines = output::capture(Level::Info, Format::Json);
    for number in 0..10_000 {
        crate::log!(info, "hot", number = number);
    }
    let written = text(&lines).lines().count();
    assert!((100..2_000).contains(&written), "{written} lines");
}

#[test]
fn unsampled_lines_all_pass() {
    let _turn = take_turn();
    let lines = output::capture(Level::Info, Format::Json);
    let site = Site::new("trace/tests.rs", 1);
    for _ in 0..150 {
        Record::new(Level::Info, &site, site.admit_unsampled(), "m").submit();
    }
    assert_eq!(text(&lines).lines().count(), 150);
}

#[test]
fn a_file_gets_every_line_once_and_dev_null_gets_none() {
    let _turn = take_turn();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("engram.log");
    let file = Output::File(path.clone());
    let options = Options {
        outputs: vec![file.clone(), file.clone()],
        ..Options::default()
    };
    init(&options).unwrap();
    crate::log!(info, "kept");
    let discarding = vec![file, Output::File("/dev/null".into())];
    init(&Options {
        outputs: discarding,
        ..Options::default()
    })
    .unwrap();
    crate::log!(info, "discarded");
    let text = own_lines(&fs::read_to_string(&path).unwrap());
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.contains("\"msg\":\"kept\""));
}

#[test]
fn a_file_that_cannot_be_opened_is_an_error_that_names_it() {
    let _turn = take_turn();
    let options = Options {
        outputs: vec![Output::File("/nonexistent/x".into())],
        ..Options::default()
    };
    let error = init(&options).unwrap_err();
    assert!(error.to_string().contains("/nonexistent/x"), "{error}");
}

#[test]
fn a_write_that_fails_is_counted_and_nothing_else_happens() {
    let _turn = take_turn();
    let before = lines_lost();
    let full = Output::File("/dev/full".into());
    init(&Options {
        outputs: vec![full],
        ..Options::default()
    })
    .unwrap();
    crate::log!(info, "lost");
    assert!(lines_lost() > before);
    output::capture(Level::Info, Format::Json);
}

#[test]
fn lines_of_many_threads_do_not_interleave() {
    let _turn = take_turn();
    let lines = output::capture(Level::Info, Format::Json);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            scope.spawn(move || {
                for number in 0..20 {
                    crate::log!(info, "concurrent", thread = thread, number = number);
                }
            });
        }
    });
    let mut per_thread = BTreeMap::new();
    for line in text(&lines).lines() {
        let value: Value = serde_json::from_str(line).unwrap();
        *per_thread
            .entry(value["thread"].as_u64().unwrap())
            .or_insert(0) += 1;
    }
    assert_eq!(
        per_thread,
        BTreeMap::from([(0, 20), (1, 20), (2, 20), (3, 20)])
    );
}

#[test]
fn levels_and_formats_parse_as_etcd_spells_them() {
    for level in Level::ALL {
        assert_eq!(Level::parse(level.name()), Some(level));
        assert_eq!(Level::parse(&level.name().to_uppercase()), Some(level));
    }
    assert_eq!(Level::parse(""), Some(Level::Info));
    assert_eq!(Level::parse("verbose"), None);
    assert_eq!(Format::parse(""), Some(Format::Json));
    assert_eq!(Format::parse("console"), Some(Format::Console));
    assert_eq!(Format::parse("JSON"), None);
}

proptest! {
    #[test]
    fn any_text_survives_a_json_line(message in ".*", key in "[^_]*", value in ".*") {
        let site = Site::new("trace/tests.rs", 1);
        let admitted = site.admit().expect("the first line of a site always passes");
        let mut record =
            Record::with_format(Format::Json, Level::Info, &site, admitted, &message);
        record.field("fixed", value.as_str());
        record.display(&key, &value);
        let line = String::from_utf8(record.finish()).unwrap();
        prop_assert_eq!(line.matches('\n').count(), 1);
        let parsed: Value = serde_json::from_str(&line).unwrap();
        prop_assert_eq!(parsed["fixed"].as_str(), Some(value.as_str()));
        if !["level", "ts", "caller", "msg", "fixed"].contains(&key.as_str()) {
            prop_assert_eq!(parsed[key.as_str()].as_str(), Some(value.as_str()));
            prop_assert_eq!(parsed["msg"].as_str(), Some(message.as_str()));
        }
    }
}
