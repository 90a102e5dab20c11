//! Text: folded for comparison, and read into types.

use serde::{Deserialize as _, Deserializer, de};
use unicode_normalization::UnicodeNormalization as _;

/// Compatibility caseless matching: Unicode Standard, section 3.13, definition D146. Equal for every
/// spelling that a person takes for the same: upper and lower case, composed and decomposed letters,
/// full-width forms.
pub(crate) fn fold(text: &str) -> String {
    let folded = caseless::default_case_fold_str(&text.nfd().collect::<String>());
    let folded = caseless::default_case_fold_str(&folded.nfkd().collect::<String>());
    folded.nfkc().collect()
}

/// Reads a string into a type that says "must be …" of what it is not made of. Whoever reads input takes
/// "expected …" from serde and makes the same of it.
pub(crate) fn deserialize_parsed<'de, T, D: Deserializer<'de>>(
    deserializer: D,
    parse: impl FnOnce(&str) -> Result<T, &'static str>,
) -> Result<T, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse(&text).map_err(|remedy| de::Error::custom(remedy.replacen("must be", "expected", 1)))
}
