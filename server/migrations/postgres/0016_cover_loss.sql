-- What changes took away on one day, by the system that told them; an empty name for what people changed here. Many small changes are one large one.
CREATE TABLE cover_loss (
    source TEXT NOT NULL,
    day BIGINT NOT NULL,
    losses BIGINT NOT NULL,
    PRIMARY KEY (source, day)
);
