//! The real process, killed with SIGKILL at each of its failpoints while it publishes and builds. After a restart the
//! state is the old or the new one, unfinished jobs finish, and the same request again ends in the new state.

use sluice_catalog::Digest;
use sluice_catalog::job::JobState;
use sluice_catalog::wire::admin::Status;
use sluice_catalog::wire::publish::PublishRequest;
use sluice_server::clock::Clock;
use sluice_server::failpoint::FAILPOINTS;
use sluice_server::store::Repository;
use ureq::http::Method;

use crate::harness::process::Process;
use crate::harness::world::{CAM, IMAGES};
use crate::harness::{Client, Engine, Place, Release, TestServer, World};

/// A worker that was killed holds its jobs for a minute.
const LEASE_S: i64 = 61;

killed_at!(
    publish_blob_before_store => "publish.blob.before_store",
    publish_blob_after_store => "publish.blob.after_store",
    publish_before_transaction => "publish.before_transaction",
    publish_before_commit => "publish.before_commit",
    publish_after_commit => "publish.after_commit",
    job_full_after_claim => "job.full.after_claim",
    job_full_after_blob => "job.full.after_blob",
    job_full_before_commit => "job.full.before_commit",
    job_patch_after_claim => "job.patch.after_claim",
    job_patch_after_build => "job.patch.after_build",
    job_patch_after_blob => "job.patch.after_blob",
    job_patch_before_commit => "job.patch.before_commit",
    job_patch_after_commit => "job.patch.after_commit",
);

#[test]
fn every_failpoint_is_killed_at() {
    let mut all = TESTED.to_vec();
    all.extend(crate::notices::TESTED);
    all.extend(crate::publisher::TESTED);
    all.extend(crate::rollout_kill::TESTED);
    all.extend(crate::rotation::TESTED);
    all.sort_unstable();
    let mut known = FAILPOINTS.to_vec();
    known.sort_unstable();
    assert_eq!(all, known);
}

/// What stands about the new release.
#[derive(Debug, PartialEq, Eq)]
struct Standing {
    role_version: i64,
    releases: usize,
    publications: usize,
    blob: bool,
    full: bool,
    patch: bool,
    jobs: usize,
}

fn standing(server: &TestServer, release: &Release) -> Standing {
    server.block_on(async {
        let store = &server.app.store;
        let documents = store.document_latest(Repository::Image).await.unwrap();
        let audit = store.audit_list(0, 1000).await.unwrap();
        let jobs = store.job_list(None, None, 500).await.unwrap();
        let (fulls, patches) = (store.full_all().await.unwrap(), store.patch_ready().await.unwrap());
        for blob in fulls.iter().map(|full| full.sha256).chain(patches.iter().map(|patch| patch.sha256)) {
            // Nothing in the database speaks of a blob that is not whole.
            server.app.blobs.read_all(blob, 1 << 20).await.unwrap();
        }
        let mut prev = Digest([0; 32]);
        for entry in &audit {
            assert!(entry.follows(prev), "{entry:?}");
            prev = entry.hash;
        }
        Standing {
            role_version: documents.iter().find(|document| document.role == CAM).unwrap().version,
            releases: store.release_all().await.unwrap().len(),
            publications: audit.iter().filter(|entry| entry.action == "publish").count(),
            blob: server.app.blobs.length(release.digest()).await.unwrap().is_some(),
            full: fulls.iter().any(|full| full.of_sha256 == release.digest()),
            patch: patches.iter().any(|patch| patch.to_sha256 == release.digest()),
            jobs: jobs.iter().filter(|job| job.state != JobState::Done).count(),
        }
    })
}

/// What a kill at this point may leave behind: exactly one state each.
fn expected(failpoint: &str) -> Standing {
    let old =
        Standing { role_version: 1, releases: 1, publications: 2, blob: true, full: false, patch: false, jobs: 0 };
    // Two jobs: the full encoding, and the patch from the version in the field.
    let new = Standing { role_version: 2, releases: 2, publications: 3, jobs: 2, ..old };
    match failpoint {
        "publish.blob.before_store" => Standing { blob: false, ..old },
        "publish.blob.after_store" | "publish.before_transaction" | "publish.before_commit" => old,
        "job.patch.after_commit" => Standing { full: true, patch: true, jobs: 0, ..new },
        point if point.starts_with("job.patch") => Standing { full: true, jobs: 1, ..new },
        _ => new,
    }
}

fn killed_at(failpoint: &str, engine: Engine) {
    // Before: 2.4.0 is published and encoded, and a device runs it.
    let (first, second) =
        (Release::new(CAM, "2.4.0", 20400, &IMAGES[0]), Release::new(CAM, "2.4.1", 20401, &IMAGES[1]));
    let mut world = World::new(engine);
    world.release(&first);
    let mut device = world.device(CAM, "SN-1");
    device.run(&first);
    device.poll().is_nothing("UP_TO_DATE");
    world.server.run_jobs();
    let World { server, admin, ceremony, .. } = world;
    let (database, data) = server.stop();

    // One worker, so that jobs come one after the other; none while the publication itself is tried.
    let workers = u8::from(failpoint.starts_with("job."));
    std::fs::write(data.path().join("sluice.toml"), format!("worker_threads = {workers}\n")).unwrap();
    let publication = PublishRequest { documents: vec![ceremony.role(CAM, 2, &[first.clone(), second.clone()])] };
    let process = Process::start(data.path(), &database.url(), failpoint);
    let client = Client::new(&process.url).with(admin.token());
    // Either request may find nobody to answer.
    let path = format!("/api/v1/blobs/{}", second.digest());
    let _ = client.try_send(&Method::PUT, &path, &[], &second.image);
    let body = serde_json::to_vec(&publication).unwrap();
    let _ = client.try_send(&Method::POST, "/api/v1/publish", &[("Content-Type", "application/json")], &body);
    process.dies_at(failpoint);

    let server = TestServer::start_with(database, Place::Local, data, Clock::default());
    assert_eq!(standing(&server, &second), expected(failpoint), "{failpoint}");
    let admin = server.client().with(admin.token());

    server.advance_s(LEASE_S);
    server.run_jobs();
    assert!([200, 201].contains(&admin.put(&path, &second.image).status));
    admin.post("/api/v1/publish", &publication).expect(200);
    server.run_jobs();
    let end = Standing { role_version: 2, releases: 2, publications: 3, blob: true, full: true, patch: true, jobs: 0 };
    assert_eq!(standing(&server, &second), end, "{failpoint}");
    assert_eq!(admin.get("/api/v1/status").expect(200).json::<Status>().jobs_parked, 0);
    assert_eq!(server.client().get(&second.url()).expect(200).body, second.image);
}
