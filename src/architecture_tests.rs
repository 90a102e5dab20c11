//! The map of the crate in `lib.rs`, checked against every path in its source.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Modules from the bottom up. A module uses only those above it in this list.
const LAYERS: &[&str] = &[
    "domain",
    "config",
    "shutdown",
    "wait_queue",
    "telemetry",
    "connection",
    "auth",
    "db",
    "models",
    "redis",
    "verification",
    "throttle",
    "services",
    "schemas",
    "state",
    "extract",
    "middleware",
    "routes",
    "openapi",
    "app",
    "metrics",
    "server",
    "cli",
];

/// Crates, and modules of this crate, that only some modules may name.
const ONLY: &[(&str, &[&str])] = &[
    ("crate::db::schema", &["models"]),
    ("crate::redis", &["verification", "throttle", "services"]),
    (
        "actix_web",
        &[
            "domain",
            "extract",
            "middleware",
            "routes",
            "openapi",
            "app",
            "metrics",
            "server",
        ],
    ),
    ("actix_http", &["telemetry", "server"]),
    ("bcrypt", &["auth"]),
    ("clap", &["config", "server", "cli"]),
    ("diesel", &["domain", "auth", "db", "models", "services"]),
    ("diesel_migrations", &["db"]),
    ("jsonwebtoken", &["auth"]),
    ("libsqlite3_sys", &["db"]),
    ("pq_sys", &["db"]),
    ("prometheus_client", &["metrics"]),
    ("r2d2", &["db"]),
    ("redis", &["redis"]),
    ("rustls", &["server"]),
    ("tokio_rustls", &["server"]),
    ("ureq", &["telemetry", "cli"]),
];

struct SourceFile {
    path: PathBuf,
    /// The top-level module that the file belongs to.
    module: String,
    /// Paths that it names, such as `crate::db::Conn`.
    paths: BTreeSet<String>,
}

/// Returns every source file of the crate but its root and this one.
fn source_files() -> Vec<SourceFile> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    files
        .into_iter()
        .filter_map(|path| {
            let inside = path.strip_prefix(&root).expect("a file below the root");
            let first = inside.iter().next()?.to_str()?.to_owned();
            let module = first.trim_end_matches(".rs").to_owned();
            let is_module = !["lib", "main", "architecture_tests"].contains(&module.as_str());
            let text = fs::read_to_string(&path).expect("a readable source file");
            is_module.then(|| SourceFile {
                paths: paths_in(&text),
                path: inside.to_owned(),
                module,
            })
        })
        .collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a readable folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|end| end == "rs") {
            files.push(path);
        }
    }
}

/// Returns the paths that a source text names in `use` declarations and elsewhere, without comments.
fn paths_in(text: &str) -> BTreeSet<String> {
    let lines = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    let code = lines.collect::<Vec<_>>().join("\n");
    let mut paths = BTreeSet::new();
    let mut outside = String::new();
    let mut rest = code.as_str();
    while let Some(at) = rest.find("use ") {
        let (before, declaration) = (&rest[..at], &rest[at + 4..]);
        let is_declaration = before.is_empty() || before.ends_with(['\n', ' ']);
        outside.push_str(before);
        let end = declaration.find(';').unwrap_or(declaration.len());
        if is_declaration {
            expand("", &declaration[..end], &mut paths);
        }
        rest = if is_declaration {
            &declaration[end..]
        } else {
            declaration
        };
    }
    outside.push_str(rest);
    for word in outside.split(|c: char| !(c.is_alphanumeric() || "_:".contains(c))) {
        if word.contains("::") {
            paths.insert(word.to_owned());
        }
    }
    paths
}

/// Adds the paths of a `use` tree.
fn expand(prefix: &str, tree: &str, paths: &mut BTreeSet<String>) {
    let tree = tree.trim();
    let Some((head, group)) = tree.split_once('{') else {
        paths.insert(format!("{prefix}{tree}"));
        return;
    };
    let group = group.rsplit_once('}').map_or(group, |(group, _)| group);
    let prefix = format!("{prefix}{}", head.trim());
    let mut depth = 0;
    let mut start = 0;
    for (at, c) in group.char_indices().chain([(group.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                expand(&prefix, &group[start..at], paths);
                start = at + 1;
            }
            _ => {}
        }
    }
}

fn is_below(path: &str, ancestor: &str) -> bool {
    path.strip_prefix(ancestor)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

#[test]
fn every_module_uses_only_modules_below_it() {
    let layer = |module: &str| LAYERS.iter().position(|name| *name == module);
    for file in source_files() {
        let own = layer(&file.module).unwrap_or_else(|| panic!("{} has no layer", file.module));
        for path in &file.paths {
            let Some(module) = path
                .strip_prefix("crate::")
                .and_then(|p| p.split("::").next())
            else {
                continue;
            };
            // What is no module is a macro or an item of the crate's root.
            if let Some(other) = layer(module) {
                assert!(other <= own, "{} uses {path}", file.path.display());
            }
        }
    }
}

#[test]
fn guarded_crates_and_modules_are_named_only_where_they_may_be() {
    for file in source_files() {
        for (name, modules) in ONLY {
            let own = name.strip_prefix("crate::").unwrap_or_default();
            if modules.contains(&file.module.as_str())
                || own.split("::").next() == Some(&file.module)
            {
                continue;
            }
            let found = file.paths.iter().find(|path| is_below(path, name));
            assert_eq!(found, None, "{} names {name}", file.path.display());
        }
    }
}

#[test]
fn paths_of_nested_use_declarations_are_found() {
    let text = "use crate::{a::{self, b::C}, d::E};\n// use crate::f::G;\nlet h = crate::i::j();";
    let paths = paths_in(text);
    for path in [
        "crate::a::self",
        "crate::a::b::C",
        "crate::d::E",
        "crate::i::j",
    ] {
        assert!(paths.contains(path), "{path}: {paths:?}");
    }
    assert!(!paths.iter().any(|path| path.contains("f::G")));
}
