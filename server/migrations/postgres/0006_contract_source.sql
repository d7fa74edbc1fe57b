-- Which system keeps a contract, and the newest revision that it told; when each system was last heard of; pools of places.

CREATE TABLE contract_source (
    name TEXT COLLATE "C" PRIMARY KEY,
    created_at BIGINT NOT NULL,
    -- The time that copies of devices in memory know: raised less often than it is heard of.
    announced_at BIGINT NOT NULL
);

-- A row is a time in which the source was never silent for longer than it may be, or one setting: so what was known of it at any moment can
-- be told, although it is heard of often.
CREATE TABLE source_heard (
    source TEXT COLLATE "C" NOT NULL REFERENCES contract_source (name),
    stale_after_ms BIGINT,
    at BIGINT NOT NULL,
    -- After a silence: when it was heard of before that, and since when it is heard of again. Nothing once it has told everything since.
    before_at BIGINT,
    back_at BIGINT,
    recorded_at BIGINT NOT NULL,
    superseded_at BIGINT
);
CREATE INDEX source_heard_source ON source_heard (source);

CREATE TABLE contract_kept (
    contract_id UUID NOT NULL REFERENCES contract (id),
    source TEXT COLLATE "C" NOT NULL REFERENCES contract_source (name),
    revised_at BIGINT,
    revision BIGINT,
    -- A digest of what it told under that revision: one revision never says two things.
    told BYTEA,
    recorded_at BIGINT NOT NULL,
    superseded_at BIGINT
);
CREATE INDEX contract_kept_contract ON contract_kept (contract_id);

-- Places for so many devices of a family at a site. Who has one stands in covered_item, so cover has one table.
CREATE TABLE pool (
    id UUID PRIMARY KEY,
    contract_id UUID NOT NULL REFERENCES contract (id),
    family TEXT COLLATE "C" NOT NULL,
    site TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL,
    UNIQUE (contract_id, family, site)
);
CREATE INDEX pool_site ON pool (site);

CREATE TABLE pool_size (
    pool_id UUID NOT NULL REFERENCES pool (id),
    quantity BIGINT NOT NULL,
    recorded_at BIGINT NOT NULL,
    superseded_at BIGINT
);
CREATE INDEX pool_size_pool ON pool_size (pool_id);

ALTER TABLE covered_item ADD COLUMN pool_id UUID REFERENCES pool (id);
CREATE INDEX covered_item_pool ON covered_item (pool_id);

-- Since when it stands at its site: who waits longest gets the next place.
ALTER TABLE device ADD COLUMN sited_at BIGINT;
CREATE INDEX device_site ON device (customer_id, site);
