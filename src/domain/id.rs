//! Ids: UUIDv7 (RFC 9562), a type of its own for each kind of thing.

use diesel::{deserialize::FromSqlRow, expression::AsExpression, sql_types::Binary};
use serde::{Deserialize, Deserializer, Serialize, de};
use utoipa::ToSchema;
use uuid::{ContextV7, Timestamp, Uuid};

use super::clock::UtcTime;

/// Keeps ids that are made within one millisecond in the order in which they were made.
static SEQUENCE: std::sync::Mutex<ContextV7> = std::sync::Mutex::new(ContextV7::new());

fn uuid_at(now: UtcTime) -> Uuid {
    let (seconds, nanos) = now.unix_parts();
    let context = SEQUENCE.lock().unwrap_or_else(|e| e.into_inner());
    Uuid::new_v7(Timestamp::from_unix(&*context, seconds, nanos))
}

/// Any of them.
pub(crate) trait Id: Sized {
    /// Sorts after any that is ever made.
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
            /// A fresh id; later ones sort after earlier ones.
            pub(crate) fn generate(now: UtcTime) -> Self {
                Self(uuid_at(now))
            }

            /// Reads the hyphenated form; `None` for anything else.
            pub(crate) fn parse(text: &str) -> Option<Self> {
                // `Uuid` also reads capitals, braces, URNs and bare hex. One object has one URL.
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
                Self::parse(&text).ok_or_else(|| de::Error::custom("expected an id, a UUID in lower case"))
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
    /// Names an account.
    UserId
}
id! {
    /// Names an API key without revealing anything of it.
    ApiKeyId
}
id! {
    /// Places a role in the list of them; a role is named by its name.
    RoleId
}
id! {
    /// Names an event in the audit log.
    EventId
}
id! {
    /// Names an instance for as long as its process runs.
    InstanceId
}

/// Names what usage is counted for: a key, whoever it belongs to, or the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, AsExpression, FromSqlRow)]
#[diesel(sql_type = Binary)]
pub struct SubjectId(pub(crate) Uuid);

impl SubjectId {
    /// The service, with all its keys and those that nobody knows.
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
