//! Of the state alone, on a clock that the tests set.

use super::*;

const LIMITS: TurnLimits = TurnLimits {
    head_bytes: 64,
    head_time: Duration::from_secs(10),
    keep_alive: Duration::from_secs(75),
};
const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";

fn after(start: Instant, seconds: u64) -> Instant {
    start + Duration::from_secs(seconds)
}

fn begin() -> (Conversation, Instant) {
    let now = Instant::now();
    (Conversation::new(LIMITS, Stopping::default(), now), now)
}

#[test]
fn a_head_has_its_time_from_its_first_byte_on_every_request() {
    let (talk, start) = begin();
    assert_eq!(talk.overdue(after(start, 9)), None);
    assert_eq!(talk.overdue(after(start, 10)), Some(Overdue::Request));
    talk.received(GET, after(start, 5)).unwrap();
    talk.begun(Some(0));
    assert_eq!(talk.deadline(), None);
    assert_eq!(talk.overdue(after(start, 500)), None);
    assert!(!talk.answered(false, after(start, 20)));
    assert_eq!(talk.overdue(after(start, 94)), None);
    assert_eq!(talk.overdue(after(start, 95)), Some(Overdue::Request));
    for second in 30..40 {
        talk.received(b"G", after(start, second)).unwrap();
        assert_eq!(talk.overdue(after(start, second)), None);
    }
    assert_eq!(talk.overdue(after(start, 40)), Some(Overdue::Head));
}

#[test]
fn a_head_is_measured_to_its_end_however_it_is_cut() {
    let head = [
        GET,
        b"a body that is longer than any head may be, and is not measured",
    ]
    .concat();
    for cut in 1..head.len() {
        let (talk, now) = begin();
        let (first, second) = head.split_at(cut);
        assert_eq!(talk.received(first, now), Ok(()));
        assert_eq!(talk.received(second, now), Ok(()));
        assert_eq!(talk.state.borrow().turn, Turn::Whole);
    }
    for endless in [&b"\r\n"[..], b"x", b"x: y\r\n", b"\r\r\n"] {
        let (talk, now) = begin();
        let refused = (0..65).any(|_| talk.received(endless, now).is_err());
        assert!(refused, "{endless:?}");
    }
}

#[test]
fn after_a_body_that_was_not_read_to_its_end_there_is_no_further_answer_and_little_time() {
    for length in [Some(1000), None] {
        let (talk, start) = begin();
        talk.received(GET, start).unwrap();
        talk.begun(length);
        assert!(talk.answered(false, start));
        // It is not taken for a head.
        talk.received(&[b'x'; 500], start).unwrap();
        assert_eq!(talk.overdue(start), None);
        assert_eq!(talk.overdue(start + LINGER), Some(Overdue::Request));
    }
}

#[test]
fn after_a_body_that_was_read_to_its_end_a_head_is_measured_again() {
    for (length, read_by_the_app) in [(Some(8), false), (Some(8), true), (None, true)] {
        let (talk, start) = begin();
        talk.received(&[GET, b"1234"].concat(), start).unwrap();
        talk.begun(length);
        talk.received(b"5678", start).unwrap();
        if read_by_the_app {
            talk.body_read();
        }
        assert!(!talk.answered(false, start));
        assert_eq!(talk.received(b"G", start), Ok(()));
        assert_eq!(talk.overdue(after(start, 10)), Some(Overdue::Head));
        assert_eq!(talk.received(&[b'x'; 64], start), Err(HeadTooLarge));
    }
}

#[test]
fn what_came_ahead_of_an_answer_has_the_time_of_a_head_after_it() {
    let partial = [GET, b"GET /"].concat();
    for (first, second) in [(&partial[..], &b""[..]), (GET, b"GET /")] {
        let (talk, start) = begin();
        talk.received(first, start).unwrap();
        talk.begun(Some(0));
        if !second.is_empty() {
            talk.received(second, start).unwrap();
        }
        assert!(!talk.answered(false, start));
        assert_eq!(talk.overdue(after(start, 9)), None);
        assert_eq!(talk.overdue(after(start, 10)), Some(Overdue::Request));
    }
    // Of one that waited behind another, whose answer is under way when more comes.
    let (talk, start) = begin();
    talk.received(&GET.repeat(2), start).unwrap();
    talk.begun(Some(0));
    talk.answered(false, start);
    talk.received(b"GET /", start).unwrap();
    talk.begun(Some(0));
    talk.answered(false, start);
    assert_eq!(talk.overdue(after(start, 10)), Some(Overdue::Request));
    // Once that is answered too, it is as ever.
    talk.received(&GET[5..], start).unwrap();
    talk.begun(Some(0));
    talk.answered(false, start);
    assert_eq!(talk.overdue(after(start, 10)), None);
}

#[test]
fn while_the_service_stops_each_answer_is_the_last_and_what_is_idle_ends() {
    let stopping = Stopping::default();
    let start = Instant::now();
    let talk = Conversation::new(LIMITS, stopping.clone(), start);
    let fresh = Conversation::new(LIMITS, stopping.clone(), start);
    talk.received(GET, start).unwrap();
    stopping.begin();
    stopping.close_idle();
    assert!(!talk.may_end(start));
    talk.begun(Some(0));
    assert!(!talk.may_end(start));
    assert!(talk.answered(false, start));
    assert!(talk.may_end(start));
    assert!(!fresh.may_end(start));
    assert!(fresh.may_end(after(start, 1)));
}
