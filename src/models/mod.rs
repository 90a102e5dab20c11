//! Rows and the queries on them, a file per table. They know SQL and no HTTP.

pub mod api_key;
pub mod audit_log;
pub mod key_settings;
pub mod role;
pub mod user;

/// A `LIKE` pattern, with `\` as its escape, for texts that have `part` in them.
fn contains(part: &str) -> String {
    let mut pattern = String::from("%");
    for character in part.chars() {
        if matches!(character, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern.push('%');
    pattern
}
