//! A person's API keys: create, list, look at, revoke.

use crate::{
    core::{
        clock::Clock,
        error::Error,
        id::{ApiKeyId, UserId},
        security::api_key::PlainApiKey,
    },
    db::{Conn, Db},
    models::api_key::{self, ApiKey, KeyChoices},
};

/// What can be done with keys. The owner stands in every call: somebody else's key is not found.
pub struct ApiKeys {
    db: Db,
    clock: Clock,
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
        let plain = PlainApiKey::generate(choices.environment);
        let digest = plain.digest();
        let key = ApiKey {
            id: ApiKeyId::generate(now),
            user_id: owner,
            name: choices.name,
            environment: choices.environment,
            prefix: plain.prefix().to_owned(),
            created_at: now,
            revoked_at: None,
        };
        let insert = move |conn: &mut Conn| api_key::insert(conn, &key, digest).map(|_| key);
        Ok((plain, self.db.write(insert).await?))
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
