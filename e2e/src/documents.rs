//! What documents claim of tests is there: each test that `docs/failure-modes.md` names exists.

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    fn sources(dir: &Path, found: &mut String) {
        for entry in fs::read_dir(dir).expect("a directory of the repository") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                sources(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push_str(&fs::read_to_string(&path).expect("a source"));
            }
        }
    }

    #[test]
    fn every_test_that_the_failure_modes_name_exists() {
        let repository = crate::tools::directory().join("..");
        let table =
            fs::read_to_string(repository.join("docs/failure-modes.md")).expect("the table");
        let mut code = String::new();
        for room in [
            "server", "e2e", "operator", "backup", "ctl", "objects", "archive",
        ] {
            sources(&repository.join(room), &mut code);
        }
        let rows = table
            .lines()
            .filter(|line| line.starts_with("| ") && !line.contains("---"));
        let rows: Vec<&str> = rows.collect();
        assert!(rows.len() > 30, "{} rows", rows.len());
        for row in rows.iter().filter(|row| !row.ends_with("| proved by |")) {
            let proof = row
                .trim_end_matches(" |")
                .rsplit(" | ")
                .next()
                .expect("a cell");
            let names: Vec<&str> = proof.split('`').skip(1).step_by(2).collect();
            assert!(!names.is_empty(), "no test proves: {row}");
            for name in names {
                let there = match name.contains('/') {
                    true => repository.join(name).exists(),
                    false => code.contains(&format!("fn {name}(")),
                };
                assert!(there, "{name} is no test: {row}");
            }
        }
    }
}
