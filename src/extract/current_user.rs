//! The person whose token a request carries.

use std::{future::Future, pin::Pin};

use actix_web::{FromRequest, HttpRequest, dev::Payload, web};

use super::credentials::{Presented, presented};
use crate::{
    core::error::{Credential, Error},
    models::user::User,
    state::State,
};

/// A handler that asks for this is for people who have logged in.
pub(crate) struct CurrentUser(pub User);

impl FromRequest for CurrentUser {
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Error>>>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move {
            let Some(Presented::Bearer(token)) = presented(request.headers())? else {
                return Err(Error::MissingCredentials(Credential::UserToken));
            };
            let state = request
                .app_data::<web::Data<State>>()
                .ok_or_else(|| Error::internal("the app has no state"))?;
            state.accounts.authenticate(token).await.map(Self)
        })
    }
}
