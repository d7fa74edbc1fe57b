-- What is to be told, in one sequence without gaps: the head is locked by who writes, so the order of numbers is that of commits.
CREATE TABLE outbox_head (
    id INTEGER PRIMARY KEY,
    seq BIGINT NOT NULL
);
INSERT INTO outbox_head (id, seq) VALUES (1, 0);

-- Once for each key: kind, subject and the moment that it is about.
CREATE TABLE outbox (
    seq BIGINT PRIMARY KEY,
    key TEXT COLLATE "C" NOT NULL UNIQUE,
    kind TEXT COLLATE "C" NOT NULL,
    subject TEXT NOT NULL,
    customer_id UUID REFERENCES customer (id),
    at BIGINT NOT NULL,
    data TEXT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE INDEX outbox_customer ON outbox (customer_id, seq);
CREATE INDEX outbox_created ON outbox (created_at);

-- The zone in which a contract's days are counted; UTC without a row.
CREATE TABLE contract_zone (
    contract_id UUID PRIMARY KEY REFERENCES contract (id),
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
    id UUID PRIMARY KEY,
    device_id UUID NOT NULL REFERENCES device (id),
    hash BYTEA NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    used_at BIGINT,
    revoked_at BIGINT
);
CREATE INDEX registration_code_device ON registration_code (device_id);

-- Whose a device was, and since when.
CREATE TABLE registration (
    id UUID PRIMARY KEY,
    device_id UUID NOT NULL REFERENCES device (id),
    customer_id UUID NOT NULL REFERENCES customer (id),
    how TEXT NOT NULL,
    actor TEXT NOT NULL,
    at BIGINT NOT NULL,
    ended_at BIGINT
);
CREATE INDEX registration_device ON registration (device_id);
