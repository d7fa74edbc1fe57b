//! What the lints find.

use std::fmt;

/// One mistake, with the role and the value that made it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Lint {
    /// One holder alone could sign.
    #[error("{role}: threshold {threshold} lets a single holder sign; use 2 at least")]
    ThresholdOne {
        /// The role.
        role: String,
        /// Its threshold.
        threshold: u32,
    },
    /// The loss of one key would lock everyone out for ever.
    #[error(
        "{role}: threshold {threshold} of {holders} holders; losing one key would lock the role, use fewer or add holders"
    )]
    ThresholdTooHigh {
        /// The role.
        role: String,
        /// Its threshold.
        threshold: u32,
        /// Its different keys.
        holders: usize,
    },
    /// Too few holders.
    #[error("{role}: {holders} holders; {min} at least are required")]
    TooFewHolders {
        /// The role.
        role: String,
        /// Its different keys.
        holders: usize,
        /// Keys required.
        min: usize,
    },
    /// One key in two roles: documents do not name their delegated role, so one could pass for the other.
    #[error("key {keyid} is in both {first} and {second}; every key may serve one role only")]
    SharedKey {
        /// The key.
        keyid: String,
        /// The first role.
        first: String,
        /// The second role.
        second: String,
    },
    /// One key under two ids: it looks like two holders.
    #[error("{role}: keys {first} and {second} are the same key")]
    DuplicateKey {
        /// The role.
        role: String,
        /// The first id.
        first: String,
        /// The second id.
        second: String,
    },
    /// A key id that is not the hash of its key, or names no key.
    #[error("{role}: key id {keyid} is not the SHA-256 of a listed key")]
    KeyId {
        /// The role.
        role: String,
        /// The id.
        keyid: String,
    },
    /// The root does not name the server's key.
    #[error("{role}: must name the server's key {expected} alone, with threshold 1")]
    OnlineKey {
        /// The role.
        role: String,
        /// The key that the server exports, or its successor.
        expected: String,
    },
    /// File names without versions can be mixed up by caches.
    #[error("{role}: consistent_snapshot must be true")]
    ConsistentSnapshot {
        /// The role.
        role: String,
    },
    /// The root does not say which repository it is for.
    #[error("{role}: custom.repo_id is missing")]
    RepoId {
        /// The role.
        role: String,
    },
    /// A document for another repository: its readers would refuse it.
    #[error("{role}: custom.repo_id is {found}, but this is the repository {expected}")]
    OtherRepository {
        /// The role.
        role: String,
        /// What the root before it says, or the root of the repository.
        expected: String,
        /// What the document says.
        found: String,
    },
    /// Top targets that sign images themselves.
    #[error("targets: {path} stands in the top document; images belong to a product role")]
    TopTargets {
        /// A target found there.
        path: String,
    },
    /// A product role that delegates further.
    #[error("{role}: delegates to {child}; only the top targets document may delegate")]
    NestedDelegation {
        /// The role.
        role: String,
        /// The role below it.
        child: String,
    },
    /// A role that reaches what is not its own, so that its holders could speak for another product.
    #[error("{role}: reaches {found}; a product role reaches {expected} alone, and is terminating")]
    Reach {
        /// The role.
        role: String,
        /// Its paths.
        found: String,
        /// What they must be.
        expected: String,
    },
    /// The name of an embargo role with another reach than one has.
    #[error(
        "{role}: reaches {found}; an embargo role reaches PRODUCT/*/* of one product alone, and is not terminating: add it with `delegate add --embargo`"
    )]
    EmbargoReach {
        /// The role.
        role: String,
        /// Its paths.
        found: String,
    },
    /// An embargo role behind the product's own, which ends the search: no device would find what it signs.
    #[error("{role}: stands behind {product}, whose role ends the search; an embargo role stands before it")]
    EmbargoOrder {
        /// The role.
        role: String,
        /// The product.
        product: String,
    },
    /// Images in an embargo role that could be shown at any time.
    #[error("{role}: custom.not_before is missing; a document of an embargo role says from when on it may be shown")]
    EmbargoMoment {
        /// The role.
        role: String,
    },
    /// A moment in a document that is shown as soon as it is published.
    #[error("{role}: states custom.not_before {found}; only a document of an embargo role may")]
    EmbargoElsewhere {
        /// The role.
        role: String,
        /// The moment.
        found: String,
    },
    /// A moment that is too far away.
    #[error("{role}: custom.not_before {found} is more than {limit} days ahead")]
    EmbargoLength {
        /// The role.
        role: String,
        /// The moment.
        found: String,
        /// Days allowed.
        limit: i64,
    },
    /// A document that would have expired when it may be shown.
    #[error("{role}: custom.not_before {found} is not before {expires}, when the document expires")]
    EmbargoExpiry {
        /// The role.
        role: String,
        /// The moment.
        found: String,
        /// When the document expires.
        expires: String,
    },
    /// What is shown until the moment expires before it: devices would find nothing of the product in between.
    #[error(
        "{role}: version {version}, which is shown until custom.not_before {found}, expires on {expires}; renew the role first, and publish it"
    )]
    EmbargoGap {
        /// The role.
        role: String,
        /// The version shown until then.
        version: u64,
        /// The moment.
        found: String,
        /// When that version expires.
        expires: String,
    },
    /// Two roles of one product that disagree.
    #[error("{role}: {path} has the {what} of {other_path}, which {other} signed")]
    Collision {
        /// The role.
        role: String,
        /// The target path.
        path: String,
        /// What they share, or dispute.
        what: &'static str,
        /// The other role.
        other: String,
        /// The other target path.
        other_path: String,
    },
    /// A target that is neither an image nor named by one: nothing holds it to any rule, and stock clients would fetch it.
    #[error("{role}: {path} has no release facts, and no release names it as notes, sbom or provenance")]
    Loose {
        /// The role.
        role: String,
        /// The target path.
        path: String,
    },
    /// Release facts in a role that signs no releases.
    #[error("{role}: {path} states a release; a role of advisories signs none")]
    ReleaseInAdvisories {
        /// The role.
        role: String,
        /// The target path.
        path: String,
    },
    /// A product role whose name would have to be quoted in file names and URLs.
    #[error("{role}: the name of a product role has letters, digits, '-', '_' and '.', and begins with no dot")]
    RoleName {
        /// The role.
        role: String,
    },
    /// A document that lives longer than policy allows.
    #[error("{role}: expires in {days} days, at most {limit} are allowed")]
    Lifetime {
        /// The role.
        role: String,
        /// Days from now to expiry.
        days: i64,
        /// Days allowed.
        limit: i64,
    },
    /// Characters that clients in other languages may treat differently.
    #[error("{role}: holds characters other than printable ASCII")]
    NonAscii {
        /// The role.
        role: String,
    },
    /// The target's path is not in the role's reach, so no device would find it.
    #[error("{role}: {path} is outside of the paths delegated to the role")]
    Path {
        /// The role.
        role: String,
        /// The target path.
        path: String,
    },
    /// The path and the signed facts disagree.
    #[error("{role}: {path} must begin with {expected}, as its product and version say")]
    PathMismatch {
        /// The role.
        role: String,
        /// The target path.
        path: String,
        /// Product and version from the signed facts.
        expected: String,
    },
    /// The signed facts of a target are malformed.
    #[error("{problem}")]
    Custom {
        /// What is wrong.
        problem: String,
    },
    /// Other content or other signed facts under a path that was published.
    #[error("{role}: {path} was published with other content or facts; use a new version")]
    ContentChanged {
        /// The role.
        role: String,
        /// The target path.
        path: String,
    },
    /// The same image twice, or two versions in one place of the order.
    #[error("{role}: {first} and {second} have the same component and {what}")]
    Ambiguous {
        /// The role.
        role: String,
        /// The first target path.
        first: String,
        /// The second target path.
        second: String,
        /// What they share.
        what: &'static str,
    },
    /// A new image below the published counter: devices that were raised to it would refuse the image.
    #[error("{role}: {path} has security counter {found}, {highest} was published; it must not go down")]
    SecurityCounter {
        /// The role.
        role: String,
        /// The target path.
        path: String,
        /// The counter of the new image.
        found: u64,
        /// The highest published for the component.
        highest: u64,
    },
    /// A security release that does not say what it closes.
    #[error("{role}: {path} is a security release without an advisory")]
    SecurityWithoutAdvisory {
        /// The role.
        role: String,
        /// The target path.
        path: String,
    },
    /// A reference to something the role does not sign.
    #[error("{role}: {path} names {field} {value}, which the document does not hold")]
    Dangling {
        /// The role.
        role: String,
        /// The target path.
        path: String,
        /// The field.
        field: &'static str,
        /// What it names.
        value: String,
    },
    /// Only one of the two repositories began the next epoch.
    #[error(
        "the image root is of signing epoch {image}, the director root of {director}: both repositories rise together, publish both \
         roots at once"
    )]
    EpochApart {
        /// Epoch of the image root.
        image: u64,
        /// Epoch of the director root.
        director: u64,
    },
    /// A key that signs for two epochs: what it says to devices of the one would be good for those of the other.
    #[error(
        "{role}: key {keyid} signs for epoch {epoch}; a later epoch names other keys of the server, make them with `sluice-server \
         keys rotate {role}`"
    )]
    EpochKey {
        /// The online role.
        role: &'static str,
        /// The key.
        keyid: String,
        /// The earlier epoch.
        epoch: u64,
    },
    /// What devices of the ending epoch are left with will not bring them over.
    #[error("{role}: {problem}; devices of the ending epoch get nothing else any more")]
    EpochShort {
        /// The role.
        role: String,
        /// What is wrong.
        problem: String,
    },
    /// Overrides that cannot be read, or of what cannot be overridden.
    #[error("{role}: {problem}")]
    Overrides {
        /// The role.
        role: String,
        /// What is wrong.
        problem: String,
    },
    /// More bytes than stock clients read.
    #[error("{role}: {length} bytes are over the {limit} that clients accept")]
    Size {
        /// The role.
        role: String,
        /// Bytes of the document.
        length: u64,
        /// Bytes allowed.
        limit: u64,
    },
}

impl Lint {
    /// Codes of the lints that people may override: what is unwise, not what breaks clients or hides what was published.
    pub const OVERRIDABLE: [&str; 7] = [
        "threshold-one",
        "threshold-too-high",
        "too-few-holders",
        "lifetime",
        "security-counter",
        "security-without-advisory",
        "epoch-short",
    ];

    /// The code by which this lint is overridden; see [`Overrides`](crate::overrides::Overrides).
    pub fn override_code(&self) -> Option<&'static str> {
        match self {
            Self::ThresholdOne { .. } => Some("threshold-one"),
            Self::ThresholdTooHigh { .. } => Some("threshold-too-high"),
            Self::TooFewHolders { .. } => Some("too-few-holders"),
            Self::Lifetime { .. } => Some("lifetime"),
            Self::SecurityCounter { .. } => Some("security-counter"),
            Self::SecurityWithoutAdvisory { .. } => Some("security-without-advisory"),
            Self::EpochShort { .. } => Some("epoch-short"),
            _ => None,
        }
    }
}

/// All mistakes found, in the order of checking.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lints(pub Vec<Lint>);

impl Lints {
    /// Fails when there is any.
    pub fn into_result(self) -> Result<(), Self> {
        if self.0.is_empty() { Ok(()) } else { Err(self) }
    }
}

impl fmt::Display for Lints {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, lint) in self.0.iter().enumerate() {
            if index > 0 {
                formatter.write_str("; ")?;
            }
            lint.fmt(formatter)?;
        }
        Ok(())
    }
}

impl std::error::Error for Lints {}
