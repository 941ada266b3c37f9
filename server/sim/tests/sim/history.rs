//! What clients were told, held against what came to be: revisions make every key's history one.

use std::collections::BTreeMap;

/// What became of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// A put was made at this revision.
    Put(i64),
    /// A read at this revision found this value.
    Read(i64, Option<String>),
    /// It certainly has not happened.
    Refused,
    /// Nobody knows.
    Unknown,
}

/// A call and its end. Times in virtual nanoseconds.
#[derive(Clone, Debug)]
pub struct Call {
    /// When it was made.
    pub began_ns: u64,
    /// When the answer came.
    pub ended_ns: u64,
    /// The key.
    pub key: String,
    /// What was put, unlike any other; none for a read.
    pub value: Option<String>,
    /// The answer.
    pub told: Told,
}

/// What the store holds in the end: at each revision a key and its value.
pub type Truth = BTreeMap<i64, (String, String)>;

/// What is wrong with a history, in words; nothing where it is linearizable.
pub fn judge(calls: &[Call], truth: &Truth) -> Result<(), String> {
    let mut made: BTreeMap<&str, i64> = BTreeMap::new();
    for (revision, (_, value)) in truth {
        if let Some(before) = made.insert(value, *revision) {
            return Err(format!(
                "{value} was put twice, at {before} and at {revision}"
            ));
        }
    }
    let first = truth.keys().next().copied().unwrap_or(2);
    if !truth.keys().copied().eq(first..first + truth.len() as i64) {
        return Err("revisions have gaps".into());
    }
    for call in calls {
        fits(call, truth, &made)?;
    }
    in_order(calls, &made)
}

fn fits(call: &Call, truth: &Truth, made: &BTreeMap<&str, i64>) -> Result<(), String> {
    let wrong = |why: &str| Err(format!("{why}: {call:?}"));
    match &call.told {
        Told::Put(revision) => match truth.get(revision) {
            None => wrong("an acknowledged write is lost"),
            Some((key, value)) if *key == call.key && Some(value) == call.value.as_ref() => Ok(()),
            Some(_) => wrong("an acknowledged write is another's"),
        },
        Told::Read(revision, found) => {
            let upto = truth.range(..=*revision).rev();
            let mut of_key = upto.filter(|(_, (key, _))| *key == call.key);
            let expected = of_key.next().map(|(_, (_, value))| value);
            match expected == found.as_ref() {
                true => Ok(()),
                false => wrong("a read found what was not there at its revision"),
            }
        }
        Told::Refused => {
            let value = call.value.as_deref().unwrap_or_default();
            match made.contains_key(value) {
                true => wrong("what was refused has happened"),
                false => Ok(()),
            }
        }
        Told::Unknown => Ok(()),
    }
}

/// Whoever begins after an answer sees what it told of.
fn in_order(calls: &[Call], made: &BTreeMap<&str, i64>) -> Result<(), String> {
    let mut ends: Vec<(u64, i64)> = calls
        .iter()
        .filter_map(|call| match call.told {
            Told::Put(revision) | Told::Read(revision, _) => Some((call.ended_ns, revision)),
            _ => None,
        })
        .collect();
    ends.sort_unstable();
    let mut known = Vec::with_capacity(ends.len());
    let mut greatest = 0;
    for (ended, revision) in ends {
        greatest = greatest.max(revision);
        known.push((ended, greatest));
    }
    for call in calls {
        let before = known.partition_point(|(ended, _)| *ended < call.began_ns);
        let Some((_, seen)) = before.checked_sub(1).map(|at| known[at]) else {
            continue;
        };
        let is_stale = match (&call.told, &call.value) {
            (Told::Read(revision, _), _) => *revision < seen,
            (_, Some(value)) => made.get(value.as_str()).is_some_and(|at| *at <= seen),
            _ => false,
        };
        if is_stale {
            return Err(format!(
                "revision {seen} was known before it began: {call:?}"
            ));
        }
    }
    Ok(())
}
