//! Rollouts whose servers are killed: one at each failpoint of a move, and two processes on one PostgreSQL, either of them
//! at any moment while devices poll, install and report. No move is made twice, and no device is offered anything before its stage.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::json;
use sluice_catalog::id::DeviceId;
use sluice_catalog::rollout::{AttemptState, Cause, RolloutState, bucket, in_stage};
use sluice_catalog::wire::admin::DeviceDetail;
use sluice_catalog::wire::device::PollResponse;
use sluice_catalog::wire::rollout::RolloutDetail;
use sluice_catalog::{Digest, Time};
use sluice_server::clock::Clock;
use sluice_signer::sha256;

use crate::harness::process::Process;
use crate::harness::wait::{until, until_long};
use crate::harness::world::CAM;
use crate::harness::{Answer, Database, Engine, Place, Release, TestDevice, TestServer, World};
use crate::staging::{plan, succeed};

killed_at!(
    before_commit => "rollouts.before_commit",
    after_commit => "rollouts.after_commit",
);

/// A dead process holds its lease for less than that.
const LEASE_S: i64 = 11;

/// Devices of the run with two processes; `SLUICE_TEST_KILL_DEVICES` asks for another number.
const DEVICES: usize = 120;
/// How often a process is killed before the rollout is left to end.
const KILLS: usize = 8;
/// Threads that play devices.
const THREADS: usize = 6;
/// Between two rounds of one thread's devices.
const POLL_PAUSE: Duration = Duration::from_millis(50);
/// Percent of each stage.
const STAGES: [u8; 4] = [10, 30, 60, 100];

fn killed_at(failpoint: &str, engine: Engine) {
    // Two hours ago, so that what has not matured here has for the process.
    let clock = Clock::default();
    clock.advance_ms(-2 * 3_600_000);
    let server =
        TestServer::start_with(Database::new(engine), Place::Local, tempfile::tempdir().unwrap(), clock.clone());
    let mut world = World::around(server);
    world.publish(&world.foundation()).expect(200);
    let (first, second) = world.two_releases();
    let opened = world.open(&plan(json!({})));
    let (mut treated, _) = world.fleet(&opened.rollout.salt, &first, 3, 0);
    for device in &mut treated {
        succeed(device, &second);
    }
    let World { server, admin, .. } = world;
    let (database, data) = server.stop();
    std::fs::write(data.path().join("sluice.toml"), "worker_threads = 0\n").unwrap();
    Process::spawn(data.path(), &database.url(), failpoint).dies_at(failpoint);

    // A clock that stands still two hours ago looks at what the process has left, and moves nothing.
    let server = TestServer::start_with(database, Place::Local, data, clock);
    let admin = server.client().with(admin.token());
    let rollout = || admin.get("/api/v1/rollouts/spring").expect(200).json::<RolloutDetail>();
    let moves = |one: &RolloutDetail| one.transitions.iter().filter(|one| one.evidence.is_some()).count();
    let audited = || {
        let audit = server.block_on(server.app.store.audit_list(0, 1000)).unwrap();
        audit.iter().filter(|entry| entry.action == "rollout.gate").count()
    };
    let made = usize::from(failpoint == "rollouts.after_commit");
    let left = rollout();
    assert_eq!(
        (moves(&left), audited(), left.rollout.stage),
        (made, made, i32::try_from(made).unwrap()),
        "{failpoint}"
    );

    server.advance_s(2 * 3600 + LEASE_S);
    server.block_on(server.app.rollouts_look()).unwrap();
    server.block_on(server.app.rollouts_look()).unwrap();
    let moved = rollout();
    assert_eq!((moves(&moved), audited(), moved.rollout.stage), (1, 1, 1), "{failpoint}: {:?}", moved.transitions);
}

/// Where a simulated device stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Waits,
    Downloads(i32),
    Runs(i32),
    IsHealthy(i32),
    Done,
}

/// A simulated device with each offer it heard: when, and the attempt's number.
struct Simulated {
    device: TestDevice,
    bucket: u16,
    step: Step,
    offers: Vec<(Time, i32)>,
    id: DeviceId,
}

impl Simulated {
    /// Does what is next, with the server at this address. A server that dies meanwhile leaves it where it was.
    fn step(&mut self, url: &str, clock: &Clock, second: &Release) {
        let client = self.device.client.at(url);
        let post = |path: &str, body: &serde_json::Value| -> Option<Answer> {
            let body = serde_json::to_vec(body).unwrap();
            let headers = [("Content-Type", "application/json")];
            let answer = client.try_send(&ureq::http::Method::POST, path, &headers, &body).ok()?;
            // Anything but an outage is for the test to hear of.
            (answer.status < 500).then(|| answer.expect(200))
        };
        let report = |attempt: i32, state: &str| {
            post("/v1/report", &json!({"events": [{"attempt": attempt, "state": state}]})).is_some()
        };
        match self.step {
            Step::Waits => {
                let Some(answer) = post("/v1/poll", &self.device.poll_body()) else { return };
                if let Some(attempt) = answer.json::<PollResponse>().attempt {
                    self.offers.push((clock.now(), attempt));
                    self.step = Step::Downloads(attempt);
                }
            }
            Step::Downloads(attempt) if report(attempt, "downloading") => {
                self.device.run(second);
                self.step = Step::Runs(attempt);
            }
            Step::Runs(attempt) if post("/v1/poll", &self.device.poll_body()).is_some() => {
                self.step = Step::IsHealthy(attempt);
            }
            Step::IsHealthy(attempt) if report(attempt, "healthy") => self.step = Step::Done,
            _ => {}
        }
    }
}

/// Numbers that look random and are the same again for the same seed.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 += 1;
        let hash = sha256(&self.0.to_be_bytes());
        u64::from_be_bytes(hash[..8].try_into().unwrap()) % limit
    }
}

/// Two processes on one database, one folder of keys and one of blobs.
struct Pair<'a> {
    folders: [&'a Path; 2],
    database: String,
    processes: [Option<Process>; 2],
}

impl Pair<'_> {
    /// Kills it at once, if it runs, and starts it again.
    fn again(&mut self, index: usize, urls: &Mutex<[String; 2]>) {
        self.processes[index] = None;
        let process = Process::start(self.folders[index], &self.database, "");
        urls.lock().unwrap()[index].clone_from(&process.url);
        self.processes[index] = Some(process);
    }
}

#[test]
fn two_processes_of_which_either_is_killed_at_any_moment() {
    let count = std::env::var("SLUICE_TEST_KILL_DEVICES").map_or(DEVICES, |text| text.parse().unwrap());
    let mut world = World::new(Engine::Postgres);
    let (first, second) = world.two_releases();
    // Some attempts of the first stage, of some devices' first polls.
    let gate = json!({"minimum": count / 24, "success": 30, "soak": "1s"});
    let stages: Vec<_> = STAGES.iter().map(|percent| json!({"percent": percent, "gate": gate})).collect();
    let mut written = plan(json!({"mature": "1s"}));
    written["stages"] = stages.into();
    let opened = world.open(&written);
    let mut fleet = simulated(&world, count, &first, &opened.rollout.salt);
    let World { server, admin, .. } = world;
    let (database, data) = server.stop();
    let other = tempfile::tempdir().unwrap();
    let place = |folder: &str| data.path().join(folder).display().to_string();
    let shared = format!("keys = {:?}\nblobs = {:?}\nworker_threads = 0\n", place("keys"), place("blobs"));
    for folder in [data.path(), other.path()] {
        std::fs::write(folder.join("sluice.toml"), &shared).unwrap();
    }
    let folders = [data.path(), other.path()];
    let seed = u64::from(std::process::id()) << 32;
    let pair = Pair { folders, database: database.url(), processes: [None, None] };
    let killed = play(&mut fleet, pair, &second, KILLS.max(count / 100), seed);

    let server = TestServer::start_with(database, Place::Local, data, Clock::default());
    let admin = server.client().with(admin.token());
    let last = || admin.get("/api/v1/rollouts/spring").expect(200).json::<RolloutDetail>();
    let ended = until("the end of the rollout", || Some(last()).filter(|one| one.rollout.state == RolloutState::Done));
    check_moves(&server, &ended);
    check_offers(&server, &ended, &fleet);
    let moves = ended.transitions.iter().filter(|one| one.evidence.is_some()).count();
    println!(
        "{count} devices, {killed} kills (seed {seed}): {moves} moves by a server, each once; no offer before its stage"
    );
}

/// Registers devices that run this release and have a session.
fn simulated(world: &World, count: usize, first: &Release, salt: &str) -> Vec<Simulated> {
    let fleet: Mutex<Vec<Simulated>> = Mutex::default();
    thread::scope(|scope| {
        for of in 0..THREADS {
            let fleet = &fleet;
            scope.spawn(move || {
                for number in (of..count).step_by(THREADS) {
                    let mut device = world.device(CAM, &format!("SN-{number}"));
                    device.run(first);
                    let path = format!("/api/v1/products/{CAM}/devices/{}", device.serial);
                    let detail: DeviceDetail = world.admin.get(&path).expect(200).json();
                    let (id, bucket) = (detail.device.id, bucket(salt, detail.device.cohort_id));
                    let one = Simulated { device, id, bucket, step: Step::Waits, offers: Vec::new() };
                    fleet.lock().unwrap().push(one);
                }
            });
        }
    });
    fleet.into_inner().unwrap()
}

/// Lets every device come to its end while either process is killed, so many times. How often one was.
fn play(fleet: &mut [Simulated], mut pair: Pair<'_>, second: &Release, kills: usize, seed: u64) -> usize {
    let urls = Mutex::new([String::new(), String::new()]);
    pair.again(0, &urls);
    pair.again(1, &urls);
    let waiting = AtomicUsize::new(fleet.len());
    let share = fleet.len().div_ceil(THREADS);
    thread::scope(|scope| {
        for (index, devices) in fleet.chunks_mut(share).enumerate() {
            let (urls, waiting) = (&urls, &waiting);
            let mut numbers = Numbers(seed + ((index as u64 + 1) << 24));
            scope.spawn(move || {
                let clock = Clock::default();
                while devices.iter().any(|one| one.step != Step::Done) {
                    for one in devices.iter_mut().filter(|one| one.step != Step::Done) {
                        let url = urls.lock().unwrap()[usize::from(numbers.below(2) == 1)].clone();
                        one.step(&url, &clock, second);
                        if one.step == Step::Done {
                            waiting.fetch_sub(1, Ordering::Relaxed);
                        }
                    }
                    thread::sleep(POLL_PAUSE);
                }
            });
        }
        let mut numbers = Numbers(seed);
        let mut killed = 0;
        // Nothing moves for longer than a dead process holds its lease, so a rollout that hangs is found.
        until_long("the end of every device", || {
            if killed < kills && waiting.load(Ordering::Relaxed) > 0 {
                thread::sleep(Duration::from_millis(200 + numbers.below(1200)));
                // One in five times both die.
                let both = numbers.below(5) == 0;
                let index = usize::from(numbers.below(2) == 1);
                pair.again(index, &urls);
                killed += 1;
                if both {
                    pair.again(1 - index, &urls);
                    killed += 1;
                }
            }
            (waiting.load(Ordering::Relaxed) == 0).then_some(killed)
        })
    })
}

/// Each move was made once, rests on figures, and follows from the state before it.
fn check_moves(server: &TestServer, ended: &RolloutDetail) {
    let moves: Vec<_> = ended.transitions.iter().filter(|one| one.evidence.is_some()).collect();
    let stages: Vec<_> = moves.iter().filter(|one| one.state == RolloutState::Running).map(|one| one.stage).collect();
    assert_eq!(stages, [1, 2, 3], "{:?}", ended.transitions);
    assert_eq!(moves.len(), STAGES.len(), "three gates and the end: {:?}", ended.transitions);
    let mut before = ended.rollout.clone();
    for (index, transition) in ended.transitions.iter().enumerate() {
        if let Some(evidence) = &transition.evidence {
            let last = &ended.transitions[index - 1];
            (before.state, before.stage) = (last.state, last.stage);
            assert_eq!(evidence.cause, Cause::Gate);
            assert_eq!(transition.digest, Some(evidence.digest(&before, "server", transition.at)));
            let figures = evidence.figures.as_ref().expect("figures");
            assert!(figures.counts.matured.attempts >= 1, "{figures:?}");
        }
    }
    let audit = server.block_on(server.app.store.audit_list(0, 1_000_000)).unwrap();
    assert_eq!(audit.iter().filter(|entry| entry.action == "rollout.gate").count(), moves.len());
    let mut prev = Digest([0; 32]);
    for entry in &audit {
        assert!(entry.follows(prev), "{entry:?}");
        prev = entry.hash;
    }
}

/// Nobody heard of an offer before the stage that reaches it, and everybody tried once, with success.
fn check_offers(server: &TestServer, ended: &RolloutDetail, fleet: &[Simulated]) {
    let percent_at = |at: Time| {
        let opened = ended.transitions.iter().filter(|one| one.state == RolloutState::Running && one.at <= at);
        opened.map(|one| STAGES[usize::try_from(one.stage).unwrap()]).max().unwrap_or(0)
    };
    let mut early = 0;
    for one in fleet {
        for (heard, attempt) in &one.offers {
            let percent = percent_at(*heard);
            assert!(in_stage(one.bucket, percent), "{}: bucket {} at {percent} %", one.device.serial, one.bucket);
            assert_eq!(*attempt, one.offers[0].1, "{}: a second attempt", one.device.serial);
            early += usize::from(percent < 100);
        }
        let attempts = server.block_on(server.app.store.attempt_list(one.id, 10)).unwrap();
        let states: Vec<_> = attempts.iter().map(|attempt| attempt.state).collect();
        assert_eq!(states, [AttemptState::Healthy], "{}", one.device.serial);
    }
    assert!(early > 0, "nothing was offered before the last stage, so nothing was tested");
}
