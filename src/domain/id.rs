//! Ids: UUIDv7 (RFC 9562), with a separate type for each kind of object.

use diesel::{deserialize::FromSqlRow, expression::AsExpression, sql_types::Binary};
use serde::{Deserialize, Deserializer, Serialize, de};
use utoipa::ToSchema;
use uuid::{ContextV7, Timestamp, Uuid};

use super::clock::UtcTime;

/// Keeps ids that are generated within one millisecond in the order of generation.
static SEQUENCE: std::sync::Mutex<ContextV7> = std::sync::Mutex::new(ContextV7::new());

fn uuid_at(now: UtcTime) -> Uuid {
    let (seconds, nanos) = now.unix_parts();
    let context = SEQUENCE.lock().unwrap_or_else(|e| e.into_inner());
    Uuid::new_v7(Timestamp::from_unix(&*context, seconds, nanos))
}

/// Trait of all ids.
pub(crate) trait Id: Sized {
    /// Id that sorts after every generated one.
    const LAST: Self;

    fn uuid(&self) -> Uuid;
    fn from_uuid(uuid: Uuid) -> Self;
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, ToSchema,
            AsExpression, FromSqlRow,
        )]
        #[diesel(sql_type = Binary)]
        #[serde(transparent)]
        #[schema(value_type = Uuid)]
        pub struct $name(pub(crate) Uuid);

        impl $name {
            /// Generates a new id. Later ids sort after earlier ones.
            pub(crate) fn generate(now: UtcTime) -> Self {
                Self(uuid_at(now))
            }

            /// Parses the hyphenated form; returns `None` for any other.
            pub(crate) fn parse(text: &str) -> Option<Self> {
                // `Uuid` also parses capitals, braces, URNs and bare hex. Here an object has exactly one URL.
                let id = Uuid::try_parse(text).ok()?;
                (id.to_string() == text).then_some(Self(id))
            }
        }

        impl Id for $name {
            const LAST: Self = Self(Uuid::max());

            fn uuid(&self) -> Uuid {
                self.0
            }

            fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::parse(&text).ok_or_else(|| de::Error::custom("expected a UUID in lower case"))
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// Id of an account.
    UserId
}
id! {
    /// Id of an API key. It reveals nothing about the key itself.
    ApiKeyId
}
id! {
    /// Id of a role, which gives its position in lists. Callers refer to a role by its name.
    RoleId
}
id! {
    /// Id of an event in the audit log.
    EventId
}
id! {
    /// Id of an instance, for the lifetime of its process.
    InstanceId
}

/// Id of an object that usage is counted for: a key, an account, or the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, AsExpression, FromSqlRow)]
#[diesel(sql_type = Binary)]
pub struct SubjectId(pub(crate) Uuid);

impl SubjectId {
    /// Subject of the whole service: all keys, and unknown ones.
    pub const SERVICE: Self = Self(Uuid::nil());
}

impl From<ApiKeyId> for SubjectId {
    fn from(id: ApiKeyId) -> Self {
        Self(id.0)
    }
}

impl From<UserId> for SubjectId {
    fn from(id: UserId) -> Self {
        Self(id.0)
    }
}
