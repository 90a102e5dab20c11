//! The person whose token a request carries.

use std::{future::Future, marker::PhantomData, pin::Pin};

use actix_web::{FromRequest, HttpRequest, dev::Payload, web};

use super::{
    credentials::{Presented, presented},
    origin::origin_of,
};
use crate::{
    domain::{
        error::{Credential, Error},
        permission::Permission,
    },
    services::caller::{Caller, require},
    state::State,
};

/// A handler that asks for this is for people who have logged in.
pub(crate) struct CurrentUser(pub Caller);

/// A handler that asks for this is for people whose role has a permission, such as
/// `Operator<UsersRead>`.
pub(crate) struct Operator<P> {
    pub caller: Caller,
    has: PhantomData<P>,
}

/// A permission, as a type.
pub(crate) trait Needed {
    const PERMISSION: Permission;
}

macro_rules! needed {
    ($($name:ident),+) => {$(
        pub(crate) enum $name {}

        impl Needed for $name {
            const PERMISSION: Permission = Permission::$name;
        }
    )+};
}

needed!(
    UsersRead, UsersWrite, KeysRead, KeysWrite, UsageRead, RolesWrite
);

type Answer<T> = Pin<Box<dyn Future<Output = Result<T, Error>>>>;

impl FromRequest for CurrentUser {
    type Error = Error;
    type Future = Answer<Self>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move { authenticate(&request).await.map(Self) })
    }
}

impl<P: Needed> FromRequest for Operator<P> {
    type Error = Error;
    type Future = Answer<Self>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move {
            let caller = authenticate(&request).await?;
            require(caller.authority, P::PERMISSION)?;
            Ok(Self {
                caller,
                has: PhantomData,
            })
        })
    }
}

async fn authenticate(request: &HttpRequest) -> Result<Caller, Error> {
    let Some(Presented::Bearer(token)) = presented(request.headers())? else {
        return Err(Error::MissingCredentials(Credential::UserToken));
    };
    let state = request
        .app_data::<web::Data<State>>()
        .ok_or_else(|| Error::internal("the app has no state"))?;
    let (user, authority) = state.accounts.authenticate(token).await?;
    Ok(Caller {
        user,
        authority,
        origin: origin_of(request),
    })
}
