//! Interrupts SQLite at the thread's [`deadline`].
//!
//! Diesel does not show the handle of its connections, on which SQLite's progress handler is set. So an
//! extension is registered that SQLite runs on each connection that the process opens. The handler acts
//! only on threads that have a deadline.

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

/// Instructions of SQLite's virtual machine between two looks at the clock: well below a millisecond.
const INSTRUCTIONS: c_int = 1000;

/// Makes every connection that is opened from now on heed the deadline of the thread that uses it. Such
/// a statement fails as interrupted, and the transaction that it belongs to can be rolled back.
pub(super) fn heed_deadlines() {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| {
        // SAFETY: the function lives as long as the process and has the signature that SQLite calls. The
        // call fails only for want of memory; statements then run to their end.
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

/// Anything but 0 interrupts the statement.
unsafe extern "C" fn is_late(_: *mut c_void) -> c_int {
    let is_late = deadline::current().is_some_and(|deadline| Instant::now() >= deadline);
    c_int::from(is_late)
}
