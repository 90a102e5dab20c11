//! An orderly start and an orderly stop.

use crate::support::{Program, program::QUICK};

#[test]
fn a_service_that_was_asked_to_stop_has_ended_well() {
    let folder = tempfile::tempdir().unwrap();
    let mut program = Program::start(folder.path(), &QUICK);
    program.signal("TERM");
    assert!(program.wait().success());
}

/// As `systemctl reload` does, whether or not there is a certificate.
#[test]
fn told_to_reload_what_it_does_not_have_it_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let program = Program::start(folder.path(), &QUICK);
    program.signal("HUP");
    program.await_line("SIGHUP");
    assert_eq!(program.client().get("/health/ready").status, 200);
    program.stop();
}
