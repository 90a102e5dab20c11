//! Text: folding for comparison, and deserialization into parsed types.

use serde::{Deserialize as _, Deserializer, de};
use unicode_normalization::UnicodeNormalization as _;

/// Folds text for compatibility caseless matching (Unicode Standard, section 3.13, definition D146). The result is
/// equal for spellings that people take for the same: upper and lower case, composed and decomposed letters, and
/// full-width forms.
pub(crate) fn fold(text: &str) -> String {
    let folded = caseless::default_case_fold_str(&text.nfd().collect::<String>());
    let folded = caseless::default_case_fold_str(&folded.nfkd().collect::<String>());
    folded.nfkc().collect()
}

/// Deserializes a string into a type whose parser reports errors as "must be …". They become serde errors in serde's
/// form, "expected …", which the `extract` module converts back for all types.
pub(crate) fn deserialize_parsed<'de, T, D: Deserializer<'de>>(
    deserializer: D,
    parse: impl FnOnce(&str) -> Result<T, &'static str>,
) -> Result<T, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse(&text).map_err(|remedy| de::Error::custom(remedy.replacen("must be", "expected", 1)))
}
