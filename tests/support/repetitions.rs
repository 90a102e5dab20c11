//! Number of repetitions in tests that take long.

/// Returns `full` if `TEST_FULL` is `true`, as `.ci/run full` sets it, else `short`.
pub(crate) fn repetitions<N>(short: N, full: N) -> N {
    if std::env::var_os("TEST_FULL").is_some_and(|value| value == "true") {
        full
    } else {
        short
    }
}
