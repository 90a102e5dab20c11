//! Strict parser of the text format of Prometheus, version 0.0.4. It rejects text that violates the format, and names
//! that violate the naming conventions.
//!
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>,
//! <https://prometheus.io/docs/practices/naming/>

use std::collections::{BTreeMap, BTreeSet};

pub type Labels = BTreeMap<String, String>;

/// A metric with all its series.
#[derive(Debug)]
pub struct Family {
    pub kind: String,
    pub help: String,
    /// Name (with a suffix for histograms), labels and value of each series.
    pub samples: Vec<(String, Labels, f64)>,
}

#[derive(Debug)]
pub struct Scrape {
    pub families: BTreeMap<String, Family>,
}

impl Scrape {
    #[track_caller]
    pub fn parse(text: &str) -> Self {
        assert!(text.ends_with('\n'), "the last line has no line feed");
        let mut families: BTreeMap<String, Family> = BTreeMap::new();
        let mut current: Option<(String, Option<String>)> = None;
        let mut seen = BTreeSet::new();
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, help) = help.split_once(' ').expect("a name and its help");
                assert!(!families.contains_key(name), "{name} twice");
                assert!(!help.is_empty(), "{name} without help");
                current = Some((name.to_owned(), Some(help.to_owned())));
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').expect("a name and its type");
                let (helped, help) = current.take().expect("HELP comes first");
                assert_eq!(name, helped, "HELP of something else");
                let family = Family {
                    kind: kind.to_owned(),
                    help: help.expect("one TYPE for each HELP"),
                    samples: Vec::new(),
                };
                families.insert(name.to_owned(), family);
                current = Some((name.to_owned(), None));
            } else {
                assert!(!line.starts_with('#'), "{line}");
                let (name, labels, value) = sample(line);
                let (family, None) = current.as_ref().expect("TYPE comes first") else {
                    panic!("{line} before its TYPE");
                };
                assert!(seen.insert((name.clone(), labels.clone())), "twice: {line}");
                let family = families.get_mut(family).expect("a family");
                family.samples.push((name, labels, value));
            }
        }
        let scrape = Self { families };
        for (name, family) in &scrape.families {
            check(name, family);
        }
        scrape
    }

    /// Returns the number of series.
    pub fn series(&self) -> usize {
        let families = self.families.values();
        families.map(|family| family.samples.len()).sum()
    }

    /// Returns every name that a query can use.
    pub fn names(&self) -> BTreeSet<String> {
        let of = |(name, family): (&String, &Family)| match family.kind.as_str() {
            "histogram" => ["_bucket", "_sum", "_count"]
                .map(|suffix| format!("{name}{suffix}"))
                .to_vec(),
            _ => vec![name.clone()],
        };
        self.families.iter().flat_map(of).collect()
    }

    /// Returns the sum of the series with this name that have these labels, among others.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let samples = self.families.values().flat_map(|family| &family.samples);
        let matches = |of: &Labels| {
            let has = |(label, value): &(&str, &str)| of.get(*label).is_some_and(|v| v == value);
            labels.iter().all(has)
        };
        let matching = samples.filter(|(sample, of, _)| sample == name && matches(of));
        matching.map(|(_, _, value)| value).sum()
    }
}

fn sample(line: &str) -> (String, Labels, f64) {
    let end = line.find(['{', ' ']).expect(line);
    let (name, mut rest) = line.split_at(end);
    assert!(is_name(name), "{line}");
    let mut labels = Labels::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        loop {
            let (label, after) = rest.split_once("=\"").expect(line);
            assert!(is_name(label) && !label.contains(':'), "{line}");
            let (value, after) = quoted(after);
            assert!(labels.insert(label.to_owned(), value).is_none(), "{line}");
            match after.strip_prefix(',') {
                Some(more) => rest = more,
                None => {
                    rest = after.strip_prefix('}').expect(line);
                    break;
                }
            }
        }
    }
    let value = rest.strip_prefix(' ').expect(line);
    let value = match value {
        "+Inf" => f64::INFINITY,
        value => value.parse().expect(line),
    };
    (name.to_owned(), labels, value)
}

/// Returns the text before the closing quote, unescaped, and the text after it.
fn quoted(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return (value, &text[at + 1..]),
            '\\' => match chars.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, char @ ('\\' | '"'))) => value.push(char),
                other => panic!("an invalid escape: {other:?}"),
            },
            char => value.push(char),
        }
    }
    panic!("no closing quote: {text}")
}

fn is_name(name: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    name.chars().all(is_part) && name.starts_with(|c: char| !c.is_ascii_digit())
}

fn check(name: &str, family: &Family) {
    let is_sentence = family.help.ends_with('.') && !family.help.contains('\\');
    assert!(is_sentence, "{name}: {}", family.help);
    let lower = |c: char| c.is_ascii_lowercase() || c == '_';
    assert!(name.chars().all(lower), "{name} is not in snake case");
    assert_eq!(name.ends_with("_total"), family.kind == "counter", "{name}");
    for unit in [
        "milliseconds",
        "micros",
        "ms",
        "minutes",
        "kilobytes",
        "percent",
    ] {
        let has_unit = name.split('_').any(|word| word == unit);
        assert!(!has_unit, "{name} is not in a base unit");
    }
    match family.kind.as_str() {
        "histogram" => check_histogram(name, family),
        "gauge" | "counter" => {
            for (sample, labels, value) in &family.samples {
                assert_eq!(sample, name);
                assert!(!labels.contains_key("le"), "{name}");
                assert!(value.is_finite() && *value >= 0.0, "{name} is {value}");
            }
        }
        kind => panic!("{name} is a {kind}"),
    }
}

/// Samples of one histogram; buckets as pairs of bound and count.
#[derive(Default)]
struct Histogram {
    buckets: Vec<(f64, f64)>,
    sums: Vec<f64>,
    counts: Vec<f64>,
}

fn check_histogram(name: &str, family: &Family) {
    assert!(
        name.ends_with("_seconds") || name.ends_with("_bytes"),
        "{name}"
    );
    let mut series: BTreeMap<Labels, Histogram> = BTreeMap::new();
    for (sample, labels, value) in &family.samples {
        let mut labels = labels.clone();
        let bound = labels.remove("le");
        let Histogram {
            buckets,
            sums,
            counts,
        } = series.entry(labels).or_default();
        match (sample.strip_prefix(name).expect(name), bound.as_deref()) {
            ("_bucket", Some("+Inf")) => buckets.push((f64::INFINITY, *value)),
            ("_bucket", Some(bound)) => buckets.push((bound.parse().expect(bound), *value)),
            ("_sum", None) => sums.push(*value),
            ("_count", None) => counts.push(*value),
            other => panic!("{name}: {other:?}"),
        }
    }
    for Histogram {
        buckets,
        sums,
        counts,
    } in series.into_values()
    {
        assert!(
            buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1),
            "{name}: {buckets:?}"
        );
        let (bound, all) = *buckets.last().expect("buckets");
        assert_eq!((bound, &counts[..]), (f64::INFINITY, &[all][..]), "{name}");
        assert!(matches!(sums[..], [sum] if sum >= 0.0), "{name}: {sums:?}");
    }
}

/// Proves that the parser is strict: a parser that accepts everything would prove nothing.
#[test]
fn invalid_exposition_is_rejected_by_the_parser() {
    let good =
        "# HELP a_total An a.\n# TYPE a_total counter\na_total{b=\"c\\\"\",d=\"\"} 1\na_total 2\n";
    let scrape = Scrape::parse(good);
    assert_eq!(scrape.series(), 2);
    assert_eq!(scrape.sum("a_total", &[("b", "c\"")]), 1.0);
    let histogram = "# HELP a_seconds An a.\n# TYPE a_seconds histogram\na_seconds_bucket{le=\"1.0\"} 1\n\
                     a_seconds_bucket{le=\"+Inf\"} 2\na_seconds_sum 3\na_seconds_count 2\n";
    assert_eq!(Scrape::parse(histogram).names().len(), 3);
    for (text, from, to) in [
        (good, "a_total 2\n", "a_total 2"),
        (good, "a_total 2", "b_total 2"),
        (good, "# HELP a_total An a.\n", ""),
        (good, "# TYPE a_total counter\n", ""),
        (good, "a_total 2", "a_total{b=\"c\\\"\",d=\"\"} 1"),
        (good, "counter", "gauge"),
        (good, "d=\"\"", "b=\"\""),
        (good, " 2", " two"),
        (good, "An a.", "An a"),
        (histogram, "+Inf\"} 2", "+Inf\"} 1"),
        (histogram, "_count 2", "_count 3"),
        (histogram, "le=\"1.0\"", "le=\"+Inf\""),
        (histogram, "a_seconds_sum 3\n", ""),
    ] {
        let bad = text.replacen(from, to, 1);
        let parsed = std::panic::catch_unwind(|| Scrape::parse(&bad));
        assert!(parsed.is_err(), "{bad}");
    }
}
