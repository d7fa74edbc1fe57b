//! Blobs: immutable bytes named by their SHA-256, in a local folder or an S3 bucket. The only place with object storage.
//!
//! A blob appears under its name only when every byte has arrived and its digest is right; before that there is a
//! temporary file or an unfinished multipart upload, which no reader sees.

use std::ops::Range;
use std::path::Path as FilePath;
use std::sync::Arc;

use anyhow::Context as _;
use bytes::{Bytes, BytesMut};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStore, ObjectStoreExt as _};
use sha2::{Digest as _, Sha256};
use sluice_catalog::{Digest, Kind};

use crate::error::{Error, Result};

/// Longest blob: the patch container's limit on images is far above what one PUT should carry.
pub const MAX_BLOB_LEN: u64 = 4 << 30;
/// Upload parts: S3 takes 10,000 parts of at least 5 MiB, so 8 MiB reach 80 GB.
const PART_LEN: usize = 8 << 20;

/// Where blobs are kept. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Blobs {
    store: Arc<dyn ObjectStore>,
    kind: &'static str,
}

impl Blobs {
    /// Opens a folder (made when missing), or `s3://BUCKET[/PREFIX]` with the usual `AWS_…` variables.
    pub fn open(place: &str) -> anyhow::Result<Self> {
        Self::open_with(place, &[])
    }

    /// Opens a place with options that win over the environment, such as `("endpoint", "http://…")`. The names are those
    /// of the `AWS_…` variables in lower case, with or without `aws_`; a folder has none and ignores them.
    pub fn open_with(place: &str, options: &[(&str, &str)]) -> anyhow::Result<Self> {
        if place.starts_with("s3://") {
            let url = url::Url::parse(place).context("blobs: not a URL")?;
            let prefix = url.path().trim_matches('/').to_owned();
            let mut builder = AmazonS3Builder::from_env().with_url(place);
            for (name, value) in options {
                let key = name.parse().with_context(|| format!("blobs: there is no option `{name}`"))?;
                builder = builder.with_config(key, *value);
            }
            let s3 = builder.build().context(
                "blobs: set AWS_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, for other servers, AWS_ENDPOINT",
            )?;
            let store: Arc<dyn ObjectStore> = if prefix.is_empty() {
                Arc::new(s3)
            } else {
                Arc::new(object_store::prefix::PrefixStore::new(s3, prefix))
            };
            return Ok(Self { store, kind: "s3" });
        }
        let dir = FilePath::new(place.strip_prefix("file://").unwrap_or(place));
        std::fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
        // A blob is durable before anything in the database speaks of it.
        let local = LocalFileSystem::new_with_prefix(dir)?.with_fsync(true).with_automatic_cleanup(false);
        Ok(Self { store: Arc::new(local), kind: "local" })
    }

    /// `local` or `s3`.
    pub const fn kind(&self) -> &'static str {
        self.kind
    }

    fn path(digest: Digest) -> Path {
        let name = digest.to_string();
        let (first, _) = name.split_at(2);
        Path::from(format!("sha256/{first}/{name}"))
    }

    /// The length of a blob, if it is there.
    pub async fn length(&self, digest: Digest) -> Result<Option<u64>> {
        match self.store.head(&Self::path(digest)).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(Error::unavailable("the blob store", error)),
        }
    }

    /// Takes in a blob while checking its digest and length; nothing is kept unless both are right. True when it is new.
    pub async fn put_stream<S, E>(&self, digest: Digest, length: u64, body: S) -> Result<bool>
    where
        S: Stream<Item = Result<Bytes, E>> + Unpin,
        E: std::fmt::Display,
    {
        if length > MAX_BLOB_LEN {
            return Err(Error::new(Kind::TooLarge, format!("Content-Length {length}: at most {MAX_BLOB_LEN} bytes")));
        }
        if self.length(digest).await? == Some(length) {
            return Ok(false);
        }
        let path = Self::path(digest);
        let mut upload =
            self.store.put_multipart(&path).await.map_err(|error| Error::unavailable("the blob store", error))?;
        match Self::copy(digest, length, body, &mut *upload).await {
            Ok(()) => {
                upload.complete().await.map_err(|error| Error::unavailable("the blob store", error))?;
                Ok(true)
            }
            Err(error) => {
                if let Err(abort) = upload.abort().await {
                    tracing::warn!(%digest, %abort, "an unfinished upload of {digest} could not be removed");
                }
                Err(error)
            }
        }
    }

    async fn copy<S, E>(
        digest: Digest,
        length: u64,
        mut body: S,
        upload: &mut dyn object_store::MultipartUpload,
    ) -> Result<()>
    where
        S: Stream<Item = Result<Bytes, E>> + Unpin,
        E: std::fmt::Display,
    {
        let mut hasher = Sha256::new();
        let mut seen = 0u64;
        let mut part = BytesMut::with_capacity(PART_LEN.min(usize::try_from(length).unwrap_or(PART_LEN)));
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(|error| {
                Error::new(Kind::Malformed, format!("the upload broke off after {seen} bytes: {error}"))
            })?;
            seen += chunk.len() as u64;
            if seen > length {
                return Err(Error::new(Kind::TooLarge, format!("more than the {length} bytes announced were sent")));
            }
            hasher.update(&chunk);
            part.extend_from_slice(&chunk);
            while part.len() >= PART_LEN {
                let full = part.split_to(PART_LEN).freeze();
                upload.put_part(full.into()).await.map_err(|error| Error::unavailable("the blob store", error))?;
            }
        }
        if seen != length {
            return Err(Error::new(Kind::Malformed, format!("the upload has {seen} of {length} bytes; send it again")));
        }
        let found = Digest(hasher.finalize().into());
        if found != digest {
            return Err(Error::invalid("sha256", format!("the bytes sent have SHA-256 {found}, not {digest}")));
        }
        upload.put_part(part.freeze().into()).await.map_err(|error| Error::unavailable("the blob store", error))
    }

    /// Keeps bytes that the server made; their digest.
    pub async fn put_bytes(&self, bytes: Vec<u8>) -> Result<Digest> {
        let digest = Digest::of(&bytes);
        let length = bytes.len() as u64;
        let body = futures::stream::iter([Ok::<_, std::convert::Infallible>(Bytes::from(bytes))]);
        self.put_stream(digest, length, body).await?;
        Ok(digest)
    }

    /// A whole blob of at most `limit` bytes, with its digest checked: what the disk gave back is what was put in.
    pub async fn read_all(&self, digest: Digest, limit: u64) -> Result<Vec<u8>> {
        let result = self.store.get(&Self::path(digest)).await.map_err(|error| Self::gone(digest, error))?;
        if result.meta.size > limit {
            return Err(Error::new(
                Kind::TooLarge,
                format!("blob {digest} has {} bytes, the limit is {limit}", result.meta.size),
            ));
        }
        let bytes = result.bytes().await.map_err(|error| Error::unavailable("the blob store", error))?;
        if Digest::of(&bytes) != digest {
            return Err(Error::internal(anyhow::anyhow!("blob {digest} was altered in storage")));
        }
        Ok(bytes.into())
    }

    /// Bytes of a blob, streamed. `range` lies within the blob.
    pub async fn read(&self, digest: Digest, range: Range<u64>) -> Result<BoxStream<'static, std::io::Result<Bytes>>> {
        if range.is_empty() {
            return Ok(futures::stream::empty().boxed());
        }
        let options = GetOptions { range: Some(GetRange::Bounded(range)), ..GetOptions::default() };
        let result =
            self.store.get_opts(&Self::path(digest), options).await.map_err(|error| Self::gone(digest, error))?;
        Ok(result.into_stream().map_err(std::io::Error::other).boxed())
    }

    fn gone(digest: Digest, error: object_store::Error) -> Error {
        match error {
            object_store::Error::NotFound { .. } => Error::not_found("blob", digest),
            error => Error::unavailable("the blob store", error),
        }
    }

    /// Whether the store answers.
    pub async fn ping(&self) -> Result<()> {
        self.length(Digest([0; 32])).await.map(|_| ())
    }
}
