//! The real agent in a folder of its own, run in this process by the server's clock.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use jiff::Timestamp;
use sluice_agent::config::CheckOptions;
use sluice_agent::offline::{Entitlement, entitlement_knowing};
use sluice_agent::provision::{Provision, Roots, provision};
use sluice_agent::{Agent, AgentError, CycleReport, FileBoot, Host, StateDir};
use sluice_catalog::device::DecoderProfile;
use sluice_server::clock::Clock;
use sluice_signer::{SigningKey, key_file, sha256};
use tempfile::TempDir;

use super::{Release, World};

/// A provisioned device.
pub struct TestAgent {
    pub state: StateDir,
    folder: TempDir,
    clock: Clock,
    random: Cell<u64>,
    /// The newest signing epoch that its program knows.
    pub newest_epoch: u64,
}

impl TestAgent {
    /// A registered device that runs a release and trusts the server's first roots.
    pub fn new(world: &World, serial: &str, runs: &Release) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            path
        };
        let root = |repository: &str| world.server.client().get(&format!("/{repository}/1.root.json")).expect(200).body;
        let wanted = Provision {
            server: world.server.url.clone(),
            product: runs.product.parse().unwrap(),
            serial: serial.parse().unwrap(),
            hw_id: "cam-r3".parse().unwrap(),
            component: "main".parse().unwrap(),
            image: write("first.bin", &runs.image),
            version: runs.version.parse().unwrap(),
            security_counter: 1,
            channels: BTreeSet::from(["stable".to_owned()]),
            profile: DecoderProfile::Default,
            ram_budget: None,
            boot_check: Vec::new(),
            check: CheckOptions::default(),
            tls_ca: None,
            roots: Roots::Files {
                image: write("image-root.json", &root("metadata")),
                director: write("director-root.json", &root("director")),
            },
        };
        let agent = Self {
            state: StateDir::new(folder.path().join("state")),
            clock: world.server.clock.clone(),
            random: Cell::new(0),
            newest_epoch: 1,
            folder,
        };
        agent.with_host(|host| provision(&agent.state, &wanted, &host)).unwrap();
        agent.run(|agent| agent.enrol(None).map(drop)).unwrap();
        agent
    }

    pub fn now(&self) -> Timestamp {
        Timestamp::from_millisecond(self.clock.now().as_ms()).unwrap()
    }

    fn with_host<T>(&self, work: impl FnOnce(Host<'_>) -> T) -> T {
        let now = || self.now();
        let random = || {
            self.random.set(self.random.get() + 1);
            sha256(&[self.folder.path().to_string_lossy().as_bytes(), &self.random.get().to_le_bytes()[..]].concat())
        };
        let stop = AtomicBool::new(false);
        let log = |line: &str| println!("agent: {line}");
        let uptime = || Duration::from_millis(self.clock.now().as_ms().try_into().unwrap());
        work(Host {
            now: &now,
            random: &random,
            sleep: &|_| (),
            uptime: &uptime,
            boot: "1",
            stop: &stop,
            log: &log,
            progress: &|_| (),
        })
    }

    /// Opens the agent as a new process would.
    pub fn run<T>(&self, work: impl FnOnce(&mut Agent<'_>) -> Result<T, AgentError>) -> Result<T, AgentError> {
        let boot = FileBoot::new(self.state.slots());
        self.with_host(|host| work(&mut Agent::open_knowing(self.newest_epoch, self.state.clone(), &boot, host)?))
    }

    /// One round.
    pub fn once(&self) -> Result<CycleReport, AgentError> {
        fn cycle(agent: &mut Agent<'_>) -> Result<CycleReport, AgentError> {
            agent.cycle()
        }
        self.run(cycle)
    }

    /// What it says that it may install, without the server.
    pub fn entitlement(&self) -> Entitlement {
        let boot = FileBoot::new(self.state.slots());
        entitlement_knowing(self.newest_epoch, &self.state, &boot, self.now(), None).unwrap()
    }

    /// The epoch of the trusted director root.
    pub fn trusted_epoch(&self) -> i64 {
        let kept: serde_json::Value =
            serde_json::from_slice(&std::fs::read(self.state.director_metadata()).unwrap()).unwrap();
        let root: serde_json::Value = serde_json::from_str(kept["root"].as_str().unwrap()).unwrap();
        root["signed"]["custom"]["epoch"].as_i64().unwrap_or(1)
    }

    /// Its key.
    pub fn key(&self) -> SigningKey {
        key_file::from_pem(&std::fs::read_to_string(self.state.key()).unwrap(), None).unwrap()
    }
}
