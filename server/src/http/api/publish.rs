//! Publishing: blobs, then documents.

use std::sync::Arc;

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, get, head, post, put, web};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::channel::mpsc;
use futures::{SinkExt as _, StreamExt as _};
use sluice_catalog::principal::Permission;
use sluice_catalog::wire::admin::OnlineKeys;
use sluice_catalog::wire::publish::{PublishRepository, PublishRequest, PublishResponse};
use sluice_catalog::{Digest, Kind};
use sluice_signer::NewDocument;
use sluice_signer::publish::{MAX_DOCUMENTS, Repository};
use utoipa_actix_web::service_config::ServiceConfig;

use super::super::auth::Acting;
use super::super::{Answer, Shared};
use crate::error::Error;
use crate::failpoint::failpoint;

/// Longest publication: a product role of 5 MB and its company, in base64.
const MAX_PUBLICATION_LEN: usize = 32 << 20;
// What the signer sends in one piece fits, with a third more for Base64 and room for names.
const _: () = assert!(MAX_PUBLICATION_LEN > sluice_signer::publish::MAX_BATCH_BYTES / 3 * 4 + (1 << 20));
/// Blocks between the connection and the blob store.
const BLOCKS_AHEAD: usize = 8;

pub(super) fn configure(config: &mut ServiceConfig) {
    config.service(online_keys).service(blob_head).service(blob_put).service(
        utoipa_actix_web::scope("/api/v1/publish")
            .app_data(super::super::problem::json_config(MAX_PUBLICATION_LEN))
            .service(publish),
    );
}

/// The server's online public keys, which offline roots name, and those that the next roots may name instead.
#[utoipa::path(responses((status = 200, body = OnlineKeys)), tag = "publish")]
#[get("/api/v1/online-keys")]
async fn online_keys(shared: web::Data<Shared>, actor: Acting) -> Answer<web::Json<OnlineKeys>> {
    Ok(web::Json(shared.app.online_keys(&actor.0)?))
}

/// Whether a blob is there: 200 with its length, or 404.
#[utoipa::path(params(("sha256" = String, Path)), responses((status = 200), (status = 404)), tag = "publish")]
#[head("/api/v1/blobs/{sha256}")]
async fn blob_head(shared: web::Data<Shared>, actor: Acting, sha256: web::Path<Digest>) -> Answer {
    actor.0.need(Permission::Publish)?;
    let (app, digest) = (Arc::clone(&shared.app), *sha256);
    let length = shared.app.run(async move { app.blobs.length(digest).await }).await?;
    let length = length.ok_or_else(|| Error::not_found("blob", digest))?;
    Ok(HttpResponse::Ok()
        .no_chunking(length)
        .insert_header((header::ETAG, format!("\"{digest}\"")))
        .body(actix_web::body::SizedStream::new(length, futures::stream::empty::<std::io::Result<bytes::Bytes>>())))
}

/// Upload a blob. Its digest is checked while it streams in; nothing is kept unless it is right. 201 when it is new, 200
/// when it was there.
#[utoipa::path(
    params(("sha256" = String, Path)),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 201), (status = 200)), tag = "publish"
)]
#[put("/api/v1/blobs/{sha256}")]
async fn blob_put(
    shared: web::Data<Shared>,
    actor: Acting,
    request: HttpRequest,
    sha256: web::Path<Digest>,
    mut body: web::Payload,
) -> Answer {
    actor.0.need(Permission::Publish)?;
    let length = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok())
        .ok_or_else(|| Error::new(Kind::Malformed, "send a Content-Length"))?;
    // The connection belongs to this worker, the blob store's client to the main runtime: blocks cross by a channel.
    let (mut sender, receiver) = mpsc::channel::<Result<bytes::Bytes, std::io::Error>>(BLOCKS_AHEAD);
    let (app, digest) = (Arc::clone(&shared.app), *sha256);
    failpoint("publish.blob.before_store");
    let stored = shared.app.run(async move { app.blobs.put_stream(digest, length, receiver).await });
    let feed = async move {
        while let Some(block) = body.next().await {
            let block = block.map_err(std::io::Error::other);
            let failed = block.is_err();
            if sender.send(block).await.is_err() || failed {
                return;
            }
        }
    };
    let (stored, ()) = futures::join!(stored, feed);
    let new = stored?;
    failpoint("publish.blob.after_store");
    Ok(if new { HttpResponse::Created().finish() } else { HttpResponse::Ok().finish() })
}

/// Publish signed documents: all or nothing, and the same again changes nothing.
#[utoipa::path(responses((status = 200, body = PublishResponse)), tag = "publish")]
#[post("")]
async fn publish(
    shared: web::Data<Shared>,
    actor: Acting,
    request: web::Json<PublishRequest>,
) -> Answer<web::Json<PublishResponse>> {
    if request.documents.len() > MAX_DOCUMENTS {
        let rule = format!("{} given, at most {MAX_DOCUMENTS}", request.documents.len());
        return Err(Error::invalid("documents", rule).into());
    }
    let mut documents = Vec::with_capacity(request.documents.len());
    for (index, document) in request.documents.iter().enumerate() {
        let bytes = STANDARD
            .decode(&document.body)
            .map_err(|error| Error::invalid(&format!("documents[{index}].body"), format!("no base64: {error}")))?;
        documents.push(NewDocument {
            repository: match document.repository {
                PublishRepository::Image => Repository::Image,
                PublishRepository::Director => Repository::Director,
            },
            role: document.role.clone(),
            version: document.version,
            bytes,
        });
    }
    let app = Arc::clone(&shared.app);
    Ok(web::Json(shared.app.run(async move { app.publish(&actor.0, documents).await }).await?))
}
