//! `why`: the whole trace of a decision, as REST gives it, for principals with a token. Nothing of it is in what Lens-style clients
//! ask today; the names follow theirs.

use std::sync::Arc;

use async_graphql::{Context, Object, Result, SimpleObject};
use sluice_catalog::decide::{Step, Why as Answer};
use sluice_catalog::text::{ProductName, Serial, Version};
use sluice_catalog::{Kind, Time};

use super::{Token, graphql_error};
use crate::app::Question;
use crate::error::Error;
use crate::http::Shared;

/// What is asked about one device.
#[derive(Debug, Default)]
pub struct WhyQuery;

/// Why a device gets, or does not get, a version.
#[derive(Debug, SimpleObject)]
struct Why {
    product: String,
    /// The moment asked about.
    at: String,
    /// By what was known then; by what is known now when null.
    known_at: Option<String>,
    /// Whether the device is offered a version at that moment.
    offered: bool,
    /// The version offered, or the one that the reason is about.
    version: Option<String>,
    reason_code: String,
    sentence: String,
    /// The newest version that the device is entitled to, and its train.
    newest_entitled_version: Option<String>,
    newest_entitled_train: Option<String>,
    /// When that train's support ends or ended.
    newest_entitled_support_end: Option<String>,
    /// When the answer changes by itself.
    changes_at: Option<String>,
    /// What would let the device have the version.
    advice: Vec<String>,
    /// Contracts that cover the device at once; the better one counts.
    overlaps: Vec<String>,
    /// Versions to install one after the other.
    path: Vec<String>,
    /// Every gate's answer, newest version first.
    steps: Vec<WhyStep>,
}

/// A gate's answer about a version.
#[derive(Debug, SimpleObject)]
struct WhyStep {
    version: String,
    gate: String,
    pass: bool,
    reason_code: String,
    sentence: String,
    /// What the answer rested on.
    detail: String,
}

#[Object]
impl WhyQuery {
    /// Why a device gets, or does not get, a version, at any moment (`at`, RFC 3339 or a date) and by what was known at any moment
    /// (`knownAt`).
    #[graphql(complexity = "100 + child_complexity")]
    async fn why(
        &self,
        context: &Context<'_>,
        product: String,
        serial: String,
        version: Option<String>,
        at: Option<String>,
        known_at: Option<String>,
    ) -> Result<Option<Why>> {
        let shared = context.data::<Shared>()?;
        let Some(token) = context.data::<Token>()?.0.clone() else {
            let error = Error::new(Kind::Unauthenticated, "send a token: `Authorization: Bearer …`");
            return Err(graphql_error(&error));
        };
        let product: ProductName = parsed("product", &product)?;
        let serial: Serial = parsed("serial", &serial)?;
        let version = version.map(|version| parsed::<Version>("version", &version)).transpose()?;
        let at = at.map(|at| parsed::<Time>("at", &at)).transpose()?;
        let known_at = known_at.map(|known_at| parsed::<Time>("knownAt", &known_at)).transpose()?;
        let app = Arc::clone(&shared.app);
        let answer = shared.app.run(async move {
            let actor = app.authenticate(&token).await?;
            app.why(&actor, &product, &serial, Question { version: version.as_ref(), at, known_at }).await
        });
        // Nothing beside an error, and not an error alone: what else was asked in the same request is answered.
        Ok(Some(told(answer.await.map_err(|error| graphql_error(&error))?)))
    }
}

fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(field: &str, text: &str) -> Result<T> {
    text.parse().map_err(|error| graphql_error(&Error::invalid(field, error)))
}

fn told(why: Answer) -> Why {
    let text = |version: Option<Version>| version.map(String::from);
    Why {
        product: why.product.into(),
        at: why.at.to_string(),
        known_at: why.known_at.map(|at| at.to_string()),
        offered: why.offered,
        version: text(why.version),
        reason_code: why.reason.code().to_owned(),
        sentence: why.sentence,
        newest_entitled_version: text(why.newest_entitled),
        newest_entitled_train: why.newest_train.map(String::from),
        newest_entitled_support_end: why.newest_support_end.map(|end| end.to_string()),
        changes_at: why.changes_at.map(|at| at.to_string()),
        advice: why.advice,
        overlaps: why.overlaps.into_iter().map(String::from).collect(),
        path: why.path.into_iter().map(String::from).collect(),
        steps: why.steps.into_iter().map(step).collect(),
    }
}

fn step(step: Step) -> WhyStep {
    WhyStep {
        version: step.version.into(),
        gate: step.gate.as_str().to_owned(),
        pass: step.pass,
        reason_code: step.reason.code().to_owned(),
        sentence: step.reason.sentence().to_owned(),
        detail: step.detail,
    }
}
