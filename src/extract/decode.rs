//! Deserialization of input. Errors say which field is wrong and what would be accepted. They never contain the value,
//! which may be a secret.

use serde::de::{DeserializeOwned, IgnoredAny};
use serde_path_to_error::{Path, Segment};

use crate::domain::error::{Error, FieldError};

/// Start of the error message of serde_json for a number that no type can hold.
const TOO_LARGE: &str = "number out of range";

/// Deserializes JSON.
pub(super) fn from_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    // Serde would also read the fields of a struct from an array, in their order.
    let is_array = bytes.trim_ascii_start().starts_with(b"[");
    if let (false, Ok(value)) = (is_array, serde_json::from_slice(bytes)) {
        return Ok(value);
    }
    // Only after an error, parse again to find the place of the error: that is slower.
    let malformed = |error: &serde_json::Error| Error::InvalidJson(error.to_string());
    serde_json::from_slice::<IgnoredAny>(bytes).map_err(|error| malformed(&error))?;
    if is_array {
        return Err(Error::invalid_field("", "must be an object"));
    }
    let mut json = serde_json::Deserializer::from_slice(bytes);
    serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let message = error.inner().to_string();
        if error.inner().is_data() || message.starts_with(TOO_LARGE) {
            invalid(error.path(), &message)
        } else {
            malformed(error.inner())
        }
    })
}

/// Deserializes a form.
pub(super) fn from_form<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    let form = serde_urlencoded::Deserializer::new(form_urlencoded::parse(bytes));
    serde_path_to_error::deserialize(form)
        .map_err(|error| invalid(error.path(), &error.inner().to_string()))
}

/// Deserializes a query string, which has the format of a form.
pub(super) fn from_query<T: DeserializeOwned>(query: &str) -> Result<T, Error> {
    from_form(query.as_bytes()).map_err(|error| match error {
        Error::Validation(errors) => {
            Error::Validation(errors.into_iter().map(FieldError::of_query).collect())
        }
        other => other,
    })
}

/// Converts an error message of serde into a validation error, without the value.
fn invalid(path: &Path, message: &str) -> Error {
    let message = match message.rsplit_once(" at line ") {
        Some((message, _)) => message,
        None => message,
    };
    let pointer = pointer(path);
    // For these two errors the path ends at the object, and the message names the field.
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
        // The name of a type is internal.
        Some((_, expected)) if expected.starts_with("struct ") => {
            Error::invalid_field(&pointer, "must be an object")
        }
        Some((_, "i64" | "u64")) => Error::invalid_field(&pointer, "must be a whole number"),
        Some((_, "a boolean")) => Error::invalid_field(&pointer, "must be true or false"),
        Some((_, "a sequence")) => Error::invalid_field(&pointer, "must be a list"),
        Some((_, "a map")) => Error::invalid_field(&pointer, "must be an object"),
        Some((_, expected)) => Error::invalid_field(&pointer, format!("must be {expected}")),
        None => Error::invalid_field(&pointer, "is not a valid value"),
    }
}

/// Converts a path into a JSON Pointer (RFC 6901).
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
