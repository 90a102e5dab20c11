//! `latchkey openapi`: prints the OpenAPI document that is committed as `openapi/openapi.json`.

use std::io::Write as _;

use crate::{openapi, server::StartError};

pub(super) fn run() -> Result<(), StartError> {
    let failed = |error: &dyn std::fmt::Display| StartError::Environment(error.to_string());
    let document = openapi::document()
        .to_pretty_json()
        .map_err(|error| failed(&error))?;
    writeln!(std::io::stdout(), "{document}").map_err(|error| failed(&error))
}
