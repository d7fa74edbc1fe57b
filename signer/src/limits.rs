//! Named limits on everything that an outsider's document may claim. Each says what it prevents.

/// What a verifier accepts. The defaults are those of the reference TUF client, or lower.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a root document: stops an endless-data attack on the first document read.
    pub root_bytes: u64,
    /// Bytes of a timestamp document, which is fetched unsized and most often.
    pub timestamp_bytes: u64,
    /// Bytes of a snapshot document, even when the timestamp claims more.
    pub snapshot_bytes: u64,
    /// Bytes of a targets document, even when the snapshot claims more; stock clients refuse larger ones.
    pub targets_bytes: u64,
    /// Bytes of a director document: it is for one device and names one image per component.
    pub director_bytes: u64,
    /// Bytes of an entitlement certificate: it is for one device, which keeps it.
    pub entitlement_bytes: u64,
    /// Contracts that one certificate may name.
    pub covers: usize,
    /// Windows of one contract in a certificate; a device looks at all of them for each release.
    pub windows: usize,
    /// Versions of which a certificate may say when they were published.
    pub published: usize,
    /// Root rotations followed in one refresh: an attacker with old keys cannot feed an endless chain.
    pub root_rotations: u32,
    /// Signatures in one envelope: each costs a curve operation before the document can be refused.
    pub signatures: usize,
    /// Keys in one root or delegations block: each is a point to be decoded before any signature is looked at.
    pub keys: usize,
    /// Delegated roles in one targets document.
    pub delegations: usize,
    /// Path patterns of one delegation: matching costs patterns times paths.
    pub paths: usize,
    /// Hash prefixes of one delegation: 4,096 bins of three digits, all in one role, and no more.
    pub hash_prefixes: usize,
    /// Roles visited in the search for one target, which bounds cycles and wide trees.
    pub visited_roles: usize,
    /// Target entries in one targets document.
    pub targets: usize,
    /// Target entries in one director document (a device has few components).
    pub director_targets: usize,
    /// Entries of any list in a release's custom block.
    pub list_entries: usize,
    /// Files that a snapshot may name.
    pub snapshot_files: usize,
    /// The newest signing epoch that this verifier knows: roots of a later one may have keys and forms that it cannot read.
    pub newest_epoch: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            root_bytes: 512_000,
            timestamp_bytes: 16_384,
            snapshot_bytes: 2_000_000,
            targets_bytes: 5_000_000,
            director_bytes: 64 * 1024,
            entitlement_bytes: 256 * 1024,
            covers: 16,
            windows: 64,
            published: 64,
            root_rotations: 256,
            signatures: 64,
            // Four holders for each of 512 product lines.
            keys: 2_048,
            delegations: 512,
            paths: 16,
            hash_prefixes: 4_096,
            visited_roles: 32,
            targets: 20_000,
            director_targets: 16,
            list_entries: 64,
            snapshot_files: 4_096,
            newest_epoch: NEWEST_EPOCH,
        }
    }
}

/// The newest signing epoch that this code knows. It rises when the code learns a kind of key or a form of document without
/// which later roots cannot be read.
pub const NEWEST_EPOCH: u64 = 1;
/// The highest number of a signing epoch: epochs become paths, columns and loops, and rise once in years.
pub const MAX_EPOCH: u64 = 1_000;
/// Nesting of objects and lists in a document: recursion in a parser is stack, and stack is finite.
pub const MAX_JSON_DEPTH: usize = 24;
/// Bytes of any single text in a document: error messages, indexes and file names are made of them.
pub const MAX_TEXT_BYTES: usize = 4_096;
/// Bytes of a name (role, key id, product, version, code): names become file names and table columns.
pub const MAX_NAME_BYTES: usize = 128;
/// Bytes of a target path.
pub const MAX_PATH_BYTES: usize = 512;
/// The largest integer that every JSON reader keeps exactly (2^53 − 1).
pub const MAX_INTEGER: i64 = (1 << 53) - 1;
/// Bytes of a foreign value quoted in an error message: a log line must not carry a document.
pub const MAX_QUOTED_BYTES: usize = 96;
