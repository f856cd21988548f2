-- Sessions, their entries, and who waits for them.

-- What time it is. Every lease is judged by it, and by no clock of a gateway's host.
CREATE FUNCTION turnlock.clock() RETURNS timestamptz
    LANGUAGE sql STABLE PARALLEL SAFE
    AS $$ SELECT pg_catalog.now() $$;

-- One row a session. The claim is a part of it: "held" says whether there is one.
-- "epoch" is raised by every take and never lowered. "size" is that of the transcript in bytes.
CREATE TABLE turnlock.session (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    agent       text COLLATE "C" NOT NULL,
    name        text COLLATE "C" NOT NULL,
    size        bigint NOT NULL DEFAULT 0,
    modified_at timestamptz NOT NULL,
    epoch       bigint NOT NULL DEFAULT 1,
    held        boolean NOT NULL DEFAULT false,
    turn_id     text,
    gateway     text,
    host        text,
    pid         integer,
    taken_at    timestamptz,
    max_hold    double precision,
    lease_until timestamptz,
    free_since  timestamptz,
    owed        jsonb NOT NULL DEFAULT '[]',
    UNIQUE (agent, name)
) WITH (fillfactor = 70);

-- Not on "lease_until": an append and a renewal change it, and would change the index as well.
CREATE INDEX session_held ON turnlock.session (id) WHERE held;

-- One row a line, byte for byte, without its newline. "byte_offset" is where the line begins in
-- the transcript as a file; "epoch" is the session's, at the time of the write.
CREATE TABLE turnlock.entry (
    session_id  bigint NOT NULL,
    byte_offset bigint NOT NULL,
    epoch       bigint NOT NULL,
    id          text COLLATE "C",
    line        text COLLATE "C" NOT NULL,
    PRIMARY KEY (session_id, byte_offset)
);

CREATE INDEX entry_by_id ON turnlock.entry (session_id, id);

-- The line of those who wait. It is worth nothing after a crash: they line up again.
CREATE SEQUENCE turnlock.ticket;

CREATE UNLOGGED TABLE turnlock.waiter (
    ticket      bigint PRIMARY KEY,
    session_id  bigint NOT NULL,
    gateway     text NOT NULL,
    alive_until timestamptz NOT NULL,
    passed      boolean NOT NULL DEFAULT false
);

CREATE INDEX waiter_of_session ON turnlock.waiter (session_id, ticket);
