//! Drift test of the documentation of metrics: the table in `docs/metrics.md`, and the dashboard.

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

/// Scrapes a service that has done work of every kind.
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
fn metrics_page_lists_every_metric_with_its_type_and_labels() {
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
    let exported: BTreeMap<_, _> = scrape
        .families
        .iter()
        .map(|(name, family)| (name.clone(), (family.kind.clone(), labels(family))))
        .collect();
    assert_eq!(listed, exported);
}

#[test]
fn dashboard_queries_every_metric_and_no_unknown_one() {
    let dashboard = fs::read_to_string("docs/grafana/latchkey.json").unwrap();
    let dashboard: Value = serde_json::from_str(&dashboard).unwrap();
    let mut queries = Vec::new();
    find_queries(&dashboard, &mut queries);
    assert!(queries.len() > 30, "{queries:?}");
    let scrape = scrape();
    let names = scrape.names();
    let mut queried = BTreeSet::new();
    for query in &queries {
        let of_query: Vec<_> = metric_names(query);
        assert!(!of_query.is_empty(), "{query}");
        for name in of_query {
            assert!(names.contains(name), "{name} in {query}");
            queried.insert(name.to_owned());
        }
    }
    // The dashboard queries every metric.
    for (name, family) in &scrape.families {
        let is_queried = match family.kind.as_str() {
            "histogram" => queried.contains(&format!("{name}_bucket")),
            _ => queried.contains(name) || name == "process_virtual_memory_bytes",
        };
        assert!(is_queried, "no query uses {name}");
    }
    // Proves that an unknown name in a query would be found.
    assert_eq!(
        metric_names(
            "sum by (le) (rate(latchkey_no_such_total{a=~\"latchkey_x\"}[5m])) / process_x"
        ),
        ["latchkey_no_such_total", "process_x"]
    );
}

/// Collects the queries of panels and variables.
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

/// Returns the names of the service's metrics, outside of string literals.
fn metric_names(query: &str) -> Vec<&str> {
    let outside = query.split('"').step_by(2);
    let words =
        outside.flat_map(|part| part.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')));
    words
        .filter(|word| word.starts_with("latchkey_") || word.starts_with("process_"))
        .collect()
}
