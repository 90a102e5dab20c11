//! Tables of both databases, for Diesel. Only `models` uses them.

diesel::table! {
    users (id) {
        id -> Binary,
        email -> Text,
        email_key -> Text,
        password_hash -> Text,
        role -> Text,
        session_version -> BigInt,
        created_at -> BigInt,
        active -> Bool,
    }
}

diesel::table! {
    roles (id) {
        id -> Binary,
        name -> Text,
        permissions -> Text,
        built_in -> Bool,
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
        name_folded -> Nullable<Text>,
        enabled -> Bool,
        scopes -> Text,
        ip_allowlist -> Text,
        metadata -> Text,
        expires_at -> Nullable<BigInt>,
        last_used_at -> Nullable<BigInt>,
        rotated_from -> Nullable<Binary>,
        lineage_id -> Binary,
        rate_limit -> Nullable<BigInt>,
        rate_window_seconds -> Nullable<BigInt>,
        quota_limit -> Nullable<BigInt>,
        quota_period -> Nullable<Text>,
    }
}

diesel::table! {
    audit_log (id) {
        id -> Binary,
        at -> BigInt,
        actor_id -> Nullable<Binary>,
        owner_id -> Nullable<Binary>,
        action -> Text,
        target_type -> Text,
        target_id -> Nullable<Text>,
        ip -> Nullable<Text>,
        request_id -> Nullable<Text>,
        details -> Text,
    }
}

diesel::table! {
    quota_usage (lineage_id, period, period_start) {
        lineage_id -> Binary,
        period -> Text,
        period_start -> BigInt,
        used -> BigInt,
    }
}

diesel::table! {
    usage_hours (subject_id, hour_start, outcome) {
        subject_id -> Binary,
        hour_start -> BigInt,
        outcome -> Text,
        count -> BigInt,
    }
}

diesel::table! {
    usage_days (subject_id, day_start, outcome) {
        subject_id -> Binary,
        day_start -> BigInt,
        outcome -> Text,
        count -> BigInt,
    }
}

diesel::table! {
    usage_writers (id) {
        id -> Binary,
        batch -> BigInt,
        written_at -> BigInt,
    }
}

diesel::table! {
    usage_rollup (id) {
        id -> BigInt,
        until -> BigInt,
        subject_id -> Nullable<Binary>,
    }
}

// The tables below exist only on PostgreSQL.

diesel::table! {
    revision_clock (id) {
        id -> BigInt,
        revision -> BigInt,
        tag -> BigInt,
    }
}

diesel::table! {
    key_changes (revision, position) {
        revision -> BigInt,
        position -> BigInt,
        tag -> BigInt,
        digest -> Nullable<Binary>,
        user_id -> Nullable<Binary>,
    }
}

diesel::table! {
    instances (id) {
        id -> Binary,
        acked_revision -> BigInt,
        renewals -> BigInt,
        lease_micros -> BigInt,
    }
}

diesel::joinable!(api_keys -> users (user_id));
diesel::allow_tables_to_appear_in_same_query!(api_keys, users);
diesel::allow_tables_to_appear_in_same_query!(roles, users);
diesel::allow_tables_to_appear_in_same_query!(revision_clock, key_changes);
