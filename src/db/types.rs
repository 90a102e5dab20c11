//! Conversion of domain types to and from columns. It is the same on both databases.

use diesel::{
    backend::Backend,
    deserialize::{self, FromSql},
    serialize::{self, Output, ToSql},
    sql_types::{BigInt, Binary, Text},
};
use uuid::Uuid;

use crate::{
    auth::password_hasher::PasswordHash,
    domain::{
        api_key::{Environment, KeyDigest},
        clock::UtcTime,
        email::EmailKey,
        id::{ApiKeyId, EventId, InstanceId, RoleId, SubjectId, UserId},
        json_object::JsonObject,
        limit::Period,
        network::Networks,
        permission::Permissions,
        scope::Scopes,
        usage::Outcome,
    },
};

impl<DB: Backend> FromSql<BigInt, DB> for UtcTime
where
    i64: FromSql<BigInt, DB>,
{
    fn from_sql(bytes: DB::RawValue<'_>) -> deserialize::Result<Self> {
        i64::from_sql(bytes).map(Self)
    }
}

impl<DB: Backend> ToSql<BigInt, DB> for UtcTime
where
    i64: ToSql<BigInt, DB>,
{
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, DB>) -> serialize::Result {
        self.0.to_sql(out)
    }
}

macro_rules! stored_as_16_bytes {
    ($($id:ident),+) => {$(
        impl<DB: Backend> FromSql<Binary, DB> for $id
        where
            Vec<u8>: FromSql<Binary, DB>,
        {
            fn from_sql(bytes: DB::RawValue<'_>) -> deserialize::Result<Self> {
                Ok(Self(Uuid::from_slice(&Vec::from_sql(bytes)?)?))
            }
        }

        impl<DB: Backend> ToSql<Binary, DB> for $id
        where
            [u8]: ToSql<Binary, DB>,
        {
            fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, DB>) -> serialize::Result {
                self.0.as_bytes().as_slice().to_sql(out)
            }
        }
    )+};
}

stored_as_16_bytes!(UserId, ApiKeyId, RoleId, EventId, InstanceId, SubjectId);

impl<DB: Backend> FromSql<Binary, DB> for KeyDigest
where
    Vec<u8>: FromSql<Binary, DB>,
{
    fn from_sql(bytes: DB::RawValue<'_>) -> deserialize::Result<Self> {
        let bytes: Result<[u8; 32], _> = Vec::from_sql(bytes)?.try_into();
        bytes
            .map(Self)
            .map_err(|_| "a digest must be 32 bytes long".into())
    }
}

impl<DB: Backend> ToSql<Binary, DB> for KeyDigest
where
    [u8]: ToSql<Binary, DB>,
{
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, DB>) -> serialize::Result {
        self.0.as_slice().to_sql(out)
    }
}

macro_rules! stored_as_name {
    ($($named:ident),+) => {$(
        impl<DB: Backend> FromSql<Text, DB> for $named
        where
            String: FromSql<Text, DB>,
        {
            fn from_sql(bytes: DB::RawValue<'_>) -> deserialize::Result<Self> {
                let name = String::from_sql(bytes)?;
                Self::from_name(&name).ok_or_else(|| "not a known name of this type".into())
            }
        }

        impl<DB: Backend> ToSql<Text, DB> for $named
        where
            str: ToSql<Text, DB>,
        {
            fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, DB>) -> serialize::Result {
                self.as_str().to_sql(out)
            }
        }
    )+};
}

stored_as_name!(Environment, Period, Outcome);

macro_rules! stored_as_text {
    ($($text:ident),+) => {$(
        impl<DB: Backend> FromSql<Text, DB> for $text
        where
            String: FromSql<Text, DB>,
        {
            fn from_sql(bytes: DB::RawValue<'_>) -> deserialize::Result<Self> {
                String::from_sql(bytes).map(Self)
            }
        }

        impl<DB: Backend> ToSql<Text, DB> for $text
        where
            str: ToSql<Text, DB>,
        {
            fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, DB>) -> serialize::Result {
                self.0.as_str().to_sql(out)
            }
        }
    )+};
}

stored_as_text!(EmailKey, PasswordHash, Scopes, JsonObject);

impl<DB: Backend> FromSql<Text, DB> for Networks
where
    String: FromSql<Text, DB>,
{
    fn from_sql(bytes: DB::RawValue<'_>) -> deserialize::Result<Self> {
        Self::from_stored(&String::from_sql(bytes)?)
            .map_err(|_| "not a valid list of networks".into())
    }
}

impl<DB: Backend> ToSql<Text, DB> for Networks
where
    str: ToSql<Text, DB>,
{
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, DB>) -> serialize::Result {
        self.text.as_str().to_sql(out)
    }
}

impl<DB: Backend> FromSql<Text, DB> for Permissions
where
    String: FromSql<Text, DB>,
{
    fn from_sql(bytes: DB::RawValue<'_>) -> deserialize::Result<Self> {
        String::from_sql(bytes).map(|text| Self::from_stored(&text))
    }
}
