-- What each device was told at its polls, one row for each answer that differs from the one before.
CREATE TABLE decision (
    device_id UUID NOT NULL REFERENCES device (id) ON DELETE CASCADE,
    at BIGINT NOT NULL,
    offered BOOLEAN NOT NULL,
    version TEXT,
    reason TEXT NOT NULL,
    PRIMARY KEY (device_id, at)
);
