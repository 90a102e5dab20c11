//! Text folded for comparison.

use unicode_normalization::UnicodeNormalization as _;

/// Compatibility caseless matching: Unicode Standard, section 3.13, definition D146. Equal for every
/// spelling that a person takes for the same: upper and lower case, composed and decomposed letters,
/// full-width forms.
pub(crate) fn fold(text: &str) -> String {
    let folded = caseless::default_case_fold_str(&text.nfd().collect::<String>());
    let folded = caseless::default_case_fold_str(&folded.nfkd().collect::<String>());
    folded.nfkc().collect()
}
