//! The Dockerfile, and the files of the repository that it copies.

use std::{fs, path::Path, process::Command};

use super::{Help, path, read};

/// Path of the program in the image.
pub const PROGRAM: &str = "/usr/local/bin/latchkey";

struct Instruction {
    name: String,
    rest: String,
}

/// Returns the instructions of all stages, with continuation lines joined and without comments.
fn instructions() -> Vec<Instruction> {
    let text = read("Dockerfile");
    let lines = text
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'));
    let whole = lines.fold(String::new(), |mut whole, line| {
        match line.strip_suffix('\\') {
            Some(continued) => whole.push_str(continued),
            None => {
                whole.push_str(line);
                whole.push('\n');
            }
        }
        whole
    });
    let split = |line: &str| {
        let (name, rest) = line.trim().split_once(' ')?;
        Some(Instruction {
            name: name.to_owned(),
            rest: rest.trim().to_owned(),
        })
    };
    whole.lines().filter_map(split).collect()
}

fn all(name: &str) -> Vec<String> {
    let found = instructions().into_iter().filter(|i| i.name == name);
    found.map(|i| i.rest).collect()
}

#[track_caller]
fn only(name: &str) -> String {
    let mut found = all(name);
    assert_eq!(found.len(), 1, "{name}: {found:?}");
    found.remove(0)
}

/// Returns the files and folders that it copies from the repository.
fn copied() -> Vec<String> {
    let copies = all("COPY")
        .into_iter()
        .filter(|copy| !copy.starts_with("--from"));
    let sources = |copy: String| {
        let mut words: Vec<_> = copy.split_whitespace().map(str::to_owned).collect();
        words.pop();
        words
    };
    copies.flat_map(sources).collect()
}

fn json_words(text: &str) -> Vec<String> {
    let list = &text[text.find('[').unwrap_or_else(|| panic!("no list: {text}"))..];
    serde_json::from_str(list).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn dockerfile_sources_exist_and_are_not_ignored() {
    let ignored = read(".dockerignore");
    let mut rules = ignored
        .lines()
        .filter(|l| !l.is_empty() && !l.starts_with('#'));
    assert_eq!(
        rules.next(),
        Some("*"),
        "everything is ignored except for what is named"
    );
    let allowed: Vec<_> = rules
        .map(|rule| rule.strip_prefix('!').expect(rule))
        .collect();
    let copied = copied();
    for source in &copied {
        assert!(path(source).exists(), "there is no {source}");
        assert!(allowed.contains(&source.as_str()), "{source} is ignored");
    }
    for name in allowed {
        assert!(
            copied.iter().any(|source| source == name),
            "{name} is not copied"
        );
    }
}

/// Each target that Cargo.toml names has to be copied.
#[test]
fn dockerfile_copies_a_complete_cargo_package() {
    let folder = tempfile::tempdir().unwrap();
    for source in copied() {
        copy(&path(&source), &folder.path().join(&source));
    }
    let metadata = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--offline",
            "--no-deps",
            "--format-version",
            "1",
        ])
        .current_dir(folder.path())
        .output()
        .expect("cargo");
    assert!(metadata.status.success(), "{metadata:?}");
}

fn copy(from: &Path, to: &Path) {
    if !from.is_dir() {
        fs::copy(from, to).unwrap();
        return;
    }
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        copy(&entry.path(), &to.join(entry.file_name()));
    }
}

/// rust-toolchain.toml selects `stable`: if it were copied, rustup would download another toolchain.
#[test]
fn dockerfile_uses_the_rust_version_of_the_package() {
    let manifest = read("Cargo.toml");
    let version = manifest.split("rust-version = \"").nth(1).unwrap();
    let version = version.split('"').next().unwrap();
    let from = all("FROM");
    assert!(from[0].starts_with(&format!("rust:{version}-")), "{from:?}");
    assert!(
        !copied()
            .iter()
            .any(|source| source.contains("rust-toolchain"))
    );
}

#[test]
fn dockerfile_base_images_have_a_version_tag() {
    for image in all("FROM") {
        let tag = image
            .split(' ')
            .next()
            .unwrap()
            .split_once(':')
            .expect(&image)
            .1;
        assert!(!tag.contains("latest"), "{image}");
    }
}

#[test]
fn image_contains_the_programs_and_settings_it_names() {
    let help = Help::read();
    let installs = all("RUN").concat();
    let from_build: Vec<_> = all("COPY")
        .into_iter()
        .filter(|copy| copy.starts_with("--from"))
        .collect();
    assert!(!from_build.is_empty());
    for copy in &from_build {
        let mut words = copy.split_whitespace().rev();
        let (to, from) = (words.next().unwrap(), words.next().unwrap());
        assert!(
            installs.contains(&format!(" {from}")),
            "no instruction creates {from}"
        );
        assert!(from.ends_with(to), "{copy}");
    }
    assert!(from_build.iter().any(|copy| copy.ends_with(PROGRAM)));
    assert_eq!(json_words(&only("ENTRYPOINT")), [PROGRAM]);
    help.assert_command(&json_words(&only("CMD"))[0], "CMD");
    let check = json_words(&only("HEALTHCHECK"));
    assert_eq!(check[0], PROGRAM);
    help.assert_command(&check[1], "HEALTHCHECK");
    // Liveness, not readiness: otherwise supervisors would restart the container during a database outage.
    assert_eq!(check[2..], ["--live"]);
    assert_eq!(only("EXPOSE"), help.default_of("PORT"));
    for setting in all("ENV").iter().flat_map(|env| env.split_whitespace()) {
        help.assert_setting(setting.split('=').next().unwrap(), "ENV");
    }
}

#[test]
fn image_runs_as_an_unprivileged_user_that_owns_the_data_folder() {
    let user = only("USER");
    let (uid, gid) = user.split_once(':').expect("a user and a group");
    assert!(uid.parse::<u32>().unwrap() > 0 && gid.parse::<u32>().unwrap() > 0);
    let [folder] = &json_words(&only("VOLUME"))[..] else {
        panic!("more than one volume");
    };
    let owned = format!("--from=build --chown={user} /image{folder} {folder}");
    assert!(all("COPY").contains(&owned), "{owned}");
    // The default path of the embedded database is in the volume.
    let default = Help::read().default_of("DATABASE_URL");
    let file = default.strip_prefix("sqlite://").unwrap();
    let file = Path::new(all("WORKDIR").last().unwrap()).join(file);
    assert!(file.starts_with(folder), "{}", file.display());
}
