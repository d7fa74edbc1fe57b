//! Leases: one holder at a time, prolonged by itself, taken over when it has lapsed.

use sluice_server::store::Store;
use tokio::task::JoinSet;

use super::{Engine, NOW, on};

both_engines!(
    one_holder_at_a_time,
    a_lapsed_lease_is_taken_over,
    of_many_at_once_one_gets_it,
    a_lease_by_a_wrong_clock_is_not_waited_for,
);

const LEASE: &str = "test";

async fn take(store: &Store, holder: &str, at_s: i64) -> bool {
    let now = NOW.plus_s(at_s);
    store.lease_take(LEASE, holder, now, now.plus_s(90)).await.unwrap()
}

async fn held(store: &Store, holder: &str, at_s: i64) -> bool {
    let mut tx = store.begin().await.unwrap();
    tx.lease_held(LEASE, holder, NOW.plus_s(at_s)).await.unwrap()
}

fn one_holder_at_a_time(engine: Engine) {
    on(engine, |store| async move {
        assert!(take(&store, "a", 0).await);
        assert!(!take(&store, "b", 10).await);
        assert!(take(&store, "a", 60).await, "its own is prolonged");
        assert!(!take(&store, "b", 100).await);
        assert!(held(&store, "a", 100).await && !held(&store, "b", 100).await);
        store.lease_give(LEASE, "b").await.unwrap();
        assert!(!take(&store, "b", 101).await, "one gives back only what is one's own");
        store.lease_give(LEASE, "a").await.unwrap();
        assert!(take(&store, "b", 102).await);
        assert_eq!(store.lease_get(LEASE).await.unwrap(), Some(("b".to_owned(), NOW.plus_s(192))));
    });
}

fn a_lapsed_lease_is_taken_over(engine: Engine) {
    on(engine, |store| async move {
        assert!(take(&store, "a", 0).await);
        assert!(!take(&store, "b", 90).await, "until its end it is the holder's");
        assert!(held(&store, "a", 90).await && !held(&store, "a", 91).await);
        assert!(take(&store, "b", 91).await);
        assert!(!take(&store, "a", 92).await, "who comes back has lost it");
    });
}

fn of_many_at_once_one_gets_it(engine: Engine) {
    on(engine, |store| async move {
        let mut all = JoinSet::new();
        for number in 0..8 {
            let store = store.clone();
            all.spawn(async move { take(&store, &number.to_string(), 0).await });
        }
        assert_eq!(all.join_all().await.into_iter().filter(|taken| *taken).count(), 1);
    });
}

fn a_lease_by_a_wrong_clock_is_not_waited_for(engine: Engine) {
    on(engine, |store| async move {
        assert!(take(&store, "a", 30).await);
        assert!(!take(&store, "b", 0).await, "half a minute is no wrong clock");
        assert!(take(&store, "a", 7 * 24 * 3600).await);
        assert!(take(&store, "b", 40).await, "a week is one: nobody would do its work until then");
        assert!(!take(&store, "c", 50).await);
    });
}
