//! Of the state alone, on a clock that the tests set.

use super::*;

const LIMITS: ConnectionLimits = ConnectionLimits {
    head_bytes: 64,
    body_bytes: 64,
    head_time: Duration::from_secs(10),
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

fn begin() -> (ConnectionState, Instant) {
    let now = Instant::now();
    (ConnectionState::new(LIMITS, Shutdown::default(), now), now)
}

fn ask(connection: &ConnectionState, request: Request, now: Instant) {
    connection.head_arrives(now);
    connection.head_arrived(request);
    assert!(connection.is_before_the_app());
    connection.begun();
    assert!(!connection.is_before_the_app() && !connection.takes_requests());
}

#[test]
fn header_section_has_its_time_from_its_first_byte_on_every_request() {
    let (connection, start) = begin();
    assert_eq!(connection.overdue(after(start, 9)), None);
    let overdue = connection.overdue(after(start, 10));
    assert_eq!(overdue, Some(Overdue::Request));
    ask(&connection, GET, after(start, 5));
    assert_eq!(connection.deadline(), None);
    assert_eq!(connection.overdue(after(start, 500)), None);
    assert!(!connection.answered(false, after(start, 20)));
    assert_eq!(connection.overdue(after(start, 94)), None);
    let overdue = connection.overdue(after(start, 95));
    assert_eq!(overdue, Some(Overdue::Request));
    for second in 30..40 {
        connection.head_arrives(after(start, second));
        assert_eq!(connection.overdue(after(start, second)), None);
    }
    let overdue = connection.overdue(after(start, 40));
    assert_eq!(overdue, Some(Overdue::Head));
    connection.head_arrived(GET);
    assert_eq!(connection.deadline(), Some((after(start, 40), false)));
}

#[test]
fn response_that_had_to_be_waited_for_is_followed_by_the_whole_keep_alive_time() {
    let (connection, start) = begin();
    ask(&connection, GET, start);
    assert!(!connection.answered(false, start));
    connection.response_taken(after(start, 50));
    assert_eq!(connection.deadline(), Some((after(start, 125), true)));
}

#[test]
fn response_before_the_whole_body_is_the_last_one_and_little_time_is_left() {
    let (connection, start) = begin();
    ask(&connection, POST, start);
    connection.body_arrives(false);
    assert!(connection.answered(false, start));
    assert!(connection.is_over() && !connection.takes_requests());
    assert_eq!(connection.overdue(start), None);
    let overdue = connection.overdue(start + LINGER);
    assert_eq!(overdue, Some(Overdue::Request));
}

#[test]
fn response_after_the_whole_body_is_not_the_last_one_whether_or_not_it_was_read() {
    for is_read in [false, true] {
        let (connection, start) = begin();
        ask(&connection, POST, start);
        if is_read {
            connection.body_wanted();
        }
        connection.body_arrives(true);
        assert_eq!(connection.has_unread_body(), !is_read);
        assert!(!connection.answered(false, start));
        assert!(connection.takes_requests());
    }
}

#[test]
fn response_to_the_last_request_is_the_last_one() {
    let (connection, start) = begin();
    let last = Request {
        is_last: true,
        ..GET
    };
    ask(&connection, last, start);
    assert!(!connection.is_over());
    assert!(connection.answered(false, start));
    assert!(connection.is_over());
}

#[test]
fn body_is_asked_for_once_and_only_if_it_is_wanted_and_nothing_of_it_has_come() {
    let (connection, start) = begin();
    ask(&connection, POST, start);
    assert!(!connection.takes_continue());
    connection.body_wanted();
    assert!(connection.takes_continue());
    assert!(!connection.takes_continue());

    let (connection, start) = begin();
    ask(&connection, POST, start);
    connection.body_arrives(false);
    connection.body_wanted();
    assert!(!connection.takes_continue());
}

#[test]
fn while_the_service_shuts_down_each_response_is_the_last_and_idle_connections_end() {
    let stopping = Shutdown::default();
    let start = Instant::now();
    let connection = ConnectionState::new(LIMITS, stopping.clone(), start);
    let fresh = ConnectionState::new(LIMITS, stopping.clone(), start);
    connection.head_arrives(start);
    stopping.begin();
    stopping.close_idle();
    assert!(!connection.may_end(start));
    connection.head_arrived(GET);
    connection.begun();
    assert!(!connection.may_end(start));
    assert!(connection.answered(false, start));
    assert!(connection.may_end(start));
    assert!(!fresh.may_end(start));
    assert!(fresh.may_end(after(start, 1)));
}
