-- Times are milliseconds since 1970 (INTEGER), ids are UUIDs (16 bytes) made by the program, sets are JSON arrays.
-- The same tables as on PostgreSQL, in the types SQLite has; text compares by bytes here already.

CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
);

-- One row a noun, raised in the transaction of each change: snapshots in memory reload when it differs.
CREATE TABLE generation (
    noun TEXT PRIMARY KEY,
    value INTEGER NOT NULL
);
INSERT INTO generation (noun, value) VALUES ('releases', 1), ('rollouts', 1), ('patches', 1), ('documents', 1);

CREATE TABLE audit_head (
    id INTEGER PRIMARY KEY,
    seq INTEGER NOT NULL,
    hash BLOB NOT NULL
);
INSERT INTO audit_head (id, seq, hash) VALUES (1, 0, x'0000000000000000000000000000000000000000000000000000000000000000');

CREATE TABLE audit_entry (
    seq INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    detail TEXT NOT NULL,
    prev_hash BLOB NOT NULL,
    hash BLOB NOT NULL
);

CREATE TABLE customer (
    id BLOB PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    title TEXT NOT NULL,
    created_at INTEGER NOT NULL
);

CREATE TABLE principal (
    id BLOB PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    role TEXT NOT NULL,
    customer_id BLOB REFERENCES customer (id),
    created_at INTEGER NOT NULL,
    disabled_at INTEGER
);

CREATE TABLE token (
    id BLOB PRIMARY KEY,
    principal_id BLOB NOT NULL REFERENCES principal (id),
    hash BLOB NOT NULL UNIQUE,
    label TEXT NOT NULL,
    scopes TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    revoked_at INTEGER
);

CREATE TABLE product (
    id BLOB PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    title TEXT NOT NULL,
    family TEXT NOT NULL,
    pid TEXT UNIQUE,
    visibility TEXT NOT NULL,
    created_at INTEGER NOT NULL
);

CREATE TABLE train (
    product_id BLOB NOT NULL REFERENCES product (id),
    name TEXT NOT NULL,
    ga_at INTEGER NOT NULL,
    PRIMARY KEY (product_id, name)
);

CREATE TABLE release (
    id BLOB PRIMARY KEY,
    product_id BLOB NOT NULL REFERENCES product (id),
    version TEXT NOT NULL,
    ord INTEGER NOT NULL,
    kind TEXT NOT NULL,
    train TEXT NOT NULL,
    requires TEXT NOT NULL,
    channel TEXT NOT NULL,
    advisories TEXT NOT NULL,
    notes_header TEXT NOT NULL,
    notes_body TEXT NOT NULL,
    published_at INTEGER NOT NULL,
    withdrawn_at INTEGER,
    UNIQUE (product_id, version),
    UNIQUE (product_id, ord),
    FOREIGN KEY (product_id, train) REFERENCES train (product_id, name)
);

CREATE TABLE artifact (
    id BLOB PRIMARY KEY,
    release_id BLOB NOT NULL REFERENCES release (id),
    component TEXT NOT NULL,
    hw_ids TEXT NOT NULL,
    path TEXT NOT NULL UNIQUE,
    sha256 BLOB NOT NULL,
    length INTEGER NOT NULL,
    security_counter INTEGER NOT NULL,
    min_installed TEXT,
    min_installed_ord INTEGER
);
CREATE INDEX artifact_release ON artifact (release_id);
CREATE INDEX artifact_sha256 ON artifact (sha256);

-- Every signed document ever published, byte for byte: a device from a warehouse walks the chain of roots.
CREATE TABLE document (
    repository TEXT NOT NULL,
    role TEXT NOT NULL,
    version INTEGER NOT NULL,
    body BLOB NOT NULL,
    published_at INTEGER NOT NULL,
    PRIMARY KEY (repository, role, version)
);

CREATE TABLE plan (
    id BLOB PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    rule TEXT NOT NULL,
    grace_days INTEGER NOT NULL,
    created_at INTEGER NOT NULL
);

CREATE TABLE plan_grant (
    plan_id BLOB NOT NULL REFERENCES plan (id),
    position INTEGER NOT NULL,
    code TEXT NOT NULL,
    family TEXT,
    channel_ceiling TEXT NOT NULL,
    PRIMARY KEY (plan_id, position)
);

CREATE TABLE contract (
    id BLOB PRIMARY KEY,
    customer_id BLOB NOT NULL REFERENCES customer (id),
    number TEXT NOT NULL UNIQUE,
    plan_id BLOB NOT NULL REFERENCES plan (id),
    state TEXT NOT NULL,
    created_at INTEGER NOT NULL
);

CREATE TABLE coverage_window (
    id BLOB PRIMARY KEY,
    contract_id BLOB NOT NULL REFERENCES contract (id),
    from_at INTEGER NOT NULL,
    to_at INTEGER NOT NULL,
    kind TEXT NOT NULL,
    recorded_at INTEGER NOT NULL,
    superseded_at INTEGER
);
CREATE INDEX coverage_window_contract ON coverage_window (contract_id);

CREATE TABLE covered_item (
    id BLOB PRIMARY KEY,
    contract_id BLOB NOT NULL REFERENCES contract (id),
    product TEXT NOT NULL,
    serial TEXT NOT NULL,
    from_at INTEGER NOT NULL,
    to_at INTEGER NOT NULL,
    recorded_at INTEGER NOT NULL,
    superseded_at INTEGER
);
CREATE INDEX covered_item_contract ON covered_item (contract_id);
CREATE INDEX covered_item_serial ON covered_item (product, serial);

CREATE TABLE device (
    id BLOB PRIMARY KEY,
    product_id BLOB NOT NULL REFERENCES product (id),
    serial TEXT NOT NULL,
    hw_id TEXT NOT NULL,
    customer_id BLOB REFERENCES customer (id),
    site TEXT,
    tags TEXT NOT NULL,
    state TEXT NOT NULL,
    public_key TEXT,
    epoch INTEGER NOT NULL,
    cohort_id BLOB NOT NULL,
    channel TEXT NOT NULL,
    confirmed_train TEXT,
    attempt_seq INTEGER NOT NULL,
    profile TEXT NOT NULL,
    ram_budget INTEGER NOT NULL,
    scratch_budget INTEGER NOT NULL,
    patches_off BOOLEAN NOT NULL,
    created_at INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    changed_at INTEGER NOT NULL,
    last_seen_at INTEGER,
    UNIQUE (product_id, serial)
);
CREATE INDEX device_changed ON device (changed_at);

CREATE TABLE installed (
    device_id BLOB NOT NULL REFERENCES device (id),
    component TEXT NOT NULL,
    version TEXT NOT NULL,
    sha256 BLOB NOT NULL,
    security_counter INTEGER NOT NULL,
    reported_at INTEGER NOT NULL,
    PRIMARY KEY (device_id, component)
);
CREATE INDEX installed_sha256 ON installed (sha256);

CREATE TABLE enrol_token (
    id BLOB PRIMARY KEY,
    hash BLOB NOT NULL UNIQUE,
    label TEXT NOT NULL,
    product_id BLOB NOT NULL REFERENCES product (id),
    customer_id BLOB REFERENCES customer (id),
    remaining INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    revoked_at INTEGER
);

CREATE TABLE rollout (
    id BLOB PRIMARY KEY,
    release_id BLOB NOT NULL REFERENCES release (id),
    name TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL,
    salt TEXT NOT NULL,
    weight INTEGER NOT NULL,
    stages TEXT NOT NULL,
    stage INTEGER NOT NULL,
    selector TEXT NOT NULL,
    created_at INTEGER NOT NULL
);

CREATE TABLE rollout_transition (
    rollout_id BLOB NOT NULL REFERENCES rollout (id),
    seq INTEGER NOT NULL,
    at INTEGER NOT NULL,
    actor TEXT NOT NULL,
    state TEXT NOT NULL,
    stage INTEGER NOT NULL,
    cause TEXT NOT NULL,
    PRIMARY KEY (rollout_id, seq)
);

CREATE TABLE attempt (
    device_id BLOB NOT NULL REFERENCES device (id),
    seq INTEGER NOT NULL,
    release_id BLOB NOT NULL REFERENCES release (id),
    rollout_id BLOB NOT NULL REFERENCES rollout (id),
    state TEXT NOT NULL,
    failure TEXT,
    encoding TEXT,
    bytes INTEGER,
    detail TEXT,
    offered_at INTEGER NOT NULL,
    began_at INTEGER,
    changed_at INTEGER NOT NULL,
    PRIMARY KEY (device_id, seq)
);
CREATE INDEX attempt_rollout ON attempt (rollout_id, state);

CREATE TABLE patch (
    id BLOB PRIMARY KEY,
    from_sha256 BLOB NOT NULL,
    to_sha256 BLOB NOT NULL,
    profile TEXT NOT NULL,
    state TEXT NOT NULL,
    sha256 BLOB NOT NULL,
    length INTEGER NOT NULL,
    head_length INTEGER NOT NULL,
    head_sha256 BLOB NOT NULL,
    ram INTEGER NOT NULL,
    scratch INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    UNIQUE (from_sha256, to_sha256, profile)
);
CREATE INDEX patch_to ON patch (to_sha256);

CREATE TABLE full_encoding (
    of_sha256 BLOB NOT NULL,
    encoding TEXT NOT NULL,
    sha256 BLOB NOT NULL,
    length INTEGER NOT NULL,
    PRIMARY KEY (of_sha256, encoding)
);

CREATE TABLE job (
    id BLOB PRIMARY KEY,
    kind TEXT NOT NULL,
    key TEXT NOT NULL,
    payload TEXT NOT NULL,
    state TEXT NOT NULL,
    priority INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    run_at INTEGER NOT NULL,
    lease_until INTEGER,
    worker TEXT,
    last_error TEXT,
    created_at INTEGER NOT NULL
);
CREATE UNIQUE INDEX job_live ON job (key) WHERE state IN ('waiting', 'running');
CREATE INDEX job_claim ON job (state, run_at);
