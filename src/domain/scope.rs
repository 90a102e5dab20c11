//! Scopes: strings that define what a key may be used for.
//!
//! The operator chooses a scope, such as `orders:read`. `orders:*` covers every scope below `orders:`, and `*` covers
//! every scope. Scopes that begin with `keys:` are reserved for this service: no wildcard but `keys:*` covers them.

use diesel::{deserialize::FromSqlRow, expression::AsExpression};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::text::deserialize_parsed;

/// Maximum length of a scope.
pub const MAX_CHARACTERS: usize = 64;
/// Maximum number of scopes of a key.
pub const MAX_SCOPES: usize = 64;

/// Prefix of the scopes that are reserved for this service.
const RESERVED_PREFIX: &str = "keys:";

/// Well-formed scope: segments of `A-Z a-z 0-9 . _ -`, separated by `:`; the last may be `*`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Scope(String);

impl Scope {
    /// Parses a scope. The error says what would be accepted.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const REMEDY: &str = "must be 1 to 64 characters, in segments of letters, digits, `.`, `_` \
                              and `-` that are separated by `:`; the last may be `*`";
        let is_plain = |segment: &str| {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
            !segment.is_empty() && segment.bytes().all(plain)
        };
        let is_last = |segment: &str| segment == "*" || is_plain(segment);
        let (start, last) = text.rsplit_once(':').unzip();
        let well_formed = text.len() <= MAX_CHARACTERS
            && start.is_none_or(|start| start.split(':').all(is_plain))
            && is_last(last.unwrap_or(text));
        if well_formed {
            Ok(Self(text.to_owned()))
        } else {
            Err(REMEDY)
        }
    }

    /// Returns the scope as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Scope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize_parsed(deserializer, Self::parse)
    }
}

/// Distinct scopes of a key, in the order in which they were given.
///
/// Stored as one text, separated by spaces as in RFC 6749 section 3.3. The form in the database is the same.
#[derive(Debug, Clone, Default, PartialEq, Eq, AsExpression, FromSqlRow)]
#[diesel(sql_type = diesel::sql_types::Text)]
pub struct Scopes(pub(crate) String);

impl Scopes {
    /// Creates a set of these scopes without duplicates.
    pub fn new(scopes: &[Scope]) -> Self {
        let mut text = Self::default();
        for scope in scopes {
            if !text.iter().any(|other| other == scope.as_str()) {
                if !text.0.is_empty() {
                    text.0.push(' ');
                }
                text.0.push_str(scope.as_str());
            }
        }
        text
    }

    /// Returns the scopes, separated by spaces.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Iterates over the scopes.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.split_ascii_whitespace()
    }

    /// Returns whether these scopes cover the `required` one.
    pub fn grant(&self, required: &str) -> bool {
        self.iter().any(|granted| covers(granted, required))
    }

    /// Returns whether `scope` is reserved: only an admin may grant it.
    pub fn is_reserved(scope: &str) -> bool {
        scope.starts_with(RESERVED_PREFIX)
    }
}

fn covers(granted: &str, required: &str) -> bool {
    if granted == required {
        return true;
    }
    match granted.strip_suffix('*') {
        None => false,
        Some(start) if Scopes::is_reserved(required) => start == RESERVED_PREFIX,
        Some(start) => required.starts_with(start),
    }
}

impl Serialize for Scopes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scopes(list: &[&str]) -> Scopes {
        Scopes::new(
            &list
                .iter()
                .map(|s| Scope::parse(s).unwrap())
                .collect::<Vec<_>>(),
        )
    }

    #[test]
    fn scope_is_accepted_in_the_documented_form_only() {
        for good in [
            "orders",
            "orders:read",
            "a:b:c",
            "*",
            "orders:*",
            "a:b:*",
            "Orders.v2:re_ad-1",
            &"a".repeat(64),
        ] {
            assert!(Scope::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            ":",
            "orders:",
            ":read",
            "a::b",
            "*:read",
            "a:*:b",
            "orders*",
            "**",
            "a b",
            "a,b",
            "a\"b",
            "caf\u{e9}",
            "a\n",
            "a/b",
            &"a".repeat(65),
        ] {
            assert!(Scope::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn wildcard_covers_scopes_below_it_but_no_reserved_ones() {
        for (granted, required, expected) in [
            ("orders:read", "orders:read", true),
            ("orders:read", "orders:reads", false),
            ("orders:read", "orders:write", false),
            ("orders:read", "Orders:read", false),
            ("orders:*", "orders:read", true),
            ("orders:*", "orders:read:all", true),
            ("orders:*", "orders", false),
            ("orders:*", "orders2:read", false),
            ("orders:*", "orders:*", true),
            ("orders", "orders:read", false),
            ("*", "orders:read", true),
            ("*", "keys", true),
            ("*", "keys:verify", false),
            ("*", "keys:*", false),
            ("keys:*", "keys:verify", true),
            ("keys:verify", "keys:verify", true),
            ("keys:a:*", "keys:a:b", false),
            ("keys:a:*", "keys:a:*", true),
        ] {
            assert_eq!(
                scopes(&[granted]).grant(required),
                expected,
                "{granted} {required}"
            );
        }
    }

    #[test]
    fn duplicate_scope_counts_once() {
        let given = scopes(&["b", "a", "b"]);
        assert_eq!(given.iter().collect::<Vec<_>>(), ["b", "a"]);
        assert_eq!(serde_json::to_string(&given).unwrap(), r#"["b","a"]"#);
    }

    /// Second implementation of `covers`, which compares segment by segment.
    fn covers_by_segments(granted: &str, required: &str) -> bool {
        let granted: Vec<_> = granted.split(':').collect();
        let required: Vec<_> = required.split(':').collect();
        if granted == required {
            return true;
        }
        let reserved = required.len() > 1 && required[0] == "keys";
        let Some((&"*", above)) = granted.split_last() else {
            return false;
        };
        if reserved && above != ["keys"] {
            return false;
        }
        required.len() > above.len() && required[..above.len()] == *above
    }

    fn any_scope() -> impl Strategy<Value = String> {
        let segment = prop_oneof![Just("keys"), Just("a"), Just("b"), Just("ab")];
        (prop::collection::vec(segment, 0..4), any::<bool>()).prop_map(|(segments, wild)| {
            let mut segments: Vec<_> = segments;
            if wild || segments.is_empty() {
                segments.push("*");
            }
            segments.join(":")
        })
    }

    proptest! {
        #[test]
        fn scope_is_covered_by_whole_segments(granted in any_scope(), required in any_scope()) {
            prop_assert!(Scope::parse(&granted).is_ok());
            prop_assert_eq!(covers(&granted, &required), covers_by_segments(&granted, &required));
        }

        #[test]
        fn additional_scopes_never_grant_less(
            few in prop::collection::vec(any_scope(), 0..4),
            more in prop::collection::vec(any_scope(), 0..4),
            required in any_scope(),
        ) {
            let list = |texts: &[String]| scopes(&texts.iter().map(String::as_str).collect::<Vec<_>>());
            let all = [few.clone(), more].concat();
            prop_assert!(!list(&few).grant(&required) || list(&all).grant(&required));
        }

        #[test]
        fn text_that_parses_as_a_scope_covers_itself(text in "\\PC{0,70}") {
            if let Ok(scope) = Scope::parse(&text) {
                prop_assert_eq!(scope.as_str(), &text);
                prop_assert!(Scopes::new(std::slice::from_ref(&scope)).grant(&text));
            }
        }
    }
}
