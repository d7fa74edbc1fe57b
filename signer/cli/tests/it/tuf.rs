//! `tuf`: a client of any repository, here of one that is spread over odd role names, hash prefixes and two delegators of one
//! role, as other makers of metadata build them.

use crate::files::FileServer;
use crate::sandbox::{Run, Sandbox};
use jiff::{SignedDuration, Timestamp};
use sluice_signer::path::quoted;
use sluice_signer::roles::FileMeta;
use sluice_signer::{
    Delegation, Envelope, Paths, RepositoryTarget, RoleKeys, RootMetadata, SigningKey, TargetsMetadata, online, sha256,
};
use std::collections::BTreeMap;

const ODD: &str = "../odd?#role";

/// A repository and the server that has its files.
pub struct Repository {
    pub server: FileServer,
    consistent: bool,
    root: u64,
    version: u64,
    pub targets: BTreeMap<String, TargetsMetadata>,
}

pub fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32]).unwrap()
}

pub fn role(seed: u8) -> RoleKeys {
    RoleKeys::new([key(seed).public()], 1)
}

pub fn signed(signed: sluice_signer::Json, keys: &[u8]) -> Vec<u8> {
    let mut envelope = Envelope::new(signed);
    for &seed in keys {
        envelope.sign(&key(seed));
    }
    envelope.to_bytes()
}

pub fn in_days(days: i64) -> Timestamp {
    "2026-06-01T12:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_hours(24 * days)
}

/// Keys: root 1 (and 11 after the rotation), snapshot 2, timestamp 3, targets 4, delegated roles 5.
const ROLES: [(&str, u8); 4] = [("root", 1), ("snapshot", 2), ("timestamp", 3), ("targets", 4)];

impl Repository {
    pub fn start(consistent: bool) -> Self {
        let server = FileServer::start();
        let mut top = TargetsMetadata::new(1, in_days(9), None);
        let delegation = |name: &str, paths| Delegation { name: name.into(), keys: role(5), paths, terminating: false };
        top.delegation_keys.insert(key(5).public().keyid().to_owned(), key(5).public().clone());
        let prefix = hex::encode(sha256(b"bin/tool"))[..3].to_owned();
        top.delegations =
            vec![delegation(ODD, Paths::pattern("line/*/*")), delegation("bins", Paths::HashPrefixes([prefix].into()))];
        let mut repository =
            Self { server, consistent, root: 1, version: 0, targets: BTreeMap::from([("targets".into(), top)]) };
        for name in [ODD, "bins"] {
            repository.targets.insert(name.into(), TargetsMetadata::new(1, in_days(9), None));
        }
        repository.put(1, &[1]);
        repository
    }

    pub fn put(&mut self, version: u64, signers: &[u8]) {
        let seed_of = |name: &str, seed: u8| if name == "root" && version > 1 { 11 } else { seed };
        let root = RootMetadata {
            version,
            expires: in_days(90),
            consistent_snapshot: self.consistent,
            keys: ROLES
                .iter()
                .map(|&(name, seed)| key(seed_of(name, seed)).public().clone())
                .map(|key| (key.keyid().to_owned(), key))
                .collect(),
            roles: ROLES.iter().map(|&(name, seed)| (name.to_owned(), role(seed_of(name, seed)))).collect(),
            repo_id: None,
            entitlement: None,
            epoch: 1,
        };
        self.root = version;
        self.file(&format!("metadata/{version}.root.json"), signed(root.to_json(), signers));
    }

    fn file(&self, path: &str, bytes: Vec<u8>) {
        self.server.put(&format!("/{path}"), bytes);
    }

    pub fn add(&mut self, role: &str, path: &str, content: &[u8]) {
        let sha256 = sha256(content);
        let target = RepositoryTarget { path: path.into(), length: content.len() as u64, sha256, custom: None };
        self.targets.get_mut(role).unwrap().targets.insert(path.into(), target);
        self.file(&format!("targets/{}", self.place(path, &sha256)), content.to_vec());
    }

    fn place(&self, path: &str, sha256: &[u8; 32]) -> String {
        let (folder, name) = path.rsplit_once('/').map_or(("", path), |(folder, name)| (folder, name));
        let prefix = if self.consistent { format!("{}.", hex::encode(sha256)) } else { String::new() };
        let slash = if folder.is_empty() { "" } else { "/" };
        format!("{folder}{slash}{prefix}{}", quoted(name))
    }

    /// Writes every document anew, one version higher.
    pub fn publish(&mut self) {
        self.version += 1;
        let version = self.version;
        let prefix = if self.consistent { format!("{version}.") } else { String::new() };
        let mut files = BTreeMap::new();
        for (name, metadata) in &mut self.targets {
            metadata.version = version;
            let bytes = signed(metadata.to_json(), &[if name == "targets" { 4 } else { 5 }]);
            files.insert(name.clone(), FileMeta::of(version, &bytes));
            self.server.put(&format!("/metadata/{prefix}{}.json", quoted(name)), bytes);
        }
        let snapshot = online::sign_snapshot(version, in_days(5), files, None, &key(2));
        let meta = FileMeta::of(version, &snapshot);
        self.file(&format!("metadata/{prefix}snapshot.json"), snapshot);
        self.file("metadata/timestamp.json", online::sign_timestamp(version, in_days(1), meta, None, &key(3)));
    }

    fn run(&self, sandbox: &Sandbox, command: &str) -> Run {
        sandbox.run(&format!("tuf --metadata-dir trusted --metadata-url {}/metadata {command}", self.server.url))
    }

    fn download(&self, sandbox: &Sandbox, path: &str) -> Run {
        let line = format!(
            "tuf --metadata-dir trusted --metadata-url {0}/metadata --target-base-url {0}/targets",
            self.server.url
        );
        let more = ["--target-dir", "got", "--json", "--target-name"].into_iter().chain(path.split(' '));
        sandbox.run_with(&line, &more.chain(["download"]).collect::<Vec<_>>())
    }

    fn init(&self, sandbox: &Sandbox) {
        sandbox.write("root.json", &self.server.get("/metadata/1.root.json"));
        sandbox.run("tuf --metadata-dir trusted init root.json").ok();
    }

    fn requests(&self) -> Vec<String> {
        self.server.requests()
    }
}

#[test]
fn targets_are_found_through_odd_role_names_and_hash_prefixes() {
    for consistent in [true, false] {
        let (sandbox, mut repository) = (Sandbox::new(), Repository::start(consistent));
        repository.add(ODD, "line/1.0/main.bin", b"firmware");
        repository.add("bins", "bin/tool", b"tool");
        repository.publish();
        repository.init(&sandbox);
        let report = repository.download(&sandbox, "line/1.0/main.bin").ok().json();
        assert_eq!(report["downloads"][0]["role"], ODD);
        assert_eq!(sandbox.read("got/line/1.0/main.bin"), b"firmware");
        let version = if consistent { "1." } else { "" };
        let documents: Vec<String> =
            ["2.root", "timestamp", &format!("{version}snapshot"), &format!("{version}targets")]
                .into_iter()
                .map(|name| format!("/metadata/{name}.json"))
                .chain([format!("/metadata/{version}..%2Fodd%3F%23role.json")])
                .collect();
        let mut requests = repository.requests();
        assert_eq!(requests.split_off(5).len(), 1, "the target itself");
        assert_eq!(requests, documents, "consistent: {consistent}");

        // Again: only what could be newer is asked for, and the target is not fetched.
        assert_eq!(repository.download(&sandbox, "line/1.0/main.bin").ok().json()["downloads"][0]["cached"], true);
        assert_eq!(repository.requests(), ["/metadata/2.root.json", "/metadata/timestamp.json"]);

        assert_eq!(repository.download(&sandbox, "bin/tool").ok().json()["downloads"][0]["role"], "bins");
        assert_eq!(sandbox.read("got/bin/tool"), b"tool");
        let missing = repository.download(&sandbox, "bin/other");
        assert_eq!((missing.code, missing.stderr.contains("bin/other")), (1, true), "{}", missing.transcript());
    }
}

#[test]
fn a_target_that_is_not_the_signed_one_is_not_stored() {
    let (sandbox, mut repository) = (Sandbox::new(), Repository::start(true));
    repository.add("bins", "bin/tool", b"tool");
    repository.publish();
    repository.init(&sandbox);
    let place = format!("targets/{}", repository.place("bin/tool", &sha256(b"tool")));
    for evil in [&b"evil"[..], b"to", b"tool and more"] {
        repository.file(&place, evil.to_vec());
        let run = repository.download(&sandbox, "bin/tool");
        assert_eq!(run.code, 1, "{}", run.transcript());
        assert_eq!(std::fs::read_dir(sandbox.path("got/bin")).unwrap().count(), 0);
    }
    repository.file(&place, b"tool".to_vec());
    repository.download(&sandbox, "bin/tool").ok();
    // What was right stays when the repository turns bad, and a damaged copy is fetched anew.
    sandbox.write("got/bin/tool", b"t00l");
    repository.file(&place, b"evil".to_vec());
    assert_eq!(repository.download(&sandbox, "bin/tool").code, 1);
    repository.file(&place, b"tool".to_vec());
    assert_eq!(repository.download(&sandbox, "bin/tool").ok().json()["downloads"][0]["cached"], false);
    assert_eq!(sandbox.read("got/bin/tool"), b"tool");
}

#[test]
fn refused_documents_change_nothing_and_say_why() {
    let (mut sandbox, mut repository) = (Sandbox::new(), Repository::start(true));
    let nothing = repository.run(&sandbox, "refresh");
    assert_eq!((nothing.code, nothing.stderr.contains("init ROOT")), (1, true), "{}", nothing.transcript());
    repository.publish();
    repository.publish();
    repository.init(&sandbox);
    let run = repository.run(&sandbox, "refresh").ok();
    assert_eq!(run.stdout, "root 1, timestamp 2, snapshot 2, targets 2\n");
    let trusted = |sandbox: &Sandbox| {
        ["root", "timestamp", "snapshot", "targets"].map(|role| sandbox.read(&format!("trusted/{role}.json")))
    };
    let before = trusted(&sandbox);

    // An older timestamp; one of the repository's keys for another role; more bytes than a timestamp may have.
    let old = online::sign_timestamp(1, in_days(1), FileMeta::of(2, b""), None, &key(3));
    let other = online::sign_timestamp(9, in_days(1), FileMeta::of(9, b""), None, &key(2));
    for (bytes, reason) in [(old, "older than the trusted version 2"), (other, "0 of 1"), (vec![b' '; 20_000], "16384")]
    {
        repository.file("metadata/timestamp.json", bytes);
        let run = repository.run(&sandbox, "refresh");
        assert!(run.code == 1 && run.stderr.contains(reason), "{reason}: {}", run.transcript());
        assert_eq!(trusted(&sandbox), before);
    }
    // Another one of the same version is told of, and not taken.
    repository
        .file("metadata/timestamp.json", online::sign_timestamp(2, in_days(1), FileMeta::of(9, b""), None, &key(3)));
    let run = repository.run(&sandbox, "refresh").ok();
    assert!(run.stderr.contains("version 2 was seen before with different content"), "{}", run.transcript());
    assert_eq!(trusted(&sandbox), before);
    // What was kept and is damaged guards against nothing any more: that is told, and mended by what is fetched.
    repository.publish();
    sandbox.write("trusted/snapshot.json", b"{}");
    let run = repository.run(&sandbox, "refresh").ok();
    assert!(run.stderr.contains("snapshot.json is not trusted any more"), "{}", run.transcript());
    assert_eq!(repository.run(&sandbox, "refresh").ok().stderr, "");
    let before = trusted(&sandbox);
    // Later, what stands is too old to act on.
    repository.publish();
    sandbox.now = "2026-06-03T12:00:00Z";
    let run = repository.run(&sandbox, "refresh");
    assert!(run.code == 1 && run.stderr.contains("expired"), "{}", run.transcript());
    assert_eq!(trusted(&sandbox), before);
}

#[test]
fn a_root_is_followed_only_when_old_and_new_holders_signed_it() {
    let (sandbox, mut repository) = (Sandbox::new(), Repository::start(true));
    repository.publish();
    repository.init(&sandbox);
    for (signers, code) in [(&[11][..], 1), (&[1], 1), (&[1, 11], 0)] {
        repository.put(2, signers);
        let run = repository.run(&sandbox, "--json refresh");
        assert_eq!(run.code, code, "{signers:?}: {}", run.transcript());
    }
    assert_eq!(repository.run(&sandbox, "--json refresh").ok().json()["root"], 2);
}

/// A server that sends a byte now and then is given up, although it is never silent for long.
#[test]
fn slow_retrieval_attack_is_given_up() {
    let (sandbox, mut repository) = (Sandbox::new(), Repository::start(true));
    let tool = b"tool".repeat(50);
    repository.add("bins", "bin/tool", &tool);
    repository.publish();
    repository.init(&sandbox);
    let place = format!("/targets/{}", repository.place("bin/tool", &sha256(&tool)));
    for path in ["/metadata/2.root.json", "/metadata/timestamp.json", "/metadata/1.snapshot.json", &place] {
        let before = repository.server.swap(path, None);
        repository.server.trickle(path);
        let run = repository.download(&sandbox, "bin/tool --timeout 1");
        assert!(run.code == 1 && run.stderr.contains("timeout"), "{path}: {}", run.transcript());
        repository.server.swap(path, before);
    }
    assert_eq!(std::fs::read_dir(sandbox.path("got/bin")).unwrap().count(), 0);
    repository.download(&sandbox, "bin/tool").ok();
}

#[test]
fn endless_data_attack_every_file_is_read_to_its_limit_only() {
    let (sandbox, mut repository) = (Sandbox::new(), Repository::start(true));
    let tool = b"tool".repeat(50);
    repository.add("bins", "bin/tool", &tool);
    repository.publish();
    repository.init(&sandbox);
    let place = format!("/targets/{}", repository.place("bin/tool", &sha256(&tool)));
    for (path, reason) in [
        ("/metadata/2.root.json", "no document of at most 512000 bytes"),
        ("/metadata/timestamp.json", "no document of at most 16384 bytes"),
        ("/metadata/1.snapshot.json", "no document of at most"),
        (&place, "200 bytes were signed, more came"),
    ] {
        let before = repository.server.swap(path, None);
        repository.server.endless(path);
        let run = repository.download(&sandbox, "bin/tool");
        assert!(run.code == 1 && run.stderr.contains(reason), "{path}: {}", run.transcript());
        repository.server.swap(path, before);
    }
    assert_eq!(std::fs::read_dir(sandbox.path("got/bin")).unwrap().count(), 0);
    repository.download(&sandbox, "bin/tool").ok();
}
