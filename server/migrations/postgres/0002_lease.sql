-- One replica of many does a thing for as long as it renews; another takes over when the lease has lapsed.
CREATE TABLE lease (
    name TEXT COLLATE "C" PRIMARY KEY,
    holder TEXT NOT NULL,
    lease_until BIGINT NOT NULL
);
