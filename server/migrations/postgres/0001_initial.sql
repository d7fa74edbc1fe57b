-- Times are milliseconds since 1970 (BIGINT), ids are UUIDs made by the program, sets are JSON arrays in TEXT.
-- Text that is ordered or compared by range is COLLATE "C": every replica and both engines then agree.

CREATE TABLE meta (
    key TEXT COLLATE "C" PRIMARY KEY,
    value TEXT NOT NULL
);

-- One row a noun, raised in the transaction of each change: snapshots in memory reload when it differs.
CREATE TABLE generation (
    noun TEXT COLLATE "C" PRIMARY KEY,
    value BIGINT NOT NULL
);
INSERT INTO generation (noun, value) VALUES ('releases', 1), ('rollouts', 1), ('patches', 1), ('documents', 1);

CREATE TABLE audit_head (
    id INTEGER PRIMARY KEY,
    seq BIGINT NOT NULL,
    hash BYTEA NOT NULL
);
INSERT INTO audit_head (id, seq, hash) VALUES (1, 0, '\x0000000000000000000000000000000000000000000000000000000000000000');

CREATE TABLE audit_entry (
    seq BIGINT PRIMARY KEY,
    at BIGINT NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    detail TEXT NOT NULL,
    prev_hash BYTEA NOT NULL,
    hash BYTEA NOT NULL
);

CREATE TABLE customer (
    id UUID PRIMARY KEY,
    name TEXT COLLATE "C" NOT NULL UNIQUE,
    title TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE principal (
    id UUID PRIMARY KEY,
    name TEXT COLLATE "C" NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    role TEXT NOT NULL,
    customer_id UUID REFERENCES customer (id),
    created_at BIGINT NOT NULL,
    disabled_at BIGINT
);

CREATE TABLE token (
    id UUID PRIMARY KEY,
    principal_id UUID NOT NULL REFERENCES principal (id),
    hash BYTEA NOT NULL UNIQUE,
    label TEXT NOT NULL,
    scopes TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT,
    revoked_at BIGINT
);

CREATE TABLE product (
    id UUID PRIMARY KEY,
    name TEXT COLLATE "C" NOT NULL UNIQUE,
    title TEXT NOT NULL,
    family TEXT COLLATE "C" NOT NULL,
    pid TEXT COLLATE "C" UNIQUE,
    visibility TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE train (
    product_id UUID NOT NULL REFERENCES product (id),
    name TEXT COLLATE "C" NOT NULL,
    ga_at BIGINT NOT NULL,
    PRIMARY KEY (product_id, name)
);

CREATE TABLE release (
    id UUID PRIMARY KEY,
    product_id UUID NOT NULL REFERENCES product (id),
    version TEXT COLLATE "C" NOT NULL,
    ord BIGINT NOT NULL,
    kind TEXT NOT NULL,
    train TEXT COLLATE "C" NOT NULL,
    requires TEXT NOT NULL,
    channel TEXT NOT NULL,
    advisories TEXT NOT NULL,
    notes_header TEXT NOT NULL,
    notes_body TEXT NOT NULL,
    published_at BIGINT NOT NULL,
    withdrawn_at BIGINT,
    UNIQUE (product_id, version),
    UNIQUE (product_id, ord),
    FOREIGN KEY (product_id, train) REFERENCES train (product_id, name)
);

CREATE TABLE artifact (
    id UUID PRIMARY KEY,
    release_id UUID NOT NULL REFERENCES release (id),
    component TEXT COLLATE "C" NOT NULL,
    hw_ids TEXT NOT NULL,
    path TEXT COLLATE "C" NOT NULL UNIQUE,
    sha256 BYTEA NOT NULL,
    length BIGINT NOT NULL,
    security_counter BIGINT NOT NULL,
    min_installed TEXT,
    min_installed_ord BIGINT
);
CREATE INDEX artifact_release ON artifact (release_id);
CREATE INDEX artifact_sha256 ON artifact (sha256);

-- Every signed document ever published, byte for byte: a device from a warehouse walks the chain of roots.
CREATE TABLE document (
    repository TEXT COLLATE "C" NOT NULL,
    role TEXT COLLATE "C" NOT NULL,
    version BIGINT NOT NULL,
    body BYTEA NOT NULL,
    published_at BIGINT NOT NULL,
    PRIMARY KEY (repository, role, version)
);

CREATE TABLE plan (
    id UUID PRIMARY KEY,
    name TEXT COLLATE "C" NOT NULL UNIQUE,
    rule TEXT NOT NULL,
    grace_days INTEGER NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE plan_grant (
    plan_id UUID NOT NULL REFERENCES plan (id),
    position INTEGER NOT NULL,
    code TEXT COLLATE "C" NOT NULL,
    family TEXT COLLATE "C",
    channel_ceiling TEXT NOT NULL,
    PRIMARY KEY (plan_id, position)
);

CREATE TABLE contract (
    id UUID PRIMARY KEY,
    customer_id UUID NOT NULL REFERENCES customer (id),
    number TEXT COLLATE "C" NOT NULL UNIQUE,
    plan_id UUID NOT NULL REFERENCES plan (id),
    state TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE coverage_window (
    id UUID PRIMARY KEY,
    contract_id UUID NOT NULL REFERENCES contract (id),
    from_at BIGINT NOT NULL,
    to_at BIGINT NOT NULL,
    kind TEXT NOT NULL,
    recorded_at BIGINT NOT NULL,
    superseded_at BIGINT
);
CREATE INDEX coverage_window_contract ON coverage_window (contract_id);

CREATE TABLE covered_item (
    id UUID PRIMARY KEY,
    contract_id UUID NOT NULL REFERENCES contract (id),
    product TEXT COLLATE "C" NOT NULL,
    serial TEXT COLLATE "C" NOT NULL,
    from_at BIGINT NOT NULL,
    to_at BIGINT NOT NULL,
    recorded_at BIGINT NOT NULL,
    superseded_at BIGINT
);
CREATE INDEX covered_item_contract ON covered_item (contract_id);
CREATE INDEX covered_item_serial ON covered_item (product, serial);

CREATE TABLE device (
    id UUID PRIMARY KEY,
    product_id UUID NOT NULL REFERENCES product (id),
    serial TEXT COLLATE "C" NOT NULL,
    hw_id TEXT COLLATE "C" NOT NULL,
    customer_id UUID REFERENCES customer (id),
    site TEXT COLLATE "C",
    tags TEXT NOT NULL,
    state TEXT NOT NULL,
    public_key TEXT,
    epoch INTEGER NOT NULL,
    cohort_id UUID NOT NULL,
    channel TEXT NOT NULL,
    confirmed_train TEXT COLLATE "C",
    attempt_seq INTEGER NOT NULL,
    profile TEXT NOT NULL,
    ram_budget BIGINT NOT NULL,
    scratch_budget BIGINT NOT NULL,
    patches_off BOOLEAN NOT NULL,
    created_at BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    changed_at BIGINT NOT NULL,
    last_seen_at BIGINT,
    UNIQUE (product_id, serial)
);
CREATE INDEX device_changed ON device (changed_at);

CREATE TABLE installed (
    device_id UUID NOT NULL REFERENCES device (id),
    component TEXT COLLATE "C" NOT NULL,
    version TEXT COLLATE "C" NOT NULL,
    sha256 BYTEA NOT NULL,
    security_counter BIGINT NOT NULL,
    reported_at BIGINT NOT NULL,
    PRIMARY KEY (device_id, component)
);
CREATE INDEX installed_sha256 ON installed (sha256);

CREATE TABLE enrol_token (
    id UUID PRIMARY KEY,
    hash BYTEA NOT NULL UNIQUE,
    label TEXT NOT NULL,
    product_id UUID NOT NULL REFERENCES product (id),
    customer_id UUID REFERENCES customer (id),
    remaining INTEGER NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    revoked_at BIGINT
);

CREATE TABLE rollout (
    id UUID PRIMARY KEY,
    release_id UUID NOT NULL REFERENCES release (id),
    name TEXT COLLATE "C" NOT NULL UNIQUE,
    state TEXT NOT NULL,
    salt TEXT NOT NULL,
    weight INTEGER NOT NULL,
    stages TEXT NOT NULL,
    stage INTEGER NOT NULL,
    selector TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE rollout_transition (
    rollout_id UUID NOT NULL REFERENCES rollout (id),
    seq INTEGER NOT NULL,
    at BIGINT NOT NULL,
    actor TEXT NOT NULL,
    state TEXT NOT NULL,
    stage INTEGER NOT NULL,
    cause TEXT NOT NULL,
    PRIMARY KEY (rollout_id, seq)
);

CREATE TABLE attempt (
    device_id UUID NOT NULL REFERENCES device (id),
    seq INTEGER NOT NULL,
    release_id UUID NOT NULL REFERENCES release (id),
    rollout_id UUID NOT NULL REFERENCES rollout (id),
    state TEXT NOT NULL,
    failure TEXT,
    encoding TEXT,
    bytes BIGINT,
    detail TEXT,
    offered_at BIGINT NOT NULL,
    began_at BIGINT,
    changed_at BIGINT NOT NULL,
    PRIMARY KEY (device_id, seq)
);
CREATE INDEX attempt_rollout ON attempt (rollout_id, state);

CREATE TABLE patch (
    id UUID PRIMARY KEY,
    from_sha256 BYTEA NOT NULL,
    to_sha256 BYTEA NOT NULL,
    profile TEXT NOT NULL,
    state TEXT NOT NULL,
    sha256 BYTEA NOT NULL,
    length BIGINT NOT NULL,
    head_length BIGINT NOT NULL,
    head_sha256 BYTEA NOT NULL,
    ram BIGINT NOT NULL,
    scratch BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    UNIQUE (from_sha256, to_sha256, profile)
);
CREATE INDEX patch_to ON patch (to_sha256);

CREATE TABLE full_encoding (
    of_sha256 BYTEA NOT NULL,
    encoding TEXT NOT NULL,
    sha256 BYTEA NOT NULL,
    length BIGINT NOT NULL,
    PRIMARY KEY (of_sha256, encoding)
);

CREATE TABLE job (
    id UUID PRIMARY KEY,
    kind TEXT COLLATE "C" NOT NULL,
    key TEXT COLLATE "C" NOT NULL,
    payload TEXT NOT NULL,
    state TEXT NOT NULL,
    priority BIGINT NOT NULL,
    attempts INTEGER NOT NULL,
    run_at BIGINT NOT NULL,
    lease_until BIGINT,
    worker TEXT,
    last_error TEXT,
    created_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX job_live ON job (key) WHERE state IN ('waiting', 'running');
CREATE INDEX job_claim ON job (state, run_at);
