//! Text into types, with words for what does not fit: where it stands and what would, never what it
//! is, since it may be a secret.

use serde::de::{DeserializeOwned, IgnoredAny};
use serde_path_to_error::{Path, Segment};

use crate::domain::error::{Error, FieldError};

/// How serde_json begins what it says of a number that no type holds.
const TOO_LARGE: &str = "number out of range";

/// Reads JSON.
pub(super) fn from_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    // serde would read an array as a struct's fields in their order.
    let is_array = bytes.trim_ascii_start().starts_with(b"[");
    if let (false, Ok(read)) = (is_array, serde_json::from_slice(bytes)) {
        return Ok(read);
    }
    // What is wrong is found by going through it again, slowly.
    let malformed = |error: &serde_json::Error| Error::InvalidJson(error.to_string());
    serde_json::from_slice::<IgnoredAny>(bytes).map_err(|error| malformed(&error))?;
    if is_array {
        return Err(Error::invalid_field("", "must be an object"));
    }
    let mut json = serde_json::Deserializer::from_slice(bytes);
    serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let message = error.inner().to_string();
        if error.inner().is_data() || message.starts_with(TOO_LARGE) {
            unacceptable(error.path(), &message)
        } else {
            malformed(error.inner())
        }
    })
}

/// Reads a form.
pub(super) fn from_form<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    let form = serde_urlencoded::Deserializer::new(form_urlencoded::parse(bytes));
    serde_path_to_error::deserialize(form)
        .map_err(|error| unacceptable(error.path(), &error.inner().to_string()))
}

/// Reads a query string, which is written as a form is.
pub(super) fn from_query<T: DeserializeOwned>(query: &str) -> Result<T, Error> {
    from_form(query.as_bytes()).map_err(|error| match error {
        Error::Validation(errors) => {
            Error::Validation(errors.into_iter().map(FieldError::of_query).collect())
        }
        other => other,
    })
}

/// What serde says of a value that does not fit, without the value.
fn unacceptable(path: &Path, message: &str) -> Error {
    let message = match message.rsplit_once(" at line ") {
        Some((message, _)) => message,
        None => message,
    };
    let pointer = pointer(path);
    // In these two the path ends at the object, and the message names its field.
    for (start, problem) in [
        ("missing field `", "is required"),
        ("duplicate field `", "is given twice"),
    ] {
        if let Some(field) = message.strip_prefix(start) {
            let field = field.trim_end_matches('`');
            return Error::invalid_field(&format!("{pointer}/{field}"), problem);
        }
    }
    for (start, problem) in [
        ("unknown field", "is not a field of this request"),
        (
            "provided string was not `true` or `false`",
            "must be true or false",
        ),
        (TOO_LARGE, "is too large a number"),
        ("invalid value: integer", "is too large a number"),
    ] {
        if message.starts_with(start) {
            return Error::invalid_field(&pointer, problem);
        }
    }
    match message.rsplit_once("expected ") {
        // A type's name is ours alone.
        Some((_, expected)) if expected.starts_with("struct ") => {
            Error::invalid_field(&pointer, "must be an object")
        }
        Some((_, "i64" | "u64")) => Error::invalid_field(&pointer, "must be a whole number"),
        Some((_, "a boolean")) => Error::invalid_field(&pointer, "must be true or false"),
        Some((_, "a sequence")) => Error::invalid_field(&pointer, "must be a list"),
        Some((_, "a map")) => Error::invalid_field(&pointer, "must be an object"),
        Some((_, expected)) => Error::invalid_field(&pointer, format!("must be {expected}")),
        None => Error::invalid_field(&pointer, "is not acceptable"),
    }
}

/// A JSON Pointer (RFC 6901).
fn pointer(path: &Path) -> String {
    path.iter()
        .map(|segment| match segment {
            Segment::Seq { index } => format!("/{index}"),
            Segment::Map { key } | Segment::Enum { variant: key } => {
                format!("/{}", key.replace('~', "~0").replace('/', "~1"))
            }
            Segment::Unknown => String::new(),
        })
        .collect()
}
