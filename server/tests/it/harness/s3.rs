//! An S3 server in this process, over a temporary folder.

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use tempfile::TempDir;
use tokio::runtime::Runtime;

const BUCKET: &str = "firmware";
const KEY: &str = "test-key";
const SECRET: &str = "test-secret";

/// A running S3 server; it ends with its runtime.
#[derive(Debug)]
pub struct S3 {
    folder: TempDir,
    endpoint: String,
}

impl S3 {
    pub fn start(runtime: &Runtime) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join(BUCKET)).unwrap();
        let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(folder.path()).unwrap());
        builder.set_auth(SimpleAuth::from_single(KEY, SECRET));
        let service = builder.build();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        runtime.spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let service = service.clone();
                tokio::spawn(async move {
                    let http = Builder::new(TokioExecutor::new());
                    // A client that hangs up is no matter for the test.
                    let _ = http.serve_connection(TokioIo::new(socket), service).await;
                });
            }
        });
        Self { folder, endpoint }
    }

    /// As `--blobs` takes it.
    pub fn place() -> String {
        format!("s3://{BUCKET}/some/prefix")
    }

    /// Options for `Blobs::open_with`.
    pub fn options(&self) -> [(&str, &str); 5] {
        [
            ("endpoint", &self.endpoint),
            ("region", "us-east-1"),
            ("access_key_id", KEY),
            ("secret_access_key", SECRET),
            ("allow_http", "true"),
        ]
    }

    /// The folder in which blobs lie.
    pub fn blobs(&self) -> std::path::PathBuf {
        self.folder.path().join(BUCKET).join("some/prefix")
    }
}
