//! The number of repetitions in tests that take long.

/// `short`, or `full` where `TEST_FULL` is `true`, as `.ci/run full` sets it.
pub(crate) fn repetitions<N>(short: N, full: N) -> N {
    match std::env::var_os("TEST_FULL").is_some_and(|value| value == "true") {
        true => full,
        false => short,
    }
}
