//! JSON in requests and responses, and its validation.

pub(crate) mod account;
pub(crate) mod api_key;
pub(crate) mod api_key_input;
pub(crate) mod audit_log;
pub(crate) mod health;
pub(crate) mod key_limits;
pub(crate) mod operator;
pub(crate) mod usage;
pub(crate) mod verification;

use crate::domain::{
    error::{Error, FieldError},
    merge_patch::Patch,
    text::fold,
};

/// Collects all errors of an input, so that one response reports them all.
#[derive(Default)]
struct Checks(Vec<FieldError>);

impl Checks {
    /// Records the error of the field that `pointer` (RFC 6901) names. Returns the value if there is none.
    fn field<T>(&mut self, pointer: &str, checked: Result<T, impl Into<String>>) -> Option<T> {
        checked
            .map_err(|message| {
                self.0.push(FieldError {
                    pointer: pointer.to_owned(),
                    message: message.into(),
                });
            })
            .ok()
    }

    /// Checks the value that a merge patch sets, as [`Checks::field`] does.
    fn patch<T, C>(
        &mut self,
        pointer: &str,
        patch: Patch<T>,
        check: impl FnOnce(T) -> Result<C, &'static str>,
    ) -> Patch<C> {
        match patch.map(|value| self.field(pointer, check(value))) {
            Patch::Set(Some(value)) => Patch::Set(value),
            Patch::Clear => Patch::Clear,
            Patch::Keep | Patch::Set(None) => Patch::Keep,
        }
    }

    /// Checks the value that a merge patch sets for a required member of an object.
    fn required_patch<T, C, M: Into<String>>(
        &mut self,
        pointer: &str,
        patch: Patch<T>,
        check: impl FnOnce(T) -> Result<C, M>,
    ) -> Option<C> {
        let remedy = "must not be null; to remove the limit, set the whole object to null";
        let value = self.never_cleared(pointer, patch, remedy)?;
        self.field(pointer, check(value))
    }

    /// Returns the value that a merge patch sets for a field without a default. Clearing it is an error.
    fn never_cleared<T>(&mut self, pointer: &str, patch: Patch<T>, remedy: &str) -> Option<T> {
        match patch {
            Patch::Keep => None,
            Patch::Clear => self.field(pointer, Err(remedy)),
            Patch::Set(value) => Some(value),
        }
    }

    /// Returns `value` if there are no errors.
    fn finish<T>(self, value: Option<T>) -> Result<T, Error> {
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            _ => Err(Error::Validation(self.0)),
        }
    }
}

/// Filter of a list that has no filter parameters.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NoFilter {}

/// Checks a search term and folds it for a case-insensitive comparison. An empty term is none.
fn search_term(q: Option<String>) -> Result<Option<String>, Error> {
    let is_acceptable = |q: &str| q.chars().count() <= 100 && !q.contains(char::is_control);
    match q.filter(|q| !q.is_empty()) {
        None => Ok(None),
        Some(q) if is_acceptable(&q) => Ok(Some(fold(&q))),
        Some(_) => Err(Error::invalid_field(
            "?q",
            "must be at most 100 characters long, without control characters",
        )),
    }
}
