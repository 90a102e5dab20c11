//! Permissions of operators, and sets of them, which roles consist of.

use diesel::deserialize::FromSqlRow;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::ToSchema;

use super::text::deserialize_parsed;

// `tt`, because the derive of the OpenAPI schema does not see a name that is passed on as a `literal`.
macro_rules! permissions {
    ($($permission:ident = $name:tt,)+) => {
        /// Permission that a role can have.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
        pub enum Permission {
            $(#[serde(rename = $name)] $permission,)+
        }

        impl Permission {
            /// All permissions, in the order in which they are shown.
            pub const ALL: &[Self] = &[$(Self::$permission,)+];

            /// Returns the name, which is the same in the database and in JSON.
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

/// Set of permissions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, FromSqlRow)]
pub struct Permissions(u8);

impl Permissions {
    /// Returns whether the set contains the permission.
    pub fn contain(self, permission: Permission) -> bool {
        self.0 & (1 << permission as u8) != 0
    }

    /// Returns whether the set contains all of `others`.
    pub fn include(self, others: Self) -> bool {
        others.0 & !self.0 == 0
    }

    pub fn iter(self) -> impl Iterator<Item = Permission> {
        Permission::ALL
            .iter()
            .copied()
            .filter(move |p| self.contain(*p))
    }

    /// Returns the form in the database: the names, separated by spaces.
    pub(crate) fn to_stored(self) -> String {
        self.iter()
            .map(Permission::as_str)
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// Parses the form in the database. Unknown names are ignored: a later version may have more permissions.
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

/// Authority of an account, given by its role.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Authority {
    /// True for the built-in role `admin`, which may do more than all permissions together: it may grant scopes that
    /// begin with `keys:`.
    pub is_admin: bool,
    pub permissions: Permissions,
}

impl Authority {
    /// Returns whether this authority includes everything that `other` may do.
    pub fn covers(self, other: Self) -> bool {
        (self.is_admin || !other.is_admin) && self.permissions.include(other.permissions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_permissions_are_parsed_and_unknown_names_are_ignored() {
        for permission in Permission::ALL.iter().copied() {
            let set = Permissions::from_iter([permission]);
            assert_eq!(Permissions::from_stored(&set.to_stored()), set);
        }
        let expected = Permissions::from_iter([Permission::UsersRead]);
        assert_eq!(Permissions::from_stored("users:read root"), expected);
        assert_eq!(Permissions::from_stored(""), Permissions::default());
    }

    #[test]
    fn admin_authority_covers_more_than_all_permissions_together() {
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
