//! The certificate of what the device may have by contract: fetched, kept, renewed, and told without the server.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use sluice_agent::offline::{Entitlement, entitlement};
use sluice_agent::{AgentError, Outcome};
use sluice_catalog::Reason;
use sluice_signer::{Certificate, CertifiedCover, CertifiedState, FullEncoding, Limits, SigningKey};

use crate::device::{Device, noon, setting};
use crate::server::{DEVICE_ID, Server};
use crate::world::{PRODUCT, World, key};

fn days(days: i64) -> SignedDuration {
    SignedDuration::from_hours(24 * days)
}

/// A certificate for the device: covered for a hundred days from now.
fn certificate(device: &Device) -> Certificate {
    let pem = std::fs::read_to_string(device.state.key()).unwrap();
    let key = sluice_signer::key_file::from_pem(&pem, None).unwrap();
    let cover = CertifiedCover {
        contract: "C-1".to_owned(),
        plan: "plus".to_owned(),
        rule: "live".to_owned(),
        grace_days: 5,
        codes: BTreeMap::from([("CAM".to_owned(), "stable".to_owned())]),
        windows: vec![(noon() - days(100), noon() + days(20))],
    };
    Certificate {
        device_id: DEVICE_ID.to_owned(),
        product: PRODUCT.to_owned(),
        serial: "SN-0001".to_owned(),
        device_key: hex::encode(key.public().ed25519_bytes().unwrap()),
        device_epoch: 1,
        state: CertifiedState::Active,
        replaced_at: None,
        confirmed_train: None,
        signing_epoch: 1,
        covers: vec![cover],
        published: BTreeMap::new(),
        issued: noon(),
        expires: noon() + days(30),
        repo_id: None,
    }
}

fn give(server: &Server, tag: &str, certificate: &Certificate, key: &SigningKey) {
    let bytes = certificate.unsigned(&Limits::default()).unwrap().signed_by(key);
    server.script().certificate = Some((tag.to_owned(), bytes));
}

fn told(device: &Device) -> Entitlement {
    entitlement(&device.state, &device.boot(), device.now.get(), None).unwrap()
}

fn kept(device: &Device) -> Option<Vec<u8>> {
    std::fs::read(device.state.entitlement()).ok()
}

fn asked(server: &Server) -> usize {
    server.script().count("GET", "/v1/entitlement")
}

#[test]
fn a_certificate_is_fetched_when_the_server_has_one_and_again_when_it_says_something_else() {
    let (world, server, device) = setting();
    device.once().unwrap();
    assert_eq!((asked(&server), kept(&device)), (0, None), "a server that has none is not asked");
    assert!(told(&device).trouble.unwrap().starts_with("no certificate is kept"));

    give(&server, "one", &certificate(&device), &world.keys.entitlement);
    server.script().etag = "\"e1\"".to_owned();
    device.once().unwrap();
    assert!(told(&device).holds);
    device.once().unwrap();
    assert_eq!(asked(&server), 1, "it is kept");

    let less =
        Certificate { covers: Vec::new(), issued: noon() + SignedDuration::from_secs(1), ..certificate(&device) };
    give(&server, "two", &less, &world.keys.entitlement);
    server.script().etag = "\"e2\"".to_owned();
    device.once().unwrap();
    assert_eq!(asked(&server), 2);
    assert_eq!(told(&device).certificate.unwrap().contracts, []);
}

#[test]
fn a_certificate_is_renewed_when_a_third_of_its_life_is_left() {
    let (world, mut server, device) = setting();
    give(&server, "one", &certificate(&device), &world.keys.entitlement);
    device.once().unwrap();
    let at = |moment: Timestamp, server: &mut Server| {
        device.now.set(moment);
        let mut later = World::new(noon());
        later.now = moment;
        let mut script = server.script();
        script.now = moment;
        script.files.extend(later.files(2));
        drop(script);
        device.once().unwrap();
    };
    at(noon() + days(19), &mut server);
    assert_eq!(asked(&server), 1);
    at(noon() + days(20), &mut server);
    assert_eq!(asked(&server), 2, "the server is asked, and says that what is held stands");
    let fresh = Certificate { issued: noon() + days(21), expires: noon() + days(51), ..certificate(&device) };
    let bytes = fresh.unsigned(&Limits::default()).unwrap().signed_by(&world.keys.entitlement);
    server.script().certificate = Some(("two".to_owned(), bytes));
    at(noon() + days(21), &mut server);
    assert_eq!(told(&device).certificate.unwrap().expires, noon() + days(51));
}

#[test]
fn what_is_refused_leaves_the_one_that_is_kept_and_the_update_goes_on() {
    let (world, server, device) = setting();
    give(&server, "one", &certificate(&device), &world.keys.entitlement);
    device.once().unwrap();
    let before = kept(&device);
    let newer = Certificate { device_epoch: 2, ..certificate(&device) };
    let wrong = [
        ("stolen", newer.clone(), key("a thief")),
        ("other", Certificate { serial: "SN-0002".to_owned(), ..newer.clone() }, key("entitlement")),
        ("older", Certificate { issued: noon() - days(1), ..newer.clone() }, key("entitlement")),
        ("revoked", Certificate { device_epoch: 0, ..newer.clone() }, key("entitlement")),
        (
            "expired",
            Certificate { issued: noon(), expires: noon() + SignedDuration::from_secs(1), ..newer },
            key("entitlement"),
        ),
    ];
    for (number, (tag, certificate, key)) in wrong.into_iter().enumerate() {
        give(&server, tag, &certificate, &key);
        server.script().etag = format!("\"e{number}\"");
        if tag == "expired" {
            device.now.set(noon() + SignedDuration::from_secs(1));
        }
        assert_eq!(device.once().unwrap().outcome, Outcome::UpToDate, "{tag}");
        assert_eq!(kept(&device), before, "{tag}");
    }
    // Nor does trouble of any kind keep the device from its update.
    for (number, status) in [(1, 503), (2, 403), (3, 500)] {
        let mut script = server.script();
        script.certificate = Some((format!("none-{status}"), Vec::new()));
        script.statuses.extend(std::iter::repeat_n(("/v1/entitlement".to_owned(), status), 3));
        drop(script);
        server.offer(
            number,
            world.offer(["2.0", "3.0", "3.0"][usize::try_from(number).unwrap() - 1], None, FullEncoding::Zstd),
        );
        let outcome = device.once().unwrap().outcome;
        assert!(matches!(outcome, Outcome::Updated | Outcome::UpToDate), "{status}: {outcome:?}");
        assert_eq!(kept(&device), before, "{status}");
        server.script().statuses.clear();
    }
    device.assert_runs(&world, "3.0");
}

/// A thief of key E made the device keep something from far ahead: the root that names another key ends it.
#[test]
fn a_certificate_of_a_stolen_key_is_void_with_the_next_root() {
    let (mut world, server, device) = setting();
    let ahead = Certificate {
        device_epoch: 1 << 30,
        issued: noon() + days(80),
        expires: noon() + days(160),
        ..certificate(&device)
    };
    give(&server, "forged", &ahead, &world.keys.entitlement);
    device.once().unwrap();
    assert!(told(&device).holds);
    give(&server, "honest", &certificate(&device), &world.keys.entitlement);
    server.script().etag = "\"e1\"".to_owned();
    device.once().unwrap();
    assert_eq!(told(&device).certificate.unwrap().issued, ahead.issued, "what it keeps is newer");

    world.keys.entitlement = key("the next entitlement key");
    give(&server, "new", &certificate(&device), &world.keys.entitlement);
    let mut script = server.script();
    script.files.insert("/director/2.root.json".to_owned(), world.director_root(2));
    script.etag = "\"e2\"".to_owned();
    drop(script);
    device.once().unwrap();
    let told = told(&device);
    assert!(told.holds);
    assert_eq!(told.certificate.unwrap().issued, noon());
}

#[test]
fn a_damaged_file_is_as_good_as_none_and_a_cut_write_leaves_the_old_one() {
    let (world, server, device) = setting();
    give(&server, "one", &certificate(&device), &world.keys.entitlement);
    device.once().unwrap();
    for damage in [&b"{"[..], b"", b"{\"certificate\":\"{}\"}"] {
        std::fs::write(device.state.entitlement(), damage).unwrap();
        assert!(!told(&device).holds);
        server.script().etag = "\"again\"".to_owned();
        device.once().unwrap();
        // The cheap form of a poll says nothing of certificates; the next full one does.
        server.script().etag = format!("\"e{}\"", damage.len());
        device.once().unwrap();
        assert!(told(&device).holds, "{damage:?}");
    }
    // Left by a power cut before the rename.
    std::fs::write(device.state.root().join("entitlement.json.new"), b"{\"certif").unwrap();
    assert!(told(&device).holds);
}

#[test]
fn without_the_server_the_device_tells_what_it_may_install_and_until_when() {
    let (world, server, device) = setting();
    give(&server, "one", &certificate(&device), &world.keys.entitlement);
    server.offer(1, world.offer("2.0", None, FullEncoding::Zstd));
    device.once().unwrap();
    server.script().dead.push("/".to_owned());
    let told = told(&device);
    let says = told.certificate.unwrap();
    assert_eq!((says.contracts[0].contract.as_str(), says.contracts[0].rule.as_str()), ("C-1", "live"));
    // The releases of this world require nothing.
    let versions: Vec<(&str, bool, Reason)> =
        told.versions.iter().map(|one| (one.version.as_str(), one.allowed, one.reason)).collect();
    let free = Reason::NoCodeRequired;
    assert_eq!(versions, [("3.0", true, free), ("2.0", true, free), ("1.0", true, free)]);

    // Another document of the product, from a memory stick: its versions need a code.
    let mut stick = World::new(noon());
    for (version, code) in [("2.0", "CAM"), ("3.0", "AI")] {
        stick.release_mut(version).requires = vec![code];
    }
    let document = device.state.root().join("stick.json");
    std::fs::write(&document, &stick.files(7)[&format!("/metadata/7.{PRODUCT}.json")]).unwrap();
    let at = |now| entitlement(&device.state, &device.boot(), now, Some(&document)).unwrap().versions;
    let one = |now, version: &str| at(now).into_iter().find(|one| one.version.as_str() == version).unwrap();
    let covered = one(noon(), "2.0");
    assert_eq!((covered.allowed, covered.reason), (true, Reason::CoveredLive));
    assert_eq!(covered.until.unwrap().to_string(), (noon() + days(25)).to_string(), "the window and its grace");
    assert_eq!(one(noon() + days(22), "2.0").reason, Reason::CoveredGrace);
    assert_eq!(one(noon() + days(26), "2.0").reason, Reason::NotLive);
    assert_eq!(one(noon(), "3.0").reason, Reason::CodeNotGranted);

    let expired = entitlement(&device.state, &device.boot(), noon() + days(30), None).unwrap();
    assert!(!expired.holds && expired.versions.is_empty() && expired.trouble.unwrap().contains("expired"));
    // A document that the product's holders did not sign is none.
    let top = server.script().files["/metadata/1.targets.json"].clone();
    std::fs::write(&document, top).unwrap();
    let error = entitlement(&device.state, &device.boot(), noon(), Some(&document)).unwrap_err();
    assert!(matches!(error, AgentError::Refused { .. }), "{error}");
}

#[test]
fn losing_cover_takes_nothing_from_the_device() {
    let (world, server, device) = setting();
    let blocked = Certificate { state: CertifiedState::Blocked, covers: Vec::new(), ..certificate(&device) };
    give(&server, "one", &blocked, &world.keys.entitlement);
    server.offer(1, world.offer("2.0", None, FullEncoding::Zstd));
    // What is installed is the director's choice among what offline keys signed, and nothing else.
    assert_eq!(device.once().unwrap().outcome, Outcome::Updated);
    assert!(told(&device).versions.iter().all(|one| !one.allowed && one.reason == Reason::DeviceBlocked));
    device.assert_runs(&world, "2.0");
}

#[test]
fn a_director_root_without_key_e_makes_no_round_fail() {
    let (mut world, server, device) = setting();
    world.now = noon();
    let bytes = certificate(&device).unsigned(&Limits::default()).unwrap().signed_by(&key("entitlement"));
    server.script().certificate = Some(("one".to_owned(), bytes));
    let without = world.root(2, &world.keys.director_root, &world.keys.director);
    server.script().files.insert("/director/2.root.json".to_owned(), without);
    assert_eq!(device.once().unwrap().outcome, Outcome::UpToDate);
    assert_eq!(kept(&device), None);
}

#[test]
fn the_command_tells_it_in_words_and_as_json() {
    let (world, server, device) = setting();
    give(&server, "one", &certificate(&device), &world.keys.entitlement);
    device.once().unwrap();
    let run = |arguments: &[&str]| {
        let output = device.run(arguments);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    // The real clock is past the end of a certificate of these tests.
    let text = run(&["entitlement"]);
    assert!(
        text.contains("no certificate holds: ") && text.contains("contract  C-1 (plus), live: CAM up to stable"),
        "{text}"
    );
    let json: serde_json::Value = serde_json::from_str(&run(&["--json", "entitlement"])).unwrap();
    assert_eq!(json["holds"], false, "{json}");
    assert_eq!(json["certificate"]["contracts"][0]["codes"]["CAM"], "stable", "{json}");
}
