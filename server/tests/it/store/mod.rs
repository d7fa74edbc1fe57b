//! The store alone, on both engines: every noun travels there and back, unique keys hold, queues and chains survive
//! several writers.

pub mod database;

mod audit;
mod devices;
mod facts;
mod jobs;
mod leases;
mod nouns;
pub mod tables;

use sluice_catalog::Time;
use sluice_catalog::id::ProductId;
use sluice_catalog::product::{Product, Visibility};
use sluice_server::store::Store;
use uuid::Uuid;

use database::{Database, Engine};

/// The moment at which these tests play.
const NOW: Time = Time::from_ms(1_800_000_000_123);

/// Runs a test of the store on an empty database.
fn on<F: Future<Output = ()>>(engine: Engine, test: impl FnOnce(Store) -> F) {
    let database = Database::new(engine);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let store = database.store().await;
        test(store.clone()).await;
        store.close().await;
    });
}

/// An id that is the same in every run.
const fn uuid(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

fn product() -> Product {
    Product {
        id: ProductId(uuid(1)),
        name: "acme-cam".parse().unwrap(),
        title: "Acme Cam".into(),
        family: "cameras".parse().unwrap(),
        pid: Some("431a".parse().unwrap()),
        visibility: Visibility::Gated,
        created_at: NOW,
    }
}

/// Enters [`product`].
async fn with_product(store: &Store) -> Product {
    let mut tx = store.begin().await.unwrap();
    tx.product_add(&product()).await.unwrap();
    tx.commit().await.unwrap();
    product()
}
