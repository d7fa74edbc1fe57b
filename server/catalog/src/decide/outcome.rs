//! What is decided, in short: of one version or of all, without a trace. It is what looking ahead and looking at a whole fleet ask.

use super::{Decision, DeviceView, Passed, ProductView, ReleaseView, decide, gates, hop};
use crate::{Reason, Time};

/// What is said about one version, or about all.
#[derive(Clone, Copy, Debug)]
pub struct Outcome<'a> {
    /// Whether the device is offered it.
    pub offered: bool,
    /// The release asked about, the one offered, or the one the reason is about.
    pub about: Option<&'a ReleaseView>,
    /// Why.
    pub reason: Reason,
}

impl PartialEq for Outcome<'_> {
    fn eq(&self, other: &Self) -> bool {
        let version = |outcome: &Self| outcome.about.map(|about| about.release.id);
        self.offered == other.offered && self.reason == other.reason && version(self) == version(other)
    }
}

/// What is decided for a device at a moment; about one release only, when one is given. The reason is that of the last gate which was
/// asked about it, as a trace has it.
pub fn outcome<'a>(
    device: &DeviceView,
    product: &'a ProductView,
    only: Option<&'a ReleaseView>,
    at: Time,
) -> Outcome<'a> {
    let whole = || match decide(device, product, at, &mut ()) {
        Decision::Offer { release, .. } => Outcome { offered: true, about: Some(release), reason: Reason::Offered },
        Decision::Nothing { reason, about } => Outcome { offered: false, about, reason },
    };
    let Some(only) = only else { return whole() };
    let stopped = |reason| Outcome { offered: false, about: Some(only), reason };
    match gates(device, product, only, hop(device, product, at).as_ref(), at, &mut ()) {
        Passed::Stopped(reason) => stopped(reason),
        Passed::Empty => stopped(Reason::InStage),
        // Another release may weigh more.
        Passed::All { .. } => match whole() {
            whole if whole.about.is_some_and(|about| std::ptr::eq(about, only)) => whole,
            _ => stopped(Reason::InStage),
        },
    }
}
