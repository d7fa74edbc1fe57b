-- Documents of embargo roles that nobody may be shown before their moment. One a role: a later version takes the place of the one
-- before. `refused` says why one was not published when its moment had come.
CREATE TABLE held (
    role TEXT PRIMARY KEY,
    version INTEGER NOT NULL,
    product TEXT NOT NULL,
    not_before INTEGER NOT NULL,
    body BLOB NOT NULL,
    held_at INTEGER NOT NULL,
    held_by TEXT NOT NULL,
    refused TEXT
);
