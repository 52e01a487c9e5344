//! Durations as people say them.

use chrono::Duration;

/// `90 s`, `12 min`, `25 h`, `3 d`: one unit, cut off.
#[must_use]
pub fn spoken(duration: Duration) -> String {
    let seconds = duration.num_seconds();
    match seconds {
        ..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}
