//! JSON object that is stored as text, with its members in their original order.

use diesel::{deserialize::FromSqlRow, expression::AsExpression};
use serde::{Serialize, Serializer, ser};
use serde_json::{Map, Value};

/// JSON object as text without whitespace, as in the database.
#[derive(Debug, Clone, PartialEq, Eq, AsExpression, FromSqlRow)]
#[diesel(sql_type = diesel::sql_types::Text)]
pub struct JsonObject(pub(crate) String);

impl JsonObject {
    /// Returns the length of the text, in bytes.
    pub fn size(&self) -> usize {
        self.0.len()
    }

    /// Parses the text into the members of the object.
    pub fn members(&self) -> serde_json::Result<Map<String, Value>> {
        serde_json::from_str(&self.0)
    }
}

impl Default for JsonObject {
    fn default() -> Self {
        Self("{}".to_owned())
    }
}

impl From<Map<String, Value>> for JsonObject {
    fn from(members: Map<String, Value>) -> Self {
        Self(Value::Object(members).to_string())
    }
}

impl Serialize for JsonObject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let members = self.members().map_err(ser::Error::custom)?;
        members.serialize(serializer)
    }
}
