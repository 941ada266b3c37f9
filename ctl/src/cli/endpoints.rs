//! `--endpoints` given more than once.

use std::ffi::{OsStr, OsString};

const FLAG: &str = "--endpoints";

/// A command line with all its endpoints in one flag before the verb: Go's flags gather a list wherever a part of
/// it stands, clap takes what stands last behind the verb. Behind `--` stand the words of another program.
pub fn gathered(words: Vec<OsString>) -> Vec<OsString> {
    let mut words = words.into_iter();
    let program = words.next();
    let (mut lists, mut others) = (Vec::new(), Vec::new());
    let mut is_value = false;
    while let Some(word) = words.next() {
        if std::mem::take(&mut is_value) {
            lists.push(word);
        } else if word == FLAG {
            is_value = true;
        } else if let Some(list) = behind_equals(&word) {
            lists.push(list);
        } else if word == "--" {
            others.push(word);
            others.extend(words.by_ref());
        } else {
            others.push(word);
        }
    }
    if is_value {
        // Without its value: clap says so.
        others.push(FLAG.into());
    }
    let mut flag = OsString::from(FLAG);
    flag.push("=");
    flag.push(lists.join(OsStr::new(",")));
    let flag = (!lists.is_empty()).then_some(flag);
    program.into_iter().chain(flag).chain(others).collect()
}

fn behind_equals(word: &OsStr) -> Option<OsString> {
    let list = word.to_str()?.strip_prefix(FLAG)?.strip_prefix('=')?;
    Some(list.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_one_wherever_they_stand() {
        for (line, wanted) in [
            ("ctl get k", "ctl get k"),
            ("ctl --endpoints=a get k", "ctl --endpoints=a get k"),
            ("ctl get k --endpoints a", "ctl --endpoints=a get k"),
            (
                "ctl --endpoints=a,b get k --endpoints c",
                "ctl --endpoints=a,b,c get k",
            ),
            (
                "ctl watch k --endpoints=a -- sh --endpoints=b",
                "ctl --endpoints=a watch k -- sh --endpoints=b",
            ),
            ("ctl get k --endpoints", "ctl get k --endpoints"),
        ] {
            let words = line.split(' ').map(OsString::from).collect();
            let gathered = gathered(words).join(OsStr::new(" "));
            assert_eq!(gathered, OsStr::new(wanted), "{line}");
        }
    }
}
