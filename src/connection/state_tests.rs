//! Tests of the connection state, with times that the tests choose.

use super::*;

const LIMITS: ConnectionLimits = ConnectionLimits {
    head_bytes: 64,
    body_bytes: 64,
    header_timeout: Duration::from_secs(10),
    keep_alive: Duration::from_secs(75),
};
const GET: Request = Request {
    has_body: false,
    is_last: false,
    expects_continue: false,
};
const POST: Request = Request {
    has_body: true,
    is_last: false,
    expects_continue: true,
};

fn after(start: Instant, seconds: u64) -> Instant {
    start + Duration::from_secs(seconds)
}

fn open() -> (ConnectionState, Instant) {
    let now = Instant::now();
    (ConnectionState::new(LIMITS, Shutdown::default(), now), now)
}

fn start_request(connection: &ConnectionState, request: Request, now: Instant) {
    connection.header_section_started(now);
    connection.header_section_completed(request);
    assert!(connection.awaits_app());
    connection.app_started();
    assert!(!connection.awaits_app() && !connection.accepts_requests());
}

#[test]
fn deadline_of_a_header_section_starts_with_its_first_byte_for_every_request() {
    let (connection, start) = open();
    assert_eq!(connection.overdue(after(start, 9)), None);
    let overdue = connection.overdue(after(start, 10));
    assert_eq!(overdue, Some(Overdue::Request));
    start_request(&connection, GET, after(start, 5));
    assert_eq!(connection.deadline(), None);
    assert_eq!(connection.overdue(after(start, 500)), None);
    assert!(!connection.responded(false, after(start, 20)));
    assert_eq!(connection.overdue(after(start, 94)), None);
    let overdue = connection.overdue(after(start, 95));
    assert_eq!(overdue, Some(Overdue::Request));
    for second in 30..40 {
        connection.header_section_started(after(start, second));
        assert_eq!(connection.overdue(after(start, second)), None);
    }
    let overdue = connection.overdue(after(start, 40));
    assert_eq!(overdue, Some(Overdue::Head));
    connection.header_section_completed(GET);
    assert_eq!(connection.deadline(), Some((after(start, 40), false)));
}

#[test]
fn keep_alive_time_starts_when_the_client_has_received_the_response() {
    let (connection, start) = open();
    start_request(&connection, GET, start);
    assert!(!connection.responded(false, start));
    connection.response_received(after(start, 50));
    assert_eq!(connection.deadline(), Some((after(start, 125), true)));
}

#[test]
fn response_before_the_complete_body_is_the_last_one_and_leaves_the_linger_time() {
    let (connection, start) = open();
    start_request(&connection, POST, start);
    connection.body_received(false);
    assert!(connection.responded(false, start));
    assert!(connection.is_finished() && !connection.accepts_requests());
    assert_eq!(connection.overdue(start), None);
    let overdue = connection.overdue(start + LINGER);
    assert_eq!(overdue, Some(Overdue::Request));
}

#[test]
fn response_after_the_complete_body_keeps_the_connection_whether_or_not_it_was_read() {
    for is_read in [false, true] {
        let (connection, start) = open();
        start_request(&connection, POST, start);
        if is_read {
            connection.body_requested();
        }
        connection.body_received(true);
        assert_eq!(connection.has_unread_body(), !is_read);
        assert!(!connection.responded(false, start));
        assert!(connection.accepts_requests());
    }
}

#[test]
fn response_to_a_request_with_connection_close_is_the_last_one() {
    let (connection, start) = open();
    let last = Request {
        is_last: true,
        ..GET
    };
    start_request(&connection, last, start);
    assert!(!connection.is_finished());
    assert!(connection.responded(false, start));
    assert!(connection.is_finished());
}

#[test]
fn continue_is_sent_once_and_only_if_the_app_wants_a_body_that_has_not_started() {
    let (connection, start) = open();
    start_request(&connection, POST, start);
    assert!(!connection.take_continue());
    connection.body_requested();
    assert!(connection.take_continue());
    assert!(!connection.take_continue());

    let (connection, start) = open();
    start_request(&connection, POST, start);
    connection.body_received(false);
    connection.body_requested();
    assert!(!connection.take_continue());
}

#[test]
fn shutdown_makes_each_response_the_last_and_closes_idle_connections() {
    let shutdown = Shutdown::default();
    let start = Instant::now();
    let connection = ConnectionState::new(LIMITS, shutdown.clone(), start);
    let fresh = ConnectionState::new(LIMITS, shutdown.clone(), start);
    connection.header_section_started(start);
    shutdown.begin();
    shutdown.close_idle();
    assert!(!connection.may_close(start));
    connection.header_section_completed(GET);
    connection.app_started();
    assert!(!connection.may_close(start));
    assert!(connection.responded(false, start));
    assert!(connection.may_close(start));
    assert!(!fresh.may_close(start));
    assert!(fresh.may_close(after(start, 1)));
}
