//! The blob store alone, on a local folder and on S3.

use std::path::PathBuf;

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use sluice_catalog::{Digest, Kind};
use sluice_server::blobs::{Blobs, MAX_BLOB_LEN};
use sluice_server::error::Error;

use crate::harness::Place;
use crate::harness::s3::S3;

both_places!(
    a_blob_is_kept_under_its_digest,
    ranges_are_exact,
    a_wrong_digest_keeps_nothing,
    a_short_or_long_upload_keeps_nothing,
    an_upload_that_breaks_off_keeps_nothing,
    a_blob_beyond_the_limit_is_refused_before_it_is_read,
    an_altered_file_is_noticed,
    a_blob_of_several_parts,
    what_is_not_there,
);

/// Runs a test on an empty blob store; it is told where the files lie.
fn on<F: Future<Output = ()>>(place: Place, test: impl FnOnce(Blobs, PathBuf) -> F) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let s3 = (place == Place::S3).then(|| S3::start(&runtime));
    let (blobs, files) = match &s3 {
        Some(s3) => {
            // The application does this when it starts: object_store takes the process's provider.
            let _ = rustls::crypto::ring::default_provider().install_default();
            (Blobs::open_with(&S3::place(), &s3.options()).unwrap(), s3.blobs())
        }
        None => (Blobs::open(folder.path().to_str().unwrap()).unwrap(), folder.path().to_owned()),
    };
    runtime.block_on(test(blobs, files));
}

fn body(chunks: &[&[u8]]) -> stream::Iter<std::vec::IntoIter<Result<Bytes, std::io::Error>>> {
    stream::iter(chunks.iter().map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect::<Vec<_>>())
}

async fn read(blobs: &Blobs, digest: Digest, range: std::ops::Range<u64>) -> Vec<u8> {
    let blocks: Vec<_> = blobs.read(digest, range).await.unwrap().collect().await;
    blocks.into_iter().flat_map(|block| block.unwrap().to_vec()).collect()
}

#[track_caller]
fn is<T: std::fmt::Debug>(result: Result<T, Error>, kind: Kind) -> String {
    let error = result.unwrap_err();
    assert_eq!(error.kind, kind, "{error}");
    error.detail
}

async fn nothing_is_kept(blobs: &Blobs, digest: Digest) {
    assert_eq!(blobs.length(digest).await.unwrap(), None);
    is(blobs.read_all(digest, 100).await, Kind::NotFound);
}

fn a_blob_is_kept_under_its_digest(place: Place) {
    on(place, async |blobs: Blobs, files: PathBuf| {
        let digest = Digest::of(b"firmware");
        assert!(blobs.put_stream(digest, 8, body(&[b"firm", b"", b"ware"])).await.unwrap(), "new");
        assert!(!blobs.put_stream(digest, 8, body(&[b"firmware"])).await.unwrap(), "there already");
        assert!(!blobs.put_stream(digest, 8, body(&[])).await.unwrap(), "and nobody reads the body then");
        assert_eq!(blobs.length(digest).await.unwrap(), Some(8));
        assert_eq!(blobs.read_all(digest, 8).await.unwrap(), b"firmware");
        is(blobs.read_all(digest, 7).await, Kind::TooLarge);
        assert_eq!(blobs.put_bytes(b"firmware".to_vec()).await.unwrap(), digest);
        let name = digest.to_string();
        assert_eq!(std::fs::read(files.join("sha256").join(&name[..2]).join(name)).unwrap(), b"firmware");
        blobs.ping().await.unwrap();
    });
}

fn ranges_are_exact(place: Place) {
    on(place, async |blobs: Blobs, _| {
        let bytes: Vec<u8> = (0..100_000u32).flat_map(u32::to_le_bytes).collect();
        let digest = blobs.put_bytes(bytes.clone()).await.unwrap();
        for (from, to) in [(0, 400_000), (0, 1), (399_999, 400_000), (65_535, 65_537), (7, 7)] {
            assert_eq!(read(&blobs, digest, from as u64..to as u64).await, bytes[from..to], "{from}..{to}");
        }
    });
}

fn a_wrong_digest_keeps_nothing(place: Place) {
    on(place, async |blobs: Blobs, _| {
        let digest = Digest::of(b"firmware");
        let detail = is(blobs.put_stream(digest, 8, body(&[b"firmwarE"])).await, Kind::Invalid);
        assert!(detail.contains(&Digest::of(b"firmwarE").to_string()), "it says what came: {detail}");
        nothing_is_kept(&blobs, digest).await;
        assert!(blobs.put_stream(digest, 8, body(&[b"firmware"])).await.unwrap(), "the right bytes are taken");
    });
}

fn a_short_or_long_upload_keeps_nothing(place: Place) {
    on(place, async |blobs: Blobs, _| {
        let digest = Digest::of(b"firmware");
        is(blobs.put_stream(digest, 9, body(&[b"firmware"])).await, Kind::Malformed);
        is(blobs.put_stream(digest, 7, body(&[b"firmware"])).await, Kind::TooLarge);
        nothing_is_kept(&blobs, digest).await;
    });
}

fn an_upload_that_breaks_off_keeps_nothing(place: Place) {
    on(place, async |blobs: Blobs, files: PathBuf| {
        let digest = Digest::of(b"firmware");
        let broken = stream::iter([Ok(Bytes::from_static(b"firm")), Err(std::io::Error::other("cable cut"))]);
        let detail = is(blobs.put_stream(digest, 8, broken).await, Kind::Malformed);
        assert!(detail.contains("4 bytes") && detail.contains("cable cut"), "{detail}");
        nothing_is_kept(&blobs, digest).await;
        let name = digest.to_string();
        let folder = files.join("sha256").join(&name[..2]);
        assert!(std::fs::read_dir(folder).map_or(0, Iterator::count) == 0, "no half file is left behind");
    });
}

fn a_blob_beyond_the_limit_is_refused_before_it_is_read(place: Place) {
    on(place, async |blobs: Blobs, _| {
        let never = stream::poll_fn(|_| -> std::task::Poll<Option<Result<Bytes, std::io::Error>>> {
            panic!("the body was read")
        });
        is(blobs.put_stream(Digest::of(b"x"), MAX_BLOB_LEN + 1, never).await, Kind::TooLarge);
    });
}

fn an_altered_file_is_noticed(place: Place) {
    on(place, async |blobs: Blobs, files: PathBuf| {
        let digest = blobs.put_bytes(b"firmware".to_vec()).await.unwrap();
        let name = digest.to_string();
        std::fs::write(files.join("sha256").join(&name[..2]).join(name), b"firmwarE").unwrap();
        let error = blobs.read_all(digest, 100).await.unwrap_err();
        assert_eq!(error.kind, Kind::Internal);
        assert!(error.cause.unwrap().to_string().contains("altered in storage"));
    });
}

fn a_blob_of_several_parts(place: Place) {
    on(place, async |blobs: Blobs, _| {
        // Two parts of 8 MiB and a rest, in chunks that fit neither.
        let bytes: Vec<u8> = (0..17_000_003u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let digest = Digest::of(&bytes);
        let chunks: Vec<&[u8]> = bytes.chunks(1_000_003).collect();
        assert!(blobs.put_stream(digest, bytes.len() as u64, body(&chunks)).await.unwrap());
        assert_eq!(blobs.length(digest).await.unwrap(), Some(bytes.len() as u64));
        assert_eq!(Digest::of(&blobs.read_all(digest, 20_000_000).await.unwrap()), digest);
        let seam = (8 << 20) - 2..(8 << 20) + 2;
        assert_eq!(read(&blobs, digest, seam.start as u64..seam.end as u64).await, bytes[seam]);
    });
}

fn what_is_not_there(place: Place) {
    on(place, async |blobs: Blobs, _| {
        let digest = Digest::of(b"nothing");
        assert_eq!(blobs.length(digest).await.unwrap(), None);
        assert!(blobs.read(digest, 0..1).await.is_err_and(|error| error.kind == Kind::NotFound));
    });
}

#[test]
fn an_option_that_s3_does_not_have_is_refused() {
    let error = Blobs::open_with("s3://bucket", &[("endpiont", "x")]).unwrap_err();
    assert_eq!(error.to_string(), "blobs: there is no option `endpiont`");
}
