-- Version 1 of the tables for records, in the schema hpkp.

CREATE TABLE hpkp.store (version integer NOT NULL);
INSERT INTO hpkp.store VALUES (1);

-- A row for each writer: the number and the id of its newest record, and its heartbeat. It is changed in the same
-- transaction as the records.
CREATE TABLE hpkp.writer (
    writer text COLLATE "C" PRIMARY KEY CHECK (writer ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$'),
    seq bigint NOT NULL,
    id text NOT NULL,
    heartbeat text NOT NULL CHECK (length(heartbeat) <= 65536)
);

-- Records are added, never changed: nobody but the owner has the right to.
CREATE TABLE hpkp.record (
    writer text COLLATE "C" NOT NULL REFERENCES hpkp.writer,
    seq bigint NOT NULL,
    id text NOT NULL,
    line text NOT NULL CHECK (length(line) <= 4194304 AND line !~ '\n'),
    PRIMARY KEY (writer, seq)
);

-- Who may write as whom.
CREATE TABLE hpkp.grants (
    role name NOT NULL,
    writer text COLLATE "C" NOT NULL,
    PRIMARY KEY (role, writer)
);

CREATE TABLE hpkp.lease (
    name text PRIMARY KEY CHECK (length(name) <= 253),
    role name NOT NULL DEFAULT current_user,
    holder text NOT NULL CHECK (length(holder) <= 1024),
    token text NOT NULL,
    until timestamptz NOT NULL
);

CREATE FUNCTION hpkp.may_write(name text) RETURNS boolean LANGUAGE sql STABLE
    SET search_path = pg_catalog
    AS $$ SELECT EXISTS (SELECT FROM hpkp.grants g WHERE g.role = current_user AND g.writer = name) $$;

ALTER TABLE hpkp.writer ENABLE ROW LEVEL SECURITY;
CREATE POLICY everybody_reads ON hpkp.writer FOR SELECT USING (true);
CREATE POLICY own_row ON hpkp.writer FOR INSERT WITH CHECK (hpkp.may_write(writer));
CREATE POLICY own_change ON hpkp.writer FOR UPDATE USING (hpkp.may_write(writer))
    WITH CHECK (hpkp.may_write(writer));

ALTER TABLE hpkp.record ENABLE ROW LEVEL SECURITY;
CREATE POLICY everybody_reads ON hpkp.record FOR SELECT USING (true);
CREATE POLICY own_rows ON hpkp.record FOR INSERT WITH CHECK (hpkp.may_write(writer));

-- A lease is its role's, until its time is over.
ALTER TABLE hpkp.lease ENABLE ROW LEVEL SECURITY;
CREATE POLICY everybody_reads ON hpkp.lease FOR SELECT USING (true);
CREATE POLICY own_lease ON hpkp.lease FOR INSERT WITH CHECK (role = current_user);
CREATE POLICY own_end ON hpkp.lease FOR DELETE USING (role = current_user OR until <= now());

-- SELECT hpkp.admit('web1', 'web-1', 'web-1.command') lets a role read all, and write as these writers.
CREATE FUNCTION hpkp.admit(role name, VARIADIC writers text[]) RETURNS void LANGUAGE plpgsql
    SET search_path = pg_catalog
    AS $$
    BEGIN
        EXECUTE format('GRANT USAGE ON SCHEMA hpkp TO %I', role);
        EXECUTE format('GRANT SELECT ON ALL TABLES IN SCHEMA hpkp TO %I', role);
        EXECUTE format('GRANT INSERT, UPDATE ON hpkp.writer TO %I', role);
        EXECUTE format('GRANT INSERT ON hpkp.record TO %I', role);
        EXECUTE format('GRANT INSERT, DELETE ON hpkp.lease TO %I', role);
        INSERT INTO hpkp.grants SELECT $1, unnest(writers) ON CONFLICT DO NOTHING;
    END
    $$;
REVOKE ALL ON FUNCTION hpkp.admit FROM PUBLIC;
