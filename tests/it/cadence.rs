//! Due times: table cases, and a slow reference that walks minute by minute.

use std::collections::BTreeSet;

use chrono::{DateTime, Datelike, Duration, NaiveDateTime, TimeZone, Timelike, Utc};
use chrono_tz::Tz;
use issuerwatch::cadence::{Cadence, duration_text, jitter, parse_duration};
use proptest::prelude::*;

const BERLIN: Tz = Tz::Europe__Berlin;
const NEW_YORK: Tz = Tz::America__New_York;
const LORD_HOWE: Tz = Tz::Australia__Lord_Howe;

fn at(text: &str) -> DateTime<Utc> {
    text.parse().expect("a time")
}

/// The next times as local text with offset.
fn next(cron: &str, tz: Tz, after: &str, count: usize) -> Vec<String> {
    let cadence = Cadence::cron(cron).expect(cron);
    let times = std::iter::successors(cadence.next_after(at(after), tz), |at| cadence.next_after(*at, tz));
    times.take(count).map(|at| at.with_timezone(&tz).format("%a %m-%d %H:%M %z").to_string()).collect()
}

#[test]
fn the_five_fields_mean_what_crontab_means() {
    // 2026-11-22 is a Sunday.
    let cases = [
        ("*/5 * * * *", ["Sun 11-22 10:05", "Sun 11-22 10:10"]),
        ("0 7 * * 1", ["Mon 11-23 07:00", "Mon 11-30 07:00"]),
        ("0 7 * * 0", ["Sun 11-29 07:00", "Sun 12-06 07:00"]),
        ("0 7 * * 7", ["Sun 11-29 07:00", "Sun 12-06 07:00"]),
        ("0 7 * * SUN", ["Sun 11-29 07:00", "Sun 12-06 07:00"]),
        ("0 9 * * 1-5", ["Mon 11-23 09:00", "Tue 11-24 09:00"]),
        ("0 9 * * Mon-Fri", ["Mon 11-23 09:00", "Tue 11-24 09:00"]),
        ("0 9 * * 5-7", ["Fri 11-27 09:00", "Sat 11-28 09:00"]),
        ("0 9 * * fri-sun", ["Fri 11-27 09:00", "Sat 11-28 09:00"]),
        ("0 9 * * 6-7", ["Sat 11-28 09:00", "Sun 11-29 09:00"]),
        ("0 9 * * 0-6", ["Mon 11-23 09:00", "Tue 11-24 09:00"]),
        ("0 9 * * */2", ["Tue 11-24 09:00", "Thu 11-26 09:00"]),
        ("0 9 * * 1-7/3", ["Mon 11-23 09:00", "Thu 11-26 09:00"]),
        ("0 0 13 * FRI", ["Fri 11-27 00:00", "Fri 12-04 00:00"]),
        ("0 0 1 * *", ["Tue 12-01 00:00", "Fri 01-01 00:00"]),
        ("0 0 */2 * 1", ["Mon 11-23 00:00", "Mon 12-07 00:00"]),
        ("0 0 * DEC,feb 2", ["Tue 12-01 00:00", "Tue 12-08 00:00"]),
        ("10-20/5,50 23 * * *", ["Sun 11-22 23:10", "Sun 11-22 23:15"]),
        ("0 0 31 * *", ["Thu 12-31 00:00", "Sun 01-31 00:00"]),
        ("@daily", ["Mon 11-23 00:00", "Tue 11-24 00:00"]),
        ("@Hourly", ["Sun 11-22 11:00", "Sun 11-22 12:00"]),
        ("@weekly", ["Sun 11-29 00:00", "Sun 12-06 00:00"]),
        ("@monthly", ["Tue 12-01 00:00", "Fri 01-01 00:00"]),
    ];
    for (cron, expected) in cases {
        let expected = expected.map(|time| format!("{time} +0000"));
        assert_eq!(next(cron, Tz::UTC, "2026-11-22T10:00:00Z", 2), expected, "{cron}");
    }
}

#[test]
fn a_restricted_day_and_weekday_are_alternatives_unless_one_begins_with_a_star() {
    assert_eq!(
        next("0 0 1,15 * mon", Tz::UTC, "2026-11-22T10:00:00Z", 4),
        ["Mon 11-23 00:00 +0000", "Mon 11-30 00:00 +0000", "Tue 12-01 00:00 +0000", "Mon 12-07 00:00 +0000"]
    );
    // The 30th of February never comes, but Mondays do.
    assert_eq!(next("0 0 30 2 1", Tz::UTC, "2026-11-22T10:00:00Z", 1), ["Mon 02-01 00:00 +0000"]);
}

#[test]
fn a_leap_day_is_found_years_ahead() {
    let cadence = Cadence::cron("0 0 29 2 *").expect("fires");
    assert_eq!(cadence.next_after(at("2096-03-01T00:00:00Z"), Tz::UTC), None, "2100 has none, and the calendar ends there");
    assert_eq!(cadence.next_after(at("2026-03-01T00:00:00Z"), Tz::UTC), Some(at("2028-02-29T00:00:00Z")));
}

#[test]
fn what_is_no_crontab_is_refused_with_what_to_write() {
    let cases = [
        ("", "five"),
        ("* * * *", "five"),
        ("0 */5 * * * *", "five"),
        ("60 * * * *", "0 to 59"),
        ("* 24 * * *", "0 to 23"),
        ("* * 0 * *", "1 to 31"),
        ("* * * 13 *", "1 to 12 or jan to dec"),
        ("* * * * 8", "0 to 7 or sun to sat"),
        ("* * * * monday", "sun to sat"),
        ("+5 * * * *", "0 to 59"),
        ("5/15 * * * *", "5-59/5"),
        ("*/0 * * * *", "step of 1"),
        ("*/90 * * * *", "every"),
        ("*/x * * * *", "whole number"),
        ("1,,2 * * * *", "0 to 59"),
        ("0 22-2 * * *", "two ranges"),
        ("0 0 L * *", "1 to 31"),
        ("0 0 ? * 1", "1 to 31"),
        ("0 0 * * 1#2", "0 to 7"),
        ("99999999999999999999 * * * *", "0 to 59"),
        ("@reboot", "@daily"),
        ("0 0 30 2 *", "day"),
        ("0 0 31 4,6,9,11 *", "day"),
        ("* * * * *\0", "0 to 7"),
    ];
    for (cron, hint) in cases {
        let error = Cadence::cron(cron).expect_err(cron);
        assert!(error.write.contains(hint), "{cron:?}: {error}");
    }
}

#[test]
fn a_time_that_spring_skips_fires_once_after_the_gap() {
    // Berlin, 2026-03-29: 02:00 becomes 03:00.
    assert_eq!(
        next("30 2 * * *", BERLIN, "2026-03-27T12:00:00Z", 3),
        ["Sat 03-28 02:30 +0100", "Sun 03-29 03:00 +0200", "Mon 03-30 02:30 +0200"]
    );
    assert_eq!(next("10,40 2 * * *", BERLIN, "2026-03-28T12:00:00Z", 2), ["Sun 03-29 03:00 +0200", "Mon 03-30 02:10 +0200"]);
    assert_eq!(next("0 2,3 * * *", BERLIN, "2026-03-28T12:00:00Z", 2), ["Sun 03-29 03:00 +0200", "Mon 03-30 02:00 +0200"]);
    // New York, 2026-03-08; Lord Howe, 2026-10-04: 02:00 becomes 02:30.
    assert_eq!(next("15 2 * * 0", NEW_YORK, "2026-03-07T12:00:00Z", 2), ["Sun 03-08 03:00 -0400", "Sun 03-15 02:15 -0400"]);
    assert_eq!(next("15 2 * * *", LORD_HOWE, "2026-10-03T12:00:00Z", 2), ["Sun 10-04 02:30 +1100", "Mon 10-05 02:15 +1100"]);
}

#[test]
fn a_job_with_a_star_follows_the_clock_over_the_gap() {
    assert_eq!(next("30 * * * *", BERLIN, "2026-03-29T00:00:00Z", 2), ["Sun 03-29 01:30 +0100", "Sun 03-29 03:30 +0200"]);
    assert_eq!(next("*/20 2 * * *", BERLIN, "2026-03-28T12:00:00Z", 1), ["Mon 03-30 02:00 +0200"]);
}

#[test]
fn a_time_that_autumn_repeats_fires_once_but_a_star_goes_on_each_real_hour() {
    // Berlin, 2026-10-25: 03:00 becomes 02:00.
    assert_eq!(next("30 2 * * *", BERLIN, "2026-10-24T12:00:00Z", 2), ["Sun 10-25 02:30 +0200", "Mon 10-26 02:30 +0100"]);
    assert_eq!(
        next("30 * * * *", BERLIN, "2026-10-24T23:45:00Z", 4),
        ["Sun 10-25 02:30 +0200", "Sun 10-25 02:30 +0100", "Sun 10-25 03:30 +0100", "Sun 10-25 04:30 +0100"]
    );
    // Lord Howe, 2026-04-05: 02:00 becomes 01:30.
    assert_eq!(
        next("*/15 * * * *", LORD_HOWE, "2026-04-04T14:30:00Z", 4),
        ["Sun 04-05 01:45 +1100", "Sun 04-05 01:30 +1030", "Sun 04-05 01:45 +1030", "Sun 04-05 02:00 +1030"]
    );
    // Started in the second pass, a time of the first is past.
    assert_eq!(next("45 2 * * *", BERLIN, "2026-10-25T01:10:00Z", 1), ["Mon 10-26 02:45 +0100"]);
}

#[test]
fn a_whole_skipped_day_fires_once() {
    // Samoa had no 2011-12-30.
    assert_eq!(
        next("0 12 * * *", Tz::Pacific__Apia, "2011-12-29T12:00:00Z", 3),
        ["Thu 12-29 12:00 -1000", "Sat 12-31 00:00 +1400", "Sat 12-31 12:00 +1400"]
    );
}

#[test]
fn an_interval_is_counted_from_the_last_time() {
    let cadence = Cadence::every(Duration::minutes(5));
    assert_eq!(cadence.next_after(at("2026-11-22T10:00:03Z"), BERLIN), Some(at("2026-11-22T10:05:03Z")));
    assert_eq!(cadence.interval_hint(BERLIN, at("2026-11-22T10:00:03Z")), Duration::minutes(5));
    assert_eq!(cadence.to_string(), "every 5m");
    assert_eq!(Cadence::every(Duration::zero()), Cadence::every(Duration::seconds(1)), "never a busy loop");
    assert_eq!(cadence.next_after(DateTime::<Utc>::MAX_UTC, BERLIN), None);
}

#[test]
fn the_hint_is_the_typical_spacing() {
    let hint = |cron| Cadence::cron(cron).expect(cron).interval_hint(BERLIN, at("2026-11-22T10:00:00Z"));
    assert_eq!(hint("*/5 * * * *"), Duration::minutes(5));
    assert_eq!(hint("0 9 * * 1-5"), Duration::days(1));
    assert_eq!(hint("0 7 * * 1"), Duration::days(7));
    assert_eq!(hint("0 0 29 2 *"), Duration::days(4 * 365 + 1));
}

#[test]
fn jitter_is_stable_bounded_and_spread() {
    assert_eq!(jitter("acme", Duration::hours(1)), jitter("acme", Duration::hours(1)));
    let minute: BTreeSet<_> = (0..200).map(|n| jitter(&format!("issuer-{n}"), Duration::minutes(1))).collect();
    assert!(minute.len() > 150, "spread over six seconds");
    assert!(minute.iter().all(|delay| *delay <= Duration::seconds(6) && *delay >= Duration::zero()));
    assert!((0..200).all(|n| jitter(&n.to_string(), Duration::days(1)) <= Duration::seconds(30)));
    assert_eq!(jitter("acme", Duration::zero()), Duration::zero());
}

#[test]
fn durations_are_read_as_written_and_written_as_read() {
    for (text, seconds) in [("90s", 90), ("5m", 300), ("4h", 14_400), ("365d", 31_536_000), ("2w", 1_209_600), ("0s", 0)] {
        assert_eq!(parse_duration(text).expect(text), Duration::seconds(seconds));
    }
    for text in ["", "5", "m", "5 m", "-5m", "5M", "1h30m", "1.5h", "99999999999999999999s", "9999999999999999w", "40000d"] {
        parse_duration(text).expect_err(text);
    }
    assert_eq!(["90s", "5m", "4h", "365d"].map(|text| duration_text(parse_duration(text).expect(text))), ["90s", "5m", "4h", "365d"]);
    assert_eq!(duration_text(Duration::weeks(2)), "14d");
    assert_eq!(duration_text(Duration::zero()), "0s");
}

/// A crontab line as sets, and the same as text.
#[derive(Debug, Clone)]
struct Line {
    minutes: BTreeSet<u32>,
    hours: BTreeSet<u32>,
    days: BTreeSet<u32>,
    months: BTreeSet<u32>,
    /// Sunday 0.
    weekdays: BTreeSet<u32>,
    /// Which of minute, hour, day and weekday are stars.
    stars: [bool; 4],
}

impl Line {
    fn text(&self) -> String {
        let list = |set: &BTreeSet<u32>| set.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
        let field = |star: bool, set: &BTreeSet<u32>| if star { "*".to_owned() } else { list(set) };
        format!(
            "{} {} {} {} {}",
            field(self.stars[0], &self.minutes),
            field(self.stars[1], &self.hours),
            field(self.stars[2], &self.days),
            list(&self.months),
            field(self.stars[3], &self.weekdays)
        )
    }

    fn matches(&self, wall: NaiveDateTime) -> bool {
        let [minute, hour, day, weekday] = self.stars;
        let on_day = self.days.contains(&wall.day());
        let on_weekday = self.weekdays.contains(&wall.weekday().num_days_from_sunday());
        let date = match (day, weekday) {
            (true, true) => true,
            (false, true) => on_day,
            (true, false) => on_weekday,
            (false, false) => on_day || on_weekday,
        };
        date && self.months.contains(&wall.month())
            && (minute || self.minutes.contains(&wall.minute()))
            && (hour || self.hours.contains(&wall.hour()))
    }

    /// Vixie's cron as a walk: what is due in the minutes of (after, until].
    fn due(&self, after: DateTime<Utc>, until: DateTime<Utc>, tz: Tz) -> Vec<DateTime<Utc>> {
        let wall = |at: DateTime<Utc>| at.with_timezone(&tz).naive_local();
        let fixed = !self.stars[0] && !self.stars[1];
        let mut due = Vec::new();
        // A day earlier, so that a repeated hour is known as such.
        let mut now = after - Duration::days(1);
        let mut furthest = wall(now);
        while now < until {
            now += Duration::minutes(1);
            let fires = if fixed {
                // Every wall-clock minute up to now that the clock had not shown before: more than one at the end of a gap.
                let new = std::iter::successors(Some(furthest + Duration::minutes(1)), |wall| Some(*wall + Duration::minutes(1)));
                new.take_while(|minute| *minute <= wall(now)).any(|minute| self.matches(minute))
            } else {
                self.matches(wall(now))
            };
            furthest = furthest.max(wall(now));
            if fires && now > after {
                due.push(now);
            }
        }
        due
    }
}

fn values(low: u32, high: u32, most: usize) -> impl Strategy<Value = BTreeSet<u32>> {
    prop::collection::btree_set(low..=high, 1..=most)
}

fn line() -> impl Strategy<Value = Line> {
    // Hours near the changes, so that they are met often.
    let hours = prop_oneof![values(0, 4, 4), values(0, 23, 6)];
    (values(0, 59, 4), hours, values(1, 31, 12), values(1, 12, 12), values(0, 6, 5), any::<[bool; 4]>())
        .prop_map(|(minutes, hours, days, months, weekdays, stars)| Line { minutes, hours, days, months, weekdays, stars })
}

/// Three days round a change of the clock, or anywhere in a year.
fn start() -> impl Strategy<Value = (Tz, DateTime<Utc>)> {
    let zones = [BERLIN, NEW_YORK, LORD_HOWE, Tz::UTC, Tz::America__Sao_Paulo, Tz::Africa__Casablanca, Tz::Asia__Kathmandu];
    let changes =
        ["2026-03-08", "2026-03-28", "2026-10-24", "2026-11-01", "2026-04-04", "2026-10-03", "2018-11-03", "2026-02-14", "2026-03-21"];
    let near = (prop::sample::select(changes.to_vec()), 0..2_880_i64)
        .prop_map(|(day, minute)| at(&format!("{day}T00:00:00Z")) + Duration::minutes(minute));
    let any = (0..525_600_i64).prop_map(|minute| at("2026-01-01T00:00:00Z") + Duration::minutes(minute));
    (prop::sample::select(zones.to_vec()), prop_oneof![3 => near, 1 => any])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn due_times_equal_those_of_a_minute_by_minute_walk(line in line(), (tz, after) in start(), seconds in 0..60_i64) {
        // A line without any date is refused; the rest must agree.
        let Ok(cadence) = Cadence::cron(&line.text()) else { return Ok(()) };
        let until = after + Duration::days(3);
        let expected: Vec<_> = line.due(after, until, tz).into_iter().take(40).collect();
        // In the middle of a minute the same ones are ahead.
        let first = cadence.next_after(after + Duration::seconds(seconds), tz);
        let times = std::iter::successors(first, |at| cadence.next_after(*at, tz));
        let found: Vec<_> = times.take_while(|at| *at <= until).take(40).collect();
        prop_assert_eq!(found, expected, "{} in {}", line.text(), tz);
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "[-*/,0-9a-zA-Z@ #\\u{80}-\\u{ff}]{0,30}") {
        let _ = Cadence::cron(&text);
        let _ = parse_duration(&text);
    }
}

#[test]
fn the_reference_itself_knows_the_gap() {
    let line = Line {
        minutes: [30].into(),
        hours: [2].into(),
        days: (1..=31).collect(),
        months: (1..=12).collect(),
        weekdays: (0..=6).collect(),
        stars: [false, false, true, true],
    };
    let found = line.due(at("2026-03-28T12:00:00Z"), at("2026-03-30T12:00:00Z"), BERLIN);
    let expected = [BERLIN.with_ymd_and_hms(2026, 3, 29, 3, 0, 0), BERLIN.with_ymd_and_hms(2026, 3, 30, 2, 30, 0)];
    assert_eq!(found, expected.map(|at| at.single().expect("one").to_utc()));
}
