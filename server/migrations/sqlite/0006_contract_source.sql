-- Which system keeps a contract, and the newest revision that it told; when each system was last heard of.

CREATE TABLE contract_source (
    name TEXT PRIMARY KEY,
    created_at INTEGER NOT NULL
);

CREATE TABLE contract_kept (
    contract_id BLOB NOT NULL REFERENCES contract (id),
    source TEXT NOT NULL REFERENCES contract_source (name),
    revised_at INTEGER,
    revision INTEGER,
    -- A digest of what it told under that revision: one revision never says two things.
    told BLOB,
    recorded_at INTEGER NOT NULL,
    superseded_at INTEGER
);
CREATE INDEX contract_kept_contract ON contract_kept (contract_id);
