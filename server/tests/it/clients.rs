//! Repositories made with `sluice-sign`, served by the server, read by TUF clients that nobody here wrote.

use jiff::SignedDuration;
use serde_json::Value;

use crate::harness::ceremony::bytes_of;
use crate::harness::clients::Run;
use crate::harness::wait::until;
use crate::harness::world::{BAR, CAM, IMAGES};
use crate::harness::{Engine, Installation, Mirror, Offline, Place, Release, StockClient, World};

every_client!(
    a_ceremony_a_rotation_and_what_follows_are_accepted,
    what_is_not_as_it_was_signed_is_refused,
    stolen_online_keys_sign_no_release,
    a_gated_product_wants_a_token,
    a_product_without_documents_hides_others_from_tough_only,
    an_expired_product_holds_back_tough_only,
    a_release_is_found_from_its_moment_on_and_others_before_and_after,
    an_embargo_role_of_which_nothing_is_shown_holds_back_all_but_one,
);

const DAY_S: i64 = 24 * 3600;

/// An installation whose documents the program makes, with two releases of the camera.
struct Scene {
    world: World,
    offline: Offline,
}

/// What the holders release.
fn releases() -> [Release; 3] {
    [
        Release::new(CAM, "2.4.0", 20400, &IMAGES[0]),
        Release::new(CAM, "2.4.1", 20401, &IMAGES[1]),
        Release::new(CAM, "2.4.2", 20402, &IMAGES[2]),
    ]
}

impl Scene {
    /// Founded and published: roots, the top document, and two releases.
    fn new() -> Self {
        let world = World::unsigned(Engine::Sqlite, Place::Local);
        let offline = Offline::new(&world.admin.get("/api/v1/online-keys").expect(200).body);
        let scene = Self { world, offline };
        scene.offline.found(CAM);
        let [first, second, _] = releases();
        for release in [first, second] {
            scene.release(&release);
        }
        scene.publish();
        scene
    }

    fn release(&self, release: &Release) {
        self.offline.release(CAM, &release.version, u32::try_from(release.order).unwrap(), &release.image);
    }

    fn publish(&self) {
        self.offline.publish(self.url(), self.world.admin.token());
    }

    /// Another holder comes for one who leaves: old holders and new ones sign.
    fn rotate_root(&self) {
        self.offline.holders(&["root-d"]);
        self.offline.run("root rotate --repo repo --add keys/root-d.pub --remove root-a");
        self.offline.sign(&["root-a", "root-b"]);
        self.offline.sign_elsewhere("root-d");
        self.publish();
    }

    fn url(&self) -> &str {
        &self.world.server.url
    }

    /// A device fresh from the factory. It knows the first root and nothing else.
    fn device(&self, client: StockClient) -> Installation {
        Installation::new(client, &self.offline.document("1.root.json"))
    }

    /// A copy of everything, with targets under both forms of their paths.
    fn mirror(&self, releases: &[Release]) -> Mirror {
        let paths: Vec<_> = releases.iter().flat_map(|release| [release.url(), release.url_by_hash()]).collect();
        Mirror::copy(&self.world.server.client(), &paths)
    }
}

#[track_caller]
fn accepted(device: &Installation, url: &str, release: &Release, root_version: u64) {
    let (bytes, custom, root) = device.accepts(url, &release.path());
    assert!(bytes == release.image, "other bytes than {}", release.path());
    assert_eq!(custom["version"], release.version, "the signed facts arrive too");
    assert_eq!(root, root_version);
}

fn a_ceremony_a_rotation_and_what_follows_are_accepted(client: StockClient) {
    let scene = Scene::new();
    let [first, second, third] = releases();
    let old = scene.device(client);
    accepted(&old, scene.url(), &first, 1);
    accepted(&old, scene.url(), &second, 1);
    assert_eq!(old.download(scene.url(), "acme-cam/9.9/main.bin"), Run::Missing);

    scene.rotate_root();
    let new = scene.device(client);
    for device in [&old, &new] {
        accepted(device, scene.url(), &second, 2);
        assert_eq!(device.download(scene.url(), &third.path()), Run::Missing);
    }
    let before = scene.mirror(std::slice::from_ref(&second));

    scene.release(&third);
    scene.publish();
    for device in [&old, &new, &scene.device(client)] {
        accepted(device, scene.url(), &third, 2);
        accepted(device, scene.url(), &first, 2);
        assert_eq!(device.download(scene.url(), "acme-cam/9.9/main.bin"), Run::Missing);
    }
    // What was kept is what counts: all that the mirror has is well signed, and older than what these devices saw.
    for device in [&old, &new] {
        device.refuses(&before.url, &second.path());
    }
    accepted(&scene.device(client), &before.url, &second, 2);
}

/// Changes one byte of what is signed: the first digit of the year in which it expires.
fn change_expiry(document: &mut [u8]) {
    let field = b"\"expires\"";
    let at = document.windows(field.len()).position(|window| window == field).unwrap() + field.len();
    let digit = at + document[at..].iter().position(|byte| *byte == b'2').unwrap();
    document[digit] = b'3';
}

fn what_is_not_as_it_was_signed_is_refused(client: StockClient) {
    let scene = Scene::new();
    scene.rotate_root();
    let [first, second, _] = releases();
    let mirror = scene.mirror(&[first.clone(), second.clone()]);
    accepted(&scene.device(client), &mirror.url, &second, 2);
    let documents: Vec<_> = mirror.paths().into_iter().filter(|path| path.starts_with("/metadata/")).collect();
    assert_eq!(documents.len(), 6, "two roots, timestamp, snapshot, targets, product: {documents:?}");
    // The first root is on the device already.
    for path in documents.iter().filter(|path| !path.ends_with("/1.root.json")) {
        let device = scene.device(client);
        let changed = [path.clone()];
        mirror.changed(&changed, |bytes| change_expiry(bytes), || device.refuses(&mirror.url, &second.path()));
        // And no harm was done to what the device keeps.
        accepted(&device, &mirror.url, &second, 2);
    }
    let device = scene.device(client);
    let images = [second.url(), second.url_by_hash()];
    mirror.changed(&images, |image| image[1000] ^= 1, || device.refuses(&mirror.url, &second.path()));
    mirror.changed(&images, |image| image.clone_from(&first.image), || device.refuses(&mirror.url, &second.path()));
    mirror.changed(&images, |image| image.push(0), || device.refuses(&mirror.url, &second.path()));
    accepted(&device, &mirror.url, &second, 2);
}

fn stolen_online_keys_sign_no_release(client: StockClient) {
    let scene = Scene::new();
    let [first, second, _] = releases();
    let mirror = scene.mirror(&[first.clone(), second.clone()]);
    let keys = &scene.world.server.app.keys;
    // With what the thief vouches for, nothing is wrong but what is said below.
    let honest = mirror.forged(keys, CAM, |_| {});
    mirror.with(honest, || accepted(&scene.device(client), &mirror.url, &second, 1));
    let one_signature = |document: &mut Value| drop(document["signatures"].as_array_mut().unwrap().pop());
    let one_signature_twice = |document: &mut Value| document["signatures"][1] = document["signatures"][0].clone();
    let another_image = |document: &mut Value| {
        let targets = &mut document["signed"]["targets"];
        targets[second.path()] = targets[first.path()].clone();
    };
    let forgeries: [&dyn Fn(&mut Value); 3] = [&one_signature, &one_signature_twice, &another_image];
    for forgery in forgeries {
        let files = mirror.forged(keys, CAM, forgery);
        mirror.with(files, || scene.device(client).refuses(&mirror.url, &second.path()));
    }
}

fn a_gated_product_wants_a_token(client: StockClient) {
    let mut world = World::new(Engine::Sqlite);
    let (cam, _) = world.two_releases();
    let bar = Release::new(BAR, "1.0", 1, &IMAGES[2]);
    world.release(&bar);
    let url = world.server.url.clone();
    let root = bytes_of(&world.ceremony.image_root(1));
    let device = || Installation::new(client, &root);
    let auditor = world.principal("auditor", "auditor");
    let member = world.device(BAR, "SN-1").client;

    device().refuses(&url, &bar.path());
    for token in [member.token(), auditor.token()] {
        accepted(&device().with_token(token), &url, &bar, 1);
        accepted(&device().with_token(token), &url, &cam, 1);
    }
    // tough loads all products before it looks for a target.
    match device().download(&url, &cam.path()) {
        Run::Got { .. } => assert_ne!(client, StockClient::Tough),
        Run::Refused(reason) => assert_eq!(client, StockClient::Tough, "{reason}"),
        Run::Missing => panic!("{} is there", cam.path()),
    }
}

fn a_product_without_documents_hides_others_from_tough_only(client: StockClient) {
    let mut world = World::new(Engine::Sqlite);
    let (cam, _) = world.two_releases();
    let root = bytes_of(&world.ceremony.image_root(1));
    // The top document delegates to a second product, of which nothing was published.
    let ended = Installation::new(client, &root).download(&world.server.url, &cam.path());
    if client == StockClient::Tough {
        assert_eq!(ended, Run::Missing);
    } else {
        assert!(matches!(ended, Run::Got { .. }), "{ended:?}");
    }
}

fn an_expired_product_holds_back_tough_only(client: StockClient) {
    let mut world = World::new(Engine::Sqlite);
    let now = world.ceremony.now;
    // Published fifty days ago, while it was valid; its holders have not prolonged it.
    world.server.advance_s(-50 * DAY_S);
    world.ceremony.now = now - SignedDuration::from_secs(101 * DAY_S);
    world.publish(&[world.ceremony.role(BAR, 1, &[])]).expect(200);
    world.server.advance_s(50 * DAY_S);
    world.ceremony.now = now;
    let (cam, _) = world.two_releases();
    let auditor = world.principal("auditor", "auditor");
    let device = Installation::new(client, &bytes_of(&world.ceremony.image_root(1))).with_token(auditor.token());
    if client == StockClient::Tough {
        let reason = device.refuses(&world.server.url, &cam.path());
        assert!(reason.contains("expired"), "{reason}");
    } else {
        accepted(&device, &world.server.url, &cam, 1);
    }
}

fn a_release_is_found_from_its_moment_on_and_others_before_and_after(client: StockClient) {
    let scene = Scene::new();
    let (offline, server) = (&scene.offline, &scene.world.server);
    offline.holders(&["early-a", "early-b", "early-c"]);
    offline.run(&format!(
        "delegate add --repo repo --product {CAM} --embargo --holder keys/early-a.pub keys/early-b.pub keys/early-c.pub"
    ));
    offline.sign(&["lead-a", "lead-b", "early-a"]);
    offline.sign_elsewhere("early-c");
    let [first, second, _] = releases();
    let coming = Release::new(CAM, "2.5.0", 20500, &IMAGES[2]);
    let moment = server.timestamp() + SignedDuration::from_hours(1);
    offline.write("coming.bin", &coming.image);
    offline.run(&format!(
        "release new --repo repo --product {CAM} --version 2.5.0 --order 20500 --train 2.5 --train-ga 2026-05-01 \
         --kind feature --hw-id cam-r3 --security-counter 1 --min-installed 2.4.0 --component main=coming.bin \
         --embargo-until {moment:.0}"
    ));
    offline.sign(&["early-a", "early-b"]);
    // Both versions of the role are complete; the empty one is shown, and the other one waits.
    scene.publish();
    offline.run(&format!("audit --repo repo --server {}", scene.url()));
    let old = scene.device(client);
    for device in [&old, &scene.device(client)] {
        accepted(device, scene.url(), &first, 1);
        accepted(device, scene.url(), &second, 1);
        assert_eq!(device.download(scene.url(), &coming.path()), Run::Missing);
    }
    server.advance_s(3601);
    until("the moment", || (server.client().get(&coming.url()).status == 200).then_some(()));
    offline.run(&format!("audit --repo repo --server {} --now {moment:.0}", scene.url()));
    let everywhere = |version: u32| {
        for device in [&old, &scene.device(client)] {
            accepted(device, scene.url(), &coming, 1);
            accepted(device, scene.url(), &second, 1);
            let missing = device.download(scene.url(), &format!("acme-cam/9.{version}/main.bin"));
            assert_eq!(missing, Run::Missing);
        }
    };
    everywhere(1);
    // The product's own holders take it over, when their clocks say so.
    let now = format!("--now {:.0}", moment + SignedDuration::from_secs(1));
    offline.run(&format!("release adopt --repo repo --product {CAM} --version 2.5.0 {now}"));
    for holder in ["early-b", "early-c", "acme-cam-a", "acme-cam-b"] {
        offline.run(&format!("sign --repo repo --key keys/{holder}.key --yes {now}"));
    }
    offline.run(&format!("publish --repo repo --server {} --token-file token {now}", scene.url()));
    everywhere(2);
}

fn an_embargo_role_of_which_nothing_is_shown_holds_back_all_but_one(client: StockClient) {
    let mut world = World::new(Engine::Sqlite);
    world.publish(&[world.ceremony.role(BAR, 1, &[])]).expect(200);
    let (cam, _) = world.two_releases();
    let top = world.ceremony.top_with_embargo(2, &[BAR, CAM], &[("embargo-0123456789abcdef", CAM)]);
    world.publish(&[top]).expect(200);
    let auditor = world.principal("auditor", "auditor");
    let device = Installation::new(client, &bytes_of(&world.ceremony.image_root(1))).with_token(auditor.token());
    // So its first document is empty and shown, and `sluice-sign publish` sends no top document without it.
    match (client, device.download(&world.server.url, &cam.path())) {
        (StockClient::PythonTuf | StockClient::TufJs, Run::Refused(_))
        | (StockClient::Tough, Run::Missing)
        | (StockClient::SigstoreTuf, Run::Got { .. }) => {}
        (client, ended) => panic!("{client:?}: {ended:?}"),
    }
}
