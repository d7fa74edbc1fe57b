-- The moment from which on a train gets no further fixes; nothing when nobody said.
ALTER TABLE train ADD COLUMN support_end BIGINT;
-- A device's network hardware address, as people look it up.
ALTER TABLE device ADD COLUMN mac TEXT;
CREATE INDEX device_mac ON device (mac);
