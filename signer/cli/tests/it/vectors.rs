//! Pairs of a director and an image repository in the spelling and layout of the public Uptane test vectors, right in all
//! things until a test makes one of them wrong. They are made anew in every run.

use crate::files::FileServer;
use base64::Engine as _;
use serde_json::{Map, Value, json};
use sluice_signer::{Json, SigningKey, sha256};

pub const ECU: &str = "ecu-1";
pub const HARDWARE: &str = "board-a";
pub const FILE: &str = "file.txt";
pub const CONTENT: &[u8] = b"what the unit runs";

/// One role: who may sign, who does, and what its document says of itself.
#[derive(Clone)]
pub struct Role {
    pub keys: Vec<u8>,
    pub signers: Vec<u8>,
    pub threshold: Option<u64>,
    /// Names its keys by another id than theirs where they are listed.
    pub wrong_ids: bool,
    pub kind: &'static str,
    pub version: u64,
    pub expired: bool,
}

impl Role {
    fn new(kind: &'static str, keys: &[u8]) -> Self {
        let (keys, signers) = (keys.to_vec(), keys.to_vec());
        Self { keys, signers, threshold: None, wrong_ids: false, kind, version: 1, expired: false }
    }

    /// One key more, and signatures of all but that.
    pub fn lacks_one(&mut self) {
        self.keys.push(200 + self.keys[0]);
    }

    fn header(&self) -> Map<String, Value> {
        let expires = if self.expired { "2017-01-01T00:00:00Z" } else { "2038-01-19T03:14:06Z" };
        let header = json!({"_type": self.kind, "version": self.version, "expires": expires});
        header.as_object().unwrap().clone()
    }

    fn entry(&self) -> Value {
        let keyids: Vec<String> = self.keys.iter().map(|&seed| keyid(seed)).collect();
        json!({"keyids": keyids, "threshold": self.threshold.unwrap_or(self.keys.len() as u64)})
    }

    fn list_keys(&self, keys: &mut Map<String, Value>) {
        for &seed in &self.keys {
            let mut id = keyid(seed);
            if self.wrong_ids {
                id = hex::encode(sha256(id.as_bytes()));
            }
            keys.insert(id, json!({"keytype": "ed25519", "keyval": {"public": public(seed)}}));
        }
    }
}

#[derive(Clone)]
pub struct Image {
    pub path: String,
    pub content: Vec<u8>,
    pub wrong_hash: bool,
    /// The signed length is one less than there are bytes.
    pub short: bool,
    pub ecu: String,
    pub hardware: String,
    pub counter: Option<u64>,
}

impl Image {
    pub fn new(path: &str, content: &[u8]) -> Self {
        let (path, content) = (path.to_owned(), content.to_vec());
        let (ecu, hardware) = (ECU.to_owned(), HARDWARE.to_owned());
        Self { path, content, wrong_hash: false, short: false, ecu, hardware, counter: None }
    }

    fn entry(&self, director: bool) -> Value {
        let mut hash = sha256(&self.content);
        if self.wrong_hash {
            hash[0] ^= 1;
        }
        let mut custom = if director {
            json!({"ecuIdentifiers": {&self.ecu: {"hardwareId": self.hardware}}})
        } else {
            json!({"hardwareIds": [self.hardware]})
        };
        if let Some(counter) = self.counter {
            custom["releaseCounter"] = json!(counter);
        }
        let length = self.content.len() as u64 - u64::from(self.short);
        json!({"length": length, "hashes": {"sha256": hex::encode(hash)}, "custom": custom})
    }
}

/// A delegated role.
#[expect(clippy::struct_excessive_bools, reason = "each is one thing that a vector may have wrong")]
#[derive(Clone)]
pub struct Delegated {
    pub role: Role,
    pub name: &'static str,
    pub parent: &'static str,
    pub paths: Vec<&'static str>,
    pub terminating: bool,
    pub images: Vec<Image>,
    /// The delegating document has the keys.
    pub keys_listed: bool,
    pub in_snapshot: bool,
    pub snapshot_version: u64,
    pub served: bool,
}

impl Delegated {
    pub fn new(name: &'static str, parent: &'static str) -> Self {
        Self {
            role: Role::new("Targets", &[6]),
            name,
            parent,
            paths: vec![FILE],
            terminating: false,
            images: vec![Image::new(FILE, CONTENT)],
            keys_listed: true,
            in_snapshot: true,
            snapshot_version: 1,
            served: true,
        }
    }
}

#[expect(clippy::struct_excessive_bools, reason = "each is one thing that a vector may have wrong")]
#[derive(Clone)]
pub struct Repo {
    director: bool,
    pub root: Role,
    /// The number in the file name of the root, when it is not the version that the root states.
    pub root_file: Option<u64>,
    pub targets: Role,
    pub snapshot: Role,
    pub timestamp: Role,
    pub images: Vec<Image>,
    pub delegated: Vec<Delegated>,
    pub snapshot_targets_version: Option<u64>,
    /// The snapshot gives the targets' digest and length as well.
    pub hash_targets: bool,
    /// More targets than anybody reads.
    pub too_large: bool,
    /// Only `root.json` is served.
    pub unversioned_root: bool,
    /// A key of a kind that nobody here knows is among those of the targets.
    pub rsa_key: bool,
}

impl Repo {
    fn new(director: bool) -> Self {
        let seed = |seed: u8| [seed + if director { 10 } else { 0 }];
        Self {
            director,
            root: Role::new("Root", &seed(1)),
            root_file: None,
            targets: Role::new("Targets", &seed(2)),
            snapshot: Role::new("Snapshot", &seed(3)),
            timestamp: Role::new("Timestamp", &seed(4)),
            images: vec![Image::new(FILE, CONTENT)],
            delegated: Vec::new(),
            snapshot_targets_version: None,
            hash_targets: false,
            too_large: false,
            unversioned_root: false,
            rsa_key: false,
        }
    }

    pub fn role(&mut self, name: &str) -> &mut Role {
        match name {
            "Root" => &mut self.root,
            "Targets" => &mut self.targets,
            "Snapshot" => &mut self.snapshot,
            "Timestamp" => &mut self.timestamp,
            other => panic!("{other}"),
        }
    }

    fn root_document(&self) -> Value {
        let (mut signed, mut keys, mut roles) = (self.root.header(), Map::new(), Map::new());
        let mut named = vec![("root", &self.root), ("targets", &self.targets)];
        if !self.director {
            named.extend([("snapshot", &self.snapshot), ("timestamp", &self.timestamp)]);
        }
        for (name, role) in named {
            role.list_keys(&mut keys);
            roles.insert(name.to_owned(), role.entry());
        }
        if self.rsa_key {
            keys.insert(
                "ab".repeat(32),
                json!({"keytype": "RSA", "keyval": {"public": "-----BEGIN PUBLIC KEY-----\n-"}}),
            );
            roles["targets"]["keyids"].as_array_mut().unwrap().push(json!("ab".repeat(32)));
        }
        signed.insert("consistent_snapshot".into(), json!(false));
        signed.insert("keys".into(), keys.into());
        signed.insert("roles".into(), roles.into());
        signed.into()
    }

    fn targets_document(&self, name: &str, role: &Role, images: &[Image]) -> Value {
        let mut signed = role.header();
        let mut targets: Map<String, Value> =
            images.iter().map(|image| (image.path.clone(), image.entry(self.director))).collect();
        if self.too_large && name == "targets" {
            for number in 0..30_000 {
                targets.insert(format!("{FILE}{number}"), images[0].entry(self.director));
            }
        }
        signed.insert("targets".into(), targets.into());
        let children: Vec<&Delegated> = self.delegated.iter().filter(|child| child.parent == name).collect();
        if !children.is_empty() {
            let mut keys = Map::new();
            let mut roles = Vec::new();
            for child in children {
                if child.keys_listed {
                    child.role.list_keys(&mut keys);
                }
                let mut entry = child.role.entry();
                entry["name"] = json!(child.name);
                entry["paths"] = json!(child.paths);
                entry["terminating"] = json!(child.terminating);
                roles.push(entry);
            }
            signed.insert("delegations".into(), json!({"keys": keys, "roles": roles}));
        }
        signed.into()
    }
}

/// One step of a vector: what both repositories serve at one time.
#[derive(Clone)]
pub struct Vector {
    pub director: Repo,
    pub image: Repo,
    pub base64: bool,
    pub compact: bool,
}

impl Vector {
    pub fn new() -> Self {
        Self { director: Repo::new(true), image: Repo::new(false), base64: false, compact: false }
    }

    pub fn repo(&mut self, name: &str) -> &mut Repo {
        if name == "director" { &mut self.director } else { &mut self.image }
    }

    /// Serves this and nothing else.
    pub fn serve(&self, server: &FileServer) {
        server.clear();
        for repo in [&self.director, &self.image] {
            let base = if repo.director { "/director" } else { "/image_repo" };
            let file = |name: &str, document: &Value| server.put(&format!("{base}/{name}.json"), self.text(document));
            let root = self.signed(&repo.root_document(), &repo.root);
            file("root", &root);
            if !repo.unversioned_root {
                file(&format!("{}.root", repo.root_file.unwrap_or(repo.root.version)), &root);
            }
            let targets = self.signed(&repo.targets_document("targets", &repo.targets, &repo.images), &repo.targets);
            file("targets", &targets);
            if repo.director {
                continue;
            }
            let mut meta = Map::new();
            let version = repo.snapshot_targets_version.unwrap_or(repo.targets.version);
            meta.insert("targets.json".into(), json!({"version": version}));
            if repo.hash_targets {
                let canonical = canonical(&targets);
                meta["targets.json"]["length"] = json!(canonical.len());
                meta["targets.json"]["hashes"] = json!({"sha256": hex::encode(sha256(&canonical))});
            }
            for child in &repo.delegated {
                if child.in_snapshot {
                    meta.insert(format!("{}.json", child.name), json!({"version": child.snapshot_version}));
                }
                if child.served {
                    let document = repo.targets_document(child.name, &child.role, &child.images);
                    file(&format!("delegations/{}", child.name), &self.signed(&document, &child.role));
                }
                for image in &child.images {
                    server.put(&format!("{base}/targets/{}", image.path), image.content.clone());
                }
            }
            let mut snapshot = repo.snapshot.header();
            snapshot.insert("meta".into(), meta.into());
            let snapshot = self.signed(&snapshot.into(), &repo.snapshot);
            file("snapshot", &snapshot);
            let mut timestamp = repo.timestamp.header();
            let hashes = json!({"sha256": hex::encode(sha256(&canonical(&snapshot)))});
            let described =
                json!({"version": repo.snapshot.version, "length": self.text(&snapshot).len(), "hashes": hashes});
            timestamp.insert("meta".into(), json!({"snapshot.json": described}));
            file("timestamp", &self.signed(&timestamp.into(), &repo.timestamp));
            for image in &repo.images {
                server.put(&format!("{base}/targets/{}", image.path), image.content.clone());
            }
        }
    }

    fn signed(&self, signed: &Value, role: &Role) -> Value {
        let payload = canonical(signed);
        let sign = |&seed: &u8| {
            let bytes = key(seed).sign(&payload);
            let sig =
                if self.base64 { base64::engine::general_purpose::STANDARD.encode(bytes) } else { hex::encode(bytes) };
            json!({"keyid": keyid(seed), "method": "ed25519", "sig": sig})
        };
        let signatures: Vec<Value> = role.signers.iter().map(sign).collect();
        json!({"signatures": signatures, "signed": signed})
    }

    fn text(&self, document: &Value) -> Vec<u8> {
        if self.compact { serde_json::to_vec(document).unwrap() } else { serde_json::to_vec_pretty(document).unwrap() }
    }
}

fn canonical(value: &Value) -> Vec<u8> {
    let text = serde_json::to_vec(value).unwrap();
    Json::parse(&text, u64::MAX).unwrap().canonical()
}

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32]).unwrap()
}

fn public(seed: u8) -> String {
    hex::encode(key(seed).public().ed25519_bytes().unwrap())
}

/// The vectors name a key by the digest of its public half alone, as a JSON text.
fn keyid(seed: u8) -> String {
    hex::encode(sha256(format!("\"{}\"", public(seed)).as_bytes()))
}
