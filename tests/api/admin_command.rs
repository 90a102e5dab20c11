//! `latchkey admin`: the first admin is made on the command line.

use serde_json::json;

use crate::{
    on_both_databases,
    support::{
        TestServer,
        program::{assert_refused, run, run_in},
    },
};

on_both_databases! {
    a_grant_beside_a_running_server_holds_for_the_next_request,
    whoever_did_not_sign_up_cannot_be_made_an_admin,
}

fn a_grant_beside_a_running_server_holds_for_the_next_request(server: TestServer) {
    let ada = server.user("ada@example.com");
    ada.get("/admin/users")
        .assert_problem(403, "permission_denied");
    // Whatever the address's case.
    let granted = server.run_admin(&["grant", "ADA@example.com"]);
    assert!(granted.status.success(), "{granted:?}");
    let printed = String::from_utf8(granted.stdout).unwrap();
    assert!(
        printed.ends_with("ADA@example.com has the role admin\n"),
        "{printed}"
    );
    assert_eq!(ada.get("/admin/users").status, 200);
    assert!(
        server
            .run_admin(&["grant", "ada@example.com"])
            .status
            .success()
    );

    let bob = server.admin("bob@example.com");
    assert!(
        server
            .run_admin(&["revoke", "bob@example.com"])
            .status
            .success()
    );
    bob.get("/admin/users")
        .assert_problem(403, "permission_denied");
    // It takes back the role `admin`, and no other.
    let operator = server.operator(&ada, "olga@example.com", &["users:read"]);
    assert!(
        server
            .run_admin(&["revoke", "olga@example.com"])
            .status
            .success()
    );
    assert_eq!(operator.get("/auth/me").json()["role"], json!("olga"));
}

fn whoever_did_not_sign_up_cannot_be_made_an_admin(server: TestServer) {
    server.user("ada@example.com");
    for order in ["grant", "revoke"] {
        let refused = server.run_admin(&[order, "nobody@example.com"]);
        assert_refused(&refused, 1, &["nobody@example.com", "sign up"]);
    }
    assert_refused(
        &server.run_admin(&["grant", "nobody"]),
        2,
        &["EMAIL", "ada@example.com"],
    );
}

#[test]
fn a_database_that_is_not_there_is_not_made() {
    let folder = tempfile::tempdir().unwrap();
    let refused = run_in(folder.path(), &["admin", "grant", "ada@example.com"], &[]);
    assert_refused(&refused, 1, &["data/latchkey.db", "DATABASE_URL"]);
    assert!(!folder.path().join("data").exists());
    let nowhere = [("DATABASE_URL", "postgres://nobody:hunter22@127.0.0.1:1/x")];
    let refused = run(&["admin", "grant", "ada@example.com"], &nowhere);
    assert_refused(&refused, 1, &["PostgreSQL"]);
    assert!(!String::from_utf8_lossy(&refused.stderr).contains("hunter22"));
    assert_refused(&run(&["admin", "grant"], &[]), 2, &["EMAIL"]);
    assert_refused(&run(&["admin", "promote", "x"], &[]), 2, &["promote"]);
}
