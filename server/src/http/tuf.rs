//! TUF: metadata and targets for any client of the specification, with consistent snapshots. Documents come from memory;
//! gated products need a token.

use std::sync::Arc;

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, get, web};
use bytes::Bytes;
use sluice_catalog::Digest;

use super::{Answer, Shared, auth, blobs};
use crate::app::Repository;
use crate::error::Error;

/// What never changes under its name.
const IMMUTABLE: &str = "public, max-age=31536000, immutable";

pub(super) fn configure(config: &mut web::ServiceConfig) {
    config
        .service(metadata)
        .service(director)
        .service(metadata_of_epoch)
        .service(director_of_epoch)
        .service(web::resource("/targets/{path:.*}").route(web::get().to(target)).route(web::head().to(target)));
}

/// Downloads as Lens-style clients know them.
pub(super) fn configure_downloads(config: &mut web::ServiceConfig) {
    config.service(
        web::resource("/{pid}/{version}/{build}/{file}").route(web::get().to(download)).route(web::head().to(download)),
    );
}

/// `timestamp.json`, or `VERSION.ROLE.json`.
#[get("/metadata/{file}")]
async fn metadata(shared: web::Data<Shared>, request: HttpRequest, file: web::Path<String>) -> Answer {
    document(&shared, &request, Repository::Image, &file).await
}

/// The director's roots. Its other documents are made for one device, by `/v1/poll`.
#[get("/director/{file}")]
async fn director(shared: web::Data<Shared>, request: HttpRequest, file: web::Path<String>) -> Answer {
    document(&shared, &request, Repository::Director, &file).await
}

/// The same of a signing epoch that has ended, for devices whose verifier knows no later one.
#[get("/metadata/epoch-{epoch}/{file}")]
async fn metadata_of_epoch(
    shared: web::Data<Shared>,
    request: HttpRequest,
    path: web::Path<(String, String)>,
) -> Answer {
    branch_document(&shared, &request, Repository::Image, &path).await
}

/// The director's roots to the last of an epoch that has ended.
#[get("/director/epoch-{epoch}/{file}")]
async fn director_of_epoch(
    shared: web::Data<Shared>,
    request: HttpRequest,
    path: web::Path<(String, String)>,
) -> Answer {
    branch_document(&shared, &request, Repository::Director, &path).await
}

/// A number in its one spelling: no sign, no leading zero.
fn number<T: std::str::FromStr + ToString>(text: &str) -> Option<T> {
    text.parse().ok().filter(|number: &T| number.to_string() == text)
}

async fn branch_document(
    shared: &Shared,
    request: &HttpRequest,
    repository: Repository,
    (epoch, file): &(String, String),
) -> Answer {
    let missing = || Error::not_found("document", format!("epoch-{epoch}/{file}"));
    let epoch: u32 = number(epoch).ok_or_else(missing)?;
    let documents = shared.app.live.documents_full();
    let branch = documents.branch(epoch).ok_or_else(missing)?;
    let signed = |role: &str| (repository == Repository::Image).then(|| branch.signed(role)).flatten();
    let name = file.strip_suffix(".json").ok_or_else(missing)?;
    if name == "timestamp" {
        return Ok(json(request, "no-cache", signed(name).ok_or_else(missing)?.1));
    }
    let (version, role) = name.split_once('.').ok_or_else(missing)?;
    let version: i64 = number(version).ok_or_else(missing)?;
    // As of what is current: nobody reads documents of an embargo role whose product is not known.
    auth::may_read(shared, request, branch.product_of(role).ok_or_else(missing)?).await?;
    let (app, of) = (Arc::clone(&shared.app), role.to_owned());
    let body = if role == "snapshot" {
        let (newest, body) = signed(role).ok_or_else(missing)?;
        if version == newest {
            return Ok(json(request, IMMUTABLE, body));
        }
        let epoch = i32::try_from(epoch).map_err(|_| missing())?;
        shared.app.run(async move { app.branch_document(epoch, &of, version).await }).await?
    } else {
        // What came after it is not part of it, above all no root.
        branch.version(repository, role).filter(|&last| version <= last).ok_or_else(missing)?;
        shared.app.run(async move { app.document(repository, &of, version).await }).await?
    };
    Ok(json(request, IMMUTABLE, Bytes::from(body.ok_or_else(missing)?)))
}

async fn document(shared: &Shared, request: &HttpRequest, repository: Repository, file: &str) -> Answer {
    // A root that does not exist must be a real 404: it tells a client that it holds the newest.
    let missing = || Error::not_found("document", file);
    let name = file.strip_suffix(".json").ok_or_else(missing)?;
    if name == "timestamp" {
        let (_, body) = shared.app.live.documents().latest(repository, name).ok_or_else(missing)?;
        return Ok(json(request, "no-cache", body));
    }
    let (version, role) = name.split_once('.').ok_or_else(missing)?;
    // One spelling: no sign, no leading zero.
    let version: i64 = number(version).ok_or_else(missing)?;
    // Nobody reads documents of an embargo role whose product is not known.
    let product = shared.app.live.documents().product_of(role).map(str::to_owned).ok_or_else(missing)?;
    auth::may_read(shared, request, &product).await?;
    // What another replica has just published comes with the rest of that publication: a root that names other online keys
    // must not be seen before the timestamp that they signed.
    if shared.app.live.documents().latest(repository, role).is_none_or(|(newest, _)| version > newest) {
        return Err(missing().into());
    }
    let body = match shared.app.live.documents().get(repository, role, version) {
        Some(body) => body,
        None => {
            let (app, role) = (Arc::clone(&shared.app), role.to_owned());
            let found = shared.app.run(async move { app.document(repository, &role, version).await }).await?;
            Bytes::from(found.ok_or_else(missing)?)
        }
    };
    Ok(json(request, IMMUTABLE, body))
}

fn json(request: &HttpRequest, cache: &'static str, body: Bytes) -> HttpResponse {
    let etag = format!("\"{}\"", Digest::of(&body).short());
    let held = request.headers().get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    if held.is_some_and(|held| held.split(',').any(|tag| tag.trim() == etag)) {
        return HttpResponse::NotModified().insert_header((header::ETAG, etag)).finish();
    }
    HttpResponse::Ok()
        .insert_header((header::ETAG, etag))
        .insert_header((header::CACHE_CONTROL, cache))
        .content_type("application/json")
        .body(body)
}

/// What a path below `/targets/` asks for: the digest, and the target's own path. With consistent snapshots that is
/// `DIRECTORY/DIGEST.FILE` by the specification, and `DIGEST.DIRECTORY/FILE` from tough. No product's name has a full
/// stop, so nothing can be read in both ways.
fn asked(path: &str) -> Option<(Digest, String)> {
    let digest_and_rest = |text: &str| -> Option<(Digest, String)> {
        let (digest, rest) = text.split_once('.')?;
        Some((digest.parse().ok()?, rest.to_owned()))
    };
    if let Some(asked) = digest_and_rest(path) {
        return Some(asked);
    }
    let (directory, file) = path.rsplit_once('/')?;
    let (digest, file) = digest_and_rest(file)?;
    Some((digest, format!("{directory}/{file}")))
}

/// A target by digest and path, as clients ask with consistent snapshots.
async fn target(shared: web::Data<Shared>, request: HttpRequest, path: web::Path<String>) -> Answer {
    let missing = || Error::not_found("target", &*path);
    let (digest, target) = asked(&path).ok_or_else(missing)?;
    let product = target.split('/').next().unwrap_or_default();
    auth::may_read(&shared, &request, product).await?;
    // A blob is served under the path that signed metadata gives it and no other: else a public product's path would open
    // a gated one's bytes.
    let signed = shared.app.live.documents().target(&target);
    if signed.is_none_or(|(signed, _)| signed != digest) {
        return Err(missing().into());
    }
    blobs::serve(&shared, &request, digest, cache(&shared, product), target.rsplit('/').next()).await
}

/// A gated product's bytes are not for shared caches.
fn cache(shared: &Shared, product: &str) -> &'static str {
    if shared.app.live.products().is_gated(product) { "private, max-age=31536000, immutable" } else { IMMUTABLE }
}

/// The raw image of a release by product id and version, for Lens-style clients.
async fn download(
    shared: web::Data<Shared>,
    request: HttpRequest,
    path: web::Path<(String, String, String, String)>,
) -> Answer {
    let (pid, version, _build, file) = path.into_inner();
    let (product, digest) =
        find(&shared, &pid, &version, &file).ok_or_else(|| Error::not_found("page", request.path()))?;
    auth::may_read(&shared, &request, &product).await?;
    blobs::serve(&shared, &request, digest, cache(&shared, &product), Some(&file)).await
}

fn find(shared: &Shared, pid: &str, version: &str, file: &str) -> Option<(String, Digest)> {
    let products = shared.app.live.products();
    let product = products.by_pid(pid)?;
    let now = shared.app.now();
    let release = product.releases().iter().find(|view| {
        view.release.version.as_str() == version
            && view.release.withdrawn_at.is_none()
            && view.embargo.as_ref().is_none_or(|embargo| embargo.until <= now)
    })?;
    let artifact = release.artifacts.iter().find(|artifact| artifact.path.rsplit('/').next() == Some(file))?;
    Some((product.product.name.to_string(), artifact.sha256))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_a_path_ask_for_the_same() {
        let digest = Digest::of(b"an image");
        let wanted = Some((digest, "acme-cam/2.4.0/main.bin".to_owned()));
        assert_eq!(asked(&format!("acme-cam/2.4.0/{digest}.main.bin")), wanted);
        assert_eq!(asked(&format!("{digest}.acme-cam/2.4.0/main.bin")), wanted);
    }

    #[test]
    fn a_path_without_a_digest_in_its_place_asks_for_nothing() {
        let digest = Digest::of(b"an image").to_string();
        for path in [
            "",
            "/",
            ".",
            "acme-cam/2.4.0/main.bin",
            &format!("acme-cam/{digest}.2.4.0/main.bin"),
            &format!("acme-cam/2.4.0/main.{digest}.bin"),
            &format!("{digest}/acme-cam/2.4.0/main.bin"),
            &format!("{}.acme-cam/2.4.0/main.bin", &digest[1..]),
            &digest,
        ] {
            assert_eq!(asked(path), None, "{path}");
        }
    }
}
