//! Twice-dated facts: a superseded fact no longer holds, and stays in the table for questions about the past.

use sluice_catalog::Time;
use sluice_catalog::contract::{Contract, ContractState, Plan, WindowKind};
use sluice_catalog::cover::{Cover, CoverRule};
use sluice_catalog::customer::Customer;
use sluice_catalog::facts;
use sluice_catalog::id::{ContractId, CustomerId, FactId, PlanId};
use sluice_server::store::{NewItem, NewWindow, Sql, Store};

use super::nouns::device;
use super::{Engine, NOW, on, uuid, with_product};

both_engines!(
    facts_keep_when_they_held_and_when_they_were_known,
    a_void_contract_covers_nothing,
    many_items_take_several_statements,
    a_new_fact_touches_the_devices_it_covers,
);

const CONTRACT: ContractId = ContractId(uuid(3));

async fn with_contract(store: &Store, state: ContractState) {
    let customer = Customer {
        id: CustomerId(uuid(1)),
        name: "globex".parse().unwrap(),
        title: "Globex".into(),
        created_at: NOW,
        parent: None,
    };
    let plan = Plan {
        id: PlanId(uuid(2)),
        name: "plus".parse().unwrap(),
        rule: CoverRule::TrainGa,
        grace_days: 14,
        created_at: NOW,
    };
    let contract = Contract {
        id: CONTRACT,
        customer_id: customer.id,
        number: "C-1".parse().unwrap(),
        plan_id: plan.id,
        state,
        created_at: NOW,
    };
    let mut tx = store.begin().await.unwrap();
    tx.customer_add(&customer).await.unwrap();
    tx.plan_add(&plan, &[]).await.unwrap();
    tx.contract_add(&contract).await.unwrap();
    tx.commit().await.unwrap();
}

fn window(number: u128, from: Time, to: Time) -> NewWindow {
    NewWindow { id: FactId(uuid(number)), from_at: from, to_at: to, kind: WindowKind::Backdated }
}

fn item(number: u128, serial: &str) -> NewItem {
    NewItem {
        id: FactId(uuid(number)),
        product: "acme-cam".parse().unwrap(),
        serial: serial.parse().unwrap(),
        pool_id: None,
        from_at: Time::EPOCH,
        to_at: Time::FOREVER,
    }
}

async fn covers(store: &Store, serial: &str, known_at: Option<Time>) -> Vec<Cover> {
    let (product, serial) = ("acme-cam".parse().unwrap(), serial.parse().unwrap());
    let contracts = store.contract_facts(&product, &serial, known_at.is_some()).await.unwrap();
    facts::covers(&contracts, &"cameras".parse().unwrap(), known_at.unwrap_or(Time::FOREVER))
}

fn facts_keep_when_they_held_and_when_they_were_known(engine: Engine) {
    on(engine, async |store: Store| {
        with_contract(&store, ContractState::Active).await;
        let (from, to) = (NOW.plus_days(-100), NOW.plus_days(100));
        let mut tx = store.begin().await.unwrap();
        tx.window_add(CONTRACT, &[window(10, from, to), window(11, to, to.plus_days(1))], NOW).await.unwrap();
        tx.item_add(CONTRACT, &[item(20, "SN-1")], NOW.plus_s(1)).await.unwrap();
        tx.commit().await.unwrap();
        let windows = store.window_list(CONTRACT, 10).await.unwrap();
        assert_eq!(windows.len(), 2);
        let first = &windows[0];
        assert_eq!((first.from_at, first.to_at, first.kind), (from, to, WindowKind::Backdated));
        assert_eq!((first.recorded_at, first.superseded_at), (NOW, None), "both dates are there");
        let items = store.item_list(CONTRACT, 10).await.unwrap();
        assert_eq!((items[0].from_at, items[0].to_at), (Time::EPOCH, Time::FOREVER));
        assert_eq!((items[0].recorded_at, items[0].superseded_at), (NOW.plus_s(1), None));
        let cover = covers(&store, "SN-1", None).await;
        assert_eq!(cover.len(), 1);
        assert_eq!((cover[0].contract.as_str(), cover[0].rule, cover[0].grace_days), ("C-1", CoverRule::TrainGa, 14));

        let mut tx = store.begin().await.unwrap();
        for table in ["coverage_window", "covered_item"] {
            Sql::built(format!("UPDATE {table} SET superseded_at = $1 WHERE id IN ($2, $3)"))
                .bind(NOW.plus_days(1))
                .bind(FactId(uuid(10)))
                .bind(FactId(uuid(20)))
                .execute(&mut tx)
                .await
                .unwrap();
        }
        tx.commit().await.unwrap();
        let windows = store.window_list(CONTRACT, 10).await.unwrap();
        assert_eq!(windows.iter().map(|window| window.id).collect::<Vec<_>>(), [FactId(uuid(11))]);
        assert_eq!(store.item_list(CONTRACT, 10).await.unwrap(), []);
        assert!(covers(&store, "SN-1", None).await.is_empty());
        assert_eq!(covers(&store, "SN-1", Some(NOW.plus_s(1))).await, cover, "by what was known then");
        assert!(covers(&store, "SN-1", Some(NOW)).await.is_empty(), "before the item was known");
        let (kept,): (i64,) = Sql::new("SELECT superseded_at FROM coverage_window WHERE id = $1")
            .bind(FactId(uuid(10)))
            .one(&store)
            .await
            .unwrap();
        assert_eq!(Time::from_ms(kept), NOW.plus_days(1), "what was known then can still be asked");
    });
}

fn a_void_contract_covers_nothing(engine: Engine) {
    on(engine, async |store: Store| {
        with_contract(&store, ContractState::Void).await;
        let mut tx = store.begin().await.unwrap();
        tx.item_add(CONTRACT, &[item(20, "SN-1")], NOW).await.unwrap();
        tx.commit().await.unwrap();
        assert!(covers(&store, "SN-1", None).await.is_empty());
    });
}

fn many_items_take_several_statements(engine: Engine) {
    // 7 parameters each: more than the 32,000 of one statement.
    const ITEMS: u128 = 5_000;
    on(engine, async |store: Store| {
        with_contract(&store, ContractState::Active).await;
        let items: Vec<_> = (1..=ITEMS).map(|n| item(1000 + n, &format!("SN-{n}"))).collect();
        let mut tx = store.begin().await.unwrap();
        tx.item_add(CONTRACT, &items, NOW).await.unwrap();
        assert_eq!(tx.item_list(CONTRACT).await.unwrap().len(), items.len());
        tx.commit().await.unwrap();
        assert_eq!(covers(&store, &format!("SN-{ITEMS}"), None).await.len(), 1);
    });
}

fn a_new_fact_touches_the_devices_it_covers(engine: Engine) {
    on(engine, async |store: Store| {
        with_product(&store).await;
        with_contract(&store, ContractState::Active).await;
        let mut tx = store.begin().await.unwrap();
        tx.device_add(&device(1, "SN-1"), NOW).await.unwrap();
        tx.device_add(&device(2, "SN-2"), NOW).await.unwrap();
        tx.item_add(CONTRACT, &[item(20, "SN-1"), item(21, "not-enrolled-yet")], NOW).await.unwrap();
        tx.contract_touch_devices(CONTRACT, NOW.plus_s(1)).await.unwrap();
        tx.commit().await.unwrap();
        let revisions = async |number| {
            store.device_get(sluice_catalog::id::DeviceId(uuid(number))).await.unwrap().unwrap().revision
        };
        assert_eq!((revisions(1).await, revisions(2).await), (2, 1));
    });
}
