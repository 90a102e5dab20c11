//! API keys in JSON.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Checks;
use crate::{
    core::{
        clock::UtcTime,
        error::Error,
        id::{ApiKeyId, UserId},
        security::api_key::{Environment, PlainApiKey},
    },
    models::api_key::{ApiKey, KeyChoices},
};

const MAX_NAME_CHARACTERS: usize = 100;

/// What you choose of a new key; all of it may be left out, and so may the body.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "billing service", "environment": "live"}))]
pub(crate) struct CreateApiKey {
    /// For you to tell your keys apart: 1 to 100 characters, none of them a control character.
    #[schema(min_length = 1, max_length = 100)]
    name: Option<String>,
    /// `live` if left out.
    environment: Option<Environment>,
}

impl CreateApiKey {
    pub(crate) fn check(self) -> Result<KeyChoices, Error> {
        let mut checks = Checks::default();
        checks.field("/name", self.name.as_deref().map_or(Ok(()), check_name));
        checks.finish(Some(KeyChoices {
            name: self.name,
            environment: self.environment.unwrap_or_default(),
        }))
    }
}

fn check_name(name: &str) -> Result<(), &'static str> {
    let length = name.chars().count();
    if name.trim().is_empty() || length > MAX_NAME_CHARACTERS || name.chars().any(char::is_control)
    {
        return Err("must be 1 to 100 characters, not all blank, none of them a control character");
    }
    Ok(())
}

/// An API key, without the key.
#[derive(Serialize, ToSchema)]
pub(crate) struct Key {
    id: ApiKeyId,
    #[schema(required, example = "billing service")]
    name: Option<String>,
    /// What you recognise the key by: its first characters.
    #[schema(example = "sk_live_Exam")]
    prefix: String,
    environment: Environment,
    status: KeyStatus,
    #[schema(value_type = String, format = DateTime)]
    created_at: UtcTime,
    #[schema(required, value_type = Option<String>, format = DateTime)]
    revoked_at: Option<UtcTime>,
}

/// Whether a key is good.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum KeyStatus {
    Active,
    Revoked,
}

impl From<ApiKey> for Key {
    fn from(key: ApiKey) -> Self {
        Self {
            id: key.id,
            name: key.name,
            prefix: key.prefix,
            environment: key.environment,
            status: match key.revoked_at {
                Some(_) => KeyStatus::Revoked,
                None => KeyStatus::Active,
            },
            created_at: key.created_at,
            revoked_at: key.revoked_at,
        }
    }
}

/// A new API key: the only answer that ever shows it whole.
#[derive(Serialize, ToSchema)]
pub(crate) struct CreatedApiKey {
    /// The whole key. Keep it: it is not stored and cannot be shown again.
    #[schema(example = "sk_live_ExampleExampleExampleExample12344Lvtrp")]
    api_key: String,
    #[serde(flatten)]
    key: Key,
}

impl From<(PlainApiKey, ApiKey)> for CreatedApiKey {
    fn from((plain, stored): (PlainApiKey, ApiKey)) -> Self {
        Self {
            api_key: plain.expose().to_owned(),
            key: stored.into(),
        }
    }
}

/// Which page of a list.
#[derive(Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListPage {
    /// How many at the most.
    #[param(value_type = Option<i64>, minimum = 1, maximum = 100, default = 50)]
    pub limit: Option<String>,
    /// Where the page before ended: from its `Link` header.
    pub cursor: Option<String>,
}

/// What the example of a protected endpoint answers.
#[derive(Serialize, ToSchema)]
pub(crate) struct Protected {
    #[schema(example = "The key is good.")]
    pub(crate) message: &'static str,
    pub(crate) key: CallingKey,
    /// Whose key it is.
    pub(crate) user_id: UserId,
}

/// The key that a request was made with.
#[derive(Serialize, ToSchema)]
pub(crate) struct CallingKey {
    pub(crate) id: ApiKeyId,
    #[schema(required, example = "billing service")]
    pub(crate) name: Option<String>,
    pub(crate) environment: Environment,
}
