//! The job queue: claims, leases, lost leases, failures.

use std::collections::BTreeSet;

use serde_json::json;
use sluice_catalog::Time;
use sluice_catalog::id::JobId;
use sluice_catalog::job::{Job, JobState};
use sluice_server::store::{NewJob, Store};
use tokio::task::JoinSet;

use super::{Engine, NOW, on, uuid};

both_engines!(
    a_job_is_claimed_by_one_worker_only,
    a_key_that_waits_or_runs_is_not_enqueued_twice,
    urgent_jobs_come_first_and_none_before_its_time,
    a_lapsed_lease_is_claimed_by_another_and_the_first_worker_has_lost,
    a_beat_keeps_the_lease,
    a_failed_job_waits_and_is_parked_in_the_end,
    counts_by_key_prefix,
);

const LEASE: i64 = 60;

fn job(number: u128, key: &str, priority: i64, run_at: Time) -> NewJob {
    NewJob {
        id: JobId(uuid(number)),
        kind: "test",
        key: key.into(),
        payload: json!({"n": number.to_string()}),
        priority,
        run_at,
    }
}

async fn add(store: &Store, jobs: &[NewJob]) {
    let mut tx = store.begin().await.unwrap();
    for job in jobs {
        tx.job_add(job).await.unwrap();
    }
    tx.commit().await.unwrap();
}

async fn claim(store: &Store, worker: &str, now: Time) -> Option<Job> {
    store.job_claim(worker, now, now.plus_s(LEASE)).await.unwrap()
}

async fn end(store: &Store, job: &Job, worker: &str, state: JobState, at: Time, failures: i32) -> bool {
    let mut tx = store.begin().await.unwrap();
    let held = tx.job_end(job.id, worker, state, at, failures, (failures > 0).then_some("broken")).await.unwrap();
    tx.commit().await.unwrap();
    held
}

fn a_job_is_claimed_by_one_worker_only(engine: Engine) {
    const JOBS: usize = 30;
    on(engine, async |store: Store| {
        let jobs: Vec<_> = (1..=JOBS).map(|n| job(n as u128, &format!("k{n}"), 0, NOW)).collect();
        add(&store, &jobs).await;
        let mut workers = JoinSet::new();
        for number in 0..4 {
            let store = store.clone();
            workers.spawn(async move {
                let worker = format!("w{number}");
                let mut done = Vec::new();
                while let Some(job) = claim(&store, &worker, NOW).await {
                    assert!(end(&store, &job, &worker, JobState::Done, NOW, 0).await);
                    done.push(job.key);
                }
                done
            });
        }
        let mut done = Vec::new();
        while let Some(keys) = workers.join_next().await {
            done.extend(keys.unwrap());
        }
        // A worker that finds every due job locked by others goes home early: what is left is one more round.
        while let Some(job) = claim(&store, "last", NOW).await {
            assert!(end(&store, &job, "last", JobState::Done, NOW, 0).await);
            done.push(job.key);
        }
        assert_eq!(done.len(), JOBS, "each job once");
        assert_eq!(done.into_iter().collect::<BTreeSet<_>>().len(), JOBS);
    });
}

fn a_key_that_waits_or_runs_is_not_enqueued_twice(engine: Engine) {
    on(engine, async |store: Store| {
        add(&store, &[job(1, "same", 0, NOW), job(2, "same", 0, NOW)]).await;
        let first = claim(&store, "w", NOW).await.unwrap();
        assert_eq!(first.id, JobId(uuid(1)));
        add(&store, &[job(3, "same", 0, NOW)]).await;
        assert_eq!(claim(&store, "w", NOW).await, None, "it runs already");
        assert!(end(&store, &first, "w", JobState::Done, NOW, 0).await);
        add(&store, &[job(4, "same", 0, NOW)]).await;
        assert_eq!(claim(&store, "w", NOW).await.map(|job| job.id), Some(JobId(uuid(4))), "done work may come again");
    });
}

fn urgent_jobs_come_first_and_none_before_its_time(engine: Engine) {
    on(engine, async |store: Store| {
        add(&store, &[job(1, "low", 1, NOW), job(2, "high", 9, NOW), job(3, "later", 99, NOW.plus_s(5))]).await;
        let mut order = Vec::new();
        while let Some(job) = claim(&store, "w", NOW).await {
            order.push(job.key);
        }
        assert_eq!(order, ["high", "low"]);
        assert_eq!(claim(&store, "w", NOW.plus_s(5)).await.unwrap().key, "later");
    });
}

fn a_lapsed_lease_is_claimed_by_another_and_the_first_worker_has_lost(engine: Engine) {
    on(engine, async |store: Store| {
        add(&store, &[job(1, "k", 0, NOW)]).await;
        let job = claim(&store, "slow", NOW).await.unwrap();
        assert_eq!((job.state, job.lease_until), (JobState::Running, Some(NOW.plus_s(LEASE))));
        assert_eq!(claim(&store, "quick", NOW.plus_s(LEASE)).await, None, "the lease holds to its last moment");
        let later = NOW.plus_s(LEASE + 1);
        assert_eq!(claim(&store, "quick", later).await.map(|job| job.id), Some(job.id));
        assert!(!store.job_beat(job.id, "slow", later.plus_s(LEASE)).await.unwrap());
        assert!(!end(&store, &job, "slow", JobState::Done, later, 0).await, "its result does not count");
        assert!(end(&store, &job, "quick", JobState::Done, later, 0).await);
        assert!(!end(&store, &job, "quick", JobState::Parked, later, 1).await, "it has ended");
        let jobs = store.job_list(None, None, 10).await.unwrap();
        assert_eq!((jobs.len(), jobs[0].state, jobs[0].attempts), (1, JobState::Done, 0));
    });
}

fn a_beat_keeps_the_lease(engine: Engine) {
    on(engine, async |store: Store| {
        add(&store, &[job(1, "k", 0, NOW)]).await;
        let job = claim(&store, "w", NOW).await.unwrap();
        assert!(store.job_beat(job.id, "w", NOW.plus_s(3 * LEASE)).await.unwrap());
        assert!(!store.job_beat(job.id, "other", NOW.plus_s(9 * LEASE)).await.unwrap());
        assert_eq!(claim(&store, "other", NOW.plus_s(2 * LEASE)).await, None);
    });
}

fn a_failed_job_waits_and_is_parked_in_the_end(engine: Engine) {
    on(engine, async |store: Store| {
        add(&store, &[job(1, "k", 0, NOW)]).await;
        let first = claim(&store, "w", NOW).await.unwrap();
        assert!(end(&store, &first, "w", JobState::Waiting, NOW.plus_s(2), 1).await);
        assert_eq!(claim(&store, "w", NOW).await, None, "not before its next try");
        let again = claim(&store, "w", NOW.plus_s(2)).await.unwrap();
        assert_eq!((again.attempts, again.last_error.as_deref()), (1, Some("broken")));
        assert!(end(&store, &again, "w", JobState::Parked, NOW, 1).await);
        assert_eq!(claim(&store, "w", NOW.plus_days(1)).await, None, "someone has to look");
        let parked = store.job_list(Some(JobState::Parked), None, 10).await.unwrap();
        assert_eq!((parked.len(), parked[0].attempts), (1, 2));
        assert!(store.begin().await.unwrap().job_parked("k").await.unwrap());
        assert!(!store.begin().await.unwrap().job_parked("other").await.unwrap());
    });
}

fn counts_by_key_prefix(engine: Engine) {
    on(engine, async |store: Store| {
        add(&store, &[job(1, "patch:aa:1", 0, NOW), job(2, "patch:aa:2", 0, NOW), job(3, "patch:ab:1", 0, NOW)]).await;
        add(&store, &[job(4, "patch:aa", 0, NOW)]).await;
        assert_eq!(store.job_counts("patch:aa:").await.unwrap(), [(JobState::Waiting, 2)]);
        assert_eq!(store.job_counts("patch:b").await.unwrap(), []);
        let pages = store.job_list(None, Some(JobId(uuid(2))), 1).await.unwrap();
        assert_eq!(pages.iter().map(|job| job.id).collect::<Vec<_>>(), [JobId(uuid(3))]);
    });
}
