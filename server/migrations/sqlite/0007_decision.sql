-- What each device was told at its polls, one row for each answer that differs from the one before.
CREATE TABLE decision (
    device_id BLOB NOT NULL REFERENCES device (id) ON DELETE CASCADE,
    at INTEGER NOT NULL,
    offered BOOLEAN NOT NULL,
    version TEXT,
    reason TEXT NOT NULL,
    PRIMARY KEY (device_id, at)
);
