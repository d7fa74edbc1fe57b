//! Bad input, request by request: a typed refusal each, and nothing changed.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sluice_catalog::{Digest, Kind};

use crate::harness::http::raw;
use crate::harness::world::{CAM, IMAGES};
use crate::harness::{Engine, World};

both_engines!(
    uploads_that_are_not_what_they_announce,
    an_upload_that_is_cut_leaves_nothing,
    unknown_product_version_and_device,
    malformed_json_is_refused_everywhere,
    oversized_bodies_are_refused_unread,
    texts_and_numbers_out_of_bounds,
    contracts_that_make_no_sense,
    rollouts_that_make_no_sense,
    a_nul_is_told_by_its_field_and_left_out_of_a_log,
);

fn uploads_that_are_not_what_they_announce(engine: Engine) {
    let world = World::new(engine);
    let image = &IMAGES[0];
    let path = format!("/api/v1/blobs/{}", Digest::of(image));
    world.server.unchanged(|| {
        let mut flipped = image.clone();
        flipped[1000] ^= 1;
        let problem = world.admin.put(&path, &flipped).refused(Kind::Invalid);
        assert!(problem.detail.starts_with("sha256: "), "{}", problem.detail);
        world.admin.put(&path, b"").refused(Kind::Invalid);
        world.admin.put("/api/v1/blobs/abc", image).refused(Kind::NotFound);
        world.admin.head(&path).expect(404);
    });
    world.admin.put(&path, image).expect(201);
    world.server.unchanged(|| world.admin.put(&path, image).expect(200));
    let head = world.admin.head(&path).expect(200);
    assert_eq!(head.header("content-length"), image.len().to_string());
}

fn an_upload_that_is_cut_leaves_nothing(engine: Engine) {
    let world = World::new(engine);
    let image = &IMAGES[0];
    let head = |length: &str| {
        format!(
            "PUT /api/v1/blobs/{} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n{length}\r\n\r\n",
            Digest::of(image),
            world.admin.token()
        )
        .into_bytes()
    };
    world.server.unchanged(|| {
        let cut = [head(&format!("Content-Length: {}", image.len())), image[..1000].to_vec()].concat();
        let answer = raw(&world.server.url, &cut);
        assert!(!answer.contains("201"), "{answer}");
    });
    world.server.unchanged(|| {
        let answer = raw(&world.server.url, &head("Content-Length: 4294967297"));
        assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
        let answer = raw(&world.server.url, &[head("Transfer-Encoding: chunked"), b"0\r\n\r\n".to_vec()].concat());
        assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("Content-Length"), "{answer}");
    });
    world.admin.put(&format!("/api/v1/blobs/{}", Digest::of(image)), image).expect(201);
}

fn unknown_product_version_and_device(engine: Engine) {
    let mut world = World::new(engine);
    world.two_releases();
    let admin = &world.admin;
    world.server.unchanged(|| {
        for path in [
            "/api/v1/products/none",
            "/api/v1/products/none/releases",
            "/api/v1/products/acme-cam/releases/9.9",
            "/api/v1/products/acme-cam/releases/..%2F..%2Fetc",
            "/api/v1/products/acme-cam/devices/SN-0",
            "/api/v1/products/acme-cam/devices/SN-0/why",
            "/api/v1/devices?product=none",
            "/api/v1/contracts/C-0",
            "/api/v1/rollouts/none",
        ] {
            admin.get(path).refused(Kind::NotFound);
        }
        let posts = [
            ("/api/v1/devices", json!({"product": "none", "serial": "SN-1", "hw_id": "x"})),
            ("/api/v1/devices", json!({"product": CAM, "serial": "SN-1", "hw_id": "x", "customer": "none"})),
            ("/api/v1/enrol-tokens", json!({"product": "none", "uses": 1})),
            ("/api/v1/rollouts", json!({"name": "r", "product": CAM, "version": "9", "stages": [{"percent": 1}]})),
            ("/api/v1/products/acme-cam/releases/9/withdraw", json!({})),
            ("/api/v1/products/acme-cam/devices/SN-0/state", json!({"state": "active"})),
            ("/api/v1/products/acme-cam/devices/SN-0/revoke", json!({})),
            ("/api/v1/principals/none/tokens", json!({})),
            ("/api/v1/rollouts/none/move", json!({"action": "start"})),
            ("/v1/enrol", json!({
                "product": "none", "serial": "SN-1", "hw_id": "x", "public_key": "00".repeat(32), "signature": "00".repeat(64),
            })),
        ];
        for (path, body) in posts {
            let answer = admin.post(path, &body);
            // An enrolment is checked before anything is looked up.
            answer.refused(if path == "/v1/enrol" { Kind::Invalid } else { Kind::NotFound });
        }
    });
    let device = world.device(CAM, "SN-1");
    let path = format!("/api/v1/products/{CAM}/devices/SN-1/why?version=9.9");
    world.server.unchanged(|| {
        admin.get(&path).refused(Kind::NotFound);
        device.report(1, "verified").refused(Kind::NotFound);
    });
}

/// Every POST endpoint with a body that it would take.
fn bodies() -> BTreeMap<&'static str, Value> {
    BTreeMap::from([
        ("/api/v1/products", json!({"name": "x", "visibility": "public"})),
        ("/api/v1/customers", json!({"name": "x"})),
        ("/api/v1/plans", json!({"name": "x", "grants": []})),
        ("/api/v1/contracts", json!({"number": "C", "customer": "x", "plan": "x"})),
        ("/api/v1/devices", json!({"product": CAM, "serial": "SN", "hw_id": "x"})),
        ("/api/v1/enrol-tokens", json!({"product": CAM, "uses": 1})),
        ("/api/v1/rollouts", json!({"name": "r", "product": CAM, "version": "9", "stages": []})),
        ("/api/v1/principals", json!({"name": "x", "kind": "person", "role": "auditor"})),
        ("/api/v1/publish", json!({"documents": []})),
        ("/v1/enrol", json!({"product": CAM, "serial": "SN", "hw_id": "x", "public_key": "", "signature": ""})),
        ("/v1/session", json!({"product": CAM, "serial": "SN", "challenge": "", "signature": ""})),
        ("/v1/poll", json!({"installed": {}})),
        ("/v1/report", json!({"events": []})),
    ])
}

fn malformed_json_is_refused_everywhere(engine: Engine) {
    let world = World::new(engine);
    let device = world.device(CAM, "SN-1");
    world.server.unchanged(|| {
        for (path, body) in bodies() {
            let client = if path.starts_with("/v1/") { &device.client } else { &world.admin };
            let text = serde_json::to_string(&body).unwrap();
            let mut more = body.clone();
            more["colour"] = "red".into();
            let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
            let cases = [
                ("cut", text[..text.len() - 1].to_owned()),
                ("empty", String::new()),
                ("another type", "[1, 2]".to_owned()),
                ("nested deep", deep),
                ("an unknown field", more.to_string()),
                ("no UTF-8", "\u{1}".to_owned()),
            ];
            for (what, sent) in cases {
                let answer = client.post_raw(path, sent.as_bytes());
                assert_eq!(answer.status, 400, "{path}: {what}: {}", answer.text());
                answer.refused(Kind::Malformed);
            }
            client
                .send(ureq::http::Method::POST, path, &[("Content-Type", "text/plain")], text.as_bytes())
                .refused(Kind::Malformed);
        }
    });
}

fn oversized_bodies_are_refused_unread(engine: Engine) {
    let world = World::new(engine);
    let device = world.device(CAM, "SN-1");
    world.server.unchanged(|| {
        for (path, limit) in [("/v1/poll", 128 << 10), ("/v1/report", 128 << 10), ("/v1/enrol", 128 << 10), ("/api/v1/customers", 2 << 20), ("/api/v1/publish", 32 << 20), ("/graphql", 64 << 10)] {
            let token = if path.starts_with("/v1/") { device.client.token() } else { world.admin.token() };
            let send = |length: usize, body: &[u8]| {
                let head = format!(
                    "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
                );
                raw(&world.server.url, &[head.as_bytes(), body].concat())
            };
            let answer = send(limit + 1, b"{");
            assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("too_large"), "{path}: {answer}");
        }
        // Without a length the body is counted while it comes.
        let head = format!(
            "POST /v1/poll HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n",
            device.client.token()
        );
        let chunk = format!("{:x}\r\n{}\r\n0\r\n\r\n", 200 << 10, " ".repeat(200 << 10));
        let answer = raw(&world.server.url, &[head.as_bytes(), chunk.as_bytes()].concat());
        assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    });
}

fn texts_and_numbers_out_of_bounds(engine: Engine) {
    let world = World::new(engine);
    let device = world.device(CAM, "SN-1");
    let admin = &world.admin;
    world.server.unchanged(|| {
        for name in ["", "-x", "x y", "é", "../x", &"x".repeat(65)] {
            admin.post("/api/v1/customers", &json!({"name": name})).refused(Kind::Malformed);
        }
        for name in ["root", "targets", "snapshot", "timestamp"] {
            admin.post("/api/v1/products", &json!({"name": name, "visibility": "public"})).refused(Kind::Invalid);
        }
        for title in [" ", "\u{7}", &"x".repeat(201)] {
            admin.post("/api/v1/customers", &json!({"name": "x", "title": title})).refused(Kind::Invalid);
        }
        let tags: Vec<_> = (0..33).map(|n| format!("t{n}")).collect();
        let register = |tags: Value| json!({"product": CAM, "serial": "SN-2", "hw_id": "x", "tags": tags});
        admin.post("/api/v1/devices", &register(json!(tags))).refused(Kind::Invalid);
        admin.post("/api/v1/devices", &register(json!(["not a tag"]))).refused(Kind::Invalid);
        for uses in [0, 1_000_001] {
            admin.post("/api/v1/enrol-tokens", &json!({"product": CAM, "uses": uses})).refused(Kind::Invalid);
        }
        for at in [world.server.now(), world.server.now().plus_days(4000)] {
            let body = json!({"product": CAM, "uses": 1, "expires_at": at});
            admin.post("/api/v1/enrol-tokens", &body).refused(Kind::Invalid);
            admin.post("/api/v1/principals/root-admin/tokens", &json!({"expires_at": at})).refused(Kind::Invalid);
        }
        for state in ["pending", "replaced", "rma_pending"] {
            let path = format!("/api/v1/products/{CAM}/devices/SN-1/state");
            admin.post(&path, &json!({"state": state})).refused(Kind::Invalid);
        }
        let poll = |field: &str, value: Value| {
            let mut body = device.poll_body();
            body[field] = value;
            device.client.post("/v1/poll", &body)
        };
        for nonce in ["", "xyz", &"0".repeat(65)] {
            poll("nonce", json!(nonce)).refused(Kind::Invalid);
        }
        let one = json!({"version": "1", "sha256": Digest([0; 32]), "security_counter": 0});
        let many: BTreeMap<_, _> = (0..17).map(|n| (format!("c{n}"), one.clone())).collect();
        poll("installed", json!(many)).refused(Kind::Invalid);
        for (field, value) in
            [("sha256", json!("abc")), ("security_counter", json!(-1)), ("security_counter", json!(1u64 << 32))]
        {
            let mut one = one.clone();
            one[field] = value;
            poll("installed", json!({"main": one})).refused(Kind::Malformed);
        }
        poll("ram_budget", json!(1u64 << 32)).refused(Kind::Malformed);
        poll("profile", json!("everything")).refused(Kind::Malformed);
        let event = json!({"attempt": 1, "state": "verified"});
        let report = |events: Value| device.client.post("/v1/report", &json!({"events": events}));
        report(json!(vec![event.clone(); 65])).refused(Kind::Invalid);
        for (field, value) in
            [("state", "offered"), ("state", "superseded"), ("encoding", "gzip"), ("detail", &*"x".repeat(1025))]
        {
            let mut event = event.clone();
            event[field] = value.into();
            report(json!([event])).refused(Kind::Invalid);
        }
    });
}

fn contracts_that_make_no_sense(engine: Engine) {
    let world = World::new(engine);
    world.contract("train-ga", "2026-01-01", "2027-01-01", &["SN-1"]);
    world.server.unchanged(|| {
        let extend = |windows: Value, items: Value| {
            world.admin.post("/api/v1/contracts/C-1/facts", &json!({"windows": windows, "items": items}))
        };
        extend(json!([{"from": "2027-01-01", "to": "2027-01-01"}]), json!([])).refused(Kind::Invalid);
        let problem = extend(json!([{"from": "2027-01-01", "to": "2207-01-01"}]), json!([])).refused(Kind::Invalid);
        assert!(problem.detail.contains("windows[0]") && problem.detail.contains("40 years"), "{}", problem.detail);
        extend(json!([{"from": "soon", "to": "later"}]), json!([])).refused(Kind::Malformed);
        let item = json!({"product": CAM, "serial": "SN-2", "from": "2027-01-01", "to": "2026-01-01"});
        extend(json!([]), json!([item])).refused(Kind::Invalid);
        extend(json!([]), json!([{"product": "none", "serial": "SN-2"}])).refused(Kind::NotFound);
        // What is there already is no change.
        extend(json!([{"from": "2026-01-01", "to": "2027-01-01"}]), json!([{"product": CAM, "serial": "SN-1"}]))
            .expect(200);
        let plan = |grace: i32, grants: Value| {
            world.admin.post("/api/v1/plans", &json!({"name": "more", "grace_days": grace, "grants": grants}))
        };
        plan(366, json!([])).refused(Kind::Invalid);
        plan(0, json!(vec![json!({"code": "A"}); 201])).refused(Kind::Invalid);
    });
}

fn rollouts_that_make_no_sense(engine: Engine) {
    let mut world = World::new(engine);
    world.two_releases();
    let create = |stages: Value, more: Value| {
        let mut body = json!({"name": "r", "product": CAM, "version": "2.4.1", "stages": stages});
        for (field, value) in more.as_object().unwrap() {
            body[field] = value.clone();
        }
        world.admin.post("/api/v1/rollouts", &body)
    };
    let all = || json!([{"percent": 100}]);
    world.server.unchanged(|| {
        create(json!([]), json!({})).refused(Kind::Invalid);
        create(json!([{"percent": 0}]), json!({})).refused(Kind::Invalid);
        create(json!([{"percent": 101}]), json!({})).refused(Kind::Invalid);
        create(json!([{"percent": 256}]), json!({})).refused(Kind::Malformed);
        let problem = create(json!([{"percent": 50}, {"percent": 10}]), json!({})).refused(Kind::Invalid);
        assert!(problem.detail.contains("never shrinks"), "{}", problem.detail);
        create(json!(vec![json!({"percent": 1}); 33]), json!({})).refused(Kind::Invalid);
        create(all(), json!({"weight": 1001})).refused(Kind::Invalid);
        let serials: Vec<_> = (0..1001).map(|n| format!("SN-{n}")).collect();
        create(all(), json!({"selector": {"serials": serials}})).refused(Kind::Invalid);
    });
    world.admin.post(&format!("/api/v1/products/{CAM}/releases/2.4.1/withdraw"), &json!({})).expect(200);
    world.server.unchanged(|| create(all(), json!({})).refused(Kind::WrongState));
}

fn a_nul_is_told_by_its_field_and_left_out_of_a_log(engine: Engine) {
    let mut world = World::new(engine);
    world.admin.post("/api/v1/customers", &json!({"name": "globex"})).expect(201);
    for list in [
        "customers",
        "plans",
        "contracts",
        "contract-overlaps",
        "contract-sources",
        "products",
        "principals",
        "rollouts",
        "swaps",
        "customers/globex/sites",
        "events",
        "jobs",
        "audit",
        "devices",
        "enrol-tokens",
    ] {
        let problem = world.admin.get(&format!("/api/v1/{list}?after=a%00b")).refused(Kind::Invalid);
        assert!(problem.detail.starts_with("after"), "{list}: {}", problem.detail);
    }
    let problem = world.admin.get("/api/v1/events?kind=a%00b").refused(Kind::Invalid);
    assert!(problem.detail.starts_with("kind"), "{}", problem.detail);
    let token = json!({"product": CAM, "label": "a\0b", "uses": 1});
    let problem = world.admin.post("/api/v1/enrol-tokens", &token).refused(Kind::Invalid);
    assert!(problem.detail.starts_with("label"), "{}", problem.detail);

    let (first, second) = world.two_releases();
    world.roll_out("fix", &second, &[100]);
    let mut device = world.device(CAM, "SN-1");
    device.run(&first);
    let attempt = device.poll().attempt();
    device.report_event(json!({"attempt": attempt, "state": "failed", "detail": "line\0 two"})).expect(200);
    let shown: sluice_catalog::wire::admin::DeviceDetail =
        world.admin.get(&format!("/api/v1/products/{CAM}/devices/SN-1")).expect(200).json();
    assert_eq!(shown.attempts[0].state, sluice_catalog::rollout::AttemptState::Failed);
}
