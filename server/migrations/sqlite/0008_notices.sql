-- What is to be told, in one sequence without gaps: the head is locked by who writes, so the order of numbers is that of commits.
CREATE TABLE outbox_head (
    id INTEGER PRIMARY KEY,
    seq INTEGER NOT NULL
);
INSERT INTO outbox_head (id, seq) VALUES (1, 0);

-- Once for each key: kind, subject and the moment that it is about.
CREATE TABLE outbox (
    seq INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    customer_id BLOB REFERENCES customer (id),
    at INTEGER NOT NULL,
    data TEXT NOT NULL,
    created_at INTEGER NOT NULL
);
CREATE INDEX outbox_customer ON outbox (customer_id, seq);
CREATE INDEX outbox_created ON outbox (created_at);

-- The zone in which a contract's days are counted; UTC without a row.
CREATE TABLE contract_zone (
    contract_id BLOB PRIMARY KEY REFERENCES contract (id),
    zone TEXT NOT NULL
);

CREATE INDEX coverage_window_end ON coverage_window (to_at) WHERE superseded_at IS NULL;
CREATE INDEX coverage_window_recorded ON coverage_window (recorded_at);
CREATE INDEX covered_item_end ON covered_item (to_at) WHERE superseded_at IS NULL;
CREATE INDEX covered_item_recorded ON covered_item (recorded_at);
CREATE INDEX swap_fence ON swap (fence_at);
CREATE INDEX coverage_window_superseded ON coverage_window (superseded_at) WHERE superseded_at IS NOT NULL;
CREATE INDEX attempt_open ON attempt (device_id) WHERE state NOT IN ('healthy', 'failed', 'rolled_back', 'superseded');

-- Who shows a code has the device. Only its hash is kept.
CREATE TABLE registration_code (
    id BLOB PRIMARY KEY,
    device_id BLOB NOT NULL REFERENCES device (id),
    hash BLOB NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    used_at INTEGER,
    revoked_at INTEGER
);
CREATE INDEX registration_code_device ON registration_code (device_id);

-- Whose a device was, and since when.
CREATE TABLE registration (
    id BLOB PRIMARY KEY,
    device_id BLOB NOT NULL REFERENCES device (id),
    customer_id BLOB NOT NULL REFERENCES customer (id),
    how TEXT NOT NULL,
    actor TEXT NOT NULL,
    at INTEGER NOT NULL,
    ended_at INTEGER
);
CREATE INDEX registration_device ON registration (device_id);
