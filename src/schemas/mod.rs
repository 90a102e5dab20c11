//! JSON in and out: what is accepted, how it is checked, and what is shown of a model.

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

/// Collects everything that is wrong with an input, so that a person hears of it at once.
#[derive(Default)]
struct Checks(Vec<FieldError>);

impl Checks {
    /// Notes what is wrong with the field that `pointer` (RFC 6901) names.
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

    /// The same for what a merge patch sets.
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

    /// What a merge patch sets of something that something has to be.
    fn required_patch<T, C, M: Into<String>>(
        &mut self,
        pointer: &str,
        patch: Patch<T>,
        check: impl FnOnce(T) -> Result<C, M>,
    ) -> Option<C> {
        let value = self.never_cleared(pointer, patch, "must be set, or the whole cleared")?;
        self.field(pointer, check(value))
    }

    /// What a merge patch sets of something that has no default to be cleared to.
    fn never_cleared<T>(&mut self, pointer: &str, patch: Patch<T>, remedy: &str) -> Option<T> {
        match patch {
            Patch::Keep => None,
            Patch::Clear => self.field(pointer, Err(remedy)),
            Patch::Set(value) => Some(value),
        }
    }

    /// `value`, if nothing was wrong.
    fn finish<T>(self, value: Option<T>) -> Result<T, Error> {
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            _ => Err(Error::Validation(self.0)),
        }
    }
}

/// Of a list that has none.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NoFilter {}

/// What a list is searched for, folded; nothing if it is empty.
fn search_term(q: Option<String>) -> Result<Option<String>, Error> {
    let is_acceptable = |q: &str| q.chars().count() <= 100 && !q.contains(char::is_control);
    match q.filter(|q| !q.is_empty()) {
        None => Ok(None),
        Some(q) if is_acceptable(&q) => Ok(Some(fold(&q))),
        Some(_) => Err(Error::invalid_field(
            "?q",
            "must be at most 100 characters, none of them a control character",
        )),
    }
}
