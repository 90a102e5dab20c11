//! How the service is, in JSON.

use serde::Serialize;
use utoipa::ToSchema;

/// The service is fine.
#[derive(Serialize, ToSchema)]
pub(crate) struct Health {
    #[schema(example = "ok")]
    pub status: &'static str,
}

/// What `/health/live` and a good `/health/ready` answer.
pub(crate) const OK: Health = Health { status: "ok" };
