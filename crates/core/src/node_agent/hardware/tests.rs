use super::*;
use crate::time::WallTime;

fn now(look: u64) -> Now {
    let at = Timestamp::default() + LOOK_EVERY * u32::try_from(look).unwrap();
    Now { at, wall: WallTime(i64::try_from(look).unwrap()) }
}

fn reading(sign: Sign, part: &str, value: u64) -> Reading {
    Reading { sign, part: part.to_owned(), value, limit: None }
}

fn hardware(limits: Limits) -> Hardware {
    Hardware::new(limits, Timestamp::default())
}

/// Look by look: `!` where something is a problem.
#[track_caller]
fn check(sign: Sign, limits: Limits, values: &[u64], expect: &str) {
    let mut hardware = hardware(limits);
    let seen: String = values
        .iter()
        .zip(0..)
        .map(|(value, look)| {
            let _ = hardware.looked(now(look), vec![reading(sign, "part", *value)]);
            if hardware.problems().is_empty() { '.' } else { '!' }
        })
        .collect();
    assert_eq!(seen, expect, "{sign:?}");
}

#[test]
fn a_level_beyond_its_limit_is_a_problem_until_it_was_well_for_five_looks() {
    check(Sign::FlashWear, Limits::default(), &[80, 81, 80, 80, 80, 80, 80, 80], ".!!!!!..");
    check(Sign::Battery, Limits::default(), &[20, 19, 18, 30, 30, 30, 30, 30], ".!!!!!!.");
    check(Sign::FileSystemErrors, Limits::default(), &[1], "!");
}

#[test]
fn a_sign_that_trembles_does_not_flap() {
    check(Sign::VoltageLow, Limits::default(), &[1, 0, 1, 0, 0, 0, 0, 1, 0, 0], "!!!!!!!!!!");
    // being slow for a moment is usual where nothing is wrong
    check(Sign::Slowed, Limits::default(), &[1, 0, 1, 0, 1, 1], ".....!");
}

#[test]
fn what_a_counter_has_counted_before_is_no_news_and_what_it_counts_is() {
    check(Sign::EccCorrected, Limits::default(), &[5000, 5000, 5010, 5011], "...!");
    check(Sign::EccUncorrected, Limits::default(), &[3, 3, 4], "..!");
    check(Sign::DiskErrors, Limits::default(), &[0, 6], ".!");
}

#[test]
fn a_counter_that_begins_again_counts_from_there() {
    check(Sign::DiskErrors, Limits::default(), &[900, 0, 5, 6], "...!");
    check(Sign::DiskErrors, Limits::default(), &[u64::MAX, 0, u64::MAX], "..!");
}

#[test]
fn what_a_counter_counted_is_forgotten_after_an_hour() {
    let mut values = vec![0, 6];
    values.resize(61, 6);
    values.extend([6; 6]);
    let expect = format!(".{}{}", "!".repeat(64), "..");
    check(Sign::DiskErrors, Limits::default(), &values, &expect);
    // a few now and then never come together
    let slow: Vec<u64> = (0..600).map(|look| look / 15).collect();
    check(Sign::DiskErrors, Limits::default(), &slow, &".".repeat(600));
}

#[test]
fn what_has_no_limit_is_shown_and_never_judged() {
    let limits = Limits { flash_life_percent: None, ..Limits::default() };
    check(Sign::FlashWear, limits, &[110, 110], "..");
    check(Sign::ClockCap, Limits::default(), &[10, 10, 10], "...");
    check(Sign::Heat, Limits::default(), &[150, 150], "..");
    let limits = Limits { ignore: vec!["part".to_owned()], ..Limits::default() };
    check(Sign::VoltageLow, limits, &[1, 1], "..");
}

#[test]
fn each_problem_has_an_event_at_its_begin_and_one_at_its_end() {
    let mut hardware = hardware(Limits::default());
    let heat = |value| Reading { limit: Some(95), ..reading(Sign::Heat, "cpu-thermal", value) };
    let mut told = Vec::new();
    for (look, value) in [95, 96, 97, 80, 80, 80, 80, 80, 80].into_iter().zip(0..) {
        for change in hardware.looked(now(value), vec![heat(look)]) {
            told.push((value, change.severity, change.kind, change.message));
        }
    }
    let expect = [
        (
            1,
            Severity::Critical,
            EventKind::HardwareProblem,
            "temperature of cpu-thermal: 96 °C (limit <= 95 °C)".to_owned(),
        ),
        (
            7,
            Severity::Info,
            EventKind::HardwareProblemOver,
            "temperature of cpu-thermal: no problem any more".to_owned(),
        ),
    ];
    assert_eq!(told, expect);
}

#[test]
fn a_condition_names_all_that_is_wrong_and_no_figure_that_moves() {
    let mut hardware = hardware(Limits::default());
    let mut look = |at, wear| {
        let readings = vec![
            reading(Sign::FlashWear, "mmcblk0", wear),
            reading(Sign::ReadOnly, "/var", 1),
            reading(Sign::VoltageLow, "rpi_volt in0", 1),
        ];
        let _ = hardware.looked(now(at), readings);
        hardware.problems()
    };
    let expect = vec![
        (ConditionKind::HardwareDegraded, "flash wear of mmcblk0, file system of /var".to_owned()),
        (ConditionKind::PowerLow, "voltage of rpi_volt in0".to_owned()),
    ];
    assert_eq!(look(0, 90), expect);
    assert_eq!(look(1, 100), expect);
}

#[test]
fn what_is_not_there_any_more_is_over_after_a_while() {
    let mut hardware = hardware(Limits::default());
    let _ = hardware.looked(now(0), vec![reading(Sign::DiskGone, "sda", 1)]);
    let over = (1..=10).position(|look| !hardware.looked(now(look), Vec::new()).is_empty());
    assert_eq!(over, Some(4));
    assert!(hardware.watches.is_empty(), "a stick that came and went is not remembered");
}

#[test]
fn a_watchdog_is_missed_only_where_one_is_required() {
    let limits = || Limits { watchdog_required: true, ..Limits::default() };
    let problems = |limits, readings| {
        let mut hardware = hardware(limits);
        let _ = hardware.looked(now(0), readings);
        hardware.problems().len()
    };
    assert_eq!(problems(Limits::default(), Vec::new()), 0);
    assert_eq!(problems(limits(), Vec::new()), 1);
    assert_eq!(problems(limits(), vec![reading(Sign::Watchdog, "imx2+", 0)]), 1);
    assert_eq!(problems(limits(), vec![reading(Sign::Watchdog, "imx2+", 1)]), 0);
}

#[test]
fn what_was_read_is_told_with_its_limit_and_where_it_is_new() {
    let mut hardware = hardware(Limits::default());
    let look = vec![reading(Sign::FlashWear, "mmcblk0", 10), reading(Sign::EccCorrected, "mc0", 7)];
    let _ = hardware.looked(now(0), look.clone());
    let told = hardware.untold().unwrap();
    told.check("hardware").unwrap();
    let texts: Vec<_> = told.findings.iter().map(|f| (&*f.name, &*f.value, &*f.limit)).collect();
    let expect = [
        ("flash wear of mmcblk0", "10 %", "<= 80 %"),
        ("corrected memory errors of mc0", "7 since boot", "<= 10 within an hour"),
    ];
    assert_eq!(texts, expect);
    let _ = hardware.looked(now(1), look.clone());
    assert_eq!(hardware.untold(), None, "nothing is new");
    hardware.tell_again();
    assert!(hardware.untold().is_some(), "another master knows nothing");
}

#[test]
fn however_much_there_is_what_is_told_stays_in_bounds() {
    let limits = Limits { watchdog_required: true, ..Limits::default() };
    let mut hardware = hardware(limits);
    let long = format!("{}\u{1b}[2J", "x".repeat(5000));
    for look in 0..3 {
        let parts = (0..500).map(|n| reading(Sign::DiskGone, &format!("{n} {long}"), 1));
        let changes = hardware.looked(now(look), parts.collect());
        assert!(changes.len() <= FINDINGS_MAX);
        hardware.newest.as_ref().unwrap().check("hardware").unwrap();
        assert!(hardware.watches.len() <= FINDINGS_MAX);
    }
}

/// Of one sensor, at a look's time: what waits for an answer, and for how many seconds.
fn wait(seconds: u64) -> Vec<Wait> {
    let waited = Duration::from_secs(seconds);
    vec![Wait { what: "/sys/class/hwmon/hwmon0/temp1_input".to_owned(), waited }]
}

#[test]
fn what_never_answers_is_a_problem_that_says_which_and_for_how_long() {
    let mut hardware = hardware(Limits::default());
    let _ = hardware.looked(now(0), vec![reading(Sign::VoltageLow, "board", 1)]);
    assert_eq!(hardware.waits(now(1), &wait(59)), [], "a bus may be busy");
    let changes = hardware.waits(now(1), &wait(60));
    let message = "reading of /sys/class/hwmon/hwmon0/temp1_input: 60 s without an answer (limit <= 30 s without an answer)";
    assert_eq!(changes[0].message, message);
    assert_eq!(changes[0].kind, EventKind::HardwareProblem);
    let what = "reading of /sys/class/hwmon/hwmon0/temp1_input";
    let conditions = hardware.problems();
    assert_eq!(conditions[0], (ConditionKind::HardwareDegraded, what.to_owned()));
    // what was known before is still there, for the look that hangs brings nothing
    assert_eq!(conditions[1].0, ConditionKind::PowerLow);
    let names: Vec<_> =
        hardware.untold().unwrap().findings.iter().map(|f| f.name.clone()).collect();
    assert_eq!(names, [what, "voltage of board"]);
    // it goes on: no new event, and told in steps
    assert_eq!(hardware.waits(now(1), &wait(89)), []);
    assert_eq!(hardware.untold(), None);
    assert_eq!(hardware.waits(now(1), &wait(3600)), []);
    let told = hardware.untold().unwrap();
    assert_eq!(told.findings[0].value, "3600 s without an answer");
    assert_eq!(told.findings[0].level, CheckLevel::Warning);
    assert_eq!(told.findings.len(), 2);
}

#[test]
fn a_wait_is_a_problem_while_looks_go_on_and_over_after_five_without_it() {
    let mut hardware = hardware(Limits::default());
    let _ = hardware.waits(now(0), &wait(60));
    for look in 1..20 {
        let _ = hardware.looked(now(look), Vec::new());
        assert_eq!(hardware.problems().len(), 1, "look {look}: somebody waits for it still");
    }
    assert_eq!(hardware.waits(now(20), &[]), []);
    for look in 20..24 {
        assert_eq!(hardware.looked(now(look), Vec::new()), []);
    }
    let changes = hardware.looked(now(24), Vec::new());
    assert_eq!(changes[0].kind, EventKind::HardwareProblemOver);
    assert_eq!(hardware.problems(), []);
}

#[test]
fn who_is_ignored_may_hang() {
    let ignore = wait(0).into_iter().map(|wait| wait.what).collect();
    let mut hardware = hardware(Limits { ignore, ..Limits::default() });
    assert_eq!(hardware.waits(now(0), &wait(600)), []);
    assert_eq!(hardware.problems(), []);
}
