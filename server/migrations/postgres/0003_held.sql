-- Documents of embargo roles that nobody may be shown before their moment. One a role: a later version takes the place of the one
-- before. `refused` says why one was not published when its moment had come.
CREATE TABLE held (
    role TEXT COLLATE "C" PRIMARY KEY,
    version BIGINT NOT NULL,
    product TEXT COLLATE "C" NOT NULL,
    not_before BIGINT NOT NULL,
    body BYTEA NOT NULL,
    held_at BIGINT NOT NULL,
    held_by TEXT NOT NULL,
    refused TEXT
);
