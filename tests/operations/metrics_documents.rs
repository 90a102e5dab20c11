//! What is written of metrics, beside what is told: the table in `docs/metrics.md`, and the dashboard.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use serde_json::Value;

use super::{
    exposition::{Family, Scrape},
    metrics::{Watched, work},
};
use crate::support::redis;

/// Of a service that has some of everything.
fn scrape() -> Scrape {
    let redis = redis::empty();
    let url = redis
        .as_ref()
        .map(|redis| ("REDIS_URL", redis.url.as_str()));
    let watched = Watched::start(url.as_slice());
    work(&watched.client());
    watched.scrape()
}

#[test]
fn the_table_lists_every_metric_with_its_type_and_labels() {
    let table = fs::read_to_string("docs/metrics.md").unwrap();
    let rows = table
        .lines()
        .filter(|line| line.starts_with("| `") && line.matches('|').count() == 5);
    let words = |cell: &str| {
        let words = cell.split('`').skip(1).step_by(2).map(str::to_owned);
        words.collect::<BTreeSet<_>>()
    };
    let listed: BTreeMap<_, _> = rows
        .map(|row| {
            let cells: Vec<_> = row.split('|').map(str::trim).collect();
            let name = cells[1].trim_matches('`').to_owned();
            (name, (cells[2].to_owned(), words(cells[3])))
        })
        .collect();
    let scrape = scrape();
    let labels = |family: &Family| {
        let labels = family
            .samples
            .iter()
            .flat_map(|(_, labels, _)| labels.keys());
        labels
            .filter(|label| *label != "le")
            .cloned()
            .collect::<BTreeSet<_>>()
    };
    let told: BTreeMap<_, _> = scrape
        .families
        .iter()
        .map(|(name, family)| (name.clone(), (family.kind.clone(), labels(family))))
        .collect();
    assert_eq!(listed, told);
}

#[test]
fn the_dashboard_asks_for_nothing_that_does_not_exist() {
    let dashboard = fs::read_to_string("docs/grafana/latchkey.json").unwrap();
    let dashboard: Value = serde_json::from_str(&dashboard).unwrap();
    let mut queries = Vec::new();
    find_queries(&dashboard, &mut queries);
    assert!(queries.len() > 30, "{queries:?}");
    let scrape = scrape();
    let names = scrape.names();
    let mut asked = BTreeSet::new();
    for query in &queries {
        let of_query: Vec<_> = metric_names(query);
        assert!(!of_query.is_empty(), "{query}");
        for name in of_query {
            assert!(names.contains(name), "{name} in {query}");
            asked.insert(name.to_owned());
        }
    }
    // And it leaves out none.
    for (name, family) in &scrape.families {
        let is_asked = match family.kind.as_str() {
            "histogram" => asked.contains(&format!("{name}_bucket")),
            _ => asked.contains(name) || name == "process_virtual_memory_bytes",
        };
        assert!(is_asked, "{name} is nowhere");
    }
    // A name in it that does not exist would be found.
    assert_eq!(
        metric_names(
            "sum by (le) (rate(latchkey_no_such_total{a=~\"latchkey_x\"}[5m])) / process_x"
        ),
        ["latchkey_no_such_total", "process_x"]
    );
}

/// Of panels and of variables.
fn find_queries(value: &Value, queries: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                match (name.as_str(), value) {
                    ("expr" | "definition", Value::String(query)) => queries.push(query.clone()),
                    _ => find_queries(value, queries),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| find_queries(value, queries)),
        _ => {}
    }
}

/// The names of ours outside of strings.
fn metric_names(query: &str) -> Vec<&str> {
    let outside = query.split('"').step_by(2);
    let words =
        outside.flat_map(|part| part.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')));
    words
        .filter(|word| word.starts_with("latchkey_") || word.starts_with("process_"))
        .collect()
}
