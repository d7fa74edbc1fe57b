//! Who signs on schedule: one replica of many, and another when that one is gone. No version is ever signed twice.

use sluice_server::app::{LEASE, LEASE_S};
use sluice_server::clock::Clock;

use crate::harness::process::Process;
use crate::harness::wait::until;
use crate::harness::{Client, Engine, Replicas};

both_engines!(
    one_of_two_replicas_signs_and_the_other_takes_over,
    a_replica_that_stops_gives_the_lease_back,
    two_processes_sign_once,
    a_role_that_is_about_to_expire_is_told_of,
);

killed_at!(
    publisher_after_lease => "publisher.after_lease",
    publisher_before_commit => "publisher.before_commit",
    publisher_after_commit => "publisher.after_commit",
);

/// A clock that stood two hours ago, so that what was signed then is due now.
fn two_hours_ago() -> Clock {
    let clock = Clock::default();
    clock.advance_ms(-2 * 3_600_000);
    clock
}

fn one_of_two_replicas_signs_and_the_other_takes_over(engine: Engine) {
    let clock = Clock::default();
    let replicas = Replicas::new(engine, &clock);
    let (one, other) = (replicas.start(&clock), replicas.start(&clock));
    assert!(!replicas.tick(&one), "nothing is due; the lease is taken");
    let pass = |seconds: i64| clock.advance_ms(seconds * 1000);
    for hour in 1..=3 {
        // The holder renews its lease all the time, as its timer does.
        for _ in 0..(3700 / LEASE_S) {
            pass(LEASE_S - 1);
            replicas.tick(&one);
            assert!(!replicas.tick(&other), "another replica signs");
        }
        assert_eq!(replicas.versions(&one), (1 + hour, 1), "once an hour");
    }
    // The holder is gone. The other waits for the end of the lease, and goes on counting.
    pass(LEASE_S);
    assert!(!replicas.tick(&other));
    pass(3700);
    assert!(replicas.tick(&other));
    assert_eq!(replicas.versions(&other), (5, 1));
    assert!(!replicas.tick(&one), "who comes back finds the lease taken");
    pass(4 * 24 * 3600);
    assert!(replicas.tick(&one), "more than half of the snapshot's week has gone");
    assert_eq!(replicas.versions(&other), (6, 2));
    assert!(!replicas.tick(&one), "once");
}

fn a_replica_that_stops_gives_the_lease_back(engine: Engine) {
    let clock = Clock::default();
    let replicas = Replicas::new(engine, &clock);
    let (one, other) = (replicas.start(&clock), replicas.start(&clock));
    clock.advance_ms(3_700_000);
    assert!(replicas.tick(&one));
    clock.advance_ms(3_700_000);
    assert!(replicas.tick(&one));
    replicas.runtime.block_on(one.publisher_stop()).unwrap();
    assert!(!replicas.tick(&other), "nothing is due, and the lease is free");
    assert!(replicas.runtime.block_on(other.store.lease_get(LEASE)).unwrap().unwrap().0 == other.publisher.replica);
    assert_eq!(replicas.versions(&other), (3, 1));
}

fn two_processes_sign_once(engine: Engine) {
    let replicas = Replicas::new(engine, &two_hours_ago());
    let folders = [replicas.folder(), replicas.folder()];
    let processes = [0, 1].map(|index: usize| replicas.process(folders[index].path(), ""));
    let says = |process: &Process, who: &str| process.log().contains(&format!("{who} signs timestamp"));
    let known = |process: &Process| says(process, "this replica") || says(process, "another replica");
    until("both know who signs", || processes.iter().all(known).then_some(()));
    assert_eq!(processes.iter().filter(|process| says(process, "this replica")).count(), 1);
    let app = replicas.start(&Clock::default());
    until("the timestamp", || (replicas.versions(&app).0 > 1).then_some(()));
    assert_eq!(replicas.versions(&app), (2, 1), "one of both has signed");
    assert!(!replicas.tick(&app), "a third one waits, too");
}

fn a_role_that_is_about_to_expire_is_told_of(engine: Engine) {
    // The top targets document lives 300 days; one hour of the last twenty has gone.
    let clock = Clock::default();
    clock.advance_ms(-(280 * 24 + 1) * 3_600_000);
    let replicas = Replicas::new(engine, &clock);
    let folder = replicas.folder();
    let process = Process::start(folder.path(), &replicas.database.url(), "");
    let told = "role targets expires in 19 days; next: `sluice-sign renew --role targets`";
    until("the warning", || process.log().contains(told).then_some(()));
    let app = replicas.start(&Clock::default());
    until("the timestamp", || (replicas.versions(&app).0 > 1).then_some(()));
    let metrics = Client::new(&process.url).get("/metrics").expect(200).text();
    for labels in [
        r#"repository="image",role="root""#,
        r#"repository="image",role="targets""#,
        r#"repository="image",role="snapshot""#,
        r#"repository="image",role="timestamp""#,
        r#"repository="director",role="root""#,
    ] {
        assert!(metrics.contains(&format!("sluice_tuf_role_expires_seconds{{{labels}}} ")), "{labels}: {metrics}");
    }
    let log = process.log();
    assert_eq!(log.matches("role targets expires").count(), 1, "{log}");
    assert!(!log.contains("role root expires"), "{log}");
}

fn killed_at(failpoint: &str, engine: Engine) {
    let replicas = Replicas::new(engine, &two_hours_ago());
    let folder = replicas.folder();
    replicas.process(folder.path(), failpoint).dies_at(failpoint);
    let clock = Clock::default();
    let app = replicas.start(&clock);
    let signed = failpoint == "publisher.after_commit";
    assert_eq!(replicas.versions(&app), (1 + i64::from(signed), 1), "all or nothing");
    assert!(!replicas.tick(&app), "the dead process has the lease");
    clock.advance_ms((LEASE_S + 1) * 1000);
    assert_eq!(replicas.tick(&app), !signed, "its work is done by another when the lease has lapsed");
    assert_eq!(replicas.versions(&app), (2, 1));
    assert!(!replicas.tick(&app));
}
