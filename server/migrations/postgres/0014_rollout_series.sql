-- A rollout's figures as time goes by: one row for a slot of five minutes in which something had changed, whoever writes it.
CREATE TABLE rollout_series (
    rollout_id UUID NOT NULL REFERENCES rollout (id),
    slot BIGINT NOT NULL,
    point TEXT NOT NULL,
    PRIMARY KEY (rollout_id, slot)
);
