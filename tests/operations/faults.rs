//! Drift test of the tables in docs/faults.md: each row cites tests that exist, and log lines that the service writes.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Returns the cells of each row, without the headings.
fn rows() -> Vec<Vec<String>> {
    let page = fs::read_to_string("docs/faults.md").unwrap();
    let rows = page
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| fault |"));
    rows.map(|row| {
        let cells = row.trim_matches('|').split('|');
        cells.map(|cell| cell.trim().to_owned()).collect()
    })
    .collect()
}

/// Returns the texts between backquotes.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn fault_table_cites_existing_tests() {
    let rows = rows();
    assert!(rows.len() > 50, "{}", rows.len());
    for row in &rows {
        assert_eq!(row.len(), 5, "{row:?}");
        let mut tests = 0;
        for test in quoted(&row[4]) {
            let (file, name) = test.split_once("::").expect(test);
            let source = fs::read_to_string(file).unwrap_or_else(|_| panic!("no {file}"));
            let definitions = [format!("fn {name}("), format!("macro_rules! {name} ")];
            assert!(
                definitions.iter().any(|text| source.contains(text)),
                "no {name} in {file}"
            );
            tests += 1;
        }
        assert!(tests > 0, "no test in {row:?}");
    }
}

#[test]
fn fault_table_cites_existing_log_lines() {
    let mut files = Vec::new();
    sources(Path::new("src"), &mut files);
    let texts = files.iter().map(|file| fs::read_to_string(file).unwrap());
    // The service inserts the name of the signal into the line.
    let source: String = texts.collect::<String>().replace("{name}", "SIGUSR1");
    let mut lines = 0;
    for row in rows() {
        for line in quoted(&row[3]) {
            assert!(source.contains(line), "no log line contains {line}");
            lines += 1;
        }
    }
    assert!(lines > 15, "{lines}");
}
