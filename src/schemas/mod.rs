//! JSON in and out: what is accepted, how it is checked, and what is shown of a model.

pub(crate) mod account;
pub(crate) mod api_key;
pub(crate) mod health;

use crate::core::error::{Error, FieldError};

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

    /// `value`, if nothing was wrong.
    fn finish<T>(self, value: Option<T>) -> Result<T, Error> {
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            _ => Err(Error::Validation(self.0)),
        }
    }
}
