//! Blobs for devices: immutable, named by digest, in ranges. And the body that every download on every surface uses.

use std::ops::Range;
use std::sync::Arc;

use actix_web::body::SizedStream;
use actix_web::http::StatusCode;
use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use futures::channel::mpsc;
use futures::{SinkExt as _, StreamExt as _};
use serde::Deserialize;
use sluice_catalog::rollout::AttemptState;
use sluice_catalog::{Digest, Kind};

use super::ranges::{Wanted, wanted};
use super::{Answer, Shared, auth};
use crate::error::Error;

/// Blocks in flight between the blob store's runtime and a worker: back-pressure for slow devices.
const BLOCKS_AHEAD: usize = 4;
/// Separates the parts of a multipart answer. Lower case and unquoted: SWUpdate's delta handler lower-cases the header
/// line before it looks for the boundary in the body.
const BOUNDARY: &str = "sluice-part-7f3a9c1e5d";

pub(super) fn configure(config: &mut web::ServiceConfig) {
    config.service(web::resource("/v1/blobs/{sha256}").route(web::get().to(blob)).route(web::head().to(blob)));
}

#[derive(Debug, Deserialize)]
struct Token {
    token: Option<String>,
}

/// A blob, for the device whose token names it.
async fn blob(
    shared: web::Data<Shared>,
    request: HttpRequest,
    path: web::Path<String>,
    query: web::Query<Token>,
) -> Answer {
    let digest: Digest = path.parse().map_err(|_| Error::not_found("blob", &*path))?;
    let app = &shared.app;
    let token = query.token.as_deref().or_else(|| auth::bearer(&request));
    let device = token.and_then(|token| app.keys.tokens.blobs_open(token, digest, app.now())).ok_or_else(|| {
        Error::new(
            Kind::Forbidden,
            "this URL is not for this blob or is older than 15 minutes: poll again for a new one",
        )
    })?;
    // The attempt begins with the first blob asked for, at whichever replica.
    let known = match app.devices.cached(device) {
        Some(cached) => Some(cached),
        None => {
            let reading = Arc::clone(app);
            app.run(async move { reading.device(device).await }).await?
        }
    };
    if known.is_some_and(|known| known.attempt.as_ref().is_some_and(|it| it.state == AttemptState::Offered)) {
        let began = Arc::clone(app);
        app.run(async move {
            began.attempt_began(device).await?;
            began.device_reload(device).await?;
            Ok(())
        })
        .await?;
    }
    serve(&shared, &request, digest, "private, max-age=31536000, immutable", None).await
}

/// Sends a blob: whole, one range, or several as `multipart/byteranges`.
pub(super) async fn serve(
    shared: &Shared,
    request: &HttpRequest,
    digest: Digest,
    cache: &'static str,
    file_name: Option<&str>,
) -> Answer {
    let app = Arc::clone(&shared.app);
    let length = shared
        .app
        .run(async move { app.blobs.length(digest).await })
        .await?
        .ok_or_else(|| Error::not_found("blob", digest))?;
    let etag = format!("\"{digest}\"");
    let text = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
    if text(header::IF_NONE_MATCH).is_some_and(|held| held == "*" || held.split(',').any(|tag| tag.trim() == etag)) {
        return Ok(HttpResponse::NotModified().insert_header((header::ETAG, etag)).finish());
    }
    // A range of another version of the file is worth nothing: then the whole is sent.
    let range = text(header::RANGE).filter(|_| text(header::IF_RANGE).is_none_or(|tag| tag == etag));
    let mut response = HttpResponse::Ok();
    response
        .insert_header((header::ETAG, etag))
        .insert_header((header::ACCEPT_RANGES, "bytes"))
        .insert_header((header::CACHE_CONTROL, cache))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .content_type("application/octet-stream");
    if let Some(name) = file_name {
        response.insert_header((header::CONTENT_DISPOSITION, format!("attachment; filename=\"{name}\"")));
    }
    let parts = match wanted(range, length) {
        Wanted::Unsatisfiable => {
            return Ok(response
                .status(StatusCode::RANGE_NOT_SATISFIABLE)
                .insert_header((header::CONTENT_RANGE, format!("bytes */{length}")))
                .finish());
        }
        Wanted::Whole => std::iter::once((Bytes::new(), 0..length)).collect(),
        Wanted::Parts(ranges) => {
            response.status(StatusCode::PARTIAL_CONTENT);
            match <[Range<u64>; 1]>::try_from(ranges) {
                Ok([one]) => {
                    response.insert_header((
                        header::CONTENT_RANGE,
                        format!("bytes {}-{}/{length}", one.start, one.end - 1),
                    ));
                    vec![(Bytes::new(), one)]
                }
                Err(many) => {
                    response.content_type(format!("multipart/byteranges; boundary={BOUNDARY}"));
                    multipart(&many, length)
                }
            }
        }
    };
    let total = parts.iter().map(|(lead, range)| lead.len() as u64 + (range.end - range.start)).sum();
    if request.method() == actix_web::http::Method::HEAD {
        return Ok(response.body(SizedStream::new(total, futures::stream::empty::<std::io::Result<Bytes>>())));
    }
    shared.app.metrics.blob_bytes.inc_by(total);
    Ok(response.body(SizedStream::new(total, stream(shared, digest, parts))))
}

/// Each part with the text before it; the last "part" is only the closing boundary.
fn multipart(ranges: &[Range<u64>], length: u64) -> Vec<(Bytes, Range<u64>)> {
    let mut parts: Vec<(Bytes, Range<u64>)> = ranges
        .iter()
        .map(|range| {
            let lead = format!(
                "\r\n--{BOUNDARY}\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes {}-{}/{length}\r\n\r\n",
                range.start,
                range.end - 1
            );
            (Bytes::from(lead), range.clone())
        })
        .collect();
    parts.push((Bytes::from(format!("\r\n--{BOUNDARY}--\r\n")), 0..0));
    parts
}

/// Reads the blob on the runtime where the blob store's client lives, and hands blocks over a bounded channel: a slow
/// device holds a few blocks, and a fast one cannot starve its worker.
fn stream(shared: &Shared, digest: Digest, parts: Vec<(Bytes, Range<u64>)>) -> mpsc::Receiver<std::io::Result<Bytes>> {
    let (mut sender, receiver) = mpsc::channel(BLOCKS_AHEAD);
    let app = Arc::clone(&shared.app);
    shared.app.runtime.spawn(async move {
        for (lead, range) in parts {
            if !lead.is_empty() && sender.send(Ok(lead)).await.is_err() {
                return;
            }
            if range.is_empty() {
                continue;
            }
            let mut blocks = match app.blobs.read(digest, range).await {
                Ok(blocks) => blocks,
                Err(error) => {
                    tracing::error!(%digest, error = %error, cause = ?error.cause, "blob {digest} could not be read");
                    let _ = sender.send(Err(std::io::Error::other("the blob store failed"))).await;
                    return;
                }
            };
            while let Some(block) = blocks.next().await {
                let failed = block.is_err();
                if sender.send(block).await.is_err() || failed {
                    // The device hung up, or the length promised cannot be kept: the connection breaks, and it resumes.
                    return;
                }
            }
        }
    });
    receiver
}
