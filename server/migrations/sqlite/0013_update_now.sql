-- For how long a rollout made offers, pauses left out: what rates at sites count from.
ALTER TABLE rollout ADD COLUMN ran_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE rollout_transition ADD COLUMN ran_ms INTEGER NOT NULL DEFAULT 0;

-- Versions that somebody asked for at once, device by device: twice dated like policies, but also of devices that are nobody's.
CREATE TABLE device_update (
    id BLOB PRIMARY KEY,
    device_id BLOB NOT NULL REFERENCES device (id) ON DELETE CASCADE,
    version TEXT NOT NULL,
    owner TEXT NOT NULL,
    reason TEXT NOT NULL,
    from_at INTEGER NOT NULL,
    to_at INTEGER NOT NULL,
    recorded_at INTEGER NOT NULL,
    superseded_at INTEGER
);
CREATE INDEX device_update_device ON device_update (device_id);
