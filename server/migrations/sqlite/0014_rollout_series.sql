-- A rollout's figures as time goes by: one row for a slot of five minutes in which something had changed, whoever writes it.
CREATE TABLE rollout_series (
    rollout_id BLOB NOT NULL REFERENCES rollout (id),
    slot INTEGER NOT NULL,
    point TEXT NOT NULL,
    PRIMARY KEY (rollout_id, slot)
);
