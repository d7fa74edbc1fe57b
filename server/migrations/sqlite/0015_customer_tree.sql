-- Customers stand in a tree, and act for one another: both say who may read, and neither decides about cover.
ALTER TABLE customer ADD COLUMN parent_id BLOB REFERENCES customer (id);
CREATE INDEX customer_parent ON customer (parent_id);

CREATE TABLE customer_partner (
    customer_id BLOB NOT NULL REFERENCES customer (id),
    partner_id BLOB NOT NULL REFERENCES customer (id),
    from_at INTEGER NOT NULL,
    to_at INTEGER NOT NULL,
    recorded_at INTEGER NOT NULL,
    PRIMARY KEY (customer_id, partner_id)
);
CREATE INDEX customer_partner_partner ON customer_partner (partner_id);

-- Whoever changes the tree raises it first, so that two changes that make a circle together follow one another.
INSERT INTO generation (noun, value) VALUES ('customers', 1);
