//! Registration of devices by their owners, look-up of cover, and what outsiders are told: the same of every serial.

use serde_json::{Value, json};
use sluice_catalog::Kind;
use sluice_catalog::audit::AuditEntry;
use sluice_catalog::wire::admin::{DeviceDetail, EnrolTokenCreated};
use sluice_catalog::wire::device::ChallengeResponse;
use sluice_catalog::wire::registration::{
    CodeMade, CoverAnswer, CoverState, Registration, SerialCover, code_message, cover_message, register_message,
};
use ureq::http::Method;

use crate::harness::world::CAM;
use crate::harness::{Answer, Client, Engine, Place, TestDevice, TestServer, World};

both_engines!(
    an_owner_registers_with_the_code_that_the_device_shows,
    a_printed_code_registers_once,
    a_device_registers_itself_with_its_owners_token,
    what_is_somebody_elses_is_a_conflict_and_changes_nothing,
    a_device_is_released_by_its_owner_or_transferred_by_an_administrator,
    who_has_the_device_is_told_its_cover,
    outsiders_are_told_the_same_of_every_serial,
    administrators_look_a_serial_up,
    who_asks_too_often_is_told_to_wait,
    who_has_the_key_is_not_locked_out_by_others,
);

const DAY_S: i64 = 24 * 3600;

fn world(engine: Engine) -> World {
    let world = World::unsigned(engine, Place::Local);
    for name in ["globex", "initech"] {
        world.admin.post("/api/v1/customers", &json!({"name": name})).expect(201);
    }
    world
}

/// A device that is nobody's, with its key.
fn enrolled(world: &World, serial: &str) -> TestDevice {
    world.register(CAM, serial, &json!({}));
    let mut device = TestDevice::new(&world.server, CAM, serial);
    device.enrol(None).expect(200);
    device
}

/// What the device signs, as a body.
fn signed(
    device: &TestDevice,
    message: fn(&sluice_catalog::text::ProductName, &sluice_catalog::text::Serial, &str) -> Vec<u8>,
) -> Value {
    let challenge = device.client.post("/v1/challenge", &json!({})).expect(200).json::<ChallengeResponse>().challenge;
    let message = message(&device.product.parse().unwrap(), &device.serial.parse().unwrap(), &challenge);
    let signature = hex::encode(device.key.sign(&message));
    json!({"product": device.product, "serial": device.serial, "challenge": challenge, "signature": signature})
}

fn shown(device: &TestDevice) -> String {
    device.client.post("/v1/registration-code", &signed(device, code_message)).expect(200).json::<CodeMade>().code
}

fn register(world: &World, serial: &str, customer: &str, code: &str) -> Answer {
    let body = json!({"product": CAM, "serial": serial, "customer": customer, "code": code});
    world.admin.post("/api/v1/registrations", &body)
}

fn owner(world: &World, serial: &str) -> Option<String> {
    let detail: DeviceDetail = world.admin.get(&format!("/api/v1/products/{CAM}/devices/{serial}")).expect(200).json();
    let id = detail.device.customer_id?;
    let customers: Vec<sluice_catalog::customer::Customer> = world.list("/api/v1/customers");
    customers.into_iter().find(|customer| customer.id == id).map(|customer| customer.name.to_string())
}

fn an_owner_registers_with_the_code_that_the_device_shows(engine: Engine) {
    let world = world(engine);
    let device = enrolled(&world, "SN-1");
    enrolled(&world, "SN-2");
    let code = shown(&device);
    world.server.unchanged(|| {
        register(&world, "SN-2", "globex", &code).refused(Kind::Unauthenticated);
        register(&world, "SN-1", "nobody", &code).refused(Kind::NotFound);
        register(&world, "SN-1", "globex", "0000-0000-0000-0000").refused(Kind::Unauthenticated);
    });
    let typed = code.to_lowercase().replace('-', " ");
    let done: Registration = register(&world, "SN-1", "globex", &typed).expect(200).json();
    assert_eq!(done.customer.unwrap().as_str(), "globex");
    assert_eq!(owner(&world, "SN-1").as_deref(), Some("globex"));
    world.server.unchanged(|| register(&world, "SN-1", "globex", &code).expect(200));
    let audit: Vec<AuditEntry> = world.list("/api/v1/audit?limit=500");
    assert_eq!(audit.iter().filter(|entry| entry.action == "device.register").count(), 1);
    assert!(audit.iter().all(|entry| !entry.detail.contains(&code)), "the code is a secret");
    // An hour later a code is no proof any more.
    let late = shown(&device);
    world.server.advance_s(3601);
    register(&world, "SN-1", "globex", &late).refused(Kind::Unauthenticated);
}

fn a_printed_code_registers_once(engine: Engine) {
    let world = world(engine);
    enrolled(&world, "SN-1");
    let path = format!("/api/v1/products/{CAM}/devices/SN-1");
    let made: CodeMade =
        world.admin.post(&format!("{path}/registration-code"), &json!({"days": 30})).expect(201).json();
    world.admin.post(&format!("{path}/registration-code"), &json!({"days": 0})).refused(Kind::Invalid);
    world.server.advance_s(29 * DAY_S);
    register(&world, "SN-1", "globex", &made.code).expect(200);
    world.admin.post(&format!("{path}/release"), &json!({})).expect(200);
    register(&world, "SN-1", "initech", &made.code).refused(Kind::Unauthenticated);
    assert_eq!(owner(&world, "SN-1"), None);
}

fn token(world: &World, customer: Option<&str>) -> String {
    let body = json!({"product": CAM, "uses": 1, "customer": customer});
    world.admin.post("/api/v1/enrol-tokens", &body).expect(201).json::<EnrolTokenCreated>().token
}

fn a_device_registers_itself_with_its_owners_token(engine: Engine) {
    let world = world(engine);
    let (device, other) = (enrolled(&world, "SN-1"), enrolled(&world, "SN-2"));
    let (own, nobodys) = (token(&world, Some("globex")), token(&world, None));
    let ask = |device: &TestDevice, token: &str| {
        let mut body = signed(device, register_message);
        body["token"] = token.into();
        device.client.post("/v1/register", &body)
    };
    world.server.unchanged(|| {
        ask(&device, &nobodys).refused(Kind::Invalid);
        ask(&device, "sle_guess").refused(Kind::Unauthenticated);
        let mut session = signed(&device, sluice_catalog::wire::device::session_message);
        session["token"] = own.as_str().into();
        device.client.post("/v1/register", &session).refused(Kind::Unauthenticated);
    });
    ask(&device, &own).expect(200);
    assert_eq!(owner(&world, "SN-1").as_deref(), Some("globex"));
    world.server.unchanged(|| {
        ask(&device, &own).expect(200);
        ask(&other, &own).refused(Kind::Unauthenticated);
    });
}

fn what_is_somebody_elses_is_a_conflict_and_changes_nothing(engine: Engine) {
    let world = world(engine);
    let device = enrolled(&world, "SN-1");
    let (first, second) = (shown(&device), shown(&device));
    register(&world, "SN-1", "globex", &first).expect(200);
    let others = token(&world, Some("initech"));
    let problem = world.server.unchanged(|| {
        let mut body = signed(&device, register_message);
        body["token"] = others.as_str().into();
        device.client.post("/v1/register", &body).refused(Kind::Conflict);
        register(&world, "SN-1", "initech", &second).refused(Kind::Conflict)
    });
    assert!(!problem.detail.contains("globex"), "{}", problem.detail);
    assert!(problem.detail.contains("releases it"), "{}", problem.detail);
    // The second code was not spent.
    world.admin.post(&format!("/api/v1/products/{CAM}/devices/SN-1/state"), &json!({"state": "blocked"})).expect(200);
    register(&world, "SN-1", "globex", &second).expect(200);
}

fn a_device_is_released_by_its_owner_or_transferred_by_an_administrator(engine: Engine) {
    let world = world(engine);
    let device = enrolled(&world, "SN-1");
    register(&world, "SN-1", "globex", &shown(&device)).expect(200);
    let (support, auditor) = (world.principal("sue", "support"), world.principal("al", "auditor"));
    let path = format!("/api/v1/products/{CAM}/devices/SN-1");
    let to = |client: &Client, customer: &str| client.post(&format!("{path}/transfer"), &json!({"customer": customer}));
    world.server.unchanged(|| {
        to(&support, "initech").refused(Kind::Forbidden);
        to(&auditor, "initech").refused(Kind::Forbidden);
        to(&world.admin, "nobody").refused(Kind::NotFound);
        auditor.post(&format!("{path}/release"), &json!({})).refused(Kind::Forbidden);
    });
    to(&world.admin, "initech").expect(200);
    world.server.unchanged(|| to(&world.admin, "initech").expect(200));
    assert_eq!(owner(&world, "SN-1").as_deref(), Some("initech"));
    let released: Registration = support.post(&format!("{path}/release"), &json!({})).expect(200).json();
    assert_eq!((released.customer, owner(&world, "SN-1")), (None, None));
    world.server.unchanged(|| support.post(&format!("{path}/release"), &json!({})).expect(200));
    register(&world, "SN-1", "globex", &shown(&device)).expect(200);
    let audit: Vec<AuditEntry> = world.list("/api/v1/audit?limit=500");
    let moves: Vec<&str> = audit
        .iter()
        .map(|entry| entry.action.as_str())
        .filter(|action| ["device.register", "device.transfer", "device.release"].contains(action))
        .collect();
    assert_eq!(moves, ["device.register", "device.transfer", "device.release", "device.register"]);
}

/// Contract `C-1` of `globex`, rule `live`, for these serials, for 30 days from now.
fn contract(world: &World, serials: &[&str]) {
    let plan = json!({"name": "plus", "rule": "live", "grace_days": 14, "grants": [{"code": "FW.CAM.MAJOR"}]});
    world.admin.post("/api/v1/plans", &plan).expect(201);
    let items: Vec<Value> = serials.iter().map(|serial| json!({"product": CAM, "serial": serial})).collect();
    let now = world.server.now();
    let contract = json!({"number": "C-1", "customer": "globex", "plan": "plus", "items": items,
        "windows": [{"from": now.plus_days(-1), "to": now.plus_days(30)}]});
    world.admin.post("/api/v1/contracts", &contract).expect(201);
}

fn who_has_the_device_is_told_its_cover(engine: Engine) {
    let world = world(engine);
    let device = enrolled(&world, "SN-1");
    let bare = enrolled(&world, "SN-2");
    contract(&world, &["SN-1"]);
    let by_key = |device: &TestDevice| -> CoverAnswer {
        let answer = world.server.client().post("/v1/cover", &signed(device, cover_message)).expect(200);
        assert!(!answer.text().contains("globex") && !answer.text().contains("C-1"), "{}", answer.text());
        answer.json()
    };
    let until = world.server.now().plus_days(30);
    let answer = by_key(&device);
    assert_eq!((answer.state, answer.covered), (CoverState::Covered, true));
    assert!(answer.until.unwrap().as_s().abs_diff(until.as_s()) < 600);
    assert_eq!(answer.codes[0].as_str(), "FW.CAM.MAJOR");
    assert_eq!(by_key(&bare).state, CoverState::None);
    let code = shown(&device);
    let body = json!({"product": CAM, "serial": "SN-1", "code": code});
    assert_eq!(
        world.server.client().post("/v1/cover", &body).expect(200).json::<CoverAnswer>(),
        answer,
        "and spends nothing"
    );
    register(&world, "SN-1", "globex", &code).expect(200);
    world.server.client().post("/v1/cover", &body).expect(200);
    world.server.advance_s(31 * DAY_S);
    assert_eq!(by_key(&device).state, CoverState::Grace);
    world.server.advance_s(20 * DAY_S);
    assert_eq!((by_key(&device).state, by_key(&device).covered), (CoverState::Lapsed, false));
}

/// A question of an outsider.
type Ask = fn(&World, &TestDevice) -> Answer;

/// An answer without what differs each time: the id for the log, and times of sending.
fn shape(answer: &Answer) -> (u16, Value, usize, Vec<(String, String)>) {
    let mut body: Value = answer.json();
    body["id"] = Value::Null;
    let mut headers: Vec<(String, String)> = answer
        .headers
        .iter()
        .filter(|(name, _)| name.as_str() != "date")
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .collect();
    headers.sort();
    (answer.status, body, answer.body.len(), headers)
}

fn outsiders_are_told_the_same_of_every_serial(engine: Engine) {
    let world = world(engine);
    // Enrolled, registered beforehand, under a contract alone, blocked; and one that nobody knows.
    enrolled(&world, "SN-0001");
    world.register(CAM, "SN-0002", &json!({"customer": "globex"}));
    contract(&world, &["SN-0001", "SN-0003"]);
    enrolled(&world, "SN-0004");
    let blocked = json!({"state": "blocked"});
    world.admin.post(&format!("/api/v1/products/{CAM}/devices/SN-0004/state"), &blocked).expect(200);
    let stranger = || sluice_signer::SigningKey::from_seed(&[9; 32]).unwrap();
    let asks: [(&str, Ask); 8] = [
        ("session", |_, device| device.session()),
        ("registration code", |_, device| device.client.post("/v1/registration-code", &signed(device, code_message))),
        ("register", |_, device| {
            let mut body = signed(device, register_message);
            body["token"] = "sle_guess".into();
            device.client.post("/v1/register", &body)
        }),
        ("cover by signature", |_, device| device.client.post("/v1/cover", &signed(device, cover_message))),
        ("cover by code", |_, device| {
            let body = json!({"product": device.product, "serial": device.serial, "code": "0000-0000-0000-0000"});
            device.client.post("/v1/cover", &body)
        }),
        ("cover without proof", |_, device| {
            device.client.post("/v1/cover", &json!({"product": device.product, "serial": device.serial}))
        }),
        ("registration by an owner", |world, device| register(world, &device.serial, "globex", "0000-0000-0000-0000")),
        ("enrolment with a token that is none", |_, device| {
            device.client.post("/v1/enrol", &device.enrolment(Some("sle_guess")))
        }),
    ];
    world.server.unchanged(|| {
        for (name, ask) in asks {
            let of = |product: &str, serial: &str| {
                let mut device = TestDevice::new(&world.server, product, serial);
                device.key = stranger();
                shape(&ask(&world, &device))
            };
            let unknown = of(CAM, "SN-9999");
            assert_eq!(unknown.0, 401, "{name}: {unknown:?}");
            for serial in ["SN-0001", "SN-0002", "SN-0003", "SN-0004"] {
                assert_eq!(of(CAM, serial), unknown, "{name} {serial}");
            }
            // Limits count the same of all.
            assert_eq!(of("acme-bar", "SN-0001"), unknown, "{name} of another product");
        }
    });
}

fn administrators_look_a_serial_up(engine: Engine) {
    let world = world(engine);
    let device = enrolled(&world, "SN-1");
    register(&world, "SN-1", "globex", &shown(&device)).expect(200);
    world.register("acme-bar", "SN-1", &json!({}));
    contract(&world, &["SN-1", "SN-3"]);
    let found: Vec<SerialCover> = world.admin.get("/api/v1/cover?serial=SN-1").expect(200).json();
    assert_eq!(
        found.iter().map(|one| (one.product.as_str(), one.cover.state)).collect::<Vec<_>>(),
        [("acme-bar", CoverState::None), (CAM, CoverState::Covered)]
    );
    let contract = &found[1].contracts[0];
    assert_eq!(
        (contract.number.as_str(), contract.customer.as_str(), contract.plan.as_str()),
        ("C-1", "globex", "plus")
    );
    let found: Vec<SerialCover> =
        world.admin.get(&format!("/api/v1/cover?serial=SN-3&product={CAM}")).expect(200).json();
    assert_eq!((found.len(), found[0].device), (1, None));
    world.admin.get("/api/v1/cover?serial=SN-9").refused(Kind::NotFound);
}

fn from(client: &Client, address: &str, path: &str, body: &Value) -> Answer {
    let headers = [("Content-Type", "application/json"), ("X-Forwarded-For", address)];
    client.send(Method::POST, path, &headers, &serde_json::to_vec(body).unwrap())
}

fn who_asks_too_often_is_told_to_wait(engine: Engine) {
    let server = TestServer::start_trusting(engine, "X-Forwarded-For", 3);
    let client = server.client();
    let cover = |serial: &str| json!({"product": CAM, "serial": serial, "code": "0"});
    for serial in ["SN-1", "SN-2", "SN-3"] {
        from(&client, "198.51.100.7", "/v1/cover", &cover(serial)).refused(Kind::Unauthenticated);
    }
    for path in ["/v1/cover", "/v1/challenge"] {
        let answer = from(&client, "198.51.100.7", path, &cover("SN-4"));
        assert!(answer.refused(Kind::RateLimited).detail.contains("this address asks too often"));
        let wait: i64 = answer.header("retry-after").parse().unwrap();
        assert!((1..=20).contains(&wait), "{wait}");
    }
    from(&client, "198.51.100.8", "/v1/cover", &cover("SN-4")).refused(Kind::Unauthenticated);
    from(&client, "203.0.113.5, 198.51.100.7", "/v1/cover", &cover("SN-4")).refused(Kind::RateLimited);
    server.advance_s(61);
    from(&client, "198.51.100.7", "/v1/cover", &cover("SN-4")).refused(Kind::Unauthenticated);
    // From many addresses, about one serial; whether it exists or not.
    let mut refused = 0;
    for number in 0..80 {
        let answer = from(&client, &format!("203.0.113.{number}"), "/v1/cover", &cover("SN-77"));
        refused += i32::from(answer.status == 429);
    }
    assert!(refused > 0);
    let metrics = client.get("/metrics").expect(200).text();
    for labels in
        [r#"surface="cover",by="address""#, r#"surface="session",by="address""#, r#"surface="cover",by="serial""#]
    {
        assert!(metrics.contains(&format!("sluice_limited_total{{{labels}}} ")), "{labels}: {metrics}");
    }
}

fn who_has_the_key_is_not_locked_out_by_others(engine: Engine) {
    let world = world(engine);
    let device = enrolled(&world, "SN-1");
    let mut thief = TestDevice::new(&world.server, CAM, "SN-1");
    thief.key = sluice_signer::SigningKey::from_seed(&[9; 32]).unwrap();
    let statuses: Vec<u16> = (0..80).map(|_| thief.session().status).collect();
    assert!(statuses.contains(&401) && statuses.contains(&429), "{statuses:?}");
    device.session().expect(200);
}
