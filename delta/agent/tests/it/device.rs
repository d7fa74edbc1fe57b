//! A device in a temporary folder, run in process with an exact clock, or as the real binary.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use sluice_agent::config::CheckOptions;
use sluice_agent::provision::{Provision, Roots, provision};
use sluice_agent::slot::{self, Slot};
use sluice_agent::{Agent, AgentError, BootControl, CycleReport, FileBoot, Host, StateDir, status};
use sluice_catalog::Digest;
use sluice_catalog::device::DecoderProfile;
use tempfile::TempDir;

use crate::server::Server;
use crate::world::{HW_ID, PRODUCT, World};

pub struct Device {
    /// Removed with the device.
    _folder: TempDir,
    pub state: StateDir,
    pub now: Cell<Timestamp>,
    random: Cell<u64>,
    /// How far the clock goes on with every look at it, milliseconds.
    pub tick_ms: Cell<i64>,
    /// How long the machine has been running, milliseconds.
    pub uptime_ms: Cell<u64>,
    /// How far that goes on with every look at it, milliseconds.
    pub uptime_tick_ms: Cell<u64>,
    /// Starts of the machine.
    pub starts: Cell<u32>,
    /// Set when the agent is asked to stop.
    pub stop: AtomicBool,
}

/// The time at which most tests play.
pub fn noon() -> Timestamp {
    "2026-06-01T12:00:00Z".parse().unwrap()
}

/// A world, its server, and an enrolled device that runs 1.0.
pub fn setting() -> (World, Server, Device) {
    setting_at(noon(), |_| ())
}

pub fn setting_at(now: Timestamp, change: impl FnOnce(&mut Provision)) -> (World, Server, Device) {
    let world = World::new(now);
    let server = Server::start(now, world.files(1));
    let device = Device::provisioned(&world, &server, change);
    device.with_agent(|agent| agent.enrol(None)).unwrap();
    (world, server, device)
}

/// One round; a function of its own because a method's path has one fixed lifetime.
pub fn cycle(agent: &mut Agent<'_>) -> Result<CycleReport, AgentError> {
    agent.cycle()
}

impl Device {
    pub fn provisioned(world: &World, server: &Server, change: impl FnOnce(&mut Provision)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            path
        };
        let mut wanted = Provision {
            server: server.url(),
            product: PRODUCT.parse().unwrap(),
            serial: "SN-0001".parse().unwrap(),
            hw_id: HW_ID.parse().unwrap(),
            component: "main".parse().unwrap(),
            image: write("first.bin", &world.release("1.0").image),
            version: "1.0".parse().unwrap(),
            security_counter: 3,
            channels: BTreeSet::from(["stable".to_owned()]),
            profile: DecoderProfile::Default,
            ram_budget: None,
            boot_check: Vec::new(),
            check: CheckOptions::default(),
            tls_ca: None,
            roots: Roots::Files {
                image: write("image-root.json", &world.image_root(1)),
                director: write("director-root.json", &world.director_root(1)),
            },
        };
        change(&mut wanted);
        let state = StateDir::new(folder.path().join("state"));
        let device = Self {
            _folder: folder,
            state,
            now: Cell::new(world.now),
            random: Cell::new(0),
            tick_ms: Cell::new(0),
            uptime_ms: Cell::new(1_000_000),
            uptime_tick_ms: Cell::new(0),
            starts: Cell::new(1),
            stop: AtomicBool::new(false),
        };
        device.with_host(|host| provision(&device.state, &wanted, &host)).unwrap();
        device
    }

    pub fn with_host<T>(&self, work: impl FnOnce(Host<'_>) -> T) -> T {
        let now = || {
            self.now.set(self.now.get() + jiff::SignedDuration::from_millis(self.tick_ms.get()));
            self.now.get()
        };
        let random = || {
            self.random.set(self.random.get() + 1);
            Sha256::digest(self.random.get().to_le_bytes()).into()
        };
        let uptime = || {
            self.uptime_ms.set(self.uptime_ms.get() + self.uptime_tick_ms.get());
            Duration::from_millis(self.uptime_ms.get())
        };
        let boot = self.starts.get().to_string();
        work(Host {
            now: &now,
            random: &random,
            sleep: &|nap| self.run_for_ms(u64::try_from(nap.as_millis()).unwrap()),
            uptime: &uptime,
            boot: &boot,
            stop: &self.stop,
            log: &|line| println!("agent: {line}"),
            progress: &|_| (),
        })
    }

    /// The machine goes on running, and its clock with it.
    pub fn run_for_ms(&self, ms: u64) {
        self.uptime_ms.set(self.uptime_ms.get() + ms);
    }

    /// The machine starts anew.
    pub fn restart(&self) {
        self.starts.set(self.starts.get() + 1);
        self.uptime_ms.set(5000);
    }

    pub fn boot(&self) -> FileBoot {
        FileBoot::new(self.state.slots())
    }

    /// Opens the agent as a new process would, works with it, and lets go of it.
    pub fn with_agent<T>(&self, work: impl FnOnce(&mut Agent<'_>) -> Result<T, AgentError>) -> Result<T, AgentError> {
        self.with_boot(&self.boot(), work)
    }

    pub fn with_boot<T>(
        &self,
        boot: &dyn BootControl,
        work: impl FnOnce(&mut Agent<'_>) -> Result<T, AgentError>,
    ) -> Result<T, AgentError> {
        self.with_host(|host| work(&mut Agent::open(self.state.clone(), boot, host)?))
    }

    /// The same as a program whose verifier knows this signing epoch.
    pub fn knowing<T>(
        &self,
        epoch: u64,
        work: impl FnOnce(&mut Agent<'_>) -> Result<T, AgentError>,
    ) -> Result<T, AgentError> {
        let boot = self.boot();
        self.with_host(|host| work(&mut Agent::open_knowing(epoch, self.state.clone(), &boot, host)?))
    }

    pub fn once(&self) -> Result<CycleReport, AgentError> {
        self.with_agent(cycle)
    }

    /// Digest of what boots.
    pub fn running(&self) -> Digest {
        let component = "main".parse().unwrap();
        let slot = self.boot().active(&component).unwrap();
        slot::digest(&slot::path(&self.state.slots(), &component, slot)).unwrap().unwrap().1
    }

    pub fn slot(&self, slot: Slot) -> PathBuf {
        slot::path(&self.state.slots(), &"main".parse().unwrap(), slot)
    }

    /// The running slot re-hashes to the release, and every recorded slot to its record.
    #[track_caller]
    pub fn assert_runs(&self, world: &World, version: &str) {
        assert_eq!(self.running(), world.release(version).digest(), "the running slot is not {version}");
        for check in status::verify(&self.state, &self.boot()).unwrap() {
            assert!(check.ok, "{check:?}");
            assert!(!check.active || check.version.as_str() == version, "{check:?}");
        }
    }

    /// The running slot is one of the releases, whatever happened.
    #[track_caller]
    pub fn assert_boots_one_of(&self, world: &World, versions: &[&str]) {
        let running = self.running();
        assert!(versions.iter().any(|version| world.release(version).digest() == running), "a slot that nobody signed");
    }

    /// Runs the real binary on this state.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluice-agent"));
        command.arg("--state").arg(self.state.root()).args(arguments);
        command.env_remove("SLUICE_FAILPOINT").env_remove("SLUICE_AGENT_STATE");
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }
}
