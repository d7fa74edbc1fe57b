//! English texts of what the decision rests on. Every sentence that a trace shows stands here or in `reason.rs`, so that another
//! language has two places to go through.

use super::trace::{Evidence, Remedy};
use crate::policy::PolicyScope;
use crate::source::Stale;

const fn scope(scope: PolicyScope) -> &'static str {
    match scope {
        PolicyScope::Customer => "all devices of the customer",
        PolicyScope::Site => "the site",
        PolicyScope::Group => "a group",
        PolicyScope::Device => "this device",
    }
}

fn stale_text(stale: &Stale) -> String {
    let hours = stale.age_s / 3600;
    let age = if hours < 48 { format!("{hours} hours") } else { format!("{} days", hours / 24) };
    format!("; source {} was last heard of {age} ago, on {}", stale.source, stale.heard_at)
}

/// What an answer rested on, in words. Empty when there is nothing to say.
pub fn detail(evidence: &Evidence) -> String {
    match evidence {
        Evidence::None => String::new(),
        Evidence::Codes { codes } => format!("requires {}", codes.join(", ")),
        Evidence::Cover { contract, plan, rule, code, reference, from, to, grace_until, stale, pool } => {
            let window = match (from, to, grace_until) {
                (Some(from), Some(to), None) => format!(", covered from {} to {}", from.date(), to.date()),
                (Some(_), Some(to), Some(until)) => {
                    format!(", cover ended on {}, grace until {}", to.date(), until.date())
                }
                _ => String::new(),
            };
            let pool = pool.as_ref().map(|pool| format!(", a place in the pool of {} at {}", pool.family, pool.site));
            let pool = pool.unwrap_or_default();
            let stale = stale.as_ref().map(stale_text).unwrap_or_default();
            format!(
                "{code}: contract {contract}, plan {plan}, rule {rule} at {}{window}{pool}{stale}",
                reference.date()
            )
        }
        Evidence::Train { train } => format!("train {train}"),
        Evidence::Floor { version } => format!("installs over {version} and newer"),
        Evidence::Version { version } => format!("towards {version}"),
        Evidence::Epoch { epoch, known, first } => {
            let way = first.as_ref().map_or_else(
                || format!("no release of epoch {known} leads to it"),
                |first| format!("{first} comes first"),
            );
            format!("epoch {epoch}, the device knows {known}: {way}")
        }
        Evidence::Towards { version, epoch } => format!("towards {version} of epoch {epoch}"),
        Evidence::Moment { at } => format!("on {at}"),
        Evidence::Country { country } => format!("the device stands in {country}"),
        Evidence::Rollout { rollout } => rollout.to_string(),
        Evidence::Audience { rollout, asks, has } if has.is_empty() => format!("{rollout} asks for {asks}"),
        Evidence::Audience { rollout, asks, has } => format!("{rollout} asks for {asks}, the device has {has}"),
        Evidence::Attempts { failed } => format!("{failed} attempts failed"),
        Evidence::Policy { scope: narrow, owner, reason, pinned, until } => {
            let pinned = pinned.as_ref().map(|version| format!("pinned to {version} ")).unwrap_or_default();
            let until = until.map(|until| format!(", until {}", until.date())).unwrap_or_default();
            format!("{pinned}by {owner} for {}{until}: {reason}", scope(*narrow))
        }
    }
}

/// What to do, in words.
pub fn remedy(remedy: &Remedy) -> String {
    match remedy {
        Remedy::Wait { until } => format!("wait until {until}"),
        Remedy::Cover { codes } => format!("put the device under a contract that grants {}", codes.join(", ")),
        Remedy::CoverAt { contract, at } => format!("let contract {contract} cover {}", at.date()),
        Remedy::Pool { contract, place, quantity } => format!(
            "enlarge the pool of {} at {} under contract {contract}, whose {quantity} places are taken, or free one",
            place.family, place.site
        ),
        Remedy::Renew { contract } => format!("renew contract {contract}"),
        Remedy::Plan { contract, code } => format!("move contract {contract} to a plan that grants {code}"),
        Remedy::ChangePolicy { scope: narrow, owner } => {
            format!("ask {owner} to lift or change the policy for {}", scope(*narrow))
        }
        Remedy::InstallFirst { version } => format!("install {version} first"),
        Remedy::FollowChannel => "let the device follow the version's channel".to_owned(),
        Remedy::DeviceState => "accept, unblock or put back the device".to_owned(),
        Remedy::Rollout => "start, resume or widen a rollout of the version".to_owned(),
        Remedy::Failure => "look at the device's failed attempts, then let it try again".to_owned(),
    }
}
