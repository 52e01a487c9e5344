//! Times as people write them: RFC 3339, a date, or a duration ago (interface.md, "Commands").

use chrono::{DateTime, Duration, NaiveDate, NaiveTime, TimeZone, Utc};
use chrono_tz::Tz;

/// The instant a text means: `2026-01-01T00:00:00Z`, `2026-01-01` (midnight in `tz`), or `30d`, `12h`, `15m`, `90s` before `now`.
#[must_use]
pub fn moment(text: &str, now: DateTime<Utc>, tz: Tz) -> Option<DateTime<Utc>> {
    if let Ok(at) = DateTime::parse_from_rfc3339(text) {
        return Some(at.to_utc());
    }
    if let Ok(date) = text.parse::<NaiveDate>() {
        // Where clocks skip midnight the day begins at the first instant there is.
        return (0..24)
            .find_map(|hour| tz.from_local_datetime(&date.and_time(NaiveTime::from_hms_opt(hour, 0, 0)?)).earliest())
            .map(|at| at.to_utc());
    }
    now.checked_sub_signed(ago(text)?)
}

fn ago(text: &str) -> Option<Duration> {
    let unit = text.chars().last()?;
    let count = text[..text.len() - unit.len_utf8()].parse::<u32>().ok()?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        'w' => 604_800,
        _ => return None,
    };
    Duration::try_seconds(i64::from(count) * seconds)
}

#[cfg(test)]
mod tests {
    use super::moment;
    use crate::model::timestamp;

    #[test]
    fn the_three_notations_mean_what_people_expect() {
        let now = "2026-03-10T12:00:00Z".parse().unwrap();
        let shown = |text: &str, tz| moment(text, now, tz).map(timestamp);
        assert_eq!(shown("2026-01-01T01:00:00+01:00", chrono_tz::UTC).as_deref(), Some("2026-01-01T00:00:00Z"));
        assert_eq!(shown("2026-01-01", chrono_tz::Europe::Berlin).as_deref(), Some("2025-12-31T23:00:00Z"));
        assert_eq!(shown("36h", chrono_tz::UTC).as_deref(), Some("2026-03-09T00:00:00Z"));
        for nonsense in ["", "d", "yesterday", "-5d", "5", "5é", "99999999999999999999d"] {
            assert_eq!(shown(nonsense, chrono_tz::UTC), None, "{nonsense}");
        }
    }
}
