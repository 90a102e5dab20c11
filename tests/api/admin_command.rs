//! `latchkey admin`: grants and revokes the role `admin` on the command line.

use serde_json::json;

use crate::{
    on_both_databases,
    support::{
        TestServer,
        program::{assert_fails_with_one_line, run, run_in},
    },
};

on_both_databases! {
    admin_grant_beside_a_running_server_applies_to_the_next_request,
    admin_grant_and_revoke_for_an_unknown_email_fail,
}

fn admin_grant_beside_a_running_server_applies_to_the_next_request(server: TestServer) {
    let ada = server.user("ada@example.com");
    ada.get("/admin/users")
        .assert_problem(403, "permission_denied");
    // The case of the address does not matter.
    let output = server.run_admin(&["grant", "ADA@example.com"]);
    assert!(output.status.success(), "{output:?}");
    let printed = String::from_utf8(output.stdout).unwrap();
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
    // `revoke` removes the role `admin` and no other role.
    let operator = server.operator(&ada, "olga@example.com", &["users:read"]);
    assert!(
        server
            .run_admin(&["revoke", "olga@example.com"])
            .status
            .success()
    );
    assert_eq!(operator.get("/auth/me").json()["role"], json!("olga"));
}

fn admin_grant_and_revoke_for_an_unknown_email_fail(server: TestServer) {
    server.user("ada@example.com");
    for subcommand in ["grant", "revoke"] {
        let output = server.run_admin(&[subcommand, "nobody@example.com"]);
        assert_fails_with_one_line(&output, 1, &["nobody@example.com", "sign up"]);
    }
    assert_fails_with_one_line(
        &server.run_admin(&["grant", "nobody"]),
        2,
        &["EMAIL", "ada@example.com"],
    );
}

#[test]
fn admin_command_without_a_database_fails_and_creates_none() {
    let folder = tempfile::tempdir().unwrap();
    let output = run_in(folder.path(), &["admin", "grant", "ada@example.com"], &[]);
    assert_fails_with_one_line(&output, 1, &["data/latchkey.db", "DATABASE_URL"]);
    assert!(!folder.path().join("data").exists());
    let unreachable = [("DATABASE_URL", "postgres://nobody:hunter22@127.0.0.1:1/x")];
    let output = run(&["admin", "grant", "ada@example.com"], &unreachable);
    assert_fails_with_one_line(&output, 1, &["PostgreSQL"]);
    assert!(!String::from_utf8_lossy(&output.stderr).contains("hunter22"));
    assert_fails_with_one_line(&run(&["admin", "grant"], &[]), 2, &["EMAIL"]);
    assert_fails_with_one_line(&run(&["admin", "promote", "x"], &[]), 2, &["promote"]);
}
