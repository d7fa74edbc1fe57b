//! Principals that are bound to a customer: a closed list of what they may ask, about their own customer alone. The table is that of
//! all endpoints, so one that is forgotten here has to refuse them.

use serde_json::{Value, json};
use sluice_catalog::Kind;
use sluice_catalog::decide::Why;
use sluice_catalog::principal::{Permission, Principal, Role};
use sluice_catalog::wire::admin::DeviceDetail;
use sluice_catalog::wire::entitlement::PolicyDetail;
use sluice_catalog::wire::event::Event;
use sluice_catalog::wire::registration::{CodeMade, Registration, SerialCover};
use ureq::http::Method;

use crate::api::endpoints;
use crate::harness::world::{BAR, CAM};
use crate::harness::{Answer, Client, Engine, TestDevice, World};

both_engines!(
    a_bound_principal_learns_nothing_of_another_customer,
    a_devices_past_is_its_former_owners,
    why_names_no_contract_of_others,
    a_bound_principal_registers_and_releases_its_own,
    a_bound_principal_sets_and_lifts_what_its_customer_wants,
    a_gated_product_is_read_by_customers_that_have_it,
    a_principal_is_bound_for_good,
);

/// What a bound principal may ask, with the permission of its role that it wants.
const ALLOWED: &[(&str, &str, Permission)] = &[
    ("GET", "/api/v1/customers", Permission::Read),
    ("GET", "/api/v1/customers/none", Permission::Read),
    ("GET", "/api/v1/customers/none/sites", Permission::Read),
    ("GET", "/api/v1/policies?customer=none", Permission::Read),
    ("GET", "/api/v1/contracts", Permission::Read),
    ("GET", "/api/v1/contracts/C-0", Permission::Read),
    ("GET", "/api/v1/devices", Permission::Read),
    ("GET", "/api/v1/products/none/devices/SN", Permission::Read),
    ("GET", "/api/v1/products/none/devices/SN/why", Permission::Read),
    ("GET", "/api/v1/products/none/devices/SN/history", Permission::Read),
    ("GET", "/api/v1/cover?serial=SN", Permission::Read),
    ("GET", "/api/v1/events", Permission::Read),
    ("POST", "/api/v1/policies", Permission::Devices),
    ("DELETE", "/api/v1/policies/019b0000-0000-7000-8000-000000000000?customer=none", Permission::Devices),
    ("POST", "/api/v1/registrations", Permission::Devices),
    ("POST", "/api/v1/products/none/devices/SN/registration-code", Permission::Devices),
    ("POST", "/api/v1/products/none/devices/SN/release", Permission::Devices),
];

const ROLES: [(Role, &str); 5] = [
    (Role::Administrator, "administrator"),
    (Role::ReleaseEngineer, "release_engineer"),
    (Role::RolloutAdmin, "rollout_admin"),
    (Role::Support, "support"),
    (Role::Auditor, "auditor"),
];

/// Things by which a path is aimed: customer, serial, contract, rollout, swap.
type Aim = [&'static str; 5];
const OTHERS: Aim = ["initech", "ALIEN-1", "C-ALIEN", "alien-pilot", "rma-alien"];
const NOBODYS: Aim = ["ghostly", "GHOST-1", "C-GHOST", "ghost-pilot", "rma-ghost"];
const OWN: Aim = ["globex", "OWN-1", "C-1", "alien-pilot", "rma-alien"];

fn aimed(text: &str, [customer, serial, contract, rollout, swap]: Aim) -> String {
    text.replace("/products/none", &format!("/products/{CAM}"))
        .replace(r#""product":"none""#, &format!(r#""product":"{CAM}""#))
        .replace("/devices/SN", &format!("/devices/{serial}"))
        .replace("serial=SN", &format!("serial={serial}"))
        .replace(r#""SN""#, &format!(r#""{serial}""#))
        .replace("/customers/none", &format!("/customers/{customer}"))
        .replace("customer=none", &format!("customer={customer}"))
        .replace(r#""customer":"none""#, &format!(r#""customer":"{customer}""#))
        .replace("C-0", contract)
        .replace("/rollouts/none", &format!("/rollouts/{rollout}"))
        .replace(r#""name":"none""#, &format!(r#""name":"{rollout}""#))
        .replace("/swaps/none", &format!("/swaps/{swap}"))
        .replace("/releases/1", "/releases/2.4.1")
}

fn send(client: &Client, method: &Method, path: &str, body: &str) -> Answer {
    client.send(method.clone(), path, &[("Content-Type", "application/json")], body.as_bytes())
}

/// A refusal without the names by which was asked, and without the id of the answer.
fn nameless(answer: &Answer, aim: Aim) -> String {
    let mut problem: Value = answer.json();
    problem["id"] = Value::Null;
    aim.iter().fold(problem.to_string(), |text, name| text.replace(name, "…"))
}

/// Two customers with all that a customer can have. What is `initech`'s has `alien` in its name, but for one device that is `globex`'s
/// now, and which a contract of `initech` still names.
fn two_customers(engine: Engine) -> World {
    let mut world = World::new(engine);
    let (_, second) = world.two_releases();
    let now = world.server.now();
    let (from, to) = (now.plus_days(-400).to_string(), now.plus_days(300).to_string());
    world.contract("live", &from, &to, &["OWN-1"]);
    world.admin.post("/api/v1/customers", &json!({"name": "initech", "title": "Alien Technologies"})).expect(201);
    let items: Vec<Value> =
        ["ALIEN-1", "OWN-1", "PAST-1"].iter().map(|serial| json!({"product": CAM, "serial": serial})).collect();
    let contract = json!({"number": "C-ALIEN", "customer": "initech", "plan": "plus",
        "windows": [{"from": from, "to": to}], "items": items});
    world.admin.post("/api/v1/contracts", &contract).expect(201);
    world.register(CAM, "OWN-1", &json!({"customer": "globex", "site": "lab"}));
    for serial in ["ALIEN-1", "PAST-1"] {
        world.register(CAM, serial, &json!({"customer": "initech", "site": "alien-hall", "tags": ["alien-tag"]}));
    }
    let site = json!({"country": "NL"});
    for (customer, site_name) in [("initech", "alien-hall"), ("globex", "lab")] {
        world
            .admin
            .send(
                Method::PUT,
                &format!("/api/v1/customers/{customer}/sites/{site_name}"),
                &[("Content-Type", "application/json")],
                site.to_string().as_bytes(),
            )
            .expect(201);
    }
    let hold = json!({"customer": "initech", "scope": "customer", "kind": "hold", "security": false, "reason": "alien reasons"});
    world.admin.post("/api/v1/policies", &hold).expect(201);
    let pilot = json!({"name": "alien-pilot", "product": CAM, "version": second.version, "stages": [{"percent": 100}],
        "selector": {"customers": ["initech"]}});
    world.admin.post("/api/v1/rollouts", &pilot).expect(201);
    world.move_rollout("alien-pilot", "start").expect(200);
    world.server.run_jobs();
    world.server.advance_s(3600);
    let to_globex = json!({"customer": "globex"});
    world.admin.post(&format!("/api/v1/products/{CAM}/devices/PAST-1/transfer"), &to_globex).expect(200);
    let swap = json!({"rma": "rma-alien", "product": CAM, "old": "ALIEN-1", "new": "ALIEN-2"});
    world.admin.post("/api/v1/swaps", &swap).expect(201);
    world.server.advance_s(3600);
    world
}

#[track_caller]
fn tells_nothing(answer: &Answer, what: &str) {
    let text = answer.text().to_lowercase();
    for secret in ["alien", "initech"] {
        assert!(!text.contains(secret), "{what}: {text}");
    }
}

fn a_bound_principal_learns_nothing_of_another_customer(engine: Engine) {
    let world = two_customers(engine);
    let clients = ROLES.map(|(role, name)| (role, world.bound(&name.replace('_', "-"), name, "globex")));
    let mut table: Vec<(Method, String, Value)> =
        endpoints().into_iter().map(|(method, path, body, _)| (method, path, body)).collect();
    table.push((Method::POST, "/api/v1/principals".into(), json!({"name": "x", "kind": "person", "role": "auditor"})));
    let transfer = "/api/v1/products/none/devices/SN/transfer";
    table.push((Method::POST, transfer.into(), json!({"customer": "none"})));
    table.retain(|(_, path, _)| path != "/api/v1/openapi.json");
    for (method, path, _) in ALLOWED {
        let stands = table.iter().any(|(m, p, _)| m.as_str() == *method && p == path);
        assert!(stands, "{method} {path} is no endpoint");
    }
    world.server.unchanged(|| {
        for (method, path, body) in &table {
            let body = if body.is_null() { String::new() } else { body.to_string() };
            let allowed = ALLOWED.iter().find(|(m, p, _)| *m == method.as_str() && p == path);
            for (role, client) in &clients {
                let what = format!("{method} {path} as {role:?}");
                let ask = |aim| send(client, method, &aimed(path, aim), &aimed(&body, aim));
                let Some((.., permission)) = allowed.filter(|(.., permission)| role.grants(*permission)) else {
                    for aim in [OWN, OTHERS, NOBODYS] {
                        let answer = ask(aim);
                        assert_eq!(answer.status, 403, "{what}: {}", answer.text());
                        tells_nothing(&answer, &what);
                    }
                    continue;
                };
                let (others, nobodys) = (ask(OTHERS), ask(NOBODYS));
                let own = (*permission == Permission::Read).then(|| ask(OWN).expect(200));
                if aimed(path, OTHERS) == aimed(path, NOBODYS) && *permission == Permission::Read {
                    tells_nothing(&others, &what);
                    let narrowed = |[customer, ..]: Aim| client.get(&format!("{path}?customer={customer}"));
                    if *path != "/api/v1/customers" {
                        narrowed(OTHERS).refused(Kind::NotFound);
                        assert_eq!(
                            nameless(&narrowed(OTHERS), OTHERS),
                            nameless(&narrowed(NOBODYS), NOBODYS),
                            "{what}"
                        );
                        narrowed(OWN).expect(200);
                    }
                } else {
                    others.refused(Kind::NotFound);
                    assert_eq!(nameless(&others, OTHERS), nameless(&nobodys, NOBODYS), "{what}");
                }
                if let Some(own) = own {
                    tells_nothing(&own, &what);
                }
            }
        }
    });
    // What it sees is not nothing.
    let (_, support) = &clients[3];
    for path in ["/api/v1/customers", "/api/v1/contracts", "/api/v1/devices"] {
        let items = support.get(path).expect(200).json::<Value>()["items"].as_array().unwrap().len();
        assert!(items > 0, "{path}");
    }
}

fn a_devices_past_is_its_former_owners(engine: Engine) {
    let world = two_customers(engine);
    let own = world.bound("gil", "support", "globex");
    let path = |rest: &str| format!("/api/v1/products/{CAM}/devices/PAST-1{rest}");
    let detail = own.get(&path("")).expect(200);
    tells_nothing(&detail, "detail");
    assert_eq!(detail.json::<DeviceDetail>().device.site, None);
    for query in ["/history", "/history?limit=100"] {
        let history = own.get(&path(query)).expect(200);
        tells_nothing(&history, query);
        assert_eq!(history.json::<Value>().as_array().unwrap().len(), 1, "the transfer begins it: {}", history.text());
        let all = world.admin.get(&path(query)).expect(200);
        assert!(all.text().contains("alien-hall"), "there is more to hide");
    }
    let before = world.server.now().plus_s(-2 * 3600 + 60);
    for query in [format!("/why?at={before}"), format!("/why?known_at={before}")] {
        world.admin.get(&path(&query)).expect(200);
        own.get(&path(&query)).refused(Kind::NotFound);
    }
    tells_nothing(&own.get(&path("/why")).expect(200), "why");
    // It goes back: what was in between stays with who had it then.
    let back = json!({"customer": "initech"});
    world.admin.post(&path("/transfer"), &back).expect(200);
    own.get(&path("")).refused(Kind::NotFound);
    own.get(&path("/history")).refused(Kind::NotFound);
}

fn why_names_no_contract_of_others(engine: Engine) {
    let mut world = two_customers(engine);
    let paid = crate::harness::Release::new(CAM, "2.5.0", 20500, &crate::harness::world::IMAGES[2])
        .train("2.5", "2026-06-01")
        .requires("FW.CAM.MAJOR");
    world.release(&paid);
    let own = world.bound("gil", "auditor", "globex");
    let why = format!("/api/v1/products/{CAM}/devices/OWN-1/why");
    let all: Why = world.admin.get(&why).expect(200).json();
    assert!(all.overlaps.iter().any(|contract| contract.as_str() == "C-ALIEN"), "{:?}", all.overlaps);
    let answer = own.get(&why).expect(200);
    tells_nothing(&answer, "why");
    let told: Why = answer.json();
    assert_eq!((told.reason, told.offered, told.steps.len()), (all.reason, all.offered, all.steps.len()));
    let cover: Vec<SerialCover> = own.get("/api/v1/cover?serial=OWN-1").expect(200).json();
    let numbers: Vec<_> = cover[0].contracts.iter().map(|contract| contract.number.as_str()).collect();
    assert_eq!(numbers, ["C-1"]);
}

fn a_bound_principal_registers_and_releases_its_own(engine: Engine) {
    let world = two_customers(engine);
    let own = world.bound("gil", "support", "globex");
    world.register(CAM, "FREE-1", &json!({}));
    let code: CodeMade = world
        .admin
        .post(&format!("/api/v1/products/{CAM}/devices/FREE-1/registration-code"), &json!({}))
        .expect(201)
        .json();
    let register =
        |customer: &str| json!({"product": CAM, "serial": "FREE-1", "customer": customer, "code": code.code});
    let path = |rest: &str| format!("/api/v1/products/{CAM}/devices/FREE-1{rest}");
    world.server.unchanged(|| {
        own.get(&path("")).refused(Kind::NotFound);
        own.post(&path("/registration-code"), &json!({})).refused(Kind::NotFound);
        own.post("/api/v1/registrations", &register("initech")).refused(Kind::NotFound);
    });
    own.post("/api/v1/registrations", &register("globex")).expect(200);
    let detail: DeviceDetail = own.get(&path("")).expect(200).json();
    assert!(detail.device.customer_id.is_some());
    own.post(&path("/registration-code"), &json!({})).expect(201);
    let released: Registration = own.post(&path("/release"), &json!({})).expect(200).json();
    assert_eq!(released.customer, None);
    own.get(&path("")).refused(Kind::NotFound);
    let told: Vec<Event> =
        own.get("/api/v1/events").expect(200).json::<sluice_catalog::wire::admin::Page<Event>>().items;
    assert!(told.iter().all(|event| event.customer.as_ref().is_none_or(|customer| customer.as_str() == "globex")));
}

fn a_bound_principal_sets_and_lifts_what_its_customer_wants(engine: Engine) {
    let world = two_customers(engine);
    let own = world.bound("gil", "support", "globex");
    let auditor = world.bound("gus", "auditor", "globex");
    let pin = |customer: &str, product: &str, version: &str| {
        json!({"customer": customer, "scope": "customer", "product": product, "kind": "pin", "version": version,
            "reason": "certified"})
    };
    let policies = |customer: &str| format!("/api/v1/policies?customer={customer}");
    let set = |body: &Value| own.post("/api/v1/policies", body);
    let embargo = json!({"codes": [], "until": world.server.now().plus_days(30)});
    let path = format!("/api/v1/products/{CAM}/releases/2.4.1/embargo");
    world.admin.put_json(&path, &embargo).expect(204);
    world.server.unchanged(|| {
        // Neither products that it has no device of, nor what is under embargo: they read like what does not exist.
        for (there, not_there) in [
            (pin("globex", BAR, "1"), pin("globex", "ghost", "1")),
            (pin("globex", CAM, "2.4.1"), pin("globex", CAM, "9.9")),
            (pin("initech", CAM, "2.4.0"), pin("nobody", CAM, "2.4.0")),
        ] {
            let (hidden, none) = (set(&there), set(&not_there));
            hidden.refused(Kind::NotFound);
            let aim = [BAR, "ghost", "2.4.1", "9.9", "initech"];
            let (hidden_text, none_text) = (nameless(&hidden, aim), nameless(&none, aim).replace("nobody", "…"));
            assert_eq!(hidden_text, none_text);
        }
        let alien = json!({"customer": "globex", "scope": "device", "target": "ALIEN-1", "product": CAM, "kind": "follow",
            "reason": "theirs"});
        set(&alien).refused(Kind::NotFound);
        auditor.post("/api/v1/policies", &pin("globex", CAM, "2.4.0")).expect(403);
    });
    let made: PolicyDetail = set(&pin("globex", CAM, "2.4.0")).expect(201).json();
    assert_eq!(made.policy.owner.as_str(), "gil");
    set(&pin("globex", CAM, "2.4.0")).expect(200);
    let listed: Vec<PolicyDetail> = own.get(&policies("globex")).expect(200).json();
    assert_eq!(listed, std::slice::from_ref(&made));
    // Who reads of a customer beneath it does not act for it.
    world.admin.put_json("/api/v1/customers/initech/parent", &json!({"parent": "globex"})).expect(200);
    let theirs: Vec<PolicyDetail> = own.get(&policies("initech")).expect(200).json();
    let path =
        |customer: &str, detail: &PolicyDetail| format!("/api/v1/policies/{}?customer={customer}", detail.policy.id);
    world.server.unchanged(|| {
        set(&pin("initech", CAM, "2.4.0")).refused(Kind::Forbidden);
        own.delete(&path("initech", &theirs[0])).refused(Kind::Forbidden);
        own.delete(&path("globex", &theirs[0])).refused(Kind::NotFound);
    });
    own.delete(&path("globex", &made)).expect(204);
    assert_eq!(own.get(&policies("globex")).expect(200).json::<Vec<PolicyDetail>>(), []);
}

fn a_gated_product_is_read_by_customers_that_have_it(engine: Engine) {
    let world = two_customers(engine);
    let gil = world.bound("gil", "auditor", "globex");
    let ina = world.bound("ina", "auditor", "initech");
    world.register(BAR, "BAR-1", &json!({"customer": "initech"}));
    let device = TestDevice::new(&world.server, BAR, "BAR-1");
    drop(device);
    let path = format!("/metadata/1.{BAR}.json");
    gil.get(&path).refused(Kind::Forbidden);
    assert_ne!(ina.get(&path).status, 403);
    assert_eq!(ina.get(&path).status, world.admin.get(&path).status);
}

fn a_principal_is_bound_for_good(engine: Engine) {
    let world = two_customers(engine);
    let gil = world.bound("gil", "support", "globex");
    let me: Principal = gil.get("/api/v1/me").expect(200).json();
    assert_eq!(me.customer.unwrap().as_str(), "globex");
    let body = |customer: &str| json!({"name": "gil", "kind": "person", "role": "support", "customer": customer});
    world.server.unchanged(|| {
        world.admin.post("/api/v1/principals", &body("globex")).expect(200);
        world.admin.post("/api/v1/principals", &body("initech")).refused(Kind::Conflict);
        let unbound = json!({"name": "gil", "kind": "person", "role": "support"});
        world.admin.post("/api/v1/principals", &unbound).refused(Kind::Conflict);
        let ghost = json!({"name": "gus", "kind": "person", "role": "support", "customer": "ghostly"});
        world.admin.post("/api/v1/principals", &ghost).refused(Kind::NotFound);
    });
    let listed: Vec<Principal> = world.list("/api/v1/principals");
    assert!(listed.iter().any(|one| one.name.as_str() == "gil" && one.customer.is_some()));
}
