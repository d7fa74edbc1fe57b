-- Which signing epochs a device's verifier knows, and in which one a release was first signed.
ALTER TABLE device ADD COLUMN signing_epoch INTEGER NOT NULL DEFAULT 1;
ALTER TABLE release ADD COLUMN signing_epoch INTEGER NOT NULL DEFAULT 1;

-- The documents of an epoch as they stood when the next one began: devices with older verifiers are served these.
CREATE TABLE branch_role (
    signing_epoch INTEGER NOT NULL,
    repository TEXT NOT NULL,
    role TEXT NOT NULL,
    version INTEGER NOT NULL,
    PRIMARY KEY (signing_epoch, repository, role),
    FOREIGN KEY (repository, role, version) REFERENCES document (repository, role, version)
);

-- Snapshots and timestamps over them, which the keys of that epoch go on signing.
CREATE TABLE branch_document (
    signing_epoch INTEGER NOT NULL,
    role TEXT NOT NULL,
    version INTEGER NOT NULL,
    body BLOB NOT NULL,
    published_at INTEGER NOT NULL,
    PRIMARY KEY (signing_epoch, role, version)
);
