//! Interrupts SQLite at the thread's [`deadline`].
//!
//! SQLite's progress handler is set on the handle of a connection, which Diesel does not expose. So this module
//! registers an extension, which SQLite runs on each connection that the process opens. The handler interrupts
//! only threads that have a deadline.

#![expect(unsafe_code, reason = "SQLite is a C library")]

use std::{
    ffi::{c_char, c_int, c_void},
    ptr,
    sync::Once,
    time::Instant,
};

use libsqlite3_sys::{
    SQLITE_OK, sqlite3, sqlite3_api_routines, sqlite3_auto_extension, sqlite3_progress_handler,
};

use super::deadline;

/// Number of instructions of SQLite's virtual machine between two checks of the clock: well below a millisecond.
const INSTRUCTIONS: c_int = 1000;

/// Makes every connection opened from now on interrupt its statement at the deadline of the thread that uses it.
///
/// The statement fails as interrupted. Its transaction can be rolled back.
pub(super) fn heed_deadlines() {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| {
        // SAFETY: the function lives as long as the process and has the signature that SQLite calls. The
        // call fails only if memory runs out; then statements are not interrupted.
        unsafe { sqlite3_auto_extension(Some(set_progress_handler)) };
    });
}

unsafe extern "C" fn set_progress_handler(
    connection: *mut sqlite3,
    _: *mut *mut c_char,
    _: *const sqlite3_api_routines,
) -> c_int {
    // SAFETY: SQLite calls this with a connection that it is opening. The handler takes no argument and
    // lives as long as the process.
    unsafe { sqlite3_progress_handler(connection, INSTRUCTIONS, Some(is_late), ptr::null_mut()) };
    SQLITE_OK
}

/// Returns a value other than 0, which interrupts the statement, after the thread's deadline.
unsafe extern "C" fn is_late(_: *mut c_void) -> c_int {
    let is_late = deadline::current().is_some_and(|deadline| Instant::now() >= deadline);
    c_int::from(is_late)
}
