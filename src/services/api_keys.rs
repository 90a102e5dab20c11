//! A person's API keys: create, list, look at, revoke.

use crate::{
    core::{
        clock::Clock,
        error::Error,
        id::{ApiKeyId, UserId},
        security::api_key::{Environment, PlainApiKey},
    },
    db::Db,
    models::api_key::{self, ApiKey, NewApiKey},
};

/// What can be done with keys. The owner stands in every call: somebody else's key is not found.
pub struct ApiKeys {
    db: Db,
    clock: Clock,
}

/// What a person chooses of a new key.
pub struct KeyChoices {
    pub name: Option<String>,
    pub environment: Environment,
}

impl ApiKeys {
    pub fn new(db: Db, clock: Clock) -> Self {
        Self { db, clock }
    }

    /// Makes a key. The only time that it is seen whole.
    pub async fn create(
        &self,
        owner: UserId,
        choices: KeyChoices,
    ) -> Result<(PlainApiKey, ApiKey), Error> {
        let now = self.clock.now();
        self.db
            .write(move |conn| {
                let plain = PlainApiKey::generate(choices.environment);
                let stored = api_key::insert(
                    conn,
                    &NewApiKey {
                        id: ApiKeyId::generate(now),
                        user_id: owner,
                        name: choices.name.as_deref(),
                        environment: choices.environment,
                        prefix: plain.prefix(),
                        digest: plain.digest().as_bytes(),
                        created_at: now,
                    },
                )?;
                Ok((plain, stored))
            })
            .await
    }

    /// A page of keys, newest first: those made before the key `before`.
    pub async fn list(
        &self,
        owner: UserId,
        before: Option<ApiKeyId>,
        limit: i64,
    ) -> Result<Vec<ApiKey>, Error> {
        self.db
            .read(move |conn| api_key::list(conn, owner, before, limit))
            .await
    }

    /// One key.
    pub async fn get(&self, owner: UserId, id: ApiKeyId) -> Result<ApiKey, Error> {
        self.db
            .read(move |conn| api_key::find(conn, owner, id))
            .await?
            .ok_or(Error::NotFound)
    }

    /// Revokes a key for good. Again is the same.
    pub async fn revoke(&self, owner: UserId, id: ApiKeyId) -> Result<ApiKey, Error> {
        let now = self.clock.now();
        self.db
            .write(move |conn| api_key::revoke(conn, owner, id, now))
            .await?
            .ok_or(Error::NotFound)
    }
}
