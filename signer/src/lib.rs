//! Signed firmware metadata: The Update Framework (TUF 1.0) for the image repository, Uptane's director for the
//! per-device answer, and the rules by which a device agrees to install only what both say.
//!
//! Everything here is synchronous and pure. There is no network, no file system, no clock and no randomness: bytes,
//! times, seeds and salts are parameters. The same verifier runs on devices, in the server on ingest, and in the
//! release engineer's command line.
//!
//! * [`json`] parses documents strictly and writes the canonical form that is signed.
//! * [`key`] and [`key_file`] hold TUF key objects and PKCS#8 private key files.
//! * [`envelope`] signs, detaches and merges signatures.
//! * [`root`], [`roles`], [`targets`], [`release`] are typed views of the documents.
//! * [`repository`] is the trusted set that a device keeps (TUF specification, section 5), and [`refresh`](mod@refresh) the
//!   order in which a client asks for its documents.
//! * [`known`] lists what a product's holders signed, for looking at it.
//! * [`director`] and [`agree`](mod@agree) are the per-device answer and the comparison of both repositories.
//! * [`entitlement`] is what a device may have by contract, for when the server is away.
//! * [`embargo`] knows the roles of what is not announced yet.
//! * [`uptane`] is Uptane's full verification of any two repositories, and [`legacy`] reads those written in the old way.
//! * [`publish`] and [`online`] are the server's side: ingest checks, and its snapshot and timestamp roles.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic))]

pub mod advisory;
pub mod agree;
pub mod digest;
pub mod director;
pub mod embargo;
pub mod entitlement;
pub mod envelope;
pub mod error;
pub mod json;
pub mod key;
pub mod key_file;
pub mod known;
pub mod legacy;
pub mod limits;
pub mod lint;
pub mod online;
pub mod overrides;
pub mod path;
pub mod provenance;
pub mod publish;
pub mod refresh;
pub mod release;
pub mod repository;
pub mod roles;
pub mod root;
pub mod sbom;
pub mod targets;
pub mod time;
pub mod uptane;

mod fields;

pub use agree::{AgreeError, InstallPolicy, Installed, agree};
pub use digest::{Sha256Digest, sha256};
pub use director::{
    Delta, DirectorAnswer, DirectorDocument, DirectorExpect, DirectorTarget, DirectorTrust, FullEncoding, FullImage,
};
pub use entitlement::{Certificate, CertificateExpect, CertifiedCover, CertifiedState};
pub use envelope::{Envelope, Signature};
pub use error::VerifyError;
pub use json::{Json, JsonError};
pub use key::{KeyError, PublicKey, SigningKey};
pub use limits::Limits;
pub use lint::{Lint, Lints};
pub use online::{BranchKeys, NamedKeys, OnlineKeys, OnlineRole};
pub use overrides::{OverrideError, Overrides};
pub use provenance::{Builder, Provenance, ProvenanceError};
pub use publish::{Accepted, ImageDocuments, NewDocument, PublishContext, PublishError, publish_check};
pub use refresh::{Ask, Given, Refresh};
pub use release::{ReleaseCustom, ReleaseKind};
pub use repository::{Found, Lookup, RepositoryState, TrustedRepository, Wanted};
pub use roles::{FileMeta, SnapshotMetadata, TimestampMetadata};
pub use root::{RoleKeys, RootMetadata, RootUpdate};
pub use sbom::{Sbom, SbomError, SbomFormat};
pub use targets::{Delegation, Paths, RepositoryTarget, TargetsMetadata};
