//! python-tuf, the reference client of TUF, against the running server.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::harness::ceremony::bytes_of;
use crate::harness::world::{BAR, CAM, IMAGES};
use crate::harness::{Engine, Release, World};

/// Variable with the interpreter of an environment that has python-tuf.
const PYTHON_VARIABLE: &str = "SLUICE_TEST_PYTHON";

/// What the script printed.
fn download(world: &World, folder: &Path, target: &str, token: Option<&str>) -> Value {
    let python = std::env::var(PYTHON_VARIABLE)
        .unwrap_or_else(|_| panic!("{PYTHON_VARIABLE} is not set: run `cargo xtask test`, which installs python-tuf"));
    let root = folder.join("provisioned-root.json");
    std::fs::write(&root, bytes_of(&world.ceremony.image_root(1))).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/download.py");
    let mut command = Command::new(python);
    command.arg(script).arg(&world.server.url).arg(folder).arg(root).arg(target).args(token);
    let output = command.output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    serde_json::from_str(&out).unwrap()
}

#[test]
fn a_public_target_is_refreshed_and_downloaded() {
    let mut world = World::new(Engine::Sqlite);
    let (first, second) = world.two_releases();
    world.publish(&[world.ceremony.image_root(2)]).expect(200);
    let folder = tempfile::tempdir().unwrap();
    for release in [&first, &second] {
        let got = download(&world, folder.path(), &release.path(), None);
        assert_eq!(std::fs::read(got["file"].as_str().unwrap()).unwrap(), release.image);
        assert_eq!(got["custom"]["version"], release.version, "the signed facts arrive too");
        let metadata: Vec<_> = got["metadata"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
        assert_eq!(metadata, ["acme-cam.json", "root.json", "snapshot.json", "targets.json", "timestamp.json"]);
    }
    let missing = download(&world, folder.path(), "acme-cam/9.9/main.bin", None);
    assert_eq!(missing["missing"], "acme-cam/9.9/main.bin");
    // The same client keeps up with the next publication.
    let third = Release::new(CAM, "2.4.2", 20402, &IMAGES[2]);
    world.release(&third);
    let got = download(&world, folder.path(), &third.path(), None);
    assert_eq!(std::fs::read(got["file"].as_str().unwrap()).unwrap(), third.image);
}

#[test]
fn a_gated_target_wants_a_token() {
    let mut world = World::new(Engine::Sqlite);
    let release = Release::new(BAR, "1.0", 1, &IMAGES[0]);
    world.release(&release);
    let device = world.device(BAR, "SN-1");
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(download(&world, folder.path(), &release.path(), None)["status"], 403);
    for token in [device.client.token(), world.admin.token()] {
        let folder = tempfile::tempdir().unwrap();
        let got = download(&world, folder.path(), &release.path(), Some(token));
        assert_eq!(std::fs::read(got["file"].as_str().unwrap()).unwrap(), release.image);
    }
}
