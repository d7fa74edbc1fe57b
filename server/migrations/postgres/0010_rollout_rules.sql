-- Rollouts that move by themselves: rules and gates, what a ramp had reached, hardware that was taken out; transitions with what
-- they rested on; approvals by keys of named people.

ALTER TABLE rollout ADD COLUMN author TEXT NOT NULL DEFAULT '';
ALTER TABLE rollout ADD COLUMN opened_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE rollout ADD COLUMN stage_since BIGINT NOT NULL DEFAULT 0;
ALTER TABLE rollout ADD COLUMN reached INTEGER NOT NULL DEFAULT 0;
ALTER TABLE rollout ADD COLUMN judged_at BIGINT;
ALTER TABLE rollout ADD COLUMN excluded TEXT NOT NULL DEFAULT '[]';
ALTER TABLE rollout ADD COLUMN rules TEXT NOT NULL DEFAULT '{}';

-- The rollout as it was after the transition, so that "who was in stage then" stays answerable to the device.
ALTER TABLE rollout_transition ADD COLUMN opened_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE rollout_transition ADD COLUMN stage_since BIGINT NOT NULL DEFAULT 0;
ALTER TABLE rollout_transition ADD COLUMN reached INTEGER NOT NULL DEFAULT 0;
ALTER TABLE rollout_transition ADD COLUMN excluded TEXT NOT NULL DEFAULT '[]';
ALTER TABLE rollout_transition ADD COLUMN evidence TEXT;
ALTER TABLE rollout_transition ADD COLUMN digest BYTEA;

CREATE TABLE approver_key (
    public_key BYTEA PRIMARY KEY,
    principal_id UUID NOT NULL REFERENCES principal (id),
    created_at BIGINT NOT NULL,
    revoked_at BIGINT
);
CREATE INDEX approver_key_principal ON approver_key (principal_id);

-- An approval is of one plan: with another digest it counts no more.
CREATE TABLE rollout_approval (
    rollout_id UUID NOT NULL REFERENCES rollout (id),
    principal_id UUID NOT NULL REFERENCES principal (id),
    digest BYTEA NOT NULL,
    public_key BYTEA NOT NULL REFERENCES approver_key (public_key),
    signature BYTEA NOT NULL,
    at BIGINT NOT NULL,
    PRIMARY KEY (rollout_id, principal_id, digest)
);

-- What a rollout's rules count: its attempts that began.
CREATE INDEX attempt_begun ON attempt (rollout_id, device_id, began_at);
