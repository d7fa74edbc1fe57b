-- Multiplies the one device that stands in the database to @devices, with what it runs. The first @attempts of them have
-- tried the release of the rollout `raised`, with success. Run by `fleet rollouts` beneath a server that serves nobody else.
.bail on
PRAGMA foreign_keys = OFF;
PRAGMA synchronous = OFF;
BEGIN IMMEDIATE;
INSERT INTO device (id, product_id, serial, hw_id, customer_id, site, tags, state, public_key, epoch, cohort_id, channel,
                    confirmed_train, attempt_seq, profile, ram_budget, scratch_budget, patches_off, created_at, revision,
                    changed_at, last_seen_at, signing_epoch)
WITH RECURSIVE number (n) AS (SELECT 2 UNION ALL SELECT n + 1 FROM number WHERE n < @devices)
SELECT randomblob(16), product_id, 'COPY-' || n, hw_id, customer_id, site, tags, state, NULL, epoch, randomblob(16), channel,
       confirmed_train, 1, profile, ram_budget, scratch_budget, patches_off, created_at, revision,
       changed_at, last_seen_at, signing_epoch
FROM number CROSS JOIN (SELECT * FROM device WHERE serial LIKE 'BENCH-%');
INSERT INTO installed (device_id, component, version, sha256, security_counter, reported_at)
SELECT copy.id, one.component, one.version, one.sha256, one.security_counter, one.reported_at
FROM installed AS one CROSS JOIN device AS copy
WHERE one.device_id = (SELECT id FROM device WHERE serial LIKE 'BENCH-%') AND copy.serial LIKE 'COPY-%';
INSERT INTO attempt (device_id, seq, release_id, rollout_id, state, offered_at, began_at, changed_at)
SELECT copy.id, 1, one.release_id, one.id, 'healthy', one.opened_at, one.opened_at, one.opened_at
FROM rollout AS one CROSS JOIN (SELECT id FROM device WHERE serial LIKE 'COPY-%' LIMIT @attempts) AS copy
WHERE one.name = 'raised';
COMMIT;
SELECT COUNT(*) FROM device;
