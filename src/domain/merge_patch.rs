//! JSON merge patch (RFC 7396).

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

/// Change that a merge patch makes to one member of an object.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Patch<T> {
    /// The patch omits the member: it keeps its value.
    #[default]
    Keep,
    /// The patch has `null`: the member is cleared.
    Clear,
    /// The member is set to this value.
    Set(T),
}

impl<T> Patch<T> {
    /// Converts the value.
    pub fn map<C>(self, convert: impl FnOnce(T) -> C) -> Patch<C> {
        match self {
            Self::Keep => Patch::Keep,
            Self::Clear => Patch::Clear,
            Self::Set(value) => Patch::Set(convert(value)),
        }
    }
}

/// A field of this type needs `#[serde(default)]`, for patches that omit it.
impl<'de, T: Deserialize<'de>> Deserialize<'de> for Patch<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Option::deserialize(deserializer)?;
        Ok(value.map_or(Self::Clear, Self::Set))
    }
}

/// Applies a patch to an object, as RFC 7396 section 2 defines it.
pub fn merge(target: &mut Map<String, Value>, patch: Map<String, Value>) {
    for (name, value) in patch {
        match value {
            Value::Null => {
                target.shift_remove(&name);
            }
            Value::Object(patch) => {
                let member = target.entry(name).or_insert(Value::Null);
                if !member.is_object() {
                    *member = Value::Object(Map::new());
                }
                if let Value::Object(member) = member {
                    merge(member, patch);
                }
            }
            value => {
                target.insert(name, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(object) => object,
            other => panic!("not an object: {other}"),
        }
    }

    fn merged(target: &Map<String, Value>, patch: &Map<String, Value>) -> Map<String, Value> {
        let mut target = target.clone();
        merge(&mut target, patch.clone());
        target
    }

    #[test]
    fn examples_of_the_rfc_give_the_documented_results() {
        // Those of Appendix A whose target and patch are objects.
        for (target, patch, expected) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (
                json!({"a": "b"}),
                json!({"b": "c"}),
                json!({"a": "b", "b": "c"}),
            ),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (
                json!({"a": "b", "b": "c"}),
                json!({"a": null}),
                json!({"b": "c"}),
            ),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
            (
                json!({"a": {"b": "c"}}),
                json!({"a": {"b": "d", "c": null}}),
                json!({"a": {"b": "d"}}),
            ),
            (
                json!({"a": [{"b": "c"}]}),
                json!({"a": [1]}),
                json!({"a": [1]}),
            ),
            (
                json!({"e": null}),
                json!({"a": 1}),
                json!({"e": null, "a": 1}),
            ),
            (
                json!({}),
                json!({"a": {"bb": {"ccc": null}}}),
                json!({"a": {"bb": {}}}),
            ),
        ] {
            let (target, patch) = (object(target), object(patch));
            assert_eq!(
                merged(&target, &patch),
                object(expected),
                "{target:?} {patch:?}"
            );
        }
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            "[a-z]{0,3}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::hash_map("[abc]", inner, 0..3)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    fn any_object() -> impl Strategy<Value = Map<String, Value>> {
        prop::collection::hash_map("[abc]", any_value(), 0..4)
            .prop_map(|members| members.into_iter().collect())
    }

    proptest! {
        #[test]
        fn patch_is_idempotent(target in any_object(), patch in any_object()) {
            let once = merged(&target, &patch);
            prop_assert_eq!(&merged(&once, &patch), &once);
        }

        #[test]
        fn every_member_gets_the_value_of_its_patch(target in any_object(), patch in any_object()) {
            let result = merged(&target, &patch);
            for name in ["a", "b", "c"] {
                let expected = match patch.get(name) {
                    None => target.get(name).cloned(),
                    Some(Value::Null) => None,
                    Some(Value::Object(inner)) => {
                        let member = target.get(name).and_then(Value::as_object);
                        Some(Value::Object(merged(&member.cloned().unwrap_or_default(), inner)))
                    }
                    Some(value) => Some(value.clone()),
                };
                prop_assert_eq!(result.get(name), expected.as_ref());
            }
        }

        #[test]
        fn patches_of_different_members_commute(target in any_object(), one in any_value(), other in any_value()) {
            let one = object(json!({"a": one}));
            let other = object(json!({"b": other}));
            let one_first = merged(&merged(&target, &one), &other);
            prop_assert_eq!(one_first, merged(&merged(&target, &other), &one));
        }
    }
}
