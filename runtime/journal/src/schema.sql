-- Times are in microseconds since 1970, durations in microseconds. The views below show them as people read them.

create table job (
    id integer primary key,            -- 17 of JOB-17; never given again
    state integer not null,            -- see the table state
    rank integer not null,             -- jobs of one priority go in this order
    due integer,                       -- when a delayed job is queued
    ended integer,                     -- when it ended
    attempt integer not null,          -- the last one that began
    failures integer not null,         -- attempts that have failed
    failed_attempt integer not null,   -- the last of them
    losses integer not null,           -- workers that were lost while they had it
    worker text,                       -- of the last attempt
    info text,                         -- where in the worker's script the last failure came from
    state_check integer not null,      -- CRC-32 of the above and of the result
    submitted integer not null,
    priority integer not null,         -- higher goes first
    requires text,                     -- a JSON array of capabilities
    after text,                        -- a JSON array of the numbers of the jobs that must have completed before
    not_before integer,                -- it is not queued before this time
    delay integer,
    timeout integer,                   -- of an attempt without progress
    deadline integer,                  -- of the job in all
    attempts integer,                  -- how often it is tried, if it says so itself
    key text,                          -- a second submission with it is the same job
    affinity text,
    submission_check integer not null, -- CRC-32 of the submission and of the data
    data blob not null,
    result blob                        -- of an ended job; why, if it did not complete
);

create table state (
    number integer primary key,
    name text not null
);

insert into state values
    (0, 'delayed'), (1, 'queued'), (2, 'running'), (3, 'completed'), (4, 'failed'), (5, 'cancelled'), (6, 'expired'), (7, 'held');

-- Attempts that failed or lost their worker. The last attempt of a job is in its row.
create table attempt (
    job integer not null,
    attempt integer not null,
    worker text,
    over integer not null,             -- when
    outcome text not null,             -- retried: it failed; requeued: its worker was lost
    reason text,
    primary key (job, attempt)
) without rowid;

create table worker (
    name text primary key,
    kind text not null,
    capabilities text not null,        -- a JSON array
    slots integer not null,
    came integer not null,
    gone integer                       -- null while it is connected
) without rowid;

-- What happened to workers, and to attempts that went wrong; the newest some thousands.
create table event (
    number integer primary key,
    at integer not null,
    event text not null,
    job integer,
    attempt integer,
    worker text,
    reason text
);

create table setting (
    name text primary key,
    value text not null,
    value_check integer not null       -- CRC-32 of both
) without rowid;

create view jobs as select
    'JOB-' || id as id,
    name as state,
    priority,
    attempt,
    worker,
    strftime('%Y-%m-%d %H:%M:%f', submitted / 1e6, 'unixepoch') as submitted,
    strftime('%Y-%m-%d %H:%M:%f', due / 1e6, 'unixepoch') as due,
    strftime('%Y-%m-%d %H:%M:%f', ended / 1e6, 'unixepoch') as ended,
    requires,
    after,
    key,
    cast(data as text) as data,
    cast(result as text) as result,
    info
from job join state on job.state = state.number;

create view attempts as
select 'JOB-' || job as job, attempt, worker, outcome,
    strftime('%Y-%m-%d %H:%M:%f', over / 1e6, 'unixepoch') as over, reason
from attempt
union all
select 'JOB-' || id, attempt, worker, name,
    strftime('%Y-%m-%d %H:%M:%f', ended / 1e6, 'unixepoch'), case when job.state between 4 and 6 then cast(result as text) end
from job join state on job.state = state.number
where attempt > 0 and not exists (select 1 from attempt a where a.job = job.id and a.attempt = job.attempt);

create view workers as select
    name, kind, capabilities, slots,
    strftime('%Y-%m-%d %H:%M:%f', came / 1e6, 'unixepoch') as came,
    strftime('%Y-%m-%d %H:%M:%f', gone / 1e6, 'unixepoch') as gone
from worker;

create view events as select
    number, strftime('%Y-%m-%d %H:%M:%f', at / 1e6, 'unixepoch') as at, event,
    'JOB-' || job as job, attempt, worker, reason
from event;
