//! Downloads one target with sigstore-tuf.

use reqwest::header::{AUTHORIZATION, HeaderMap};
use sigstore_tuf::{FileStore, HttpRepository, Updater};
use sluice_stock_clients::{Outcome, Task};

fn main() -> anyhow::Result<()> {
    let task = Task::from_args()?;
    task.run(download(&task))
}

#[expect(clippy::disallowed_methods, reason = "a client on its own looks at the clock")]
fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

async fn download(task: &Task) -> anyhow::Result<Outcome> {
    let mut repository = HttpRepository::new(&task.metadata_url)?.with_targets_base(&task.targets_url)?;
    if let Some(token) = &task.token {
        let headers = HeaderMap::from_iter([(AUTHORIZATION, format!("Bearer {token}").parse()?)]);
        repository = repository.with_http_client(reqwest::Client::builder().default_headers(headers).build()?);
    }
    let mut updater = Updater::new(repository, &task.root)?.with_store(FileStore::new(&task.kept));
    updater.refresh(now()).await?;
    let Some(target) = updater.get_target_info(&task.target, now()).await? else { return Ok(Outcome::Missing) };
    let bytes = updater.download_target(&target, &task.target).await?;
    let file = task.kept.join("image");
    std::fs::write(&file, bytes)?;
    let root_version = updater.trusted().root().version;
    Ok(Outcome::Got { file, custom: target.custom.unwrap_or_default(), root_version })
}
