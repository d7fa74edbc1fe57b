//! Entitlement certificates: what the server certifies, when key E signs, and the real agent that keeps one.

use serde_json::{Value, json};
use sluice_agent::{CycleReport, Outcome};
use sluice_catalog::wire::device::PollResponse;
use sluice_catalog::{Kind, Reason};
use sluice_signer::{
    Certificate, CertificateExpect, CertifiedState, DirectorTrust, Limits, OnlineKeys, OnlineRole, VerifyError,
};
use ureq::http::Method;

use crate::harness::world::{CAM, IMAGES};
use crate::harness::{Answer, Engine, Place, Release, TestAgent, TestDevice, World};
use crate::rotation::roots;

both_engines!(
    a_certificate_says_what_the_contracts_say,
    key_e_signs_only_what_is_new,
    a_device_out_of_service_is_certified_so,
    a_revoked_device_gets_one_of_a_later_epoch,
    when_contracts_cannot_be_read_the_device_keeps_its_certificate,
    a_missing_key_e_stops_certificates_alone,
    another_key_e_follows_the_root_that_names_it,
    the_agent_keeps_a_certificate_and_answers_by_it_without_the_server,
    before_a_root_names_key_e_a_device_asks_again_later,
);

const DAY_S: i64 = 24 * 3600;

/// 2.4.0 in the field and 2.5.0, which needs a code; one device under a contract for 30 days more.
fn paid(engine: Engine, rule: &str) -> (World, TestDevice, [Release; 2]) {
    let (world, releases) = world(engine, rule);
    let mut device = world.device(CAM, "SN-1");
    device.run(&releases[0]);
    (world, device, releases)
}

fn world(engine: Engine, rule: &str) -> (World, [Release; 2]) {
    let mut world = World::new(engine);
    let [first, second] = world.free_and_paid();
    world.contract_for_30_days(rule, &["SN-1"]);
    (world, [first, second])
}

fn change(world: &World, method: Method, path: &str, body: &Value) {
    let bytes = serde_json::to_vec(body).unwrap();
    let answer = world.admin.send(method, path, &[("Content-Type", "application/json")], &bytes);
    assert!((200..300).contains(&answer.status), "{path}: {} {}", answer.status, answer.text());
}

fn ask(device: &TestDevice, held: Option<&str>) -> Answer {
    match held {
        Some(held) => device.client.get_with("/v1/entitlement", &[("If-None-Match", held)]),
        None => device.client.get("/v1/entitlement"),
    }
}

/// Verifies a certificate as the device does that has walked to this director root.
fn verify(world: &World, device: &TestDevice, root: u64, body: &[u8]) -> Result<Certificate, VerifyError> {
    let fetch = |version: u64| world.server.client().get(&format!("/director/{version}.root.json")).expect(200).body;
    let mut trust = DirectorTrust::from_root(&fetch(1), &Limits::default()).unwrap();
    for version in 2..=root {
        trust.update_root(&fetch(version)).unwrap();
    }
    let key = device.public_key();
    let now = world.server.timestamp();
    let expect =
        CertificateExpect { product: &device.product, serial: &device.serial, device_key: &key, now, kept: None };
    trust.verify_certificate(body, &expect)
}

#[track_caller]
fn certificate(world: &World, device: &TestDevice) -> Certificate {
    verify(world, device, 1, &ask(device, None).expect(200).body).unwrap()
}

/// The second part of an entity tag: what the certificate says, without its times.
fn tag(etag: &str) -> String {
    etag.trim_matches('"').split_once('.').unwrap().1.to_owned()
}

fn signed(world: &World, answer: &str) -> u64 {
    let text = world.server.client().get("/metrics").text();
    let name = format!("sluice_certificates_total{{answer=\"{answer}\"}} ");
    text.lines().find_map(|line| line.strip_prefix(&name)).map_or(0, |count| count.parse().unwrap())
}

fn a_certificate_says_what_the_contracts_say(engine: Engine) {
    let (world, mut device, _) = paid(engine, "live");
    let answer = ask(&device, None).expect(200);
    assert_eq!((answer.header("content-type"), answer.header("cache-control")), ("application/json", "no-store"));
    let first = verify(&world, &device, 1, &answer.body).unwrap();
    assert_eq!((first.device_id.as_str(), first.state), (device.id.as_str(), CertifiedState::Active));
    assert_eq!(first.expires, first.issued + jiff::SignedDuration::from_hours(30 * 24));
    let cover = &first.covers[0];
    assert_eq!((cover.contract.as_str(), cover.rule.as_str(), cover.grace_days), ("C-1", "live", 0));
    assert_eq!(cover.codes, [("FW.CAM.MAJOR".to_owned(), "stable".to_owned())].into());
    assert_eq!(cover.windows.len(), 1);
    // The poll tells which certificate there is.
    let hint = |device: &TestDevice| device.poll_answer().expect(200).json::<PollResponse>().entitlement.unwrap();
    let etag = answer.header("etag").to_owned();
    assert_eq!(hint(&device), tag(&etag));
    assert_eq!(ask(&device, Some(&etag)).status, 304);
    // Another plan, another certificate, whatever is held.
    world.server.advance_s(60);
    change(&world, Method::PATCH, "/api/v1/contracts/C-1", &json!({"state": "void"}));
    assert_ne!(hint(&device), tag(&etag));
    let answer = ask(&device, Some(&etag)).expect(200);
    assert_eq!(verify(&world, &device, 1, &answer.body).unwrap().covers, []);
    // No session, no certificate; nor is there any for a device that waits to be accepted.
    ask(&TestDevice::new(&world.server, CAM, "SN-9"), None).refused(Kind::Unauthenticated);
    let mut waits = TestDevice::new(&world.server, CAM, "SN-9");
    waits.enrol(None).expect(200);
    waits.open_session();
    ask(&waits, None).refused(Kind::WrongState);
    assert_eq!(waits.poll_answer().expect(200).json::<PollResponse>().entitlement, None);
    device.run(&Release::new(CAM, "2.4.0", 20400, &IMAGES[0]));
}

fn key_e_signs_only_what_is_new(engine: Engine) {
    let (world, mut device, _) = paid(engine, "live");
    let etag = ask(&device, None).expect(200).header("etag").to_owned();
    // A device that lost it, or says so, gets the same again.
    for _ in 0..3 {
        assert_eq!(ask(&device, None).expect(200).header("etag"), etag);
    }
    assert_eq!(ask(&device, Some(&etag)).status, 304);
    assert_eq!((signed(&world, "signed"), signed(&world, "again"), signed(&world, "unchanged")), (1, 3, 1));
    // Polls sign none.
    device.poll();
    assert_eq!(signed(&world, "signed"), 1);
    // Ten days before its end it is time for another; a second earlier it is not.
    world.server.advance_s(20 * DAY_S - 60);
    device.open_session();
    assert_eq!(ask(&device, Some(&etag)).status, 304);
    world.server.advance_s(120);
    let renewed = ask(&device, Some(&etag)).expect(200);
    assert_ne!(renewed.header("etag"), etag);
    assert_eq!(tag(renewed.header("etag")), tag(&etag), "it says the same");
    assert_eq!(signed(&world, "signed"), 2);
    // Tags that nobody gave out confirm nothing.
    for held in
        ["", "\"\"", "\"1.2\"", "\"ffffffffffffffff.00\"", &format!("\"7fffffffffffffff.{}\"", tag(&etag)), "\"zz.00\""]
    {
        ask(&device, Some(held)).expect(200);
    }
}

fn a_device_out_of_service_is_certified_so(engine: Engine) {
    let (world, device, _) = paid(engine, "open");
    assert_eq!(certificate(&world, &device).covers.len(), 1);
    let path = format!("/api/v1/products/{CAM}/devices/SN-1/state");
    for (state, certified) in [("blocked", CertifiedState::Blocked), ("retired", CertifiedState::Retired)] {
        change(&world, Method::POST, &path, &json!({"state": state}));
        world.server.advance_s(1);
        // It opens no other session; while this one lasts it is told.
        device.session().refused(Kind::Forbidden);
        let certificate = certificate(&world, &device);
        assert_eq!((certificate.state, certificate.covers), (certified, vec![]), "{state}");
    }
}

fn a_revoked_device_gets_one_of_a_later_epoch(engine: Engine) {
    let (world, mut device, _) = paid(engine, "open");
    let before = certificate(&world, &device);
    world.admin.post(&format!("/api/v1/products/{CAM}/devices/SN-1/revoke"), &json!({})).expect(200);
    ask(&device, None).refused(Kind::Unauthenticated);
    device.enrol(None).expect(200);
    device.open_session();
    let after = certificate(&world, &device);
    assert!(after.device_epoch > before.device_epoch, "the device refuses the one before from now on");
}

fn when_contracts_cannot_be_read_the_device_keeps_its_certificate(engine: Engine) {
    let (world, [first, _]) = world(engine, "live");
    world.register(CAM, "SN-1", &json!({"customer": "globex"}));
    let agent = TestAgent::new(&world, "SN-1", &first);
    agent.once().unwrap();
    assert!(agent.entitlement().holds);
    let kept = std::fs::read(agent.state.entitlement()).unwrap();
    let mut device = TestDevice::new(&world.server, CAM, "SN-1");
    device.key = agent.key();
    device.open_session();

    let refused = |device: &TestDevice| {
        let answer = ask(device, None);
        assert_eq!(answer.header("retry-after"), "5");
        answer.refused(Kind::Unavailable);
        assert!(answer.text().contains("keep the certificate that you have"), "{}", answer.text());
    };
    ask(&device, None).expect(200);
    world.server.block_on(world.server.app.store.close());
    // What could not be confirmed for half a minute is certified to nobody.
    world.server.clock.advance_ms(31_000);
    refused(&device);
    // A device that is not in memory cannot be read at all.
    world.server.app.devices.forget_all();
    refused(&device);
    drop(agent.once());
    assert_eq!(std::fs::read(agent.state.entitlement()).unwrap(), kept);
    assert!(agent.entitlement().holds);
}

fn a_missing_key_e_stops_certificates_alone(engine: Engine) {
    let (world, device, _) = paid(engine, "live");
    let etag = ask(&device, None).expect(200).header("etag").to_owned();
    let missing = |world: &World| {
        let text = world.server.client().get("/metrics").text();
        text.lines().find_map(|line| line.strip_prefix("sluice_key_missing{role=\"entitlement\"} ")).unwrap().to_owned()
    };
    assert_eq!(missing(&world), "0");
    let keys = world.server.folder().join("keys");
    std::fs::rename(keys.join("entitlement.pem"), world.server.folder().join("aside.pem")).unwrap();
    world.server.app.keys.reread().unwrap();
    world.server.advance_s(1);
    assert_eq!(missing(&world), "1");
    ask(&device, Some(&etag)).refused(Kind::Unavailable);
    assert_eq!(device.poll_answer().expect(200).json::<PollResponse>().entitlement, None, "polls are answered");
    world.server.client().get("/readyz").refused(Kind::Unavailable);
    std::fs::rename(world.server.folder().join("aside.pem"), keys.join("entitlement.pem")).unwrap();
    world.server.advance_s(1);
    assert_eq!((missing(&world).as_str(), ask(&device, Some(&etag)).status), ("0", 304));
}

fn another_key_e_follows_the_root_that_names_it(engine: Engine) {
    let (world, device, _) = paid(engine, "live");
    let before = ask(&device, None).expect(200);
    let app = &world.server.app;
    let named = app.live.documents().named().clone();
    let (next, _) = app.keys.make_next(OnlineRole::Entitlement, &named, false, sluice_server::clock::Dice).unwrap();
    assert_eq!(ask(&device, Some(before.header("etag"))).status, 304, "nothing is signed with it yet");
    let online = OnlineKeys { entitlement: next, ..world.ceremony.online.clone() };
    let [_, director] = roots(&world.ceremony, &online, 2);
    world.publish(&[director]).expect(200);
    let after = ask(&device, Some(before.header("etag"))).expect(200);
    assert!(verify(&world, &device, 2, &after.body).is_ok());
    for (root, body) in [(2, &before.body), (1, &after.body)] {
        let refused = verify(&world, &device, root, body).unwrap_err();
        assert!(matches!(refused, VerifyError::Threshold { .. }), "{refused}");
    }
}

fn the_agent_keeps_a_certificate_and_answers_by_it_without_the_server(engine: Engine) {
    let (world, [first, second]) = world(engine, "live");
    world.register(CAM, "SN-1", &json!({"customer": "globex"}));
    let agent = TestAgent::new(&world, "SN-1", &first);
    let CycleReport { outcome, reason, .. } = agent.once().unwrap();
    assert_eq!((outcome, reason.as_deref()), (Outcome::Updated, Some(Reason::CoveredLive.code())));
    let told = agent.entitlement();
    assert!(told.holds, "{told:?}");
    let one =
        |version: &str| agent.entitlement().versions.into_iter().find(|one| one.version.as_str() == version).unwrap();
    let newest = one(&second.version);
    assert_eq!((newest.allowed, newest.reason), (true, Reason::CoveredLive));
    assert_eq!(one(&first.version).reason, Reason::NoCodeRequired);
    // The contract is void: with the next answer that is no 304 the agent has the certificate that says so.
    change(&world, Method::PATCH, "/api/v1/contracts/C-1", &json!({"state": "void"}));
    world.server.advance_s(25 * 3600);
    assert_eq!(agent.once().unwrap().outcome, Outcome::UpToDate);
    assert_eq!(one(&second.version).reason, Reason::NoContract);
    // Losing cover takes nothing away, with the server or without it.
    drop(world);
    assert!(agent.once().is_err());
    assert_eq!(one(&second.version).reason, Reason::NoContract);
    assert!(agent.entitlement().holds);
}

fn before_a_root_names_key_e_a_device_asks_again_later(engine: Engine) {
    let world = World::unsigned(engine, Place::Local);
    let device = world.device(CAM, "SN-1");
    ask(&device, None).refused(Kind::Unavailable);
    world.publish(&world.foundation()).expect(200);
    ask(&device, None).expect(200);
}
