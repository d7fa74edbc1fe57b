-- What entitlement rests on besides windows and items: plans and contracts as they were, what owners want, where sites are, who may
-- have a release early or not at all, and what each device was like when. Facts are superseded, never overwritten.

-- A plan's and a contract's present terms stay in their own rows; these hold the ones before.
ALTER TABLE plan ADD COLUMN recorded_at INTEGER;
CREATE TABLE plan_history (
    plan_id BLOB NOT NULL REFERENCES plan (id),
    rule TEXT NOT NULL,
    grace_days INTEGER NOT NULL,
    grants TEXT NOT NULL,
    recorded_at INTEGER NOT NULL,
    superseded_at INTEGER NOT NULL
);
CREATE INDEX plan_history_plan ON plan_history (plan_id);

ALTER TABLE contract ADD COLUMN recorded_at INTEGER;
CREATE TABLE contract_history (
    contract_id BLOB NOT NULL REFERENCES contract (id),
    plan_id BLOB NOT NULL REFERENCES plan (id),
    state TEXT NOT NULL,
    recorded_at INTEGER NOT NULL,
    superseded_at INTEGER NOT NULL
);
CREATE INDEX contract_history_contract ON contract_history (contract_id);

CREATE TABLE site (
    id BLOB PRIMARY KEY,
    customer_id BLOB NOT NULL REFERENCES customer (id),
    name TEXT NOT NULL,
    country TEXT,
    time_zone TEXT,
    recorded_at INTEGER NOT NULL,
    superseded_at INTEGER
);
CREATE INDEX site_customer ON site (customer_id, name);

CREATE TABLE policy (
    id BLOB PRIMARY KEY,
    customer_id BLOB NOT NULL REFERENCES customer (id),
    product_id BLOB REFERENCES product (id),
    scope TEXT NOT NULL,
    target TEXT NOT NULL,
    kind TEXT NOT NULL,
    owner TEXT NOT NULL,
    reason TEXT NOT NULL,
    from_at INTEGER NOT NULL,
    to_at INTEGER NOT NULL,
    recorded_at INTEGER NOT NULL,
    superseded_at INTEGER
);
CREATE INDEX policy_customer ON policy (customer_id);

CREATE TABLE release_fact (
    id BLOB PRIMARY KEY,
    release_id BLOB NOT NULL REFERENCES release (id),
    kind TEXT NOT NULL,
    value TEXT NOT NULL,
    recorded_at INTEGER NOT NULL,
    superseded_at INTEGER
);
CREATE INDEX release_fact_release ON release_fact (release_id);

ALTER TABLE artifact ADD COLUMN requires TEXT NOT NULL DEFAULT '[]';

ALTER TABLE device ADD COLUMN fence_at INTEGER;
CREATE TABLE device_history (
    device_id BLOB NOT NULL REFERENCES device (id),
    seq INTEGER NOT NULL,
    at INTEGER NOT NULL,
    actor TEXT NOT NULL,
    cause TEXT NOT NULL,
    device TEXT NOT NULL,
    installed TEXT NOT NULL,
    PRIMARY KEY (device_id, seq)
);

CREATE TABLE swap (
    number TEXT PRIMARY KEY,
    product_id BLOB NOT NULL REFERENCES product (id),
    old_id BLOB NOT NULL REFERENCES device (id),
    new_id BLOB NOT NULL REFERENCES device (id),
    at INTEGER NOT NULL,
    fence_at INTEGER NOT NULL,
    actor TEXT NOT NULL,
    moved TEXT NOT NULL,
    undone_at INTEGER
);
CREATE INDEX swap_old ON swap (old_id);
CREATE INDEX swap_new ON swap (new_id);

-- Raised by changes that touch many devices at once: every replica then reads all of them anew.
INSERT INTO generation (noun, value) VALUES ('devices', 1);
