-- When the switch that stops every rollout was turned: `why` tells of a moment in the past what held then.
CREATE TABLE stop_all_turn (
    at INTEGER PRIMARY KEY,
    stopped INTEGER NOT NULL
);
