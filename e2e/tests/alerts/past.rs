//! promtool's cases as a past that a Prometheus can have: its series in OpenMetrics, with times up to now, and
//! what fires then.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde::Deserialize;
use serde_json::Value;

/// How much of a past is played, in seconds: more than the longest window of a rule.
const PLAYED: f64 = 26.0 * 3600.0;

/// Labels and their values.
pub type Labels = BTreeMap<String, String>;

/// A moment of a case at which alerts fire.
pub struct Scene {
    /// The case's name.
    pub name: String,
    /// What fires.
    pub expected: Vec<Expected>,
    /// Seconds from the beginning of the past.
    at: f64,
    series: Vec<Series>,
}

/// What a query has to say.
pub struct Expected {
    /// The query.
    pub query: String,
    /// The labels of its series.
    pub labels: BTreeSet<Labels>,
}

impl Expected {
    /// The alerts that it names, in the query or in labels.
    pub fn alerts(&self) -> Vec<String> {
        let named = self.query.split("alertname=\"").skip(1);
        let name = |rest: &str| rest.split('"').next().unwrap_or_default().to_owned();
        named.map(name).collect()
    }
}

/// A series and its values, one an interval; none where there is no sample.
struct Series {
    name: String,
    interval: f64,
    values: Vec<Option<f64>>,
}

impl Series {
    /// Whether its values are moments: those of a case count from its beginning.
    fn is_of_time(&self) -> bool {
        let name = self.name.split('{').next().unwrap_or_default();
        name.ends_with("_timestamp_seconds") || name.ends_with("_not_after_seconds")
    }
}

impl Scene {
    /// The past, such that its moment is `now`.
    pub fn played(&self, now: f64) -> String {
        let begin = now - self.at;
        let mut text = String::new();
        for series in &self.series {
            let shift = if series.is_of_time() { begin } else { 0.0 };
            let mut at = 0.0;
            for value in &series.values {
                let is_played = at <= self.at && self.at - at <= PLAYED;
                if let Some(value) = value.filter(|_| is_played) {
                    let _ = writeln!(text, "{} {} {:.3}", series.name, value + shift, begin + at);
                }
                at += series.interval;
            }
        }
        text + "# EOF\n"
    }
}

/// All moments of all cases at which something fires.
///
/// # Panics
/// If the cases are not as promtool wants them.
pub fn scenes(cases: &str) -> Vec<Scene> {
    let cases: Cases = serde_yaml_ng::from_str(cases).expect("the cases are promtool's");
    cases.tests.iter().flat_map(scenes_of).collect()
}

/// promtool's file, as far as it is read here. Values are text: `0x60` is no number.
#[derive(Deserialize)]
struct Cases {
    tests: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    interval: String,
    input_series: Vec<Input>,
    #[serde(default)]
    alert_rule_test: Vec<RuleTest>,
    #[serde(default)]
    promql_expr_test: Vec<QueryTest>,
}

#[derive(Deserialize)]
struct Input {
    series: String,
    values: String,
}

#[derive(Deserialize)]
struct RuleTest {
    alertname: String,
    eval_time: String,
    exp_alerts: Vec<Firing>,
}

#[derive(Deserialize)]
struct Firing {
    exp_labels: Labels,
}

#[derive(Deserialize)]
struct QueryTest {
    expr: String,
    eval_time: String,
    #[serde(default)]
    exp_samples: Vec<Sample>,
}

#[derive(Deserialize)]
struct Sample {
    labels: String,
}

fn scenes_of(case: &Case) -> Vec<Scene> {
    let mut all: Vec<Scene> = Vec::new();
    for (at, expected) in expected(case) {
        if let Some(scene) = all.iter_mut().find(|scene| (scene.at - at).abs() < 1.0) {
            scene.expected.push(expected);
            continue;
        }
        all.push(Scene {
            name: case.name.clone(),
            expected: vec![expected],
            at,
            series: case
                .input_series
                .iter()
                .map(|one| one.read(&case.interval))
                .collect(),
        });
    }
    all
}

/// When something fires, and what.
fn expected(case: &Case) -> Vec<(f64, Expected)> {
    let mut all = Vec::new();
    let ask = |name: &str| format!("ALERTS{{alertname=\"{name}\",alertstate=\"firing\"}}");
    for test in &case.alert_rule_test {
        let labels = test.exp_alerts.iter().map(|one| one.exp_labels.clone());
        let labels = labels.collect();
        let query = ask(&test.alertname);
        all.push((seconds(&test.eval_time), Expected { query, labels }));
    }
    for test in &case.promql_expr_test {
        let at = seconds(&test.eval_time);
        let samples = test.exp_samples.iter().map(|one| of_text(&one.labels));
        if test.expr.contains("alertname=") {
            let query = test.expr.clone();
            let labels = samples.collect();
            all.push((at, Expected { query, labels }));
            continue;
        }
        // One query for all that fire: each is asked for by its name.
        for name in samples.filter_map(|labels| labels.get("alertname").cloned()) {
            let query = format!("count({})", ask(&name));
            let labels = BTreeSet::from([Labels::new()]);
            all.push((at, Expected { query, labels }));
        }
    }
    // What is not to fire yet would have to hold for longer: promtool's to say.
    all.retain(|(_, expected)| !expected.labels.is_empty());
    all
}

/// Labels as JSON has them.
pub fn of_object(object: &Value) -> Labels {
    let all = object.as_object().into_iter().flatten();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    all.map(|(name, value)| (name.clone(), text(value)))
        .collect()
}

/// Labels as promtool writes them, `{a="b", c="d"}`.
fn of_text(text: &str) -> Labels {
    let inner = text.trim().trim_start_matches('{').trim_end_matches('}');
    let parts = inner.split(',').filter_map(|part| part.split_once('='));
    let bare = |text: &str| text.trim().trim_matches('"').to_owned();
    parts
        .map(|(name, value)| (bare(name), bare(value)))
        .collect()
}

impl Input {
    fn read(&self, interval: &str) -> Series {
        Series {
            // Of spaces between labels OpenMetrics knows nothing.
            name: self.series.replace("\", ", "\","),
            interval: seconds(interval),
            values: expanded(&self.values),
        }
    }
}

/// A duration in one unit.
fn seconds(text: &str) -> f64 {
    let (number, unit) = text.split_at(text.len() - 1);
    let number: f64 = number.parse().expect("a number");
    let unit = match unit {
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        other => panic!("{other} is no unit"),
    };
    number * unit
}

/// promtool's short form of values: `1`, `1x3` (four of them), `0+10x3`, `_`, `_x3` (three).
fn expanded(text: &str) -> Vec<Option<f64>> {
    let mut all = Vec::new();
    for part in text.split_whitespace() {
        let (value, times) = part.split_once('x').unwrap_or((part, "0"));
        let times: u32 = times.parse().expect("how often");
        if value == "_" {
            all.extend((0..times.max(1)).map(|_| None));
            continue;
        }
        // A sign in front is the number's own.
        let sign = value[1..].find(['+', '-']).map(|at| at + 1);
        let (first, step) = value.split_at(sign.unwrap_or(value.len()));
        let first: f64 = first.parse().expect("a number");
        let step: f64 = if step.is_empty() {
            0.0
        } else {
            step.parse().expect("a step")
        };
        all.extend((0..=times).map(|turn| Some(first + step * f64::from(turn))));
    }
    all
}

#[test]
fn short_forms_are_promtools() {
    let some = |values: &[f64]| values.iter().copied().map(Some).collect::<Vec<_>>();
    assert_eq!(expanded("1x3"), some(&[1.0; 4]));
    assert_eq!(
        expanded("4x1 61+60x2"),
        some(&[4.0, 4.0, 61.0, 121.0, 181.0])
    );
    assert_eq!(expanded("-1x1"), some(&[-1.0, -1.0]));
    assert_eq!(expanded("1 _x2 _"), vec![Some(1.0), None, None, None]);
}
