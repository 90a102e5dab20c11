//! Detection of misspelt settings. A misspelt variable would have no effect, and nobody would notice.
//!
//! The process's environment holds many variables of other programs. There, only names are reported that resemble a
//! setting. `.env` belongs to this program, so every unknown variable in it is reported.

use std::collections::BTreeSet;

use super::environment::Environment;

/// Maximum number of variables that are reported.
const MAX_REPORTED: usize = 20;

/// Minimum length of a name, without underscores. Shorter ones resemble too many others: `HOST`, `LOG`, `PORT`.
const MIN_LETTERS: usize = 6;
/// Length from which on two typos are tolerated. Below it, one is.
const LETTERS_FOR_TWO_TYPOS: usize = 15;

/// Variable that is no setting.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Misspelt {
    /// Name to report. A name in `.env` may be part of a secret that was split into two lines; then the line number is
    /// reported instead.
    variable: String,
    /// Setting that was probably meant.
    meant: Option<String>,
}

/// Finds variables that are no setting, given the names of all settings.
pub(super) fn find(environment: &Environment, known: &BTreeSet<String>) -> Vec<Misspelt> {
    let unknown = environment
        .names()
        .filter(|(name, _)| !known.contains(*name));
    unknown
        .filter_map(|(name, line)| {
            // Kubernetes sets this variable for each of its services that is named `latchkey`.
            if name == "LATCHKEY_PORT" && environment.holds_url(name) {
                return None;
            }
            let meant = meant(name, known);
            let is_plain = name
                .bytes()
                .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_');
            let variable = match line {
                None => meant.as_ref().map(|_| name.to_owned())?,
                Some(line) if is_plain || meant.is_some() => format!("{name} (.env, line {line})"),
                Some(line) => format!("line {line} of .env"),
            };
            Some(Misspelt { variable, meant })
        })
        .collect()
}

/// Logs a warning for each misspelt variable.
pub(super) fn warn(misspelt: &[Misspelt]) {
    for Misspelt { variable, meant } in misspelt.iter().take(MAX_REPORTED) {
        match meant {
            Some(meant) => tracing::warn!(
                variable,
                meant,
                "unknown variable is ignored: it is not a setting; correct its name, or remove it"
            ),
            None => tracing::warn!(
                variable,
                "unknown variable is ignored: it is not a setting; remove it (`latchkey --help` lists all settings)"
            ),
        }
    }
    let more = misspelt.len().saturating_sub(MAX_REPORTED);
    if more > 0 {
        tracing::warn!(more, "more unknown variables are ignored");
    }
}

/// Returns the setting that was probably meant by this name, or several joined by `or`.
fn meant(name: &str, known: &BTreeSet<String>) -> Option<String> {
    let upper = name.to_ascii_uppercase();
    let own = upper.strip_prefix("LATCHKEY_").unwrap_or(&upper);
    let candidates: Vec<_> = known
        .iter()
        .filter_map(|setting| Some((distance(own, setting)?, setting.as_str())))
        .collect();
    let least = candidates.iter().map(|(distance, _)| *distance).min()?;
    let closest = candidates.iter().filter(|(distance, _)| *distance == least);
    Some(
        closest
            .map(|(_, setting)| *setting)
            .collect::<Vec<_>>()
            .join(" or "),
    )
}

/// Returns the number of typos between a name and a setting, or `None` if the name does not resemble the setting.
///
/// A name that resembles the setting only in its words counts as further away than any number of typos.
fn distance(name: &str, setting: &str) -> Option<usize> {
    // Only the case or the prefix `LATCHKEY_` differed, or the name has `_FILE`, which only secrets support.
    if name == setting || name.strip_suffix("_FILE") == Some(setting) {
        return Some(0);
    }
    let letters = |name: &str| name.replace('_', "");
    let (own, other) = (letters(name), letters(setting));
    if own.len() < MIN_LETTERS || other.len() < MIN_LETTERS {
        return None;
    }
    let typos = strsim::osa_distance(&own, &other);
    let tolerated = 1 + usize::from(other.len() >= LETTERS_FOR_TWO_TYPOS);
    if typos <= tolerated {
        Some(typos)
    } else {
        (is_part(name, setting) || words_start_alike(name, setting)).then_some(usize::MAX)
    }
}

/// Returns whether the name consists of two or more words that start or end the setting's name: `RATE_LIMIT`,
/// `DATABASE_TIMEOUT`.
fn is_part(name: &str, setting: &str) -> bool {
    let is_end = |rest: Option<&str>| rest.is_some_and(|rest| rest.ends_with('_'));
    let is_begin = |rest: Option<&str>| rest.is_some_and(|rest| rest.starts_with('_'));
    // `RATELIMIT` counts as two words.
    let squeezed_end = setting.match_indices('_').any(|(at, _)| {
        setting[at + 1..].contains('_') && setting[at + 1..].replace('_', "") == name
    });
    let has_words = name.contains('_');
    squeezed_end
        || has_words && (is_end(setting.strip_suffix(name)) || is_begin(setting.strip_prefix(name)))
}

/// Returns whether each word starts like the setting's word: `TLS_CERTIFICATE`, `TRUSTED_PROXY`.
fn words_start_alike(name: &str, setting: &str) -> bool {
    let alike = |(own, other): (&str, &str)| {
        let same = own.bytes().zip(other.bytes()).take_while(|(a, b)| a == b);
        let same = same.count();
        own == other || same >= 4 && same + 3 >= own.len().min(other.len())
    };
    let words = |name: &str| name.split('_').count();
    words(name) > 1
        && words(name) == words(setting)
        && name.split('_').zip(setting.split('_')).all(alike)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::{Cli, env_file::Entry, settings};

    fn known() -> BTreeSet<String> {
        settings::known(&Cli::command())
    }

    fn found(variables: &[(&str, &str)]) -> Vec<Misspelt> {
        let variables = variables
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()));
        find(&Environment::of(variables, []), &known())
    }

    #[test]
    fn misspelt_setting_is_found_with_a_suggestion() {
        for (name, meant) in [
            ("SIGN_UP", "SIGNUP"),
            ("signup", "SIGNUP"),
            ("DATABASE_URI", "DATABASE_URL"),
            ("DATABSAE_URL", "DATABASE_URL"),
            ("LATCHKEY_DATABASE_URL", "DATABASE_URL"),
            ("LATCHKEY_LOG", "LOG"),
            ("RATE_LIMIT", "DEFAULT_RATE_LIMIT or SIGNUP_RATE_LIMIT"),
            ("RATELIMIT", "DEFAULT_RATE_LIMIT or SIGNUP_RATE_LIMIT"),
            ("DEFAULT_RATELIMIT", "DEFAULT_RATE_LIMIT"),
            ("DEFAULT_RATE_LIMITS", "DEFAULT_RATE_LIMIT"),
            ("JWTSECRET", "JWT_SECRET"),
            ("JWT_SECRETS_FILE", "JWT_SECRET_FILE"),
            ("REDIS_URI", "REDIS_URL"),
            ("TRUSTED_PROXY", "TRUSTED_PROXIES"),
            ("CORS_ALLOWED_ORIGIN", "CORS_ALLOWED_ORIGINS"),
            ("TLS_CERTIFICATE", "TLS_CERT"),
            ("DATABASE_TIMEOUT", "DATABASE_TIMEOUT_SECONDS"),
            ("CACHE_LEASE", "CACHE_LEASE_SECONDS"),
            ("KEEPALIVE_SECONDS", "KEEP_ALIVE_SECONDS"),
            ("METRICS_ADDRESS", "METRICS_ADDR"),
            ("OTEL_EXPORTER_OTLP_ENDPONT", "OTEL_EXPORTER_OTLP_ENDPOINT"),
            ("LOG_FILE", "LOG"),
            ("BCRYPT_COST_FILE", "BCRYPT_COST"),
        ] {
            let expected = Misspelt {
                variable: name.to_owned(),
                meant: Some(meant.to_owned()),
            };
            assert_eq!(found(&[(name, "1")]), [expected], "{name}");
        }
    }

    /// Checks variables that shells, desktops, containers, CI services and platforms set.
    #[test]
    fn variable_of_another_program_is_not_reported() {
        let others = include_str!("misspelt_others.txt");
        let others: Vec<_> = others
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(|name| (name, "tcp://10.0.0.1:80"))
            .collect();
        assert!(others.len() > 250, "{}", others.len());
        assert_eq!(found(&others), []);
    }

    #[test]
    fn setting_is_not_reported_as_misspelt() {
        let known = known();
        let settings: Vec<_> = known.iter().map(|name| (name.as_str(), "1")).collect();
        assert_eq!(found(&settings), []);
    }

    #[test]
    fn unknown_variable_in_env_file_is_reported_without_a_name_that_may_be_secret() {
        let entry = |name: &str, line| Entry {
            name: name.to_owned(),
            value: "1".to_owned(),
            line,
        };
        let file = [
            entry("PORT", 1),
            entry("PGPASSWORD", 2),
            entry("bG9uZ3Rva2Vu", 3),
            entry("sign_up", 4),
        ];
        let found = find(&Environment::of([], file), &known());
        let expected = [
            ("PGPASSWORD (.env, line 2)", None),
            ("line 3 of .env", None),
            ("sign_up (.env, line 4)", Some("SIGNUP")),
        ];
        let expected = expected.map(|(variable, meant)| Misspelt {
            variable: variable.to_owned(),
            meant: meant.map(str::to_owned),
        });
        assert_eq!(found, expected);
    }
}
