//! What could come next on a command line, as kubectl asks its plugins: by a program of the plugin's name with
//! `kubectl_complete-` before it, that prints a line for each and then what the shell is to do.

use clap::CommandFactory as _;
use kube::ResourceExt;
use kube::api::ListParams;

use engram_operator::api::{EngramCluster, EngramMember};

use super::{Cli, Failure, Kube};

/// The program that kubectl looks for, `kubectl_complete-engram`.
pub(super) const PROGRAM: &str = "\
#!/bin/sh
# Save this as kubectl_complete-engram in the PATH, executable: kubectl (1.26 and later) asks it.
exec kubectl engram __complete -- \"$@\"
";

/// No files are offered.
const NO_FILES: &str = ":4";

/// What a word is.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    Verb,
    Cluster,
    Member,
    Nothing,
}

/// What the last of these words is; flags before it do not count.
fn place(words: &[String]) -> Place {
    let words: Vec<&str> = words
        .iter()
        .map(String::as_str)
        .enumerate()
        .filter(|(at, word)| *at + 1 == words.len() || !word.starts_with('-'))
        .map(|(_, word)| word)
        .collect();
    match words.as_slice() {
        [] | [_] => Place::Verb,
        ["replace", _] | ["logs" | "move-leader", _, _] => Place::Member,
        ["help" | "completion", ..] => Place::Nothing,
        [_, _] => Place::Cluster,
        _ => Place::Nothing,
    }
}

fn verbs() -> Vec<String> {
    let command = Cli::command();
    let verbs = command.get_subcommands().filter(|verb| !verb.is_hide_set());
    verbs.map(|verb| verb.get_name().to_owned()).collect()
}

/// What fits, as kubectl reads it.
fn printed(all: Vec<String>, begun: &str) -> String {
    let fits = all.into_iter().filter(|one| one.starts_with(begun));
    let lines: Vec<String> = fits.chain([NO_FILES.to_owned()]).collect();
    lines.join("\n") + "\n"
}

/// What could come next.
pub(super) async fn complete(cli: &Cli, words: &[String]) -> Result<String, Failure> {
    let begun = words.last().map_or("", String::as_str);
    let all = ListParams::default();
    let found = match place(words) {
        Place::Verb => verbs(),
        Place::Nothing => Vec::new(),
        Place::Cluster => {
            let kube = Kube::of(cli).await?;
            let clusters = kube.api::<EngramCluster>().list(&all).await?;
            clusters.iter().map(ResourceExt::name_any).collect()
        }
        Place::Member => {
            let kube = Kube::of(cli).await?;
            let members = kube.api::<EngramMember>().list(&all).await?;
            members.iter().map(ResourceExt::name_any).collect()
        }
    };
    Ok(printed(found, begun))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_told_by_their_place() {
        let of = |line: &str| place(&line.split(' ').map(str::to_owned).collect::<Vec<_>>());
        for (line, wanted) in [
            ("", Place::Verb),
            ("sta", Place::Verb),
            ("status ", Place::Cluster),
            ("logs -f de", Place::Cluster),
            ("replace demo-", Place::Member),
            ("logs demo demo-", Place::Member),
            ("status demo ", Place::Nothing),
        ] {
            assert_eq!(of(line), wanted, "{line:?}");
        }
    }

    #[test]
    fn verbs_that_fit_are_offered_and_files_are_not() {
        assert_eq!(
            printed(verbs(), "re"),
            "restore\nrestart\nreplace\nrebind\nreport\n:4\n"
        );
        assert!(!printed(verbs(), "").contains("__complete"));
    }
}
