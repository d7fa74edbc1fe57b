//! Downloads over HTTP: exact ranges, several at once, resumption, tokens, and what a damaged store gives.

use sluice_catalog::{Digest, Kind};

use crate::harness::world::{CAM, CAM_PID, IMAGES};
use crate::harness::{Answer, Client, Engine, Place, Release, World};

both_places!(
    a_target_is_served_whole_and_in_ranges,
    several_ranges_come_as_exact_multipart_bytes,
    a_resume_holds_only_for_the_same_bytes,
    unsatisfiable_and_senseless_ranges,
    a_device_downloads_with_its_own_token,
    a_file_cut_in_storage_breaks_the_connection,
);

/// A release of the public product.
fn published(place: Place) -> (World, Release, Client) {
    let mut world = World::new_on(Engine::Sqlite, place);
    let release = Release::new(CAM, "2.4.0", 20400, &IMAGES[0]);
    world.release(&release);
    let client = world.server.client();
    (world, release, client)
}

fn range(client: &Client, path: &str, range: &str) -> Answer {
    client.get_with(path, &[("Range", range)])
}

fn a_target_is_served_whole_and_in_ranges(place: Place) {
    let (_world, release, client) = published(place);
    let (image, path) = (&release.image, release.url());
    let whole = client.get(&path).expect(200);
    assert_eq!(&whole.body, image);
    assert_eq!(whole.header("etag"), format!("\"{}\"", release.digest()));
    assert_eq!(whole.header("accept-ranges"), "bytes");
    assert_eq!(whole.header("cache-control"), "public, max-age=31536000, immutable");
    assert_eq!(whole.header("content-disposition"), "attachment; filename=\"main.bin\"");
    assert_eq!(client.get(&format!("/{CAM_PID}/2.4.0/0/main.bin")).expect(200).body, *image);
    let by_hash = client.get(&release.url_by_hash()).expect(200);
    assert_eq!(by_hash.body, *image);
    for header in ["etag", "accept-ranges", "cache-control", "content-disposition"] {
        assert_eq!(by_hash.header(header), whole.header(header));
    }
    client.head(&release.url_by_hash()).expect(200);
    // Some quote a path that they take for one name.
    let quoted = format!("/targets/{}.{}", release.digest(), release.path().replace('/', "%2F"));
    assert_eq!(client.get(&quoted).expect(200).body, *image);
    let head = client.head(&path).expect(200);
    assert_eq!((head.header("content-length"), head.body.len()), (image.len().to_string().as_str(), 0));
    let last = image.len() - 1;
    for (asked, from, to) in [
        ("bytes=0-0", 0, 0),
        ("bytes=100-299", 100, 299),
        ("bytes=-5", last - 4, last),
        ("bytes=60000-", 60_000, last),
        ("bytes=9-99999999", 9, last),
    ] {
        let part = range(&client, &path, asked).expect(206);
        assert_eq!(part.body, image[from..=to], "{asked}");
        assert_eq!(part.header("content-range"), format!("bytes {from}-{to}/{}", image.len()));
        assert_eq!(part.header("content-length"), (to - from + 1).to_string());
    }
    let part = client.send(ureq::http::Method::HEAD, &path, &[("Range", "bytes=0-9")], &[]).expect(206);
    assert_eq!(
        (part.header("content-length"), part.header("content-range")),
        ("10", format!("bytes 0-9/{}", image.len()).as_str())
    );
    assert_eq!(client.get_with(&path, &[("If-None-Match", whole.header("etag"))]).expect(304).body, b"");
}

fn several_ranges_come_as_exact_multipart_bytes(place: Place) {
    let (_world, release, client) = published(place);
    let image = &release.image;
    let answer = range(&client, &release.url(), "bytes=0-1,500-502, -3").expect(206);
    let boundary = answer.header("content-type").strip_prefix("multipart/byteranges; boundary=").unwrap().to_owned();
    let mut expected = Vec::new();
    for (from, to) in [(0, 1), (500, 502), (image.len() - 3, image.len() - 1)] {
        let lead = format!(
            "\r\n--{boundary}\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes {from}-{to}/{}\r\n\r\n",
            image.len()
        );
        expected.extend_from_slice(lead.as_bytes());
        expected.extend_from_slice(&image[from..=to]);
    }
    expected.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    assert_eq!(answer.body, expected);
    assert_eq!(answer.header("content-length"), expected.len().to_string());
    assert_eq!(boundary, boundary.to_lowercase(), "SWUpdate lower-cases the header line");
    let head =
        client.send(ureq::http::Method::HEAD, &release.url(), &[("Range", "bytes=0-1,500-502, -3")], &[]).expect(206);
    assert_eq!(head.header("content-length"), expected.len().to_string());
    // A hundred and fifty ranges, as SWUpdate's delta handler asks.
    let many: Vec<String> = (0..150).map(|n| format!("{}-{}", n * 400, n * 400 + 9)).collect();
    let answer = range(&client, &release.url(), &format!("bytes={}", many.join(","))).expect(206);
    assert_eq!(answer.text().matches("Content-Range: ").count(), 150);
}

fn a_resume_holds_only_for_the_same_bytes(place: Place) {
    let (_world, release, client) = published(place);
    let with = |tag: &str| client.get_with(&release.url(), &[("Range", "bytes=65000-"), ("If-Range", tag)]);
    assert_eq!(with(&format!("\"{}\"", release.digest())).expect(206).body, release.image[65_000..]);
    for tag in ["\"another\"", "Sun, 01 Mar 2026 09:30:00 GMT", "W/\"weak\""] {
        assert_eq!(with(tag).expect(200).body, release.image, "{tag}: the whole is sent");
    }
}

fn unsatisfiable_and_senseless_ranges(place: Place) {
    let (_world, release, client) = published(place);
    let path = release.url();
    for asked in [format!("bytes={}-", release.image.len()), "bytes=99999999-".into(), "bytes=-0".into()] {
        let answer = range(&client, &path, &asked).expect(416);
        assert_eq!(answer.header("content-range"), format!("bytes */{}", release.image.len()), "{asked}");
        assert_eq!(answer.body, b"");
    }
    for asked in ["lines=1-2", "bytes=b-a", "bytes=9-1", "bytes=", "bytes=0-9,x"] {
        assert_eq!(range(&client, &path, asked).expect(200).body, release.image, "{asked}: ignored");
    }
    let amplifier = format!("bytes={}", vec!["0-60000"; 200].join(","));
    assert_eq!(range(&client, &path, &amplifier).expect(200).body, release.image, "sent once");
}

fn a_device_downloads_with_its_own_token(place: Place) {
    let mut world = World::new_on(Engine::Sqlite, place);
    let (first, second) = world.two_releases();
    world.server.run_jobs();
    world.roll_out("all", &second, &[100]);
    let mut device = world.device(CAM, "SN-1");
    device.run(&first);
    device.profile = "raw";
    let polled = device.poll();
    let url = &polled.urls()[&second.digest()];
    let anyone = world.server.client();
    assert_eq!(anyone.get(url).expect(200).body, second.image, "the token is in the URL");
    assert_eq!(anyone.get(url).header("cache-control"), "private, max-age=31536000, immutable");
    let token = polled.response.blob_token.clone().unwrap();
    let path = format!("/v1/blobs/{}", second.digest());
    assert_eq!(anyone.with(&token).get(&path).expect(200).body, second.image, "or in the header");
    assert_eq!(range(&anyone.with(&token), &path, "bytes=10-19").expect(206).body, second.image[10..20]);
    anyone.with(&token).head(&path).expect(200);
    world.server.unchanged(|| {
        anyone.get(&path).refused(Kind::Forbidden);
        device.client.get(&path).refused(Kind::Forbidden);
        anyone.with(&token).get(&format!("/v1/blobs/{}", first.digest())).refused(Kind::Forbidden);
        anyone.with(&token).get("/v1/blobs/zz").refused(Kind::NotFound);
        let mut forged = token.clone().into_bytes();
        forged[20] = if forged[20] == b'A' { b'B' } else { b'A' };
        anyone.with(std::str::from_utf8(&forged).unwrap()).get(&path).refused(Kind::Forbidden);
        world.server.advance_s(15 * 60);
        let problem = anyone.get(url).refused(Kind::Forbidden);
        assert!(problem.detail.contains("poll again"), "{}", problem.detail);
    });
}

fn a_file_cut_in_storage_breaks_the_connection(place: Place) {
    let (world, release, client) = published(place);
    std::fs::remove_file(world.server.blob_file(release.digest())).unwrap();
    client.get(&release.url()).refused(Kind::NotFound);
    world.upload(&release);
    assert_eq!(client.get(&release.url()).expect(200).body, release.image, "uploading it again heals");
    assert_eq!(Digest::of(&client.get(&release.url()).body), release.digest());
}
