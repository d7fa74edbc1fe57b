//! Lens-style queries, as the clients in the field send them.

use serde_json::{Value, json};
use sluice_catalog::Kind;

use crate::harness::world::{BAR, BAR_PID, CAM, CAM_PID, IMAGES};
use crate::harness::{Client, Engine, Release, World};

both_engines!(
    the_query_of_the_clients_in_the_field,
    only_what_has_reached_everyone_is_shown,
    twenty_five_aliases_are_one_request,
    a_device_sees_its_own_entitlement,
    gated_software_is_hidden,
    limits_on_depth_fields_and_size,
    why_is_told_as_rest_tells_it,
);

/// What desktop applications and package robots ask.
const QUERY: &str = "query LensSoftwareUpdateAvailable($pid: ID!, $releaseChannel: String) {
  availableProductSoftwareByPid(pid: $pid, releaseChannel: $releaseChannel) {
    id name version latest releaseChannel supportsPolicies deprecated blockedDownload publishDate updatedAt
    releaseNotes(refresh: true) { id header body }
    productBuild { id version build url archiveUrl storagePath category description rules { document } sha256 size }
    product { id name }
    entitlement { outcome reasonCode sentence newestEntitledVersion }
  }
}";

fn ask(client: &Client, query: &str, variables: Value) -> Value {
    client.post("/graphql", &json!({"query": query, "variables": variables})).expect(200).json()
}

/// The software of a product by its pid.
#[track_caller]
fn software(client: &Client, pid: &str, channel: Value) -> Value {
    let answer = ask(client, QUERY, json!({"pid": pid, "releaseChannel": channel}));
    assert_eq!(answer["errors"], Value::Null, "{answer}");
    answer["data"]["availableProductSoftwareByPid"].clone()
}

fn the_query_of_the_clients_in_the_field(engine: Engine) {
    let mut world = World::new(engine);
    let (_, second) = world.two_releases();
    world.roll_out("all", &second, &[100]);
    let anyone = world.server.client();
    let mut shown = software(&anyone, CAM_PID, Value::Null);
    let url = shown["productBuild"]["archiveUrl"].as_str().unwrap().to_owned();
    assert_eq!(url, format!("{}/431a/2.4.1/0/main.bin", world.server.url));
    let path = url.strip_prefix(&world.server.url).unwrap();
    assert_eq!(anyone.get(path).expect(200).body, second.image);
    assert_eq!(anyone.get_with(path, &[("Range", "bytes=0-9")]).expect(206).body, second.image[..10]);
    assert_eq!(shown["productBuild"]["sha256"], second.digest().to_string());
    for made in [
        "/id",
        "/publishDate",
        "/updatedAt",
        "/releaseNotes/id",
        "/productBuild/id",
        "/productBuild/url",
        "/productBuild/archiveUrl",
    ] {
        let value = shown.pointer_mut(made).unwrap();
        assert!(value.as_str().is_some_and(|text| !text.is_empty()), "{made}");
        *value = "(made)".into();
    }
    insta::allow_duplicates!(insta::assert_json_snapshot!("software", shown));
    let get = format!("/graphql?query={}", "%7BavailableProductSoftwareByPid(pid:%22431a%22)%7Bversion%7D%7D");
    assert_eq!(
        anyone.get(&get).expect(200).json::<Value>()["data"]["availableProductSoftwareByPid"]["version"],
        "2.4.1"
    );
}

fn only_what_has_reached_everyone_is_shown(engine: Engine) {
    let mut world = World::new(engine);
    let (first, second) = world.two_releases();
    let beta = Release { channels: vec!["beta".into()], ..Release::new(CAM, "2.5.0-b1", 20500, &IMAGES[2]) };
    world.release(&beta);
    let anyone = world.server.client();
    let version = |channel: Value| software(&anyone, CAM_PID, channel)["version"].clone();
    assert_eq!(software(&anyone, CAM_PID, Value::Null), Value::Null, "nothing is rolled out");
    world.roll_out("first", &first, &[100]);
    world.roll_out("second", &second, &[50, 100]);
    world.roll_out("beta", &beta, &[100]);
    assert_eq!(version(Value::Null), "2.4.0", "2.4.1 has reached half of the fleet");
    world.move_rollout("second", "advance").expect(200);
    assert_eq!(version(Value::Null), "2.4.1");
    assert_eq!(version(json!("stable")), "2.4.1");
    assert_eq!(version(json!("preview")), "2.4.1");
    assert_eq!(version(json!("beta")), "2.5.0-b1");
    assert_eq!(software(&anyone, CAM_PID, json!("marketing")), Value::Null);
    assert_eq!(software(&anyone, "ffff", Value::Null), Value::Null);
    world.admin.post(&format!("/api/v1/products/{CAM}/releases/2.4.1/withdraw"), &json!({})).expect(200);
    assert_eq!(version(Value::Null), "2.4.0");
}

fn twenty_five_aliases_are_one_request(engine: Engine) {
    let mut world = World::new(engine);
    let (_, second) = world.two_releases();
    world.roll_out("all", &second, &[100]);
    let one = |alias: usize, pid: &str| {
        format!(
            "a{alias}: availableProductSoftwareByPid(pid: \"{pid}\") {{ id version latest releaseChannel blockedDownload \
             publishDate releaseNotes {{ header body }} productBuild {{ id version url archiveUrl category }} product {{ id name }} }}\n"
        )
    };
    let query: String = (0..25).map(|alias| one(alias, if alias % 2 == 0 { CAM_PID } else { "ffff" })).collect();
    let answer = ask(&world.server.client(), &format!("{{ {query} }}"), json!({}));
    assert_eq!(answer["errors"], Value::Null, "{answer}");
    assert_eq!(answer["data"].as_object().unwrap().len(), 25);
    assert_eq!((&answer["data"]["a24"]["version"], &answer["data"]["a23"]), (&json!("2.4.1"), &Value::Null));
}

fn a_device_sees_its_own_entitlement(engine: Engine) {
    let mut world = World::new(engine);
    let first = Release::new(CAM, "2.4.0", 20400, &IMAGES[0]);
    let paid = Release::new(CAM, "2.5.0", 20500, &IMAGES[1]).train("2.5", "2026-06-01").requires("FW.CAM.MAJOR");
    world.release(&first);
    world.release(&paid);
    world.roll_out("paid", &paid, &[100]);
    let anyone = world.server.client();
    let shown = software(&anyone, CAM_PID, Value::Null);
    assert_eq!(
        (&shown["version"], &shown["blockedDownload"], &shown["entitlement"]),
        (&json!("2.5.0"), &json!(true), &Value::Null)
    );
    assert_eq!((&shown["productBuild"]["url"], &shown["productBuild"]["archiveUrl"]), (&Value::Null, &Value::Null));
    let device = world.device(CAM, "SN-1");
    let denied = software(&device.client, CAM_PID, Value::Null);
    assert_eq!(
        denied["entitlement"],
        json!({"outcome": "DENIED", "reasonCode": "NO_CONTRACT",
            "sentence": "No contract covers the device.", "newestEntitledVersion": "2.4.0"})
    );
    assert_eq!((&denied["blockedDownload"], &denied["productBuild"]["url"]), (&json!(true), &Value::Null));
    world.contract("train-ga", "2026-01-01", "2027-01-01", &["SN-1"]);
    let allowed = software(&device.client, CAM_PID, Value::Null);
    assert_eq!(allowed["entitlement"]["outcome"], "ALLOWED");
    assert_eq!(allowed["entitlement"]["reasonCode"], "COVERED_TRAIN_GA");
    let url = allowed["productBuild"]["url"].as_str().unwrap();
    assert_eq!(
        anyone.get(url.strip_prefix(&world.server.url).unwrap()).expect(200).body,
        paid.image,
        "a URL of its own"
    );
    let answer = ask(&anyone.with("made-up"), QUERY, json!({"pid": CAM_PID}));
    assert_eq!(answer["errors"][0]["extensions"]["code"], "UNAUTHENTICATED");
}

fn why_is_told_as_rest_tells_it(engine: Engine) {
    let mut world = World::new(engine);
    world.free_and_paid();
    let before = world.server.now();
    world.server.advance_s(3600);
    let device = world.device(CAM, "SN-1");
    world.contract("live", "2020-01-01", "2036-01-01", &["SN-1"]);
    let query = |arguments: &str| {
        format!(
            "{{ why(product: \"{CAM}\", serial: \"SN-1\"{arguments}) {{ offered version reasonCode sentence knownAt
                newestEntitledVersion newestEntitledTrain changesAt advice steps {{ version gate pass reasonCode detail }} }} }}"
        )
    };
    let asked = ask(&world.admin, &query(", version: \"2.5.0\""), json!({}));
    assert_eq!(asked["errors"], Value::Null, "{asked}");
    let told = &asked["data"]["why"];
    let rest = world.why(&device, "?version=2.5.0");
    assert_eq!(
        (&told["reasonCode"], &told["sentence"], &told["newestEntitledVersion"], &told["newestEntitledTrain"]),
        (
            &json!(rest.reason.code()),
            &json!(rest.sentence),
            &json!(rest.newest_entitled.map(String::from)),
            &json!(rest.newest_train.map(String::from))
        )
    );
    let steps: Vec<Value> = rest
        .steps
        .iter()
        .map(|step| {
            json!({"version": step.version, "gate": step.gate, "pass": step.pass, "reasonCode": step.reason.code(),
                "detail": step.detail})
        })
        .collect();
    assert_eq!(told["steps"], json!(steps));
    let code = |client: &Client, arguments: &str| {
        let answer = ask(client, &query(arguments), json!({}));
        answer["errors"][0]["extensions"]["code"].clone()
    };
    // Whoever may not ask by REST may not ask here either.
    assert_eq!(code(&world.server.client(), ""), "UNAUTHENTICATED");
    assert_eq!(code(&device.client, ""), "UNAUTHENTICATED");
    world.admin.post("/api/v1/customers", &json!({"name": "initech"})).expect(201);
    assert_eq!(code(&world.bound("ina", "support", "initech"), ""), "NOT_FOUND");
    assert_eq!(code(&world.admin, &format!(", knownAt: \"{before}\"")), "NOT_FOUND");
    assert_eq!(code(&world.admin, ", at: \"soon\""), "BAD_USER_INPUT");
    assert_eq!(code(&world.admin, ", version: \"9.9\""), "NOT_FOUND");
    let many: Vec<String> =
        (0..10).map(|n| format!("a{n}: why(product: \"x\", serial: \"y\") {{ offered }} ")).collect();
    assert_eq!(
        ask(&world.admin, &format!("{{ {} }}", many.concat()), json!({}))["errors"][0]["message"],
        "Query is too complex."
    );
    let beside = format!("{{ why(product: \"{CAM}\", serial: \"SN-9\") {{ offered }} __typename }}");
    let answer = ask(&world.admin, &beside, json!({}));
    assert_eq!((&answer["data"]["why"], &answer["data"]["__typename"]), (&Value::Null, &json!("Query")), "{answer}");
}

fn gated_software_is_hidden(engine: Engine) {
    let mut world = World::new(engine);
    let bar = Release::new(BAR, "1.0", 1, &IMAGES[0]).notes("# Secret");
    world.release(&bar);
    world.roll_out("bar", &bar, &[100]);
    assert_eq!(software(&world.server.client(), BAR_PID, Value::Null), Value::Null);
    let stranger = world.device(CAM, "SN-1");
    assert_eq!(software(&stranger.client, BAR_PID, Value::Null), Value::Null);
    let own = world.device(BAR, "SN-1");
    let shown = software(&own.client, BAR_PID, Value::Null);
    assert_eq!(
        (&shown["version"], &shown["blockedDownload"], &shown["releaseNotes"]["header"]),
        (&json!("1.0"), &json!(false), &json!("Secret"))
    );
}

fn limits_on_depth_fields_and_size(engine: Engine) {
    let world = World::new(engine);
    let anyone = world.server.client();
    let refused = |query: &str| {
        let answer = ask(&anyone, query, json!({}));
        assert!(answer["errors"][0]["message"].is_string(), "{answer}");
        answer["errors"][0]["message"].as_str().unwrap().to_owned()
    };
    let fields: Vec<String> = (0..101)
        .map(|n| format!("a{n}: availableProductSoftwareByPid(pid: \"x\") {{ id version name latest updatedAt deprecated publishDate supportsPolicies blockedDownload }}\n"))
        .collect();
    assert_eq!(refused(&format!("{{ {} }}", fields.concat())), "Query is too complex.");
    let deep = format!("{{ __schema {} {} }}", "{ types { fields { type ".repeat(5), "} } } ".repeat(5));
    refused(&deep);
    let types = format!(
        "{{ __schema {{ types {{ fields {{ type {} name {} }} }} }} }}",
        "{ ofType ".repeat(15),
        "}".repeat(15)
    );
    assert_eq!(refused(&types), "Query is nested too deep.");
    refused(&format!("{}{}", "{a".repeat(1000), "}".repeat(1000)));
    refused("{ nothing }");
    refused("{ availableProductSoftwareByPid { id } }");
    let long = format!("{{ availableProductSoftwareByPid(pid: \"{}\") {{ id }} }}", "x".repeat(70_000));
    anyone.post("/graphql", &json!({"query": long})).refused(Kind::TooLarge);
    anyone
        .post("/graphql", &json!([{"query": "{ __typename }"}, {"query": "{ __typename }"}]))
        .refused(Kind::Malformed);
    anyone.post_raw("/graphql", b"{").refused(Kind::Malformed);
}

#[test]
fn the_schema() {
    let world = World::new(Engine::Sqlite);
    // The schema is snapshotted as clients see it.
    let query = "{ __schema { queryType { name } types { name kind fields { name args { name type { ...T } } type { ...T } } } } }
        fragment T on __Type { kind name ofType { kind name ofType { kind name ofType { kind name } } } }";
    let answer = ask(&world.server.client(), query, json!({}));
    assert_eq!(answer["errors"], Value::Null, "{answer}");
    let mut told = Vec::new();
    for kind in answer["data"]["__schema"]["types"].as_array().unwrap() {
        let name = kind["name"].as_str().unwrap();
        if name.starts_with("__") {
            continue;
        }
        told.push(format!("{} {name}", kind["kind"].as_str().unwrap()));
        for field in kind["fields"].as_array().into_iter().flatten() {
            let arguments: Vec<_> = field["args"]
                .as_array()
                .unwrap()
                .iter()
                .map(|argument| format!("{}: {}", argument["name"].as_str().unwrap(), type_name(&argument["type"])))
                .collect();
            told.push(format!(
                "  {}({}): {}",
                field["name"].as_str().unwrap(),
                arguments.join(", "),
                type_name(&field["type"])
            ));
        }
    }
    insta::assert_snapshot!("schema", told.join("\n"));
}

fn type_name(kind: &Value) -> String {
    match kind["kind"].as_str().unwrap() {
        "NON_NULL" => format!("{}!", type_name(&kind["ofType"])),
        "LIST" => format!("[{}]", type_name(&kind["ofType"])),
        _ => kind["name"].as_str().unwrap().to_owned(),
    }
}
