//! JSON and query parameters of health checks.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Health of the service.
#[derive(Serialize, ToSchema)]
pub(crate) struct Health {
    #[schema(example = "ok")]
    pub status: &'static str,
}

/// Query parameters of the readiness check.
#[derive(Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ReadyFor {
    /// `checks`: readiness for key checks only. If omitted: readiness for all requests.
    #[serde(rename = "for")]
    #[param(inline)]
    pub purpose: Option<Purpose>,
}

/// Kind of requests that the service must be ready for.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Purpose {
    /// Key checks: `/verify`, `/forward-auth` and endpoints behind an API key.
    Checks,
}

/// Body of a 200 response of `/health/live` and `/health/ready`.
pub(crate) const OK: Health = Health { status: "ok" };
