-- The end of the log that came with a failure: at most 4096 bytes, of a device's last 20 attempts.
ALTER TABLE attempt ADD COLUMN log TEXT;
