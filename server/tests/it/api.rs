//! The administrative API: the first administrator, who may do what, repeated requests, the audit log.

use serde_json::{Value, json};
use sluice_catalog::audit::AuditEntry;
use sluice_catalog::principal::{Permission, Principal, Role};
use sluice_catalog::wire::admin::{Page, TokenCreated};
use sluice_catalog::{Digest, Kind};
use sluice_server::http::api::openapi;

use crate::harness::world::CAM;
use crate::harness::{Client, Engine, TestServer, World};

both_engines!(
    the_bootstrap_token_makes_one_administrator_and_nothing_else,
    of_two_first_administrators_at_once_one_wins,
    every_endpoint_wants_its_permission,
    a_token_may_hold_less_than_its_principal,
    dead_tokens_open_nothing,
    a_repeated_create_answers_and_another_conflicts,
    every_mutation_is_in_the_audit_chain,
    lists_come_in_pages,
    health_and_metrics,
);

const BOOTSTRAP: &str = "/api/v1/bootstrap";

fn the_bootstrap_token_makes_one_administrator_and_nothing_else(engine: Engine) {
    let server = TestServer::start(engine);
    let bootstrap = server.client().with(&server.bootstrap_token());
    server.unchanged(|| {
        server.client().post(BOOTSTRAP, &json!({"name": "eve"})).refused(Kind::Unauthenticated);
        server.client().with("slb_guess").post(BOOTSTRAP, &json!({"name": "eve"})).refused(Kind::Unauthenticated);
        for (method, path, ..) in endpoints() {
            if path != BOOTSTRAP && path != "/api/v1/openapi.json" {
                bootstrap.send(method, &path, &[("Content-Type", "application/json")], b"{}").refused_or_malformed();
            }
        }
    });
    let made: TokenCreated = bootstrap.post(BOOTSTRAP, &json!({"name": "ann"})).expect(201).json();
    assert_eq!((made.principal.role, made.principal.name.as_str()), (Role::Administrator, "ann"));
    let ann = server.client().with(&made.token);
    assert_eq!(ann.get("/api/v1/me").expect(200).json::<Principal>(), made.principal);
    server.unchanged(|| {
        bootstrap.post(BOOTSTRAP, &json!({"name": "eve"})).refused(Kind::WrongState);
        ann.post(BOOTSTRAP, &json!({"name": "eve"})).refused(Kind::Forbidden);
    });
}

impl crate::harness::Answer {
    /// Refused for want of rights, or before rights were looked at because the body said nothing.
    #[track_caller]
    fn refused_or_malformed(&self) {
        assert!([400, 403].contains(&self.status), "{} {}", self.status, self.text());
    }
}

fn of_two_first_administrators_at_once_one_wins(engine: Engine) {
    let server = TestServer::start(engine);
    let bootstrap = server.client().with(&server.bootstrap_token());
    let mut statuses: Vec<u16> = std::thread::scope(|scope| {
        let asking: Vec<_> = (0..8)
            .map(|number| {
                let bootstrap = bootstrap.clone();
                scope.spawn(move || bootstrap.post(BOOTSTRAP, &json!({"name": format!("admin-{number}")})).status)
            })
            .collect();
        asking.into_iter().map(|asked| asked.join().unwrap()).collect()
    });
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409, 409, 409, 409, 409, 409, 409]);
}

/// Every endpoint with a body that is well-formed and leads nowhere, and the permission that it wants.
pub(crate) fn endpoints() -> Vec<(ureq::http::Method, String, Value, Option<Permission>)> {
    use ureq::http::Method;
    let none = || json!({});
    let id = "019b0000-0000-7000-8000-000000000000";
    let digest = Digest::of(b"nothing");
    let get = |path: &str, permission| (Method::GET, path.to_owned(), Value::Null, Some(permission));
    let post = |path: &str, body, permission| (Method::POST, path.to_owned(), body, Some(permission));
    let nobody = json!({"name": "nobody"});
    vec![
        get("/api/v1/status", Permission::Read),
        get("/api/v1/jobs", Permission::Read),
        get("/api/v1/audit", Permission::Read),
        get("/api/v1/online-keys", Permission::Read),
        get("/api/v1/products", Permission::Read),
        get("/api/v1/products/none", Permission::Read),
        get("/api/v1/products/none/releases", Permission::Read),
        get("/api/v1/products/none/trains", Permission::Read),
        get("/api/v1/products/none/releases/1", Permission::Read),
        get("/api/v1/devices", Permission::Read),
        get("/api/v1/products/none/devices/SN", Permission::Read),
        get("/api/v1/products/none/devices/SN/why", Permission::Read),
        get("/api/v1/products/none/why", Permission::Read),
        post(
            "/api/v1/what-if",
            json!({"plan": {"name": "none", "change": {"rule": "live", "grace_days": 0, "grants": []}}}),
            Permission::Contracts,
        ),
        get("/api/v1/products/none/forecast?to=2030-01-01", Permission::Read),
        get("/api/v1/customers", Permission::Read),
        get("/api/v1/customers/none", Permission::Read),
        (Method::PUT, "/api/v1/customers/none/parent".to_owned(), none(), Some(Permission::Contracts)),
        (Method::PUT, "/api/v1/customers/none/partners/other".to_owned(), none(), Some(Permission::Contracts)),
        (Method::DELETE, "/api/v1/customers/none/partners/other".to_owned(), Value::Null, Some(Permission::Contracts)),
        get("/api/v1/plans", Permission::Read),
        get("/api/v1/contracts", Permission::Read),
        get("/api/v1/contracts/C-0", Permission::Read),
        get("/api/v1/rollouts", Permission::Read),
        post("/api/v1/products/none/audience/count", none(), Permission::Read),
        get("/api/v1/rollouts/none", Permission::Read),
        get("/api/v1/rollouts/none/audience", Permission::Read),
        get("/api/v1/rollouts/none/live", Permission::Read),
        get("/api/v1/rollouts/none/series", Permission::Read),
        get("/api/v1/rollouts/none/failures", Permission::Read),
        get("/api/v1/principals", Permission::Principals),
        get("/api/v1/enrol-tokens", Permission::Devices),
        get("/api/v1/held", Permission::Embargo),
        (Method::DELETE, "/api/v1/held/none".to_owned(), Value::Null, Some(Permission::Embargo)),
        (Method::HEAD, format!("/api/v1/blobs/{digest}"), Value::Null, Some(Permission::Publish)),
        (Method::PUT, format!("/api/v1/blobs/{digest}"), none(), Some(Permission::Publish)),
        post(
            "/api/v1/publish",
            json!({"documents": [{"repository": "image", "role": "root", "version": 1, "body": "e30="}]}),
            Permission::Publish,
        ),
        post("/api/v1/products/none/releases/1/withdraw", none(), Permission::Publish),
        post("/api/v1/products", json!({"name": "root", "visibility": "public"}), Permission::Products),
        (Method::PUT, "/api/v1/products/none/trains/2.4/support-end".to_owned(), none(), Some(Permission::Products)),
        post("/api/v1/customers", json!({"name": "x", "title": "\u{7}"}), Permission::Contracts),
        post("/api/v1/plans", json!({"name": "x", "grace_days": 366, "grants": []}), Permission::Contracts),
        post("/api/v1/contracts", json!({"number": "C", "customer": "none", "plan": "none"}), Permission::Contracts),
        post("/api/v1/contracts/C-0/facts", none(), Permission::Contracts),
        (Method::PATCH, "/api/v1/contracts/C-0".to_owned(), none(), Some(Permission::Contracts)),
        (
            Method::PUT,
            "/api/v1/contracts/C-0".to_owned(),
            json!({"source": "none", "revision": 1, "customer": "none", "plan": "none"}),
            Some(Permission::Contracts),
        ),
        (Method::DELETE, format!("/api/v1/contracts/C-0/windows/{id}"), Value::Null, Some(Permission::Contracts)),
        (Method::DELETE, format!("/api/v1/contracts/C-0/items/{id}"), Value::Null, Some(Permission::Contracts)),
        (
            Method::PUT,
            "/api/v1/plans/none".to_owned(),
            json!({"rule": "live", "grace_days": 0, "grants": []}),
            Some(Permission::Contracts),
        ),
        get("/api/v1/contract-overlaps", Permission::Read),
        get("/api/v1/contract-sources", Permission::Read),
        post("/api/v1/contract-sources/none", none(), Permission::Contracts),
        (
            Method::PUT,
            "/api/v1/contract-sources/none".to_owned(),
            json!({"stale_after_hours": 0}),
            Some(Permission::Contracts),
        ),
        get("/api/v1/policies?customer=none", Permission::Read),
        post(
            "/api/v1/policies",
            json!({"customer": "none", "scope": "customer", "kind": "follow", "reason": "x"}),
            Permission::Devices,
        ),
        (Method::DELETE, format!("/api/v1/policies/{id}?customer=none"), Value::Null, Some(Permission::Devices)),
        get("/api/v1/customers/none/sites", Permission::Read),
        (Method::PUT, "/api/v1/customers/none/sites/hall".to_owned(), none(), Some(Permission::Devices)),
        (
            Method::PUT,
            "/api/v1/products/none/releases/1/embargo".to_owned(),
            json!({"until": "2001-01-01"}),
            Some(Permission::Rollouts),
        ),
        (
            Method::DELETE,
            "/api/v1/products/none/releases/1/embargo".to_owned(),
            Value::Null,
            Some(Permission::Rollouts),
        ),
        (
            Method::PUT,
            "/api/v1/products/none/releases/1/blocked-countries".to_owned(),
            json!({"countries": []}),
            Some(Permission::Rollouts),
        ),
        post(
            "/api/v1/contract-imports",
            json!({"rows": [{"line": 1, "contract": "C", "customer": "none", "plan": "none"}]}),
            Permission::Contracts,
        ),
        post(
            "/api/v1/registrations",
            json!({"product": "none", "serial": "SN", "customer": "none", "code": "0"}),
            Permission::Devices,
        ),
        post("/api/v1/products/none/devices/SN/registration-code", none(), Permission::Devices),
        post("/api/v1/products/none/devices/SN/release", none(), Permission::Devices),
        get("/api/v1/cover?serial=SN", Permission::Read),
        get("/api/v1/events", Permission::Read),
        (Method::PUT, "/api/v1/contracts/C-0/zone".to_owned(), none(), Some(Permission::Contracts)),
        get("/api/v1/swaps", Permission::Read),
        get("/api/v1/swaps/none", Permission::Read),
        post("/api/v1/swaps", json!({"rma": "R", "product": "none", "old": "A", "new": "B"}), Permission::Devices),
        post("/api/v1/swaps/none/undo", none(), Permission::Devices),
        get("/api/v1/products/none/devices/SN/history", Permission::Read),
        post("/api/v1/devices", json!({"product": "none", "serial": "SN", "hw_id": "x"}), Permission::Devices),
        (Method::PATCH, "/api/v1/products/none/devices/SN".to_owned(), json!({"site": "x"}), Some(Permission::Devices)),
        post("/api/v1/products/none/devices/SN/state", json!({"state": "blocked"}), Permission::Devices),
        post("/api/v1/products/none/devices/SN/revoke", none(), Permission::Devices),
        (
            Method::PUT,
            "/api/v1/products/none/devices/SN/update-now".to_owned(),
            json!({"reason": "x"}),
            Some(Permission::Rollouts),
        ),
        (
            Method::DELETE,
            "/api/v1/products/none/devices/SN/update-now".to_owned(),
            Value::Null,
            Some(Permission::Rollouts),
        ),
        post("/api/v1/products/none/devices/SN/erase", none(), Permission::Devices),
        post("/api/v1/enrol-tokens", json!({"product": "none", "uses": 1}), Permission::Devices),
        (Method::DELETE, format!("/api/v1/enrol-tokens/{id}"), Value::Null, Some(Permission::Devices)),
        post(
            "/api/v1/rollouts",
            json!({"name": "x", "product": "none", "version": "1", "stages": []}),
            Permission::Rollouts,
        ),
        post("/api/v1/rollouts/none/move", json!({"action": "start"}), Permission::Rollouts),
        (
            Method::PUT,
            "/api/v1/rollouts/none".to_owned(),
            json!({"name": "none", "product": "none", "version": "1", "preset": "normal"}),
            Some(Permission::Rollouts),
        ),
        post(
            "/api/v1/rollouts/none/approvals",
            json!({"digest": digest, "public_key": "", "signature": ""}),
            Permission::Rollouts,
        ),
        get("/api/v1/approvers", Permission::Read),
        (Method::DELETE, "/api/v1/approvers/none".to_owned(), Value::Null, Some(Permission::Principals)),
        post("/api/v1/principals/none/approver-keys", json!({"public_key": ""}), Permission::Principals),
        get("/api/v1/stop-all", Permission::Read),
        (Method::PUT, "/api/v1/stop-all".to_owned(), json!({"stopped": true}), Some(Permission::Rollouts)),
        post("/api/v1/principals/none/disable", nobody.clone(), Permission::Principals),
        post("/api/v1/principals/none/tokens", none(), Permission::Principals),
        (Method::DELETE, format!("/api/v1/tokens/{id}"), Value::Null, Some(Permission::Principals)),
        (Method::POST, BOOTSTRAP.to_owned(), nobody, None),
        (Method::GET, "/api/v1/openapi.json".to_owned(), Value::Null, None),
    ]
}

fn request(client: &Client, method: ureq::http::Method, path: &str, body: &Value) -> u16 {
    let bytes = if body.is_null() { Vec::new() } else { serde_json::to_vec(body).unwrap() };
    client.send(method, path, &[("Content-Type", "application/json")], &bytes).status
}

fn every_endpoint_wants_its_permission(engine: Engine) {
    let world = World::new(engine);
    let roles = [
        (Role::Administrator, "administrator"),
        (Role::ReleaseEngineer, "release_engineer"),
        (Role::RolloutAdmin, "rollout_admin"),
        (Role::Support, "support"),
        (Role::Auditor, "auditor"),
    ];
    let clients = roles.map(|(role, name)| (role, world.principal(&name.replace('_', "-"), name)));
    world.server.unchanged(|| {
        for (method, path, body, permission) in endpoints() {
            let Some(permission) = permission else { continue };
            assert_eq!(
                request(&world.server.client(), method.clone(), &path, &body),
                401,
                "{method} {path} without token"
            );
            for (role, client) in &clients {
                let status = request(client, method.clone(), &path, &body);
                if role.grants(permission) {
                    assert!(![401, 403].contains(&status), "{method} {path} as {role:?}: {status}");
                } else {
                    assert_eq!(status, 403, "{method} {path} as {role:?}");
                }
            }
        }
    });
}

#[test]
fn the_table_of_permissions_has_every_endpoint() {
    let document = serde_json::to_value(openapi()).unwrap();
    let mut declared = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys().filter(|key| *key != "parameters") {
            declared.push((method.to_uppercase(), path.split('/').count(), path.clone()));
        }
    }
    let listed = endpoints();
    for (method, segments, path) in &declared {
        // The transfer of a device is an administrator's, whatever others may do with devices: `registration.rs` tests it.
        let elsewhere = "/api/v1/products/{product}/devices/{serial}/transfer";
        if ["/api/v1/me", "/api/v1/principals", elsewhere].contains(&path.as_str()) {
            continue;
        }
        let fits = |listed: &str| {
            let listed = listed.split('?').next().unwrap_or(listed);
            listed.split('/').count() == *segments
                && listed
                    .split('/')
                    .zip(path.split('/'))
                    .all(|(ours, theirs)| theirs.starts_with('{') || ours == theirs)
        };
        assert!(listed.iter().any(|(m, p, ..)| m.as_str() == method && fits(p)), "{method} {path} is in no table");
    }
    assert!(declared.len() > 35, "{}", declared.len());
}

fn a_token_may_hold_less_than_its_principal(engine: Engine) {
    let world = World::new(engine);
    let token = |scopes: Value| {
        world.admin.post("/api/v1/principals/root-admin/tokens", &json!({"label": "less", "scopes": scopes}))
    };
    let made: TokenCreated = token(json!(["read"])).expect(201).json();
    let reader = world.server.client().with(&made.token);
    reader.get("/api/v1/status").expect(200);
    reader.post("/api/v1/customers", &json!({"name": "x"})).refused(Kind::Forbidden);
    let problem = token(json!(["reed"])).refused(Kind::Invalid);
    assert!(problem.detail.contains("reed") && problem.detail.contains("read, publish"), "{}", problem.detail);
}

fn dead_tokens_open_nothing(engine: Engine) {
    let world = World::new(engine);
    let token = |body: Value| -> TokenCreated {
        world.admin.post("/api/v1/principals/root-admin/tokens", &body).expect(201).json()
    };
    let client = |made: &TokenCreated| world.server.client().with(&made.token);
    let ending = token(json!({"expires_at": world.server.now().plus_s(60)}));
    let revoked = token(json!({}));
    client(&ending).get("/api/v1/status").expect(200);
    client(&revoked).get("/api/v1/status").expect(200);
    world.server.advance_s(60);
    world.admin.delete(&format!("/api/v1/tokens/{}", revoked.token_id)).expect(204);
    let gone = world.principal("gone", "support");
    world.admin.post("/api/v1/principals/gone/disable", &json!({})).expect(200);
    for dead in [client(&ending), client(&revoked), gone] {
        let answer = dead.get("/api/v1/status");
        answer.refused(Kind::Unauthenticated);
        assert_eq!(answer.header("www-authenticate"), "Bearer");
    }
    world.admin.post("/api/v1/principals/root-admin/disable", &json!({})).refused(Kind::WrongState);
    world.admin.get("/api/v1/status").expect(200);
}

fn a_repeated_create_answers_and_another_conflicts(engine: Engine) {
    let mut world = World::new(engine);
    world.two_releases();
    let creates = [
        ("/api/v1/products", json!({"name": "other", "visibility": "public"}), ("visibility", json!("gated"))),
        ("/api/v1/customers", json!({"name": "globex", "title": "Globex"}), ("title", json!("Globex Inc."))),
        (
            "/api/v1/plans",
            json!({"name": "plus", "grants": [{"code": "FW.A"}, {"code": "FW.B", "family": "cameras"}]}),
            ("grants", json!([{"code": "FW.A"}])),
        ),
        (
            "/api/v1/contracts",
            json!({
                "number": "C-1", "customer": "globex", "plan": "plus",
                "windows": [{"from": "2026-01-01", "to": "2027-01-01"}],
                "items": [{"product": CAM, "serial": "SN-1"}],
            }),
            ("windows", json!([{"from": "2026-01-01", "to": "2028-01-01"}])),
        ),
        (
            "/api/v1/devices",
            json!({"product": CAM, "serial": "SN-1", "hw_id": "cam-r3", "customer": "globex", "tags": ["lab"]}),
            ("hw_id", json!("cam-r4")),
        ),
        (
            "/api/v1/principals",
            json!({"name": "bot", "kind": "machine", "role": "auditor"}),
            ("role", json!("support")),
        ),
        (
            "/api/v1/rollouts",
            json!({"name": "spring", "product": CAM, "version": "2.4.1", "stages": [{"percent": 10}]}),
            ("stages", json!([{"percent": 20}])),
        ),
    ];
    for (path, body, (field, other)) in creates {
        let made: Value = world.admin.post(path, &body).expect(201).json();
        world.server.unchanged(|| {
            let again: Value = world.admin.post(path, &body).expect(200).json();
            assert_eq!(made, again, "{path}");
            let mut body = body.clone();
            body[field] = other;
            world.admin.post(path, &body).refused(Kind::Conflict);
        });
    }
}

fn every_mutation_is_in_the_audit_chain(engine: Engine) {
    let mut world = World::new(engine);
    let (_, second) = world.two_releases();
    world.contract("open", "2026-01-01", "2027-01-01", &["SN-1"]);
    let mut device = world.device(CAM, "SN-1");
    world.roll_out("spring", &second, &[100]);
    world.move_rollout("spring", "pause").expect(200);
    world.admin.post(&format!("/api/v1/products/{CAM}/devices/SN-1/revoke"), &json!({})).expect(200);
    device.enrol(None).expect(200);
    let mut entries: Vec<AuditEntry> = Vec::new();
    loop {
        let after = entries.last().map_or(0, |entry| entry.seq);
        let page: Page<AuditEntry> =
            world.admin.get(&format!("/api/v1/audit?limit=3&after={after}")).expect(200).json();
        entries.extend(page.items);
        if page.next.is_none() {
            break;
        }
    }
    let mut prev = Digest([0; 32]);
    for entry in &entries {
        assert!(entry.follows(prev), "{entry:?}");
        prev = entry.hash;
    }
    let told: Vec<_> =
        entries.iter().map(|entry| format!("{} {} {}", entry.actor, entry.action, entry.subject)).collect();
    insta::allow_duplicates!(insta::assert_snapshot!("audit", told.join("\n")));
}

fn lists_come_in_pages(engine: Engine) {
    let world = World::new(engine);
    for name in ["c", "a", "b"] {
        world.admin.post("/api/v1/customers", &json!({"name": name})).expect(201);
    }
    let page = |query: &str| -> (Vec<String>, Option<String>) {
        let page: Page<Value> = world.admin.get(&format!("/api/v1/customers{query}")).expect(200).json();
        (page.items.iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect(), page.next)
    };
    assert_eq!(page("?limit=2"), (vec!["a".into(), "b".into()], Some("b".into())));
    assert_eq!(page("?limit=2&after=b"), (vec!["c".into()], None));
    for wrong in ["?limit=0", "?limit=501"] {
        world.admin.get(&format!("/api/v1/customers{wrong}")).refused(Kind::Invalid);
    }
    world.admin.get("/api/v1/customers?limit=many").refused(Kind::Malformed);
    world.admin.get("/api/v1/devices?after=notanid").refused(Kind::Invalid);
    world.admin.get("/api/v1/devices?state=asleep").refused(Kind::Malformed);
}

fn health_and_metrics(engine: Engine) {
    let mut world = World::new(engine);
    world.two_releases();
    let anyone = world.server.client();
    assert_eq!(anyone.get("/healthz").expect(200).text(), "ok\n");
    assert_eq!(anyone.get("/readyz").expect(200).text(), "ready\n");
    let metrics = anyone.get("/metrics").expect(200);
    assert!(metrics.header("content-type").starts_with("application/openmetrics-text"));
    assert!(metrics.text().ends_with("# EOF\n"));
    assert!(metrics.text().contains("publications_total 3"), "{}", metrics.text());
    anyone.get("/nowhere").refused(Kind::NotFound);
    let status = world.status();
    assert_eq!((status.products, status.releases, status.devices), (2, 2, 0));
}

#[test]
fn the_openapi_document() {
    insta::assert_snapshot!("openapi", openapi().to_pretty_json().unwrap());
}

#[test]
fn the_openapi_document_is_served() {
    let world = World::new(Engine::Sqlite);
    let served: Value = world.server.client().get("/api/v1/openapi.json").expect(200).json();
    assert_eq!(served, serde_json::to_value(openapi()).unwrap());
}
