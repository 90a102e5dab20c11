//! How the service is, in JSON.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// The service is fine.
#[derive(Serialize, ToSchema)]
pub(crate) struct Health {
    #[schema(example = "ok")]
    pub status: &'static str,
}

/// For which requests the service has to be ready.
#[derive(Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ReadyFor {
    /// `checks`: for checks of keys alone. Left out: for everything.
    #[serde(rename = "for")]
    #[param(inline)]
    pub purpose: Option<Purpose>,
}

/// A kind of requests.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Purpose {
    /// Checks of keys: `/verify`, `/forward-auth` and whatever is behind a key.
    Checks,
}

/// What `/health/live` and a good `/health/ready` answer.
pub(crate) const OK: Health = Health { status: "ok" };
