//! Background jobs: enqueued in the transaction of the change that needs them, claimed with a lease, idempotent.

use serde::{Deserialize, Serialize};

use crate::Time;
use crate::id::JobId;

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "sql", derive(sqlx::Type), sqlx(type_name = "text", rename_all = "snake_case"))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum JobState {
    /// Waiting for its time and a worker.
    Waiting,
    /// A worker holds its lease.
    Running,
    /// Done.
    Done,
    /// It failed as often as allowed; someone has to look.
    Parked,
}

impl JobState {
    /// The stored name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Done => "done",
            Self::Parked => "parked",
        }
    }
}

/// A job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "sql", derive(sqlx::FromRow))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Job {
    /// Made by the server.
    pub id: JobId,
    /// What to do, such as `patch`.
    pub kind: String,
    /// Names the work: a second job with the key of one that has not failed is not made.
    pub key: String,
    /// What the work needs (JSON).
    pub payload: String,
    /// Where it stands.
    pub state: JobState,
    /// Higher first.
    pub priority: i64,
    /// Failures so far.
    pub attempts: i32,
    /// Not before.
    pub run_at: Time,
    /// The worker's hold ends then unless it beats again.
    pub lease_until: Option<Time>,
    /// What went wrong last.
    pub last_error: Option<String>,
    /// When it was enqueued.
    pub created_at: Time,
}
