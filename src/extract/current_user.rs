//! Authentication and authorization of a person by the user token of a request.

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

/// Extractor for handlers that require a logged-in person.
pub(crate) struct CurrentUser(pub Caller);

/// Extractor for handlers that require a person whose role has a permission, such as `Operator<UsersRead>`.
pub(crate) struct Operator<P> {
    pub caller: Caller,
    permission: PhantomData<P>,
}

/// Permission as a type.
pub(crate) trait RequiredPermission {
    const PERMISSION: Permission;
}

macro_rules! required_permissions {
    ($($name:ident),+) => {$(
        pub(crate) enum $name {}

        impl RequiredPermission for $name {
            const PERMISSION: Permission = Permission::$name;
        }
    )+};
}

required_permissions!(
    UsersRead, UsersWrite, KeysRead, KeysWrite, UsageRead, RolesWrite
);

type Extraction<T> = Pin<Box<dyn Future<Output = Result<T, Error>>>>;

impl FromRequest for CurrentUser {
    type Error = Error;
    type Future = Extraction<Self>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move { authenticate(&request).await.map(Self) })
    }
}

impl<P: RequiredPermission> FromRequest for Operator<P> {
    type Error = Error;
    type Future = Extraction<Self>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move {
            let caller = authenticate(&request).await?;
            require(caller.authority, P::PERMISSION)?;
            Ok(Self {
                caller,
                permission: PhantomData,
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
        .ok_or_else(|| Error::internal("the app data contains no state"))?;
    let (user, authority) = state.accounts.authenticate(token).await?;
    Ok(Caller {
        user,
        authority,
        origin: origin_of(request),
    })
}
