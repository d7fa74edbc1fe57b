//! Mistakes in valid documents that a careful publisher refuses: what locks holders out, confuses roles, breaks
//! clients or strands devices.

/// One mistake, with the role and the value that made it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Lint {
    /// One holder alone could replace every key.
    #[error("{role}: a threshold of one lets a single holder sign; two at least are required")]
    ThresholdOne {
        /// The role.
        role: String,
    },
}
