//! What an operator may do: named permissions, which roles are made of.

use diesel::deserialize::FromSqlRow;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::ToSchema;

use super::text::deserialize_parsed;

// `tt`: a name that is passed on as a `literal` is not seen by the document's derive.
macro_rules! permissions {
    ($($permission:ident = $name:tt,)+) => {
        /// Something that a role may allow.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
        pub enum Permission {
            $(#[serde(rename = $name)] $permission,)+
        }

        impl Permission {
            /// All there are, in the order in which they are shown.
            pub const ALL: &[Self] = &[$(Self::$permission,)+];

            /// The name in the database, the same as in JSON.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$permission => $name,)+
                }
            }

            fn parse(name: &str) -> Result<Self, &'static str> {
                match name {
                    $($name => Ok(Self::$permission),)+
                    _ => Err(concat!("must be one of", $(" `", $name, "`"),+)),
                }
            }
        }
    };
}

permissions! {
    UsersRead = "users:read",
    UsersWrite = "users:write",
    KeysRead = "keys:read",
    KeysWrite = "keys:write",
    AuditRead = "audit:read",
    UsageRead = "usage:read",
    RolesWrite = "roles:write",
}

impl<'de> Deserialize<'de> for Permission {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize_parsed(deserializer, Self::parse)
    }
}

/// A set of permissions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, FromSqlRow)]
pub struct Permissions(u8);

impl Permissions {
    /// Whether one is among them.
    pub fn contain(self, permission: Permission) -> bool {
        self.0 & (1 << permission as u8) != 0
    }

    /// Whether all of the others are among them.
    pub fn include(self, others: Self) -> bool {
        others.0 & !self.0 == 0
    }

    pub fn iter(self) -> impl Iterator<Item = Permission> {
        Permission::ALL
            .iter()
            .copied()
            .filter(move |p| self.contain(*p))
    }

    /// As they stand in the database: their names with blanks in between.
    pub(crate) fn to_stored(self) -> String {
        self.iter()
            .map(Permission::as_str)
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// A name that is not known allows nothing: a later version may have more of them.
    pub(crate) fn from_stored(text: &str) -> Self {
        let names = text.split_ascii_whitespace();
        names.flat_map(Permission::parse).collect()
    }
}

impl FromIterator<Permission> for Permissions {
    fn from_iter<I: IntoIterator<Item = Permission>>(permissions: I) -> Self {
        Self(permissions.into_iter().fold(0, |set, p| set | 1 << p as u8))
    }
}

impl Serialize for Permissions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

/// All that somebody's role lets them do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Authority {
    /// Whether the role is the built-in `admin`, which may do more than all permissions together:
    /// give away scopes that begin with `keys:`.
    pub is_admin: bool,
    pub permissions: Permissions,
}

impl Authority {
    /// Whether somebody with the `other` may do nothing that this one may not.
    pub fn covers(self, other: Self) -> bool {
        (self.is_admin || !other.is_admin) && self.permissions.include(other.permissions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_is_read_again() {
        for permission in Permission::ALL.iter().copied() {
            let one = Permissions::from_iter([permission]);
            assert_eq!(Permissions::from_stored(&one.to_stored()), one);
        }
        let known = Permissions::from_iter([Permission::UsersRead]);
        assert_eq!(Permissions::from_stored("users:read root"), known);
        assert_eq!(Permissions::from_stored(""), Permissions::default());
    }

    #[test]
    fn an_admin_may_do_more_than_all_permissions_together() {
        let all = Permissions::from_iter(Permission::ALL.iter().copied());
        let admin = Authority {
            is_admin: true,
            permissions: all,
        };
        let nearly = Authority {
            is_admin: false,
            permissions: all,
        };
        assert!(admin.covers(nearly) && admin.covers(admin) && nearly.covers(nearly));
        assert!(!nearly.covers(admin));
        assert!(!Authority::default().covers(nearly));
    }
}
