-- Customers stand in a tree, and act for one another: both say who may read, and neither decides about cover.
ALTER TABLE customer ADD COLUMN parent_id UUID REFERENCES customer (id);
CREATE INDEX customer_parent ON customer (parent_id);

CREATE TABLE customer_partner (
    customer_id UUID NOT NULL REFERENCES customer (id),
    partner_id UUID NOT NULL REFERENCES customer (id),
    from_at BIGINT NOT NULL,
    to_at BIGINT NOT NULL,
    recorded_at BIGINT NOT NULL,
    PRIMARY KEY (customer_id, partner_id)
);
CREATE INDEX customer_partner_partner ON customer_partner (partner_id);

-- Whoever changes the tree raises it first, so that two changes that make a circle together follow one another.
INSERT INTO generation (noun, value) VALUES ('customers', 1);
