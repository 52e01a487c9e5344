//! The few facts that are read from the process environment besides secrets.

/// Who is logged in, for `--by`.
#[must_use]
pub fn login_name() -> Option<String> {
    ["LOGNAME", "USER"].into_iter().find_map(variable)
}

/// What the log shows (`ISSUERWATCH_LOG`), in the syntax of tracing's filters.
#[must_use]
pub fn log_filter() -> Option<String> {
    variable("ISSUERWATCH_LOG")
}

#[expect(clippy::disallowed_methods, reason = "the environment is read in config/")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
