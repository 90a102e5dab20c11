//! The tables, as both databases have them. Only `models` name these.

diesel::table! {
    users (id) {
        id -> Binary,
        email -> Text,
        email_key -> Text,
        password_hash -> Text,
        role -> Text,
        session_version -> BigInt,
        created_at -> BigInt,
    }
}

diesel::table! {
    api_keys (id) {
        id -> Binary,
        user_id -> Binary,
        name -> Nullable<Text>,
        environment -> Text,
        prefix -> Text,
        digest -> Binary,
        created_at -> BigInt,
        revoked_at -> Nullable<BigInt>,
    }
}

diesel::joinable!(api_keys -> users (user_id));
diesel::allow_tables_to_appear_in_same_query!(api_keys, users);
