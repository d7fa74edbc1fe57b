//! The whole way of one update on every combination of database and blob store.

use serde_json::json;
use sluice_catalog::Digest;

use crate::harness::world::CAM;
use crate::harness::{Engine, Place, World};

fn an_update_travels(engine: Engine, place: Place) {
    let mut world = World::new_on(engine, place);
    let (first, second) = world.two_releases();
    world.server.run_jobs();
    let status = world.status();
    let names = match (engine, place) {
        (Engine::Sqlite, Place::Local) => ("sqlite", "local"),
        (Engine::Sqlite, Place::S3) => ("sqlite", "s3"),
        (Engine::Postgres, Place::Local) => ("postgres", "local"),
        (Engine::Postgres, Place::S3) => ("postgres", "s3"),
    };
    assert_eq!((status.database.as_str(), status.blobs.as_str()), names);
    let mut device = world.device(CAM, "SN-1");
    device.run(&first);
    device.poll().is_nothing("NO_ROLLOUT");
    assert_eq!(world.roll_out("all", &second, &[100]).patches.ready, 1);
    let polled = device.poll();
    let target = &polled.document.targets[&second.path()];
    let delta = target.delta.as_ref().unwrap();
    let anyone = world.server.client();
    let url = &polled.urls()[&Digest(delta.sha256)];
    // In two pieces, as a device on a bad link.
    let half = delta.length / 2;
    let mut patch = anyone.get_with(url, &[("Range", &format!("bytes=0-{}", half - 1))]).expect(206).body;
    patch.extend(anyone.get_with(url, &[("Range", &format!("bytes={half}-"))]).expect(206).body);
    let mut made = Vec::new();
    let options = sluice_delta::ApplyOptions {
        budget: sluice_delta::ApplyBudget { ram: 64 << 20, scratch: 0 },
        expected_head: Some((u32::try_from(delta.head_length).unwrap(), delta.head_sha256)),
        ..sluice_delta::ApplyOptions::default()
    };
    sluice_delta::apply(std::io::Cursor::new(&first.image), &patch[..], &mut made, &options).unwrap();
    assert_eq!(Digest::of(&made), second.digest());
    device.run(&second);
    device.poll().is_nothing("UP_TO_DATE");
    device.report_event(json!({"attempt": 1, "state": "healthy", "encoding": "patch"})).expect(200);
    assert_eq!(world.rollout("all").attempts, [("healthy".to_owned(), 1)].into());
    assert_eq!(anyone.get(&second.url()).expect(200).body, second.image);
    assert_eq!(anyone.get("/readyz").expect(200).text(), "ready\n");
}

#[test]
fn an_update_travels_on_sqlite_and_local() {
    an_update_travels(Engine::Sqlite, Place::Local);
}

#[test]
fn an_update_travels_on_sqlite_and_s3() {
    an_update_travels(Engine::Sqlite, Place::S3);
}

#[test]
fn an_update_travels_on_postgres_and_local() {
    an_update_travels(Engine::Postgres, Place::Local);
}

#[test]
fn an_update_travels_on_postgres_and_s3() {
    an_update_travels(Engine::Postgres, Place::S3);
}
