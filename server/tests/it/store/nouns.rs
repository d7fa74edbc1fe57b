//! Every noun as it was put in, with every optional field set and unset, and its unique keys.

use serde_json::json;
use sluice_catalog::contract::{Contract, ContractState, Grant, Plan};
use sluice_catalog::cover::CoverRule;
use sluice_catalog::customer::Customer;
use sluice_catalog::device::{DecoderProfile, Device, DeviceState, EnrolToken};
use sluice_catalog::id::{
    ArtifactId, CohortId, ContractId, CustomerId, DeviceId, EnrolTokenId, PatchId, PlanId, PrincipalId, ProductId,
    ReleaseId, RolloutId, TokenId,
};
use sluice_catalog::patch::{Full, FullEncoding, Patch, PatchState};
use sluice_catalog::principal::{Principal, PrincipalKind, Role, Token};
use sluice_catalog::product::{Channel, Product, Train, Visibility};
use sluice_catalog::release::{Artifact, Release, ReleaseKind};
use sluice_catalog::rollout::{AttemptState, Failure, Rollout, RolloutState, Rules, Selector, Stage, Stages};
use sluice_catalog::{Digest, TextSet, Time};
use sluice_server::store::{Because, DeviceChoice, Repository, Said, Store, StoreError, Tx};

use super::{Engine, NOW, on, product, uuid, with_product};

both_engines!(
    products_and_trains,
    customers_plans_and_contracts,
    principals_and_tokens,
    releases_and_artifacts,
    devices,
    enrol_tokens,
    rollouts_and_transitions,
    attempts,
    patches_and_full_encodings,
    documents,
    settings_and_generations,
    text_is_ordered_by_bytes,
);

fn set(items: &[&str]) -> TextSet {
    items.iter().copied().collect()
}

#[track_caller]
fn is_duplicate(result: Result<(), StoreError>) {
    assert!(matches!(result, Err(StoreError::Duplicate(_))), "{result:?}");
}

fn products_and_trains(engine: Engine) {
    on(engine, async |store: Store| {
        let full = with_product(&store).await;
        let bare = Product {
            id: ProductId(uuid(2)),
            name: "bare".parse().unwrap(),
            pid: None,
            visibility: Visibility::Public,
            ..full.clone()
        };
        let train = Train { product_id: full.id, name: "2.4".parse().unwrap(), ga_at: NOW, support_end: None };
        let mut tx = store.begin().await.unwrap();
        tx.product_add(&bare).await.unwrap();
        tx.train_add(&train).await.unwrap();
        assert_eq!(tx.product_by_name(&bare.name).await.unwrap().as_ref(), Some(&bare));
        assert_eq!(tx.train_by_name(full.id, &train.name).await.unwrap().as_ref(), Some(&train));
        assert_eq!(tx.train_by_name(bare.id, &train.name).await.unwrap(), None);
        tx.commit().await.unwrap();
        assert_eq!(store.product_all().await.unwrap(), [full.clone(), bare.clone()]);
        assert_eq!(store.product_list("acme-cam", 10).await.unwrap(), std::slice::from_ref(&bare));
        assert_eq!(store.product_by_name(&full.name).await.unwrap().as_ref(), Some(&full));
        assert_eq!(store.train_all().await.unwrap(), std::slice::from_ref(&train));
        for (id, name, pid) in [(3, "acme-cam", None), (3, "other", full.pid.clone()), (1, "other", None)] {
            let taken = Product { id: ProductId(uuid(id)), name: name.parse().unwrap(), pid, ..bare.clone() };
            is_duplicate(store.begin().await.unwrap().product_add(&taken).await);
        }
        is_duplicate(store.begin().await.unwrap().train_add(&train).await);
    });
}

fn customers_plans_and_contracts(engine: Engine) {
    on(engine, async |store: Store| {
        let customer = Customer {
            id: CustomerId(uuid(1)),
            name: "globex".parse().unwrap(),
            title: "Globex ü".into(),
            created_at: NOW,
            parent: None,
        };
        let plan = Plan {
            id: PlanId(uuid(2)),
            name: "plus".parse().unwrap(),
            rule: CoverRule::ReleaseDate,
            grace_days: 14,
            created_at: NOW,
        };
        let grant = |code: &str, family: Option<&str>, channel_ceiling| Grant {
            code: code.parse().unwrap(),
            family: family.map(|family| family.parse().unwrap()),
            channel_ceiling,
        };
        let grants = [grant("FW.B", None, Channel::Stable), grant("FW.A", Some("cameras"), Channel::Preview)];
        let contract = Contract {
            id: ContractId(uuid(3)),
            customer_id: customer.id,
            number: "C-1".parse().unwrap(),
            plan_id: plan.id,
            state: ContractState::Active,
            created_at: NOW,
        };
        let mut tx = store.begin().await.unwrap();
        tx.customer_add(&customer).await.unwrap();
        tx.plan_add(&plan, &grants).await.unwrap();
        tx.contract_add(&contract).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(store.customer_list("", 10).await.unwrap(), std::slice::from_ref(&customer));
        assert_eq!(store.plan_list("", 10).await.unwrap(), std::slice::from_ref(&plan));
        assert_eq!(store.plan_grants(plan.id).await.unwrap(), grants, "in the order given");
        assert_eq!(store.contract_list(None, "", 10).await.unwrap(), std::slice::from_ref(&contract));
        let found = store.contract_by_number(&contract.number).await.unwrap();
        assert_eq!(found, Some((contract.clone(), customer.name.clone(), plan.name.clone())));
        is_duplicate(
            store.begin().await.unwrap().customer_add(&Customer { id: CustomerId(uuid(9)), ..customer }).await,
        );
        is_duplicate(store.begin().await.unwrap().plan_add(&Plan { id: PlanId(uuid(9)), ..plan }, &[]).await);
        let taken = Contract { id: ContractId(uuid(9)), ..contract };
        is_duplicate(store.begin().await.unwrap().contract_add(&taken).await);
    });
}

fn principals_and_tokens(engine: Engine) {
    on(engine, async |store: Store| {
        let principal = |number, name: &str| Principal {
            id: PrincipalId(uuid(number)),
            name: name.parse().unwrap(),
            kind: PrincipalKind::Machine,
            role: Role::ReleaseEngineer,
            customer_id: None,
            customer: None,
            created_at: NOW,
            disabled_at: None,
        };
        let token = Token {
            id: TokenId(uuid(5)),
            principal_id: PrincipalId(uuid(1)),
            label: "pipeline".into(),
            scopes: set(&["publish", "read"]),
            created_at: NOW,
            expires_at: Some(NOW.plus_days(1)),
            revoked_at: None,
        };
        let hash = Digest::of(b"secret");
        assert!(!store.principal_exists().await.unwrap());
        let mut tx = store.begin().await.unwrap();
        tx.principal_add(&principal(1, "pipeline")).await.unwrap();
        tx.token_add(&token, hash).await.unwrap();
        assert_eq!(tx.principal_count().await.unwrap(), 1);
        tx.commit().await.unwrap();
        assert!(store.principal_exists().await.unwrap());
        assert_eq!(store.principal_list("", 10).await.unwrap(), [principal(1, "pipeline")]);
        assert_eq!(store.token_by_hash(hash).await.unwrap(), Some((token.clone(), principal(1, "pipeline"))));
        assert_eq!(store.token_by_hash(Digest::of(b"other")).await.unwrap(), None);
        is_duplicate(store.begin().await.unwrap().principal_add(&principal(2, "pipeline")).await);
        let same_secret = Token { id: TokenId(uuid(6)), ..token.clone() };
        is_duplicate(store.begin().await.unwrap().token_add(&same_secret, hash).await);
        let mut tx = store.begin().await.unwrap();
        assert!(tx.principal_disable(PrincipalId(uuid(1)), NOW).await.unwrap());
        assert!(!tx.principal_disable(PrincipalId(uuid(1)), NOW.plus_s(1)).await.unwrap(), "once");
        assert!(tx.token_revoke(token.id, NOW).await.unwrap());
        assert!(!tx.token_revoke(token.id, NOW.plus_s(1)).await.unwrap(), "once");
        assert_eq!(tx.token_by_id(token.id).await.unwrap().unwrap().revoked_at, Some(NOW));
        tx.commit().await.unwrap();
        let (token, principal) = store.token_by_hash(hash).await.unwrap().unwrap();
        assert_eq!((token.revoked_at, principal.disabled_at), (Some(NOW), Some(NOW)));
    });
}

fn release(number: u128, version: &str, order: i64) -> Release {
    Release {
        id: ReleaseId(uuid(number)),
        product_id: product().id,
        version: version.parse().unwrap(),
        order,
        kind: ReleaseKind::Security,
        train: "2.4".parse().unwrap(),
        requires: set(&["FW.CAM.MAJOR", "FW.CAM.X"]),
        channel: Channel::Preview,
        advisories: set(&["ACME-1"]),
        notes_header: "Sharper".into(),
        notes_body: "Edges – sharper".into(),
        published_at: NOW,
        withdrawn_at: None,
        signing_epoch: 2,
    }
}

fn artifact(number: u128, release: &Release, component: &str) -> Artifact {
    Artifact {
        id: ArtifactId(uuid(number)),
        release_id: release.id,
        component: component.parse().unwrap(),
        requires: set(&["AI"]),
        hw_ids: set(&["cam-r3", "cam-r4"]),
        path: format!("acme-cam/{}/{component}.bin", release.version),
        sha256: Digest::of(format!("{number}").as_bytes()),
        length: 5_000_000_000,
        security_counter: 7,
        min_installed: Some("2.3.0".parse().unwrap()),
        min_installed_order: Some(20300),
    }
}

/// [`product`] with train 2.4 and a release.
async fn add_release(tx: &mut Tx, release: &Release) {
    if tx.product_by_name(&product().name).await.unwrap().is_none() {
        tx.product_add(&product()).await.unwrap();
        let train = Train { product_id: product().id, name: "2.4".parse().unwrap(), ga_at: NOW, support_end: None };
        tx.train_add(&train).await.unwrap();
    }
    tx.release_add(release).await.unwrap();
}

fn releases_and_artifacts(engine: Engine) {
    on(engine, async |store: Store| {
        let (old, new) = (release(10, "2.4.0", 20400), release(11, "2.4.1", 9_007_199_254_740_991));
        let main = artifact(20, &old, "main");
        let radio = Artifact { min_installed: None, min_installed_order: None, ..artifact(21, &old, "radio") };
        let mut tx = store.begin().await.unwrap();
        add_release(&mut tx, &old).await;
        add_release(&mut tx, &new).await;
        tx.artifact_add(&main).await.unwrap();
        tx.artifact_add(&radio).await.unwrap();
        assert_eq!(tx.release_by_version(product().id, &old.version).await.unwrap().as_ref(), Some(&old));
        assert_eq!(tx.release_by_order(product().id, new.order).await.unwrap().as_ref(), Some(&new));
        tx.commit().await.unwrap();
        assert_eq!(store.release_all().await.unwrap(), [new.clone(), old.clone()], "newest first");
        let mut artifacts = store.artifact_all().await.unwrap();
        artifacts.sort_by_key(|artifact| artifact.id);
        assert_eq!(artifacts, [main.clone(), radio.clone()]);
        assert_eq!(store.release_images(old.id).await.unwrap(), [main.sha256, radio.sha256]);
        is_duplicate(store.begin().await.unwrap().release_add(&release(12, "2.4.0", 5)).await);
        is_duplicate(store.begin().await.unwrap().release_add(&release(12, "2.4.2", 20400)).await);
        let taken = Artifact { id: ArtifactId(uuid(22)), release_id: new.id, ..main };
        is_duplicate(store.begin().await.unwrap().artifact_add(&taken).await);
        let mut tx = store.begin().await.unwrap();
        assert!(tx.release_withdraw(old.id, NOW).await.unwrap());
        assert!(!tx.release_withdraw(old.id, NOW.plus_s(1)).await.unwrap(), "once");
        tx.commit().await.unwrap();
        assert_eq!(store.release_all().await.unwrap()[1].withdrawn_at, Some(NOW));
    });
}

pub(super) fn device(number: u128, serial: &str) -> Device {
    Device {
        id: DeviceId(uuid(number)),
        product_id: product().id,
        serial: serial.parse().unwrap(),
        hw_id: "cam-r3".parse().unwrap(),
        mac: None,
        customer_id: None,
        site: None,
        tags: TextSet::default(),
        state: DeviceState::Active,
        fence_at: None,
        public_key: None,
        epoch: 1,
        signing_epoch: 1,
        cohort_id: CohortId(uuid(number)),
        channel: Channel::Stable,
        confirmed_train: None,
        attempt_seq: 0,
        profile: DecoderProfile::Raw,
        ram_budget: 0,
        scratch_budget: 0,
        patches_off: false,
        created_at: NOW,
    }
}

fn devices(engine: Engine) {
    on(engine, async |store: Store| {
        with_product(&store).await;
        let customer = Customer {
            id: CustomerId(uuid(1)),
            name: "globex".parse().unwrap(),
            title: "Globex".into(),
            created_at: NOW,
            parent: None,
        };
        let full = Device {
            customer_id: Some(customer.id),
            site: Some("berlin".parse().unwrap()),
            tags: set(&["lab", "vip"]),
            state: DeviceState::RmaPending,
            public_key: Some("ab".repeat(32)),
            epoch: 3,
            signing_epoch: 4,
            channel: Channel::Beta,
            confirmed_train: Some("2.4".parse().unwrap()),
            attempt_seq: 9,
            profile: DecoderProfile::Default,
            ram_budget: i64::from(u32::MAX),
            scratch_budget: 1,
            patches_off: true,
            ..device(2, "SN-2")
        };
        let mut tx = store.begin().await.unwrap();
        tx.customer_add(&customer).await.unwrap();
        tx.device_add(&device(1, "SN-1"), NOW).await.unwrap();
        tx.device_add(&full, NOW).await.unwrap();
        tx.commit().await.unwrap();
        let row = store.device_get(full.id).await.unwrap().unwrap();
        assert_eq!((row.device, row.revision, row.last_seen_at), (full.clone(), 1, None));
        assert_eq!(row.customer, Some(customer.name));
        let row = store.device_by_serial(product().id, &"SN-1".parse().unwrap()).await.unwrap().unwrap();
        assert_eq!((row.device, row.customer), (device(1, "SN-1"), None));
        let list = async |state, after| {
            let chosen = DeviceChoice { product: Some(product().id), state, ..DeviceChoice::default() };
            store.device_list(&chosen, after, 10).await.unwrap()
        };
        assert_eq!(list(None, None).await, [device(1, "SN-1"), full.clone()]);
        assert_eq!(list(Some(DeviceState::RmaPending), None).await, std::slice::from_ref(&full));
        assert_eq!(list(None, Some(DeviceId(uuid(1)))).await, std::slice::from_ref(&full));
        assert_eq!(
            store
                .device_list(&DeviceChoice { state: Some(DeviceState::Blocked), ..DeviceChoice::default() }, None, 10)
                .await
                .unwrap(),
            []
        );
        is_duplicate(store.begin().await.unwrap().device_add(&device(3, "SN-1"), NOW).await);
    });
}

fn enrol_tokens(engine: Engine) {
    on(engine, async |store: Store| {
        with_product(&store).await;
        let token = EnrolToken {
            id: EnrolTokenId(uuid(1)),
            label: "line 4".into(),
            product_id: product().id,
            customer_id: None,
            remaining: 2,
            created_at: NOW,
            expires_at: NOW.plus_days(1),
            revoked_at: None,
        };
        let hash = Digest::of(b"token");
        let mut tx = store.begin().await.unwrap();
        tx.enrol_token_add(&token, hash).await.unwrap();
        assert_eq!(tx.enrol_token_by_hash(hash).await.unwrap().as_ref(), Some(&token));
        assert!(!tx.enrol_token_use(token.id, token.expires_at).await.unwrap(), "over at its moment");
        assert!(tx.enrol_token_use(token.id, NOW).await.unwrap());
        assert!(tx.enrol_token_use(token.id, NOW).await.unwrap());
        assert!(!tx.enrol_token_use(token.id, NOW).await.unwrap(), "spent");
        tx.commit().await.unwrap();
        assert_eq!(store.enrol_token_list(None, 10).await.unwrap()[0].remaining, 0);
        let revoked = EnrolToken { id: EnrolTokenId(uuid(2)), ..token };
        let mut tx = store.begin().await.unwrap();
        tx.enrol_token_add(&revoked, Digest::of(b"two")).await.unwrap();
        assert!(tx.enrol_token_revoke(revoked.id, NOW).await.unwrap());
        assert!(!tx.enrol_token_revoke(revoked.id, NOW).await.unwrap(), "once");
        assert!(!tx.enrol_token_use(revoked.id, NOW).await.unwrap());
        tx.commit().await.unwrap();
        let again = EnrolToken { id: EnrolTokenId(uuid(3)), ..revoked };
        is_duplicate(store.begin().await.unwrap().enrol_token_add(&again, hash).await);
    });
}

fn rollout(number: u128, name: &str, release: &Release) -> Rollout {
    Rollout {
        id: RolloutId(uuid(number)),
        release_id: release.id,
        name: name.parse().unwrap(),
        author: "ann".into(),
        state: RolloutState::Draft,
        salt: "5a17".into(),
        weight: -3,
        stages: Stages(vec![Stage::of(10), Stage::of(100)]),
        stage: 0,
        opened_at: NOW,
        stage_since: NOW,
        reached: 0,
        ran_ms: 0,
        judged_at: None,
        excluded: set(&[]),
        rules: Rules { approvals: 2, ..Rules::default() },
        selector: Selector { serials: set(&["SN-1"]), tags: set(&["lab"]), ..Selector::default() },
        created_at: NOW,
    }
}

fn rollouts_and_transitions(engine: Engine) {
    on(engine, async |store: Store| {
        let release = release(10, "2.4.0", 20400);
        let spring = rollout(1, "spring", &release);
        let mut tx = store.begin().await.unwrap();
        add_release(&mut tx, &release).await;
        tx.rollout_put(&spring).await.unwrap();
        let later = NOW.plus_s(60);
        let mut moved = spring.moved(RolloutState::Running, 1, later);
        (moved.reached, moved.excluded) = (77, set(&["cam-r3"]));
        let by = |actor, cause| Because { actor, cause, evidence: None };
        assert!(tx.rollout_move(&spring, &moved, later, by("ann", "go")).await.unwrap());
        let halted = spring.moved(RolloutState::Halted, 0, later);
        assert!(!tx.rollout_move(&spring, &halted, later, by("bob", "stale")).await.unwrap());
        tx.commit().await.unwrap();
        assert_eq!(store.rollout_then(&spring, later).await.unwrap().as_ref(), Some(&moved));
        assert_eq!(store.rollout_then(&moved, NOW).await.unwrap(), None, "no transition had been made by then");
        assert_eq!(store.rollout_by_name(&spring.name).await.unwrap().as_ref(), Some(&moved));
        assert_eq!(store.rollout_all().await.unwrap(), std::slice::from_ref(&moved));
        assert_eq!(store.rollout_list("spring", 10).await.unwrap(), []);
        let transitions = store.rollout_transitions(spring.id).await.unwrap();
        assert_eq!(transitions.len(), 1, "a stale move leaves no trace");
        assert_eq!((transitions[0].actor.as_str(), transitions[0].cause.as_str()), ("ann", "go"));
        is_duplicate(store.begin().await.unwrap().rollout_put(&rollout(2, "spring", &release)).await);
    });
}

fn attempts(engine: Engine) {
    on(engine, async |store: Store| {
        let release = release(10, "2.4.0", 20400);
        let (spring, autumn) = (rollout(1, "spring", &release), rollout(2, "autumn", &release));
        let id = device(1, "SN-1").id;
        let mut tx = store.begin().await.unwrap();
        add_release(&mut tx, &release).await;
        tx.rollout_put(&spring).await.unwrap();
        tx.rollout_put(&autumn).await.unwrap();
        tx.device_add(&device(1, "SN-1"), NOW).await.unwrap();
        assert_eq!(tx.attempt_open(id, release.id, spring.id, NOW).await.unwrap(), 1);
        let first = tx.attempt_current(id).await.unwrap().unwrap();
        assert_eq!((first.seq, first.state, first.began_at), (1, AttemptState::Offered, None));
        let said = Said { encoding: Some("patch"), bytes: Some(77), ..Said::default() };
        tx.attempt_move(&first, AttemptState::Downloading, said, NOW.plus_s(1)).await.unwrap();
        let began = tx.attempt_get(id, 1).await.unwrap().unwrap();
        assert_eq!(
            (began.encoding.as_deref(), began.bytes, began.began_at),
            (Some("patch"), Some(77), Some(NOW.plus_s(1)))
        );
        let failure = Some(Failure::DeltaMismatch);
        let said = Said { failure, detail: Some("why"), log: Some("one\ntwo"), ..Said::default() };
        tx.attempt_move(&began, AttemptState::Failed, said, NOW.plus_s(2)).await.unwrap();
        assert_eq!(tx.mismatch_devices(release.id).await.unwrap(), 1);
        assert_eq!(tx.attempt_current(id).await.unwrap(), None, "a failed attempt is over");
        assert_eq!(tx.attempt_open(id, release.id, spring.id, NOW).await.unwrap(), 2);
        assert_eq!(tx.attempt_open(id, release.id, autumn.id, NOW).await.unwrap(), 3);
        tx.commit().await.unwrap();
        let attempts = store.attempt_list(id, 10).await.unwrap();
        let states: Vec<_> = attempts.iter().map(|attempt| (attempt.seq, attempt.state, attempt.failure)).collect();
        assert_eq!(
            states,
            [(3, AttemptState::Offered, None), (2, AttemptState::Superseded, None), (1, AttemptState::Failed, failure)]
        );
        assert_eq!(attempts[2].encoding.as_deref(), Some("patch"), "what was said before is kept");
        assert_eq!(store.failed_attempts(id, None).await.unwrap(), [(release.id, 1)]);
        let counts = store.attempt_counts(spring.id).await.unwrap();
        assert_eq!(counts, [("failed".to_owned(), 1), ("superseded".to_owned(), 1)]);
        assert_eq!(store.device_get(id).await.unwrap().unwrap().device.attempt_seq, 3);
        assert_eq!(
            (attempts[2].detail.as_deref(), attempts[2].log.as_deref()),
            (None, None),
            "texts are read where they are shown"
        );
        let told = store.attempt_told(id, 10).await.unwrap();
        assert_eq!((told[2].detail.as_deref(), told[2].log.as_deref()), (Some("why"), Some("one\ntwo")));
        let mut tx = store.begin().await.unwrap();
        for number in 3..=25 {
            let open = tx.attempt_get(id, number).await.unwrap().unwrap();
            let said = Said { failure: Some(Failure::CheckFailed), log: Some("log"), ..Said::default() };
            tx.attempt_move(&open, AttemptState::RolledBack, said, NOW.plus_s(3)).await.unwrap();
            tx.attempt_open(id, release.id, autumn.id, NOW).await.unwrap();
        }
        tx.commit().await.unwrap();
        let told = store.attempt_told(id, 30).await.unwrap();
        let with_log = told.iter().filter(|attempt| attempt.log.is_some()).map(|attempt| attempt.seq);
        assert_eq!(with_log.collect::<Vec<_>>(), (6..=25).rev().collect::<Vec<_>>(), "of the last twenty");
    });
}

fn patches_and_full_encodings(engine: Engine) {
    on(engine, async |store: Store| {
        let release = release(10, "2.4.0", 20400);
        let artifact = artifact(20, &release, "main");
        let (from, to) = (Digest::of(b"old"), artifact.sha256);
        let patch = Patch {
            id: PatchId(uuid(1)),
            from_sha256: from,
            to_sha256: to,
            profile: DecoderProfile::Default,
            state: PatchState::Ready,
            sha256: Digest::of(b"patch"),
            length: 100,
            head_length: 10,
            head_sha256: Digest::of(b"head"),
            ram: 1 << 20,
            scratch: 5_000_000_000,
            created_at: NOW,
        };
        let poor =
            Patch { id: PatchId(uuid(2)), profile: DecoderProfile::Fast, state: PatchState::NotWorth, ..patch.clone() };
        let full = Full { of_sha256: to, encoding: FullEncoding::Zstd, sha256: Digest::of(b"zstd"), length: 900 };
        let mut tx = store.begin().await.unwrap();
        add_release(&mut tx, &release).await;
        tx.artifact_add(&artifact).await.unwrap();
        for _ in 0..2 {
            // Twice: the second time changes nothing.
            tx.patch_add(&patch).await.unwrap();
            tx.patch_add(&poor).await.unwrap();
            tx.full_add(&full).await.unwrap();
        }
        assert!(tx.patch_exists(from, to, DecoderProfile::Fast).await.unwrap());
        assert!(!tx.patch_exists(to, from, DecoderProfile::Fast).await.unwrap());
        assert!(tx.full_exists(to).await.unwrap() && !tx.full_exists(from).await.unwrap());
        tx.commit().await.unwrap();
        assert_eq!(
            store.patch_ready().await.unwrap(),
            std::slice::from_ref(&patch),
            "what does not pay is not offered"
        );
        assert_eq!(store.full_of(to).await.unwrap(), std::slice::from_ref(&full));
        assert_eq!(store.full_all().await.unwrap(), [full]);
        let mut counts = store.patch_counts(release.id).await.unwrap();
        counts.sort_by_key(|(state, _)| state.as_str());
        assert_eq!(counts, [(PatchState::NotWorth, 1), (PatchState::Ready, 1)]);
        let mut tx = store.begin().await.unwrap();
        tx.patch_quarantine(from, to).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(store.patch_ready().await.unwrap(), []);
    });
}

fn documents(engine: Engine) {
    on(engine, async |store: Store| {
        let mut tx = store.begin().await.unwrap();
        for (repository, role, version) in
            [(Repository::Image, "root", 1), (Repository::Image, "root", 2), (Repository::Director, "root", 1)]
        {
            tx.document_add(repository, role, version, format!("{role} {version}").as_bytes(), NOW).await.unwrap();
        }
        let chain = tx.document_chain(Repository::Image, "root").await.unwrap();
        assert_eq!(chain.iter().map(|document| document.version).collect::<Vec<_>>(), [1, 2]);
        tx.commit().await.unwrap();
        let latest = store.document_latest(Repository::Image).await.unwrap();
        assert_eq!(latest.len(), 1);
        assert_eq!((latest[0].version, latest[0].body.as_slice()), (2, b"root 2".as_slice()));
        let one = store.document_get(Repository::Image, "root", 1).await.unwrap().unwrap();
        assert_eq!(one.body, b"root 1");
        assert!(store.document_get(Repository::Director, "root", 2).await.unwrap().is_none());
        let mut tx = store.begin().await.unwrap();
        is_duplicate(tx.document_add(Repository::Image, "root", 2, b"another", NOW).await);
    });
}

fn settings_and_generations(engine: Engine) {
    on(engine, async |store: Store| {
        let mut tx = store.begin().await.unwrap();
        assert_eq!(tx.meta_get("colour").await.unwrap(), None);
        tx.meta_put("colour", "red").await.unwrap();
        tx.meta_put("colour", "blue").await.unwrap();
        assert_eq!(tx.meta_get("colour").await.unwrap().as_deref(), Some("blue"));
        tx.commit().await.unwrap();

        let value =
            async |noun: &str| store.generations().await.unwrap().into_iter().find(|(name, _)| name == noun).unwrap().1;
        let (before, others) = (value("rollouts").await, value("patches").await);
        let mut tx = store.begin().await.unwrap();
        tx.generation_raise("rollouts").await.unwrap();
        drop(tx);
        assert_eq!(value("rollouts").await, before, "it rolls back with its change");
        let mut tx = store.begin().await.unwrap();
        tx.generation_raise("rollouts").await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!((value("rollouts").await, value("patches").await), (before + 1, others));
    });
}

fn text_is_ordered_by_bytes(engine: Engine) {
    on(engine, async |store: Store| {
        let mut tx = store.begin().await.unwrap();
        for (number, name) in ["b", "B", "a-1", "a1", "A", "z"].into_iter().enumerate() {
            let id = CustomerId(uuid(number as u128 + 1));
            let customer = Customer {
                id,
                name: name.parse().unwrap(),
                title: json!(name).to_string(),
                created_at: Time::EPOCH,
                parent: None,
            };
            tx.customer_add(&customer).await.unwrap();
        }
        tx.commit().await.unwrap();
        let names = |customers: Vec<Customer>| customers.into_iter().map(|c| c.name.to_string()).collect::<Vec<_>>();
        assert_eq!(names(store.customer_list("", 10).await.unwrap()), ["A", "B", "a-1", "a1", "b", "z"]);
        assert_eq!(names(store.customer_list("B", 2).await.unwrap()), ["a-1", "a1"], "pages follow the same order");
    });
}
