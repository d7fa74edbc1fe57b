//! Customers in their tree and as each other's partners: who may read, who may act, and what no tree can be.

use serde_json::{Value, json};
use sluice_catalog::Kind;
use sluice_catalog::customer::Customer;
use sluice_catalog::wire::admin::CustomerDetail;
use sluice_catalog::wire::registration::CodeMade;
use ureq::http::Method;

use crate::harness::world::CAM;
use crate::harness::{Answer, Engine, Place, World};

both_engines!(
    no_tree_is_a_circle_or_too_deep,
    of_two_halves_of_a_circle_one_is_refused,
    parents_read_and_do_not_act,
    partners_read_and_act_while_it_lasts,
    nobody_learns_of_a_parent_or_of_others_partners,
);

fn world(engine: Engine, names: &[&str]) -> World {
    let world = World::unsigned(engine, Place::Local);
    for name in names {
        world.admin.post("/api/v1/customers", &json!({"name": name})).expect(201);
        world.register(CAM, &format!("SN-{name}"), &json!({"customer": name}));
    }
    world
}

fn put(world: &World, path: &str, body: &Value) -> Answer {
    let body = body.to_string();
    world.admin.send(Method::PUT, path, &[("Content-Type", "application/json")], body.as_bytes())
}

fn beneath(world: &World, name: &str, parent: Option<&str>) -> Answer {
    put(world, &format!("/api/v1/customers/{name}/parent"), &json!({"parent": parent}))
}

fn device(name: &str) -> String {
    format!("/api/v1/products/{CAM}/devices/SN-{name}")
}

fn no_tree_is_a_circle_or_too_deep(engine: Engine) {
    let names = ["l1", "l2", "l3", "l4", "l5", "l6", "l7", "l8", "l9", "m1", "m2"];
    let world = world(engine, &names);
    for pair in names[..8].windows(2) {
        let moved: Customer = beneath(&world, pair[1], Some(pair[0])).expect(200).json();
        assert_eq!(moved.parent.unwrap().as_str(), pair[0]);
    }
    beneath(&world, "m2", Some("m1")).expect(200);
    world.server.unchanged(|| {
        beneath(&world, "l8", Some("l7")).expect(200);
        for (name, parent) in [("l1", "l1"), ("l1", "l8"), ("l3", "l5")] {
            let problem = beneath(&world, name, Some(parent)).refused(Kind::Invalid);
            assert!(problem.detail.starts_with("parent: ") && problem.detail.contains("circle"), "{}", problem.detail);
        }
        for (name, parent) in [("l9", "l8"), ("m1", "l7")] {
            let problem = beneath(&world, name, Some(parent)).refused(Kind::Invalid);
            assert!(problem.detail.contains("9 levels of customers, at most 8"), "{}", problem.detail);
        }
        let deep = json!({"name": "new", "parent": "l8"});
        world.admin.post("/api/v1/customers", &deep).refused(Kind::Invalid);
        beneath(&world, "l1", Some("nobody")).refused(Kind::NotFound);
        beneath(&world, "nobody", Some("l1")).refused(Kind::NotFound);
    });
    beneath(&world, "m1", Some("l6")).expect(200);
    let free: Customer = beneath(&world, "m1", None).expect(200).json();
    assert_eq!(free.parent, None);
    let born: Customer =
        world.admin.post("/api/v1/customers", &json!({"name": "new", "parent": "l7"})).expect(201).json();
    assert_eq!(born.parent.unwrap().as_str(), "l7");
    world.admin.post("/api/v1/customers", &json!({"name": "new", "parent": "l6"})).refused(Kind::Conflict);
}

fn of_two_halves_of_a_circle_one_is_refused(engine: Engine) {
    let world = world(engine, &["a", "b"]);
    for _ in 0..5 {
        let mut statuses: Vec<u16> = std::thread::scope(|scope| {
            let halves = [("a", "b"), ("b", "a")].map(|(name, parent)| {
                scope.spawn({
                    let world = &world;
                    move || beneath(world, name, Some(parent)).status
                })
            });
            halves.into_iter().map(|half| half.join().unwrap()).collect()
        });
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 422]);
        for name in ["a", "b"] {
            beneath(&world, name, None).expect(200);
        }
    }
}

fn parents_read_and_do_not_act(engine: Engine) {
    let world = world(engine, &["group", "company", "branch", "other"]);
    beneath(&world, "company", Some("group")).expect(200);
    beneath(&world, "branch", Some("company")).expect(200);
    let gil = world.bound("gil", "support", "group");
    let names = |page: Value| -> Vec<String> {
        page["items"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(gil.get("/api/v1/customers").expect(200).json()), ["branch", "company", "group"]);
    for name in ["group", "company", "branch"] {
        gil.get(&device(name)).expect(200);
        gil.get(&format!("/api/v1/devices?customer={name}")).expect(200);
        gil.get(&format!("/api/v1/customers/{name}")).expect(200);
    }
    gil.get(&device("other")).refused(Kind::NotFound);
    world.server.unchanged(|| {
        gil.post(&format!("{}/release", device("branch")), &json!({})).refused(Kind::Forbidden);
        gil.post(&format!("{}/registration-code", device("branch")), &json!({})).refused(Kind::Forbidden);
    });
    // Not upwards, and not any more once it stands elsewhere.
    let ben = world.bound("ben", "support", "branch");
    ben.get(&device("company")).refused(Kind::NotFound);
    beneath(&world, "branch", Some("other")).expect(200);
    gil.get(&device("branch")).refused(Kind::NotFound);
}

fn partners_read_and_act_while_it_lasts(engine: Engine) {
    let world = world(engine, &["owner", "shop", "integrator", "stranger"]);
    beneath(&world, "shop", Some("owner")).expect(200);
    let ida = world.bound("ida", "support", "integrator");
    let path = "/api/v1/customers/owner/partners/integrator";
    let now = world.server.now();
    ida.get(&device("owner")).refused(Kind::NotFound);
    let given = json!({"from": now.plus_s(60), "until": now.plus_s(3600)});
    put(&world, path, &given).expect(201);
    world.server.unchanged(|| {
        put(&world, path, &given).expect(200);
        put(&world, path, &json!({"from": now.plus_s(60), "until": now})).refused(Kind::Invalid);
        put(&world, "/api/v1/customers/owner/partners/owner", &json!({})).refused(Kind::Invalid);
        put(&world, "/api/v1/customers/owner/partners/nobody", &json!({})).refused(Kind::NotFound);
    });
    ida.get(&device("owner")).refused(Kind::NotFound);
    world.server.advance_s(60);
    for name in ["owner", "shop", "integrator"] {
        ida.get(&device(name)).expect(200);
    }
    ida.get(&device("stranger")).refused(Kind::NotFound);
    // It acts for the one that it is a partner of, and reads of those beneath.
    ida.post(&format!("{}/registration-code", device("owner")), &json!({})).expect(201).json::<CodeMade>();
    ida.post(&format!("{}/registration-code", device("shop")), &json!({})).refused(Kind::Forbidden);
    let shown: CustomerDetail = world.admin.get("/api/v1/customers/integrator").expect(200).json();
    assert_eq!((shown.partners.len(), shown.acts_for[0].customer.as_str()), (0, "owner"));
    world.server.advance_s(3540);
    ida.get(&device("owner")).refused(Kind::NotFound);
    put(&world, path, &json!({})).expect(201);
    ida.get(&device("owner")).expect(200);
    world.admin.delete(path).expect(204);
    ida.get(&device("owner")).refused(Kind::NotFound);
    world.admin.delete(path).refused(Kind::NotFound);
}

fn nobody_learns_of_a_parent_or_of_others_partners(engine: Engine) {
    let world = world(engine, &["holding", "company", "integrator", "secret-partner", "secret-client"]);
    beneath(&world, "company", Some("holding")).expect(200);
    for (customer, partner) in
        [("company", "integrator"), ("company", "secret-partner"), ("secret-client", "secret-partner")]
    {
        put(&world, &format!("/api/v1/customers/{customer}/partners/{partner}"), &json!({})).expect(201);
    }
    let cara = world.bound("cara", "auditor", "company");
    let ida = world.bound("ida", "auditor", "integrator");
    for path in ["/api/v1/customers", "/api/v1/customers/company"] {
        for client in [&cara, &ida] {
            let text = client.get(path).expect(200).text();
            assert!(!text.contains("holding") && !text.contains("secret-client"), "{text}");
        }
    }
    // Who acts for it is a customer's own to know, and nobody else's.
    let own: CustomerDetail = cara.get("/api/v1/customers/company").expect(200).json();
    assert_eq!(own.partners.len(), 2);
    let told: CustomerDetail = ida.get("/api/v1/customers/company").expect(200).json();
    let partners: Vec<_> = told.partners.iter().map(|one| one.partner.as_str()).collect();
    assert_eq!(partners, ["integrator"]);
    cara.get("/api/v1/customers/secret-partner").refused(Kind::NotFound);
}
