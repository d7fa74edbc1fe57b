//! The running server: HTTP workers, background tasks, graceful stop.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use sluice_catalog::id::DeviceId;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::app::App;
use crate::config::Settings;
use crate::http;
use crate::jobs;

/// How often generations and changed devices are looked at.
const REFRESH: Duration = Duration::from_millis(500);
/// How often last-seen times are written.
const FLUSH: Duration = Duration::from_secs(5);
/// How often rollouts that move by themselves are looked at.
const ROLLOUTS: Duration = Duration::from_secs(2);
/// How often the age of the timestamp is looked at, and the lease of who signs is renewed.
const PUBLISHER: Duration = Duration::from_secs(30);
/// How often is looked for what is to be told.
const NOTICES: Duration = Duration::from_mins(1);
/// Changed devices are looked for this far back: longer than any transaction of ours stays open.
const CHANGES_OVERLAP_MS: i64 = 15_000;
/// More changes than this in that time, which is more than a database takes, and every copy is dropped instead.
const MAX_CHANGES: u32 = 50_000;
/// Running requests get so long when the server stops.
const SHUTDOWN_S: u64 = 30;

/// A server that listens.
pub struct Running {
    /// Where.
    pub address: SocketAddr,
    /// Its base URL.
    pub url: String,
    server: actix_web::dev::Server,
    background: Background,
}

/// Tasks beside the HTTP server.
pub struct Background {
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
    app: Arc<App>,
}

impl Running {
    /// A handle to stop it from elsewhere.
    pub fn handle(&self) -> actix_web::dev::ServerHandle {
        self.server.handle()
    }

    /// Serves until a signal or the handle stops it; then finishes running requests and jobs, and closes the database.
    pub async fn run_until_stopped(self) -> anyhow::Result<()> {
        self.server.await.context("serving")?;
        self.background.stop().await;
        Ok(())
    }
}

/// Binds the address and starts everything.
pub fn start(app: &Arc<App>, settings: &Settings, workers: bool) -> anyhow::Result<Running> {
    let listener =
        std::net::TcpListener::bind(&settings.listen).with_context(|| format!("listening on {}", settings.listen))?;
    let address = listener.local_addr()?;
    let scheme = if settings.tls.is_some() { "https" } else { "http" };
    let url = settings.public_url.clone().unwrap_or_else(|| format!("{scheme}://{address}"));
    let url = url.trim_end_matches('/').to_owned();
    let server = http::server(app, listener, settings.tls.as_ref(), &url, SHUTDOWN_S)?;
    let mut background = background(app, if workers { settings.worker_threads } else { 0 });
    background.tasks.push(tokio::spawn(end_streams(Arc::clone(app), background.stop.subscribe())));
    Ok(Running { address, url, server, background })
}

/// Ends streams when the server is asked to stop: a graceful stop waits for running requests, and they would not end.
async fn end_streams(app: Arc<App>, mut stop: watch::Receiver<bool>) {
    tokio::select! {
        asked = stop_signal() => {
            if let Err(error) = asked {
                tracing::warn!(%error, "signals cannot be heard: streams end only with their clients: {error}");
                return;
            }
        }
        _ = stop.changed() => {}
    }
    app.lives.close();
}

/// Waits until the process is asked to stop.
#[cfg(unix)]
pub async fn stop_signal() -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => {}
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    Ok(())
}

/// Waits until the process is asked to stop.
#[cfg(not(unix))]
pub async fn stop_signal() -> anyhow::Result<()> {
    Ok(tokio::signal::ctrl_c().await?)
}

/// Starts the background tasks: snapshots, last-seen times, the publisher, rollouts, and so many job workers.
pub fn background(app: &Arc<App>, workers: usize) -> Background {
    let (stop, stopped) = watch::channel(false);
    let mut tasks = vec![
        tokio::spawn(every(REFRESH, stopped.clone(), Arc::clone(app), Tick::Refresh)),
        tokio::spawn(every(FLUSH, stopped.clone(), Arc::clone(app), Tick::Flush)),
        tokio::spawn(every(PUBLISHER, stopped.clone(), Arc::clone(app), Tick::Publish)),
        tokio::spawn(every(NOTICES, stopped.clone(), Arc::clone(app), Tick::Notices)),
        tokio::spawn(every(ROLLOUTS, stopped.clone(), Arc::clone(app), Tick::Rollouts)),
        // On its own: what is kept for pictures must not hold up what stops a rollout.
        tokio::spawn(every(ROLLOUTS, stopped.clone(), Arc::clone(app), Tick::Series)),
    ];
    for number in 0..workers {
        let name = format!("{}-{number}", std::process::id());
        tasks.push(tokio::spawn(jobs::work(Arc::clone(app), name, stopped.clone())));
    }
    Background { stop, tasks, app: Arc::clone(app) }
}

impl Background {
    /// Stops every task, writes what waits to be written, and closes the database.
    pub async fn stop(self) {
        self.app.lives.close();
        let _ = self.stop.send(true);
        for task in self.tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "a background task died: {error}");
            }
        }
        flush(&self.app).await;
        if let Err(error) = self.app.publisher_stop().await {
            tracing::warn!(%error, "another replica signs only when this one's lease has lapsed: {error}");
        }
        if let Err(error) = self.app.notices_stop().await {
            tracing::warn!(%error, "another replica looks for notices only when this one's lease has lapsed: {error}");
        }
        if let Err(error) = self.app.rollouts_stop().await {
            tracing::warn!(%error, "another replica looks at rollouts only when this one's lease has lapsed: {error}");
        }
        self.app.store.close().await;
    }
}

#[derive(Clone, Copy, Debug)]
enum Tick {
    Refresh,
    Flush,
    Publish,
    Notices,
    Rollouts,
    Series,
}

async fn every(period: Duration, mut stop: watch::Receiver<bool>, app: Arc<App>, tick: Tick) {
    let mut interval = tokio::time::interval(period);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // After a failure the next regular tick is early enough.
    let mut failed = false;
    loop {
        tokio::select! {
            _ = interval.tick() => {}
            () = app.publisher.moment.notified(), if matches!(tick, Tick::Publish) && !failed => {}
            _ = stop.changed() => return,
        }
        match tick {
            Tick::Refresh => refresh(&app).await,
            Tick::Flush => flush(&app).await,
            Tick::Notices => {
                if let Err(error) = app.notices_tick().await {
                    tracing::error!(%error, cause = ?error.cause, "what is to be told could not be written: {error}");
                }
            }
            Tick::Rollouts => {
                if let Err(error) = app.rollouts_tick().await {
                    tracing::error!(error = %error, cause = ?error.cause, "rollouts could not be looked at: {error}");
                }
            }
            Tick::Series => {
                if let Err(error) = app.series_tick().await {
                    tracing::warn!(%error, cause = ?error.cause, "figures of rollouts were not kept: {error}");
                }
            }
            Tick::Publish => match app.publisher_tick().await {
                Ok(signed) => {
                    if signed {
                        tracing::info!("what is current was signed again");
                    }
                    failed = false;
                }
                Err(error) => {
                    failed = true;
                    tracing::error!(error = %error, cause = ?error.cause, "not all that is due could be published or signed again");
                }
            },
        }
    }
}

async fn refresh(app: &Arc<App>) {
    let now = app.now();
    if let Err(error) = app.refresh().await {
        tracing::warn!(%error, "the catalogue could not be refreshed: {error}");
    }
    match app.store.device_changes(now.plus_ms(-CHANGES_OVERLAP_MS), MAX_CHANGES).await {
        Ok(changes) if changes.len() >= MAX_CHANGES as usize => app.devices.forget_all(),
        Ok(changes) => app.devices.reconcile(&changes),
        Err(error) => tracing::warn!(%error, "changed devices could not be read: {error}"),
    }
    if let Err(error) = app.events_look().await {
        tracing::warn!(%error, "who waits for events is not told: {error}");
    }
    app.expiry_tick();
    app.wake_at_the_moment();
}

async fn flush(app: &Arc<App>) {
    if let Err(error) = app.decisions_flush().await {
        tracing::warn!(%error, cause = ?error.cause, "what devices were told is noted at their next poll: {error}");
    }
    let seen: Vec<(DeviceId, _)> = app.devices.take_seen();
    if seen.is_empty() {
        return;
    }
    if let Err(error) = app.store.device_seen(&seen).await {
        tracing::warn!(%error, devices = seen.len(), "last-seen times were lost: {error}");
    }
}

/// Writes the base URL to `address` in the data folder, for scripts that let the system choose the port.
pub fn write_address(data: &Path, url: &str) -> anyhow::Result<()> {
    let partial = data.join("address.partial");
    std::fs::write(&partial, format!("{url}\n"))?;
    std::fs::rename(partial, data.join("address")).context("writing address")
}
