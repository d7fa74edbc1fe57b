//! What devices report, in bulk and one by one.

use sluice_catalog::Digest;
use sluice_catalog::device::{DecoderProfile, Device, DeviceState, Installed};
use sluice_catalog::id::DeviceId;
use sluice_server::store::Store;

use super::nouns::device;
use super::{Engine, NOW, on, uuid, with_product};

both_engines!(
    last_seen_times_are_written_in_bulk,
    a_report_replaces_what_was_installed,
    every_change_raises_the_revision,
    changes_since_a_moment,
);

async fn add(store: &Store, devices: impl IntoIterator<Item = Device>) {
    let mut tx = store.begin().await.unwrap();
    for device in devices {
        tx.device_add(&device, NOW).await.unwrap();
    }
    tx.commit().await.unwrap();
}

fn installed(component: &str, version: &str) -> Installed {
    Installed {
        component: component.parse().unwrap(),
        version: version.parse().unwrap(),
        sha256: Digest::of(version.as_bytes()),
        security_counter: i64::from(u32::MAX),
    }
}

fn last_seen_times_are_written_in_bulk(engine: Engine) {
    // More than one statement's worth.
    const DEVICES: u128 = 1_203;
    on(engine, async |store: Store| {
        with_product(&store).await;
        add(&store, (1..=DEVICES).map(|number| device(number, &format!("SN-{number}")))).await;
        let seen: Vec<_> = (1..=DEVICES).map(|n| (DeviceId(uuid(n)), NOW.plus_s(i64::try_from(n).unwrap()))).collect();
        store.device_seen(&seen).await.unwrap();
        for number in [1, 500, 501, DEVICES] {
            let row = store.device_get(DeviceId(uuid(number))).await.unwrap().unwrap();
            assert_eq!(row.last_seen_at, Some(NOW.plus_s(i64::try_from(number).unwrap())), "device {number}");
            assert_eq!(row.revision, 1, "nobody's copy is stale for it");
        }
        let unknown = [(DeviceId(uuid(99_999)), NOW)];
        store.device_seen(&unknown).await.unwrap();
        store.device_seen(&[]).await.unwrap();
    });
}

fn a_report_replaces_what_was_installed(engine: Engine) {
    on(engine, async |store: Store| {
        with_product(&store).await;
        add(&store, [device(1, "SN-1")]).await;
        let id = DeviceId(uuid(1));
        let both = [installed("main", "2.4.0"), installed("radio", "7")];
        let one = [installed("main", "2.4.1")];
        for report in [&both[..], &one[..]] {
            let mut tx = store.begin().await.unwrap();
            let said = Device {
                profile: DecoderProfile::Fast,
                ram_budget: 5,
                scratch_budget: 6,
                signing_epoch: 7,
                ..device(1, "SN-1")
            };
            tx.device_reported(&said, report, NOW.plus_s(1)).await.unwrap();
            assert_eq!(tx.installed_list(id).await.unwrap(), report);
            tx.commit().await.unwrap();
            assert_eq!(store.installed_list(id).await.unwrap(), report);
        }
        let row = store.device_get(id).await.unwrap().unwrap();
        assert_eq!(
            (row.device.profile, row.device.ram_budget, row.device.scratch_budget, row.device.signing_epoch),
            (DecoderProfile::Fast, 5, 6, 7)
        );
        assert_eq!(row.last_seen_at, Some(NOW.plus_s(1)));
    });
}

fn every_change_raises_the_revision(engine: Engine) {
    on(engine, async |store: Store| {
        with_product(&store).await;
        let bound = Device { public_key: Some("ab".repeat(32)), ..device(1, "SN-1") };
        add(&store, [device(1, "SN-1")]).await;
        let id = bound.id;
        let mut tx = store.begin().await.unwrap();
        tx.device_enrolled(&bound, NOW).await.unwrap();
        tx.device_state(id, DeviceState::Blocked, NOW).await.unwrap();
        tx.device_confirm_train(id, &"2.4".parse().unwrap(), NOW).await.unwrap();
        tx.device_patches_off(id, NOW).await.unwrap();
        tx.device_touch(id, NOW).await.unwrap();
        tx.commit().await.unwrap();
        let row = store.device_get(id).await.unwrap().unwrap();
        assert_eq!(row.revision, 6);
        let expected = Device {
            state: DeviceState::Blocked,
            confirmed_train: Some("2.4".parse().unwrap()),
            patches_off: true,
            ..bound
        };
        assert_eq!(row.device, expected);
        let mut tx = store.begin().await.unwrap();
        tx.device_revoke(id, NOW).await.unwrap();
        tx.commit().await.unwrap();
        let revoked = store.device_get(id).await.unwrap().unwrap();
        assert_eq!((revoked.device.epoch, revoked.device.public_key, revoked.revision), (2, None, 7));
    });
}

fn changes_since_a_moment(engine: Engine) {
    on(engine, async |store: Store| {
        with_product(&store).await;
        add(&store, [device(1, "SN-1"), device(2, "SN-2")]).await;
        let mut tx = store.begin().await.unwrap();
        tx.device_touch(DeviceId(uuid(2)), NOW.plus_s(10)).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(store.device_changes(NOW.plus_s(5), 100).await.unwrap(), [(DeviceId(uuid(2)), 2)]);
        assert_eq!(store.device_changes(NOW, 100).await.unwrap().len(), 2);
        assert_eq!(store.device_changes(NOW, 1).await.unwrap().len(), 1);
        assert_eq!(store.device_changes(NOW.plus_s(11), 100).await.unwrap(), []);
    });
}
