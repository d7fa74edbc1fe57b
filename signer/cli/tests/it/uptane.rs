//! `uptane`: every case of the public Uptane test vectors, made here in the same shape, and what those do not have.

use crate::files::FileServer;
use crate::sandbox::{Run, Sandbox};
use crate::tuf::{Repository, in_days, key, role, signed};
use crate::vectors::{CONTENT, Delegated, ECU, FILE, HARDWARE, Image, Role, Vector};
use sluice_signer::{Json, RootMetadata, TargetsMetadata};

const ROLES: [(&str, &str); 6] = [
    ("director", "Root"),
    ("director", "Targets"),
    ("image", "Root"),
    ("image", "Targets"),
    ("image", "Snapshot"),
    ("image", "Timestamp"),
];

struct Bench {
    sandbox: Sandbox,
    server: FileServer,
}

impl Bench {
    fn new() -> Self {
        Self { sandbox: Sandbox::new(), server: FileServer::start() }
    }

    fn run(&self, vector: &Vector) -> Run {
        vector.serve(&self.server);
        self.run_as(ECU, HARDWARE)
    }

    fn run_as(&self, ecu: &str, hardware: &str) -> Run {
        let url = &self.server.url;
        let urls = format!("--director-url {url}/director --image-url {url}/image_repo");
        self.sandbox.run(&format!("uptane --json --state trusted {urls} --ecu {ecu} --hw {hardware}"))
    }

    fn accepts(&self, vector: &Vector) -> serde_json::Value {
        let report = self.run(vector).ok().json();
        assert_eq!(report["accepted"], true);
        report
    }

    /// Refuses, for the reason given.
    fn refuses(&self, case: &str, vector: &Vector, reason: &str) {
        let run = self.run(vector);
        assert!(run.code == 1 && run.stderr.contains(reason), "{case} ({reason}): {}", run.transcript());
        let report = run.json();
        assert!(report["accepted"] == false && report["error"].as_str().unwrap().contains(reason), "{case}");
    }
}

/// A fresh state refuses a vector of which one thing is wrong.
pub fn refuses(case: &str, reason: &str, change: impl FnOnce(&mut Vector)) {
    let mut vector = Vector::new();
    change(&mut vector);
    Bench::new().refuses(case, &vector, reason);
}

pub fn accepts(change: impl FnOnce(&mut Vector)) -> serde_json::Value {
    let mut vector = Vector::new();
    change(&mut vector);
    Bench::new().accepts(&vector)
}

#[test]
fn a_valid_pair_is_accepted_in_every_spelling() {
    for (base64, compact, unversioned) in
        [(false, false, false), (true, false, false), (false, true, false), (true, true, true)]
    {
        let report = accepts(|vector| {
            (vector.base64, vector.compact) = (base64, compact);
            vector.director.unversioned_root = unversioned;
            vector.image.unversioned_root = unversioned;
        });
        assert_eq!(report["ecus"][0]["ecu"], ECU);
        assert_eq!((&report["ecus"][0]["path"], &report["ecus"][0]["role"]), (&FILE.into(), &"targets".into()));
        assert_eq!(report["ecus"][0]["downloaded"], true);
        assert_eq!(report["director"]["timestamp"], serde_json::Value::Null);
    }
    // Digest and length of the targets in the snapshot are those of the canonical form.
    for compact in [false, true] {
        accepts(|vector| (vector.image.hash_targets, vector.compact) = (true, compact));
    }
    assert_eq!(accepts(|vector| vector.director.images.clear())["ecus"], serde_json::json!([]), "nothing for us");
}

#[test]
fn each_role_of_each_repository_must_be_signed_by_enough_keys_of_its_own() {
    for (repo, name) in ROLES {
        let case = |what: &str| format!("{what} {repo} {name}");
        let of = |vector: &mut Vector, change: fn(&mut Role)| change(vector.repo(repo).role(name));
        refuses(&case("unsigned"), "0 of 1 required", |vector| of(vector, |role| role.signers.clear()));
        refuses(&case("threshold not met"), "1 of 2 required", |vector| of(vector, Role::lacks_one));
        refuses(&case("signed twice by one key"), "one signature for each key id", |vector| {
            of(vector, |role| role.signers = role.keys.repeat(2));
        });
        refuses(&case("threshold zero"), "an integer of one or more", |vector| {
            of(vector, |role| role.threshold = Some(0));
        });
        refuses(&case("wrong key ids"), "0 of 1 required", |vector| of(vector, |role| role.wrong_ids = true));
        refuses(&case("another's key"), "0 of 1 required", |vector| of(vector, |role| role.signers = vec![99]));
    }
}

#[test]
fn each_role_of_each_repository_must_be_in_date_and_of_its_type() {
    for (repo, name) in ROLES {
        let case = |what: &str| format!("{what} {repo} {name}");
        refuses(&case("expired"), "expired at 2017", |vector| vector.repo(repo).role(name).expired = true);
        for kind in ["invalidrole", "TARGETS", "Mirrors"] {
            refuses(&case(kind), "", |vector| vector.repo(repo).role(name).kind = kind);
        }
    }
    refuses("role confusion", "expected a document of type", |vector| vector.image.snapshot.kind = "Timestamp");
}

#[test]
fn both_repositories_must_describe_the_same_image() {
    for repo in ["director", "image"] {
        let first = |vector: &mut Vector, change: fn(&mut Image)| change(&mut vector.repo(repo).images[0]);
        refuses(repo, "director says SHA-256", |vector| first(vector, |image| image.wrong_hash = true));
        refuses(repo, "bytes, image repository", |vector| first(vector, |image| image.short = true));
    }
    let both = |vector: &mut Vector, change: fn(&mut Image)| {
        change(&mut vector.director.images[0]);
        change(&mut vector.image.images[0]);
    };
    refuses("both lie about the length", "more came", |vector| both(vector, |image| image.short = true));
    refuses("both lie about the digest", "came", |vector| both(vector, |image| image.wrong_hash = true));
    refuses("no such image", "no role that may speak for it lists file.txt", |vector| vector.image.images.clear());
    refuses("counter", "director says release counter 3, image repository none", |vector| {
        vector.director.images[0].counter = Some(3);
    });
    accepts(|vector| both(vector, |image| image.counter = Some(3)));
}

#[test]
fn the_image_must_be_for_this_ecu_and_its_hardware() {
    let other = |text: &mut String| text.push_str("-other");
    refuses("ECU", "which this vehicle does not have", |vector| other(&mut vector.director.images[0].ecu));
    refuses("hardware of the director", "is for hardware board-a-other", |vector| {
        other(&mut vector.director.images[0].hardware);
    });
    refuses("hardware of the image", "image repository: file.txt is for hardware", |vector| {
        other(&mut vector.image.images[0].hardware);
    });
    refuses("hardware of both", "is for hardware board-a-other", |vector| {
        other(&mut vector.director.images[0].hardware);
        other(&mut vector.image.images[0].hardware);
    });
    refuses("two images for one ECU", "listed twice, for alt.txt and for file.txt", |vector| {
        vector.director.images.push(Image::new("alt.txt", b"something else"));
    });
    // A replay to another vehicle.
    let bench = Bench::new();
    Vector::new().serve(&bench.server);
    let run = bench.run_as("ecu-2", HARDWARE);
    assert!(run.code == 1 && run.stderr.contains("ecu-1"), "{}", run.transcript());
    let run = bench.sandbox.run("uptane --state s --director-url x --image-url x --ecu a --ecu b --hw c");
    assert!(run.code == 3 && run.stderr.contains("give each --ecu its --hw"), "{}", run.transcript());
}

#[test]
fn a_director_must_not_delegate() {
    refuses("delegation", "must not delegate", |vector| {
        vector.director.delegated.push(Delegated::new("foo", "targets"));
    });
}

#[test]
fn documents_that_are_too_large_are_not_read() {
    for repo in ["director", "image"] {
        refuses(repo, "no document of at most 5000000 bytes", |vector| vector.repo(repo).too_large = true);
    }
}

#[test]
fn the_snapshot_names_the_targets_by_version() {
    refuses("version", "expected version 2, found 1", |vector| vector.image.snapshot_targets_version = Some(2));
}

#[test]
fn a_root_is_followed_when_old_and_new_holders_signed_it_and_its_version_is_next() {
    for repo in ["director", "image"] {
        let old = Vector::new().repo(repo).root.keys[0];
        let next = |version: u64, key: u8, signers: &[u8], file: u64| {
            let mut vector = Vector::new();
            let repo = vector.repo(repo);
            (repo.root.version, repo.root.keys, repo.root.signers) = (version, vec![key], signers.to_vec());
            repo.root_file = Some(file);
            vector
        };
        let rotated = next(2, 70, &[old, 70], 2);
        for (signers, version, reason) in [
            (&[70][..], 2, "0 of 1 required signatures by keys of root version 1"),
            (&[old], 2, "0 of 1 required signatures by keys of root version 2"),
            (&[old, 70], 1, "expected version 2, found 1"),
            (&[old, 70], 3, "expected version 2, found 3"),
        ] {
            let bench = Bench::new();
            bench.accepts(&Vector::new());
            bench.refuses(repo, &next(version, 70, signers, 2), reason);
            // What was trusted before still is, and the right one is followed.
            assert_eq!(bench.accepts(&rotated)[repo]["root"], 2);
        }
        // Two at once.
        let bench = Bench::new();
        bench.accepts(&Vector::new());
        rotated.serve(&bench.server);
        let base = if repo == "director" { "/director" } else { "/image_repo" };
        let second = bench.server.get(&format!("{base}/2.root.json"));
        next(3, 71, &[70, 71], 3).serve(&bench.server);
        bench.server.put(&format!("{base}/2.root.json"), second);
        assert_eq!(bench.run_as(ECU, HARDWARE).ok().json()[repo]["root"], 3);
    }
}

#[test]
fn versions_do_not_go_back() {
    let bench = Bench::new();
    let mut newer = Vector::new();
    for (repo, name) in ROLES.into_iter().filter(|(_, name)| *name != "Root") {
        newer.repo(repo).role(name).version = 2;
    }
    bench.accepts(&newer);
    for (repo, name) in ROLES.into_iter().filter(|(_, name)| *name != "Root") {
        let mut vector = newer.clone();
        vector.repo(repo).role(name).version = 1;
        bench.refuses(name, &vector, "older than the trusted version 2");
    }
    bench.accepts(&newer);
}

/// The specification does not forbid it, and the public vectors want it accepted.
#[test]
fn other_content_of_the_same_version_is_followed() {
    for hash_targets in [true, false] {
        let bench = Bench::new();
        let mut first = Vector::new();
        first.image.hash_targets = hash_targets;
        bench.accepts(&first);
        let mut second = first.clone();
        second.image.images.push(Image::new("file01.txt", b"some other content"));
        second.director.images = vec![Image::new("file01.txt", b"some other content")];
        second.director.targets.version = 2;
        assert_eq!(bench.accepts(&second)["ecus"][0]["path"], "file01.txt");
    }
}

#[test]
fn a_release_counter_does_not_go_down_whatever_was_refused_in_between() {
    let at = |version: u64, counter: u64| {
        let mut vector = Vector::new();
        vector.director.targets.version = version;
        vector.director.images[0].counter = Some(counter);
        vector.image.images[0].counter = Some(counter);
        vector
    };
    let bench = Bench::new();
    bench.accepts(&at(1, 5));
    bench.refuses("lower", &at(2, 4), "release counter 4 is lower than 5");
    bench.refuses("again", &at(2, 4), "release counter 4 is lower than 5");
    bench.accepts(&at(3, 5));
    bench.accepts(&at(4, 6));
}

#[test]
fn one_repository_alone_says_nothing() {
    for missing in ["director", "image_repo"] {
        let bench = Bench::new();
        let vector = Vector::new();
        vector.serve(&bench.server);
        let url = &bench.server.url;
        let at = |name: &str| if name == missing { format!("{url}/nowhere") } else { format!("{url}/{name}") };
        let (director, image) = (at("director"), at("image_repo"));
        let run = bench.sandbox.run(&format!(
            "uptane --state trusted --director-url {director} --image-url {image} --ecu {ECU} --hw {HARDWARE}"
        ));
        assert!(run.code == 1 && run.stderr.contains("the repository has no 1.root.json"), "{}", run.transcript());
    }
}

#[test]
fn a_key_of_an_unknown_kind_is_skipped() {
    for repo in ["director", "image"] {
        accepts(|vector| {
            vector.repo(repo).rsa_key = true;
            vector.repo(repo).targets.threshold = Some(1);
        });
        refuses(repo, "1 of 2 required", |vector| {
            vector.repo(repo).rsa_key = true;
            vector.repo(repo).targets.threshold = Some(2);
        });
    }
}

#[test]
fn the_image_is_the_signed_one() {
    let bench = Bench::new();
    let vector = Vector::new();
    vector.serve(&bench.server);
    bench.server.put("/image_repo/targets/file.txt", [CONTENT, b"!"].concat());
    let run = bench.run_as(ECU, HARDWARE);
    assert!(run.code == 1 && run.stderr.contains("more came"), "{}", run.transcript());
    let urls = format!("--director-url {0}/director --image-url {0}/image_repo", bench.server.url);
    let line = format!("uptane --json --state trusted {urls} --ecu {ECU} --hw {HARDWARE}");
    let metadata_only = bench.sandbox.run(&format!("{line} --no-images")).ok().json();
    assert_eq!(metadata_only["ecus"][0]["downloaded"], false);
    bench.server.put("/elsewhere/file.txt", CONTENT.to_vec());
    bench.sandbox.run(&format!("{line} --targets-url {}/elsewhere", bench.server.url)).ok();
}

#[test]
fn slow_retrieval_and_endless_data_are_given_up_in_both_repositories() {
    for file in
        ["director/1.root.json", "director/targets.json", "image_repo/timestamp.json", "image_repo/targets/file.txt"]
    {
        for slow in [true, false] {
            let bench = Bench::new();
            let mut vector = Vector::new();
            vector.director.images[0].content = CONTENT.repeat(20);
            vector.image.images[0].content = CONTENT.repeat(20);
            vector.serve(&bench.server);
            let path = format!("/{file}");
            let reason = if slow {
                bench.server.trickle(&path);
                "timeout"
            } else {
                bench.server.endless(&path);
                if file.contains("file.txt") { "more came" } else { "no document of at most" }
            };
            let urls = format!("--director-url {0}/director --image-url {0}/image_repo", bench.server.url);
            let line = format!("uptane --state trusted {urls} --ecu {ECU} --hw {HARDWARE} --timeout 1");
            let run = bench.sandbox.run(&line);
            assert!(run.code == 1 && run.stderr.contains(reason), "{file}: {}", run.transcript());
        }
    }
}

/// Our own layout: types in small letters, versioned files, images named by their digest beside the documents.
#[test]
fn a_repository_of_today_is_verified_by_the_same_command() {
    let (sandbox, mut repository) = (Sandbox::new(), Repository::start(true));
    let path = "line/1.0/main.bin";
    repository.add("../odd?#role", path, b"firmware");
    let target = repository.targets.get_mut("../odd?#role").unwrap().targets.get_mut(path).unwrap();
    target.custom =
        Some(Json::object([("hw_ids", Json::texts(&["cam-r3".to_owned()])), ("security_counter", 7u64.into())]));
    let mut offered = target.clone();
    let ecu = Json::object([("cam-1", Json::object([("hw_id", "cam-r3".into())]))]);
    offered.custom = Some(Json::object([("ecu", ecu)]));
    repository.publish();
    let roles = [("root", 31), ("snapshot", 2), ("timestamp", 3), ("targets", 33)];
    let root = RootMetadata {
        version: 1,
        expires: in_days(90),
        consistent_snapshot: true,
        keys: roles
            .iter()
            .map(|&(_, seed)| key(seed).public().clone())
            .map(|key| (key.keyid().to_owned(), key))
            .collect(),
        roles: roles.iter().map(|&(name, seed)| (name.to_owned(), role(seed))).collect(),
        repo_id: None,
        entitlement: None,
        epoch: 1,
    };
    repository.server.put("/director/1.root.json", signed(root.to_json(), &[31]));
    let mut document = TargetsMetadata::new(1, in_days(1), None);
    document.targets.insert(path.to_owned(), offered);
    repository.server.put("/director/targets.json", signed(document.to_json(), &[33]));
    let urls = format!("--director-url {0}/director --image-url {0}/metadata", repository.server.url);
    let line = format!("uptane --json --state trusted {urls} --ecu cam-1");
    for _ in 0..2 {
        let report = sandbox.run(&format!("{line} --hw cam-r3")).ok().json();
        assert_eq!(
            (&report["ecus"][0]["role"], &report["ecus"][0]["downloaded"]),
            (&"../odd?#role".into(), &true.into())
        );
    }
    let kept = |sandbox: &Sandbox, file: &str| sandbox.path(&format!("trusted/{file}.json")).exists();
    for file in
        ["director/root", "director/targets", "image/root", "image/timestamp", "image/snapshot", "image/targets"]
    {
        assert!(kept(&sandbox, file), "{file}");
    }
    assert_eq!(sandbox.run(&format!("{line} --hw cam-r4")).code, 1);
    // Another document of the same version is refused here: nothing of this repository is of the old spelling.
    document.expires = in_days(2);
    repository.server.put("/director/targets.json", signed(document.to_json(), &[33]));
    let run = sandbox.run(&format!("{line} --hw cam-r3"));
    assert!(run.code == 1 && run.stderr.contains("seen before with different content"), "{}", run.transcript());
}
