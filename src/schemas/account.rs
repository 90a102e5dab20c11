//! JSON of accounts and user tokens, and the OAuth 2 form for logging in.

use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Checks;
use crate::{
    auth::password::Password,
    domain::{clock::UtcTime, email::Email, error::Error, id::UserId},
    models::user::User,
};

/// New account.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Signup {
    /// E-mail address. Each address can have one account; letter case and Unicode form do not count.
    #[schema(format = Email, max_length = 254, example = "ada@example.com")]
    email: String,
    /// Password of 8 to 72 bytes in UTF-8.
    #[schema(value_type = String, format = Password, max_length = 72,
             example = "correct horse battery staple")]
    password: Password,
}

impl Signup {
    pub(crate) fn check(self) -> Result<(Email, Password), Error> {
        let mut checks = Checks::default();
        let email = checks.field("/email", Email::parse(&self.email));
        checks.field("/password", self.password.check_new());
        checks.finish(email.map(|email| (email, self.password)))
    }
}

/// Account, as its owner sees it.
#[derive(Serialize, ToSchema)]
pub(crate) struct Account {
    id: UserId,
    /// E-mail address as entered at signup.
    #[schema(example = "ada@example.com")]
    email: String,
    /// Name of the account's role. The built-in role `member` has no permissions.
    #[schema(example = "member")]
    role: String,
    #[schema(value_type = String, format = DateTime)]
    created_at: UtcTime,
}

impl From<User> for Account {
    fn from(user: User) -> Self {
        Self {
            id: user.id,
            email: user.email,
            role: user.role,
            created_at: user.created_at,
        }
    }
}

/// Credentials to exchange for a user token.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Login {
    #[schema(format = Email, example = "ada@example.com")]
    email: String,
    #[schema(value_type = String, format = Password, max_length = 72,
             example = "correct horse battery staple")]
    password: Password,
}

impl Login {
    pub(crate) fn check(self) -> Result<(String, Password), Error> {
        let mut checks = Checks::default();
        checks.field("/password", self.password.check_presented());
        checks.finish(Some((self.email, self.password)))
    }
}

/// OAuth 2 password grant (RFC 6749 section 4.3.2), as Swagger UI's *Authorize* sends it. Other parameters are
/// ignored, as that RFC requires.
#[derive(Deserialize, ToSchema)]
pub(crate) struct PasswordGrant {
    #[schema(pattern = "^password$", example = "password")]
    grant_type: String,
    /// E-mail address of the account.
    #[schema(example = "ada@example.com")]
    username: String,
    #[schema(value_type = String, format = Password, max_length = 72,
             example = "correct horse battery staple")]
    password: Password,
}

impl PasswordGrant {
    pub(crate) fn check(self) -> Result<(String, Password), Error> {
        let mut checks = Checks::default();
        let is_supported = self.grant_type == "password";
        checks.field(
            "/grant_type",
            is_supported.then_some(()).ok_or("must be `password`"),
        );
        checks.field("/password", self.password.check_presented());
        checks.finish(Some((self.username, self.password)))
    }
}

/// User token, in the form of an OAuth 2 response (RFC 6749 section 5.1).
#[derive(Serialize, ToSchema)]
pub(crate) struct Token {
    /// Token to send as `Authorization: Bearer …`.
    access_token: String,
    #[schema(example = "bearer")]
    token_type: &'static str,
    /// Lifetime of the token, in seconds.
    #[schema(example = 3600)]
    expires_in: i64,
}

impl Token {
    pub(crate) fn new(token: &SecretString, expires_in_seconds: i64) -> Self {
        Self {
            access_token: token.expose_secret().to_owned(),
            token_type: "bearer",
            expires_in: expires_in_seconds,
        }
    }
}

/// Change of the password.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PasswordChange {
    #[schema(value_type = String, format = Password, max_length = 72,
             example = "correct horse battery staple")]
    current_password: Password,
    /// New password of 8 to 72 bytes in UTF-8.
    #[schema(value_type = String, format = Password, max_length = 72,
             example = "another horse, another battery")]
    new_password: Password,
}

impl PasswordChange {
    pub(crate) fn check(self) -> Result<(Password, Password), Error> {
        let mut checks = Checks::default();
        checks.field("/current_password", self.current_password.check_presented());
        checks.field("/new_password", self.new_password.check_new());
        checks.finish(Some((self.current_password, self.new_password)))
    }
}
