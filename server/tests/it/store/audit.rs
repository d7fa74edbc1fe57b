//! The audit chain holds whoever writes at the same time.

use serde_json::json;
use sluice_catalog::Digest;
use sluice_catalog::audit::AuditEntry;
use sluice_server::store::Store;
use tokio::task::JoinSet;

use super::{Engine, NOW, on};

both_engines!(concurrent_changes_do_not_fork_the_chain, a_change_that_rolls_back_leaves_no_entry, pages);

/// Checks every link from the beginning.
fn check(entries: &[AuditEntry]) {
    let mut prev = Digest([0; 32]);
    for (index, entry) in entries.iter().enumerate() {
        assert_eq!(entry.seq, i64::try_from(index).unwrap() + 1, "no gap");
        assert!(entry.follows(prev), "entry {} does not follow", entry.seq);
        prev = entry.hash;
    }
}

async fn add(store: &Store, actor: &str) {
    let mut tx = store.begin().await.unwrap();
    tx.audit_add(NOW, actor, "test.change", "test:1", &json!({"by": actor})).await.unwrap();
    tx.commit().await.unwrap();
}

fn concurrent_changes_do_not_fork_the_chain(engine: Engine) {
    const WRITERS: usize = 8;
    const CHANGES: usize = 10;
    on(engine, async |store: Store| {
        let mut writers = JoinSet::new();
        for number in 0..WRITERS {
            let store = store.clone();
            writers.spawn(async move {
                for _ in 0..CHANGES {
                    add(&store, &format!("writer-{number}")).await;
                }
            });
        }
        while let Some(ended) = writers.join_next().await {
            ended.unwrap();
        }
        let entries = store.audit_list(0, 1000).await.unwrap();
        assert_eq!(entries.len(), WRITERS * CHANGES);
        check(&entries);
        for number in 0..WRITERS {
            let of = format!("writer-{number}");
            assert_eq!(entries.iter().filter(|entry| entry.actor == of).count(), CHANGES);
        }
    });
}

fn a_change_that_rolls_back_leaves_no_entry(engine: Engine) {
    on(engine, async |store: Store| {
        add(&store, "first").await;
        let mut tx = store.begin().await.unwrap();
        tx.audit_add(NOW, "lost", "test.change", "test:1", &json!({})).await.unwrap();
        drop(tx);
        add(&store, "second").await;
        let entries = store.audit_list(0, 10).await.unwrap();
        assert_eq!(entries.iter().map(|entry| entry.actor.as_str()).collect::<Vec<_>>(), ["first", "second"]);
        check(&entries);
    });
}

fn pages(engine: Engine) {
    on(engine, async |store: Store| {
        for number in 0..5 {
            add(&store, &format!("n{number}")).await;
        }
        let page = store.audit_list(1, 2).await.unwrap();
        assert_eq!(page.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [2, 3]);
        assert_eq!(store.audit_list(5, 2).await.unwrap(), []);
    });
}
