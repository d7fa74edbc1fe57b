-- For how long a rollout made offers, pauses left out: what rates at sites count from.
ALTER TABLE rollout ADD COLUMN ran_ms BIGINT NOT NULL DEFAULT 0;
ALTER TABLE rollout_transition ADD COLUMN ran_ms BIGINT NOT NULL DEFAULT 0;

-- Versions that somebody asked for at once, device by device: twice dated like policies, but also of devices that are nobody's.
CREATE TABLE device_update (
    id UUID PRIMARY KEY,
    device_id UUID NOT NULL REFERENCES device (id) ON DELETE CASCADE,
    version TEXT NOT NULL,
    owner TEXT NOT NULL,
    reason TEXT NOT NULL,
    from_at BIGINT NOT NULL,
    to_at BIGINT NOT NULL,
    recorded_at BIGINT NOT NULL,
    superseded_at BIGINT
);
CREATE INDEX device_update_device ON device_update (device_id);
