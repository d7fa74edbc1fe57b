//! Downloads one target with tough.

use async_trait::async_trait;
use futures::TryStreamExt as _;
use reqwest::StatusCode;
use sluice_stock_clients::{Outcome, Task};
use tough::schema::Error::TargetNotFound;
use tough::{Prefix, RepositoryLoader, TargetName, Transport, TransportError, TransportErrorKind, TransportStream};
use url::Url;

fn main() -> anyhow::Result<()> {
    let task = Task::from_args()?;
    task.run(download(&task))
}

async fn download(task: &Task) -> anyhow::Result<Outcome> {
    // A device goes on from the newest root that it has seen, which tough keeps but does not read by itself.
    let root = std::fs::read(task.kept.join("root.json")).unwrap_or_else(|_| task.root.clone());
    let (metadata, targets) = (Url::parse(&task.metadata_url)?, Url::parse(&task.targets_url)?);
    let mut loader = RepositoryLoader::new(&root, metadata, targets).datastore(&task.kept);
    if let Some(token) = &task.token {
        loader = loader.transport(WithToken { client: reqwest::Client::new(), token: token.clone() });
    }
    let repository = loader.load().await?;
    let name = TargetName::new(&task.target)?;
    let target = match repository.targets().signed.find_target(&name, false) {
        Err(TargetNotFound { .. }) => return Ok(Outcome::Missing),
        found => found?,
    };
    let custom = serde_json::to_value(&target.custom)?;
    repository.save_target(&name, &task.kept, Prefix::None).await?;
    let root_version = repository.root().signed.version.get();
    Ok(Outcome::Got { file: task.kept.join(name.resolved()), custom, root_version })
}

/// tough's own transport cannot send a header.
#[derive(Clone, Debug)]
struct WithToken {
    client: reqwest::Client,
    token: String,
}

#[async_trait]
impl Transport for WithToken {
    async fn fetch(&self, url: Url) -> Result<TransportStream, TransportError> {
        let other = |url: &Url, error| TransportError::new_with_cause(TransportErrorKind::Other, url.as_str(), error);
        let answer = self.client.get(url.clone()).bearer_auth(&self.token).send().await;
        let answer = answer.map_err(|error| other(&url, error))?;
        if answer.status() == StatusCode::NOT_FOUND {
            return Err(TransportError::new(TransportErrorKind::FileNotFound, url.as_str()));
        }
        let answer = answer.error_for_status().map_err(|error| other(&url, error))?;
        Ok(Box::pin(answer.bytes_stream().map_err(move |error| other(&url, error))))
    }
}
