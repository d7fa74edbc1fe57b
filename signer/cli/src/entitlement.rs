//! `entitlement show`: what a certificate says, and whether it holds.

use crate::args::ShowArgs;
use crate::failure::{self, Failure};
use crate::folder::{Folder, read_limited};
use crate::stage::Stage;
use crate::{edge, output};
use jiff::Timestamp;
use serde::Serialize;
use sluice_signer::publish::Repository;
use sluice_signer::{Certificate, DirectorTrust, Envelope, Json, VerifyError, time};
use std::process::ExitCode;

#[derive(Serialize)]
struct Report {
    /// Whether it holds now; nothing is said without a root.
    holds: Option<bool>,
    /// Why it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
    /// The signed part.
    certificate: Json,
}

/// `entitlement show`
pub fn show(args: &ShowArgs, now: Timestamp, json: bool) -> anyhow::Result<ExitCode> {
    let limits = edge::limits();
    let bytes = read_limited(&args.file, limits.entitlement_bytes)?;
    let unreadable = |error: VerifyError| {
        Failure::file(
            format!("{}: {error}", args.file.display()),
            "give the file that a device or GET /v1/entitlement has",
        )
    };
    let envelope = Envelope::parse("entitlement", &bytes, limits.entitlement_bytes, &limits).map_err(unreadable)?;
    let certificate = Certificate::from_json(envelope.signed(), &limits).map_err(unreadable)?;
    let verdict = trust(args)?.map(|trust| holds(&trust?, &bytes, now));
    let report = Report {
        holds: verdict.as_ref().map(Result::is_ok),
        refused: verdict.and_then(Result::err).map(|error| error.to_string()),
        certificate: certificate.to_json(),
    };
    output::print(json, &report, || text(&certificate, &report, now))?;
    Ok(ExitCode::from(if report.holds == Some(false) { failure::INCOMPLETE } else { 0 }))
}

fn holds(trust: &DirectorTrust, bytes: &[u8], now: Timestamp) -> Result<(), VerifyError> {
    trust.check_root_expiry(now)?;
    let certificate = trust.signed_certificate(bytes)?;
    if certificate.expires <= now {
        return Err(VerifyError::Expired { role: "entitlement".to_owned(), expires: certificate.expires, now });
    }
    Ok(())
}

/// The chain of director roots that was given, if one was.
fn trust(args: &ShowArgs) -> anyhow::Result<Option<Result<DirectorTrust, VerifyError>>> {
    let limits = edge::limits();
    let roots: Vec<Vec<u8>> = match &args.repo {
        Some(repo) => Stage::load(Folder::open(repo)?)?.roots(Repository::Director).to_vec(),
        None => {
            args.director_root.iter().map(|file| read_limited(file, limits.root_bytes)).collect::<Result<_, _>>()?
        }
    };
    let Some((first, later)) = roots.split_first() else {
        if args.repo.is_some() {
            return Err(Failure::refused("the folder has no complete director root", "let its holders sign it"));
        }
        return Ok(None);
    };
    let walk = || {
        let mut trust = DirectorTrust::from_root(first, &limits)?;
        later.iter().try_for_each(|root| trust.update_root(root).map(drop))?;
        Ok(trust)
    };
    Ok(Some(walk()))
}

fn text(certificate: &Certificate, report: &Report, now: Timestamp) -> String {
    let day = |at: Timestamp| time::format(at);
    let mut lines = vec![
        format!("device     {} {}, epoch {}", certificate.product, certificate.serial, certificate.device_epoch),
        format!("state      {}", certificate.state.as_str()),
        format!("issued     {}", day(certificate.issued)),
        format!("expires    {}", day(certificate.expires)),
    ];
    if let Some(at) = certificate.replaced_at {
        lines.insert(2, format!("replaced   from {} on", day(at)));
    }
    if let Some(train) = &certificate.confirmed_train {
        lines.push(format!("security   fixes of train {train} need no cover"));
    }
    for cover in &certificate.covers {
        let codes: Vec<String> = cover.codes.iter().map(|(code, channel)| format!("{code} up to {channel}")).collect();
        lines.push(format!(
            "contract   {} ({}), {}, {} days of grace: {}",
            cover.contract,
            cover.plan,
            cover.rule,
            cover.grace_days,
            codes.join(", ")
        ));
        lines.extend(cover.windows.iter().map(|&(from, to)| format!("           from {} to {}", day(from), day(to))));
    }
    if certificate.covers.is_empty() {
        lines.push("contract   none".to_owned());
    }
    lines.push(match (&report.refused, report.holds) {
        (Some(refused), _) => format!("REFUSED: {refused}"),
        (None, Some(_)) => "OK: the director root names the key that signed it".to_owned(),
        (None, None) if certificate.expires <= now => "the signature was not checked, and it has expired".to_owned(),
        (None, None) => "the signature was not checked: give --repo or --director-root".to_owned(),
    });
    lines.join("\n")
}
