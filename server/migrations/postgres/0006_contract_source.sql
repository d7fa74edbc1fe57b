-- Which system keeps a contract, and the newest revision that it told; when each system was last heard of.

CREATE TABLE contract_source (
    name TEXT COLLATE "C" PRIMARY KEY,
    created_at BIGINT NOT NULL
);

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
