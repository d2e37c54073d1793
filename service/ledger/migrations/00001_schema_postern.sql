-- +goose Up

-- One row for each transaction that has its final answer. The primary key makes a
-- second arrival of the same transaction fail.
create table postern.receipts (
  digest  bytea primary key,
  outcome text not null check (outcome in ('applied', 'rejected')),
  at      timestamptz not null default now()
);
create index receipts_at on postern.receipts (at);

-- One row for each transaction that has failed in a way that may be its own fault, and
-- was not rejected for it yet. The digest is that of its content, whether or not it gets
-- a receipt.
create table postern.failures (
  digest   bytea primary key,
  cause    text not null,                    -- an SQLSTATE, a rule, or 'time limit'
  times    integer not null default 1,       -- in a row, with this cause
  first_at timestamptz not null default now(),
  last_at  timestamptz not null default now()
);
create index failures_last_at on postern.failures (last_at);

-- Every rejected write, with its whole transaction. The columns are json and not
-- jsonb, because jsonb refuses \u0000, which a client's text may contain.
create table postern.rejected_writes (
  id                       uuid primary key default gen_random_uuid(),
  digest                   bytea not null unique,
  status                   text not null default 'open'
                           check (status in ('open', 'held', 'replayed', 'dismissed', 'expired', 'resolved', 'released')),
  issuer                   text not null,
  subject                  text not null,
  client_id                text not null,
  device                   text not null,            -- the upload queue: client_id, or else the token's session
  transaction_id           bigint,
  identified               boolean not null,         -- a receipt may stand for the transaction
  transaction              json not null,
  raw                      bytea,                    -- the bytes of a transaction that cannot be read; then transaction has no values
  has_content              boolean not null,         -- if false, transaction has no operations
  bytes                    integer not null,         -- about what the record takes
  tables                   text[] not null,          -- the tables of its operations, by the client's names
  code                     text not null,
  message                  text not null,
  details                  json,
  operation_index          integer,                  -- the operation that caused the rejection; NULL if no single one did
  requires_client_handling boolean not null,
  rule                     text not null default '', -- the policy's rule that rejected it, if one did
  policy_sha256            text not null,
  attempts                 integer not null default 1,
  first_at                 timestamptz not null default now(),
  last_at                  timestamptz not null default now(),
  closed_at                timestamptz,
  constraint rejected_writes_closed check ((closed_at is null) = (status in ('open', 'held')))
);
create index rejected_writes_author on postern.rejected_writes (issuer, subject, first_at, id);
create index rejected_writes_first_at on postern.rejected_writes (first_at, id);
create index rejected_writes_held on postern.rejected_writes (issuer, subject, device) where status = 'held';
create index rejected_writes_closed_at on postern.rejected_writes (closed_at) where closed_at is not null;

-- The author of a rejected write: the database role and the token's claims, which a
-- replay needs. The token is never stored. This is a table of its own, because
-- rejected_writes may be read by its authors and published for PowerSync.
create table postern.rejected_identities (
  id     uuid primary key references postern.rejected_writes on delete cascade,
  role   text not null,
  claims json not null
);

-- What was done about a rejected write.
create table postern.rejected_actions (
  id     bigint generated always as identity primary key,
  record uuid not null references postern.rejected_writes on delete cascade,
  action text not null,
  who    text not null,
  at     timestamptz not null default clock_timestamp(),
  note   text not null default ''
);
create index rejected_actions_record on postern.rejected_actions (record, id);

-- Closes the rejected writes that a request settles, in the database transaction that
-- applies it. Settle's statement calls it if there may be some.
--
--   undecided      the digests of transactions that get no receipt yet, because their
--                  client keeps them until its app has decided. If one has a receipt
--                  nevertheless, receipts_pkey is violated.
--   applied        the digests of what is applied: their open or held records are
--                  resolved
--   queue, latest  the device's queue and its highest transaction id: held records of
--                  earlier transactions are released, because a queue keeps its order.
--                  latest is NULL if the queue is not known.
--
-- A released record gets a receipt, so that a late duplicate of its transaction is not
-- applied.
-- +goose StatementBegin
create function postern.settle(undecided bytea[], applied bytea[], author_issuer text, author_subject text, queue text, latest bigint)
returns void
language plpgsql volatile
set search_path = ''
as $$
begin
  insert into postern.receipts (digest, outcome) select r.digest, r.outcome from postern.receipts r where r.digest = any(undecided);
  with closed as (
    update postern.rejected_writes w set status = 'resolved', closed_at = now()
     where w.digest = any(applied) and w.status in ('open', 'held') returning id)
  insert into postern.rejected_actions (record, action, who) select id, 'resolved', 'postern' from closed;
  with closed as (
    update postern.rejected_writes w set status = 'released', closed_at = now()
     where w.status = 'held' and w.issuer = author_issuer and w.subject = author_subject and w.device = queue and w.transaction_id < latest
    returning id, digest, identified),
  late as (
    insert into postern.receipts (digest, outcome) select digest, 'rejected' from closed where identified order by digest
        on conflict do nothing)
  insert into postern.rejected_actions (record, action, who) select id, 'released', 'postern' from closed;
end
$$;
-- +goose StatementEnd

-- Makes room for a user's rejected write, and returns its size. A record that is stored
-- already needs no room. If the user's records are more than most_records or most_bytes
-- with the new one, those that are closed are deleted before their time, with their
-- receipts of outcome rejected. If that is not enough, it raises PN008.
-- +goose StatementBegin
create function postern.make_room(author_issuer text, author_subject text, record bytea, size integer, most_records bigint, most_bytes bigint)
returns integer
language plpgsql volatile
set search_path = ''
as $$
begin
  if exists (select from postern.rejected_writes where digest = record)
     or (select count(*) < most_records and coalesce(sum(bytes), 0) + size <= most_bytes
           from postern.rejected_writes where issuer = author_issuer and subject = author_subject) then
    return size;
  end if;
  with deleted as (
    delete from postern.rejected_writes where issuer = author_issuer and subject = author_subject and closed_at is not null returning digest)
  delete from postern.receipts r using deleted where r.digest = deleted.digest and r.outcome = 'rejected';
  if (select count(*) >= most_records or coalesce(sum(bytes), 0) + size > most_bytes
        from postern.rejected_writes where issuer = author_issuer and subject = author_subject) then
    raise exception using errcode = 'PN008', message = 'there is no room for another rejected write of this user';
  end if;
  return size;
end
$$;
-- +goose StatementEnd

-- Raises an error, which rolls the database transaction back.
-- +goose StatementBegin
create function postern.raise_error(state text, reason text)
returns void
language plpgsql volatile
set search_path = ''
as $$
begin
  raise exception using errcode = state, message = reason;
end
$$;
-- +goose StatementEnd

-- Raises PN007 if one of the tables has another version than the catalogue that the
-- operations were planned by. It runs after them: they hold locks on their tables by
-- then, so that the tables cannot change any more.
--
-- A table's version is a sum over the xmin of the rows that the system catalogues have
-- of it, its columns, triggers and constraints. Postgres sets xmin, the id of the
-- transaction, whenever it writes a row. The service reads the versions by the same sum.
-- +goose StatementBegin
create function postern.expect_tables(targets oid[], versions bigint[])
returns void
language plpgsql volatile
set search_path = ''
as $$
begin
  if exists (
    select from unnest(targets, versions) as expected (target, version)
     where version is distinct from (
       select sum(hashint8(xid::text::int8))
         from (select xmin as xid from pg_catalog.pg_class where oid = target
                union all select xmin from pg_catalog.pg_attribute where attrelid = target
                union all select xmin from pg_catalog.pg_trigger where tgrelid = target
                union all select xmin from pg_catalog.pg_constraint where conrelid = target) as part))
  then
    raise exception using errcode = 'PN007', message = 'a table has changed since the catalogue was read';
  end if;
end
$$;
-- +goose StatementEnd

-- The functions below look at one row of the application's tables. Apart from
-- current_row and lock_row they run as the owner of this schema. The owner must be able to see
-- every row: a superuser, a role with BYPASSRLS, or the owner of the tables. They
-- work for Postern's login role alone, whichever role it has switched to, because
-- they would tell an application's user which ids exist.

-- Returns the condition that finds a row of a table by its key, as SQL. It names the
-- operators of types that extensions bring, such as citext: with an empty search_path
-- Postgres would not find them, or compare as text.
-- +goose StatementBegin
create function postern.key_condition(target oid, key_columns text[], keys text[])
returns text
language plpgsql stable
set search_path = ''
as $$
declare
  kind oid;
  base oid;
  place oid;
  condition text;
begin
  for i in 1 .. cardinality(key_columns) loop
    base := (select atttypid from pg_catalog.pg_attribute where attrelid = target and attname = key_columns[i]::name);
    while base <> 0 loop -- the type that a domain is over
      kind := base;
      select typbasetype, typnamespace into base, place from pg_catalog.pg_type where oid = kind;
    end loop;
    if place <> 'pg_catalog'::regnamespace then
      perform from pg_catalog.pg_operator where oprname = '=' and oprleft = kind and oprright = kind and oprnamespace = place;
      if not found or not has_schema_privilege(place, 'usage') then
        place := 'pg_catalog'::regnamespace;
      end if;
    end if;
    condition := concat_ws(' and ', condition, format('%I operator(%s.=) %L', key_columns[i], place::regnamespace, keys[i]));
  end loop;
  return condition;
end
$$;
-- +goose StatementEnd

-- Returns the version of a row (its ctid) when the calling statement began. The
-- function is stable, so it uses the calling statement's snapshot.
-- +goose StatementBegin
create function postern.row_version(target oid, key_columns text[], keys text[])
returns tid
language plpgsql stable security definer
set search_path = ''
set row_security = off
as $$
declare
  condition text := postern.key_condition(target, key_columns, keys);
  version tid;
begin
  if not has_table_privilege(session_user, 'postern.receipts', 'insert') then
    raise insufficient_privilege using message = 'postern.row_version is for Postern''s login role alone';
  end if;
  execute format('select ctid from %s where %s', target::regclass, condition) into version;
  return version;
end
$$;
-- +goose StatementEnd

-- Returns the row as it is now, as the user sees it. Columns that the user may not
-- read are NULL. With locking, rows that the user may not update are left out, and
-- the row is locked. It runs as the user and keeps the user's search_path, which
-- row-level security policies may depend on.
--
-- The function is volatile: after the calling statement has waited for another
-- transaction, it sees what that transaction committed. The statement itself
-- still sees the row as it was before.
-- +goose StatementBegin
create function postern.current_row(shape anyelement, key_columns text[], keys text[], locking boolean)
returns setof anyelement
language plpgsql volatile
as $$
declare
  target regclass := (select typrelid from pg_catalog.pg_type where oid = pg_catalog.pg_typeof(shape));
  condition text := postern.key_condition(target, key_columns, keys);
  visible text := (
    select string_agg(case when has_column_privilege(target, attnum, 'select') then quote_ident(attname)
                           else 'null::' || format_type(atttypid, atttypmod) end, ', ' order by attnum)
      from pg_catalog.pg_attribute where attrelid = target and attnum > 0 and not attisdropped);
begin
  return query execute format('select %s from %s where %s', visible, target, condition) || case when locking then ' for update' else '' end;
end
$$;
-- +goose StatementEnd

-- Explains why an operation touched no row. The operation's own statement calls it.
--
--   operation       the operation's index, for the error's detail
--   reject_missing  reject the operation if the row does not exist
--   version_before  row_version of the row
--   guard_code      the code of the first guard that the row fails, judged on
--                   current_row; NULL if it passes all. A guard is a condition on
--                   the stored row, such as "the user sees it".
--   default_code    the code if it passes all and no transaction changed the row
--   stored          the row, for the error's hint; may be NULL
--   deleted_column  the column of a soft delete: a row in which it is set does not
--                   exist, whether the user may see it or not; NULL if there is none
--
-- Two codes are special. 'DROPPED' drops the operation silently, as a conflict
-- strategy does. 'AGAIN' raises serialization_failure: the operation must be tried
-- again. Any other code is raised as the message of a PN006.
--
-- If it raises nothing, it returns one of these:
--
--   NULL       the row does not exist
--   'DROPPED'  a guard dropped the operation
--   'TRIGGER'  a trigger suppressed the operation, or replaced it by another one,
--              as soft deletes do
--
-- If the row's version has changed since the statement began, its xmin tells who
-- changed it. Only this transaction sees a version whose transaction is still in
-- progress; then a trigger replaced the operation. If it was another transaction
-- and every guard passes, the outcome is unknown: AGAIN.
-- +goose StatementBegin
create function postern.explain_no_row(
  operation integer, target oid, key_columns text[], keys text[], reject_missing boolean, version_before tid,
  guard_code text, default_code text, stored jsonb, deleted_column text default null)
returns text
language plpgsql volatile security definer
set search_path = ''
set row_security = off
as $$
declare
  condition text := postern.key_condition(target, key_columns, keys);
  code text := coalesce(guard_code, default_code);
  version_now tid;
  writer xid;
begin
  if deleted_column is not null then
    condition := condition || format(' and (%1$I is null or %1$I::text = ''false'')', deleted_column);
  end if;
  if not has_table_privilege(session_user, 'postern.receipts', 'insert') then
    raise insufficient_privilege using message = 'postern.explain_no_row is for Postern''s login role alone';
  end if;
  begin
    execute format('select ctid, xmin from %s where %s', target::regclass, condition) into version_now, writer;
  exception when insufficient_privilege then
    raise exception using
      errcode = 'PN003', detail = operation::text,
      message = format('the owner of schema postern may not read every row of %s', target::regclass),
      hint = 'Run postern migrate as a role with BYPASSRLS, such as the one that owns your tables.';
  end;
  if version_now is null then
    if not reject_missing then
      return null;
    end if;
    code := 'ROW_NOT_FOUND';
  elsif version_now is distinct from version_before then
    if pg_xact_status((pg_current_xact_id()::text::bigint - age(writer))::text::xid8) = 'in progress' then
      return 'TRIGGER';
    end if;
    code := coalesce(guard_code, 'AGAIN');
  end if;
  if code = 'AGAIN' then
    raise serialization_failure using message = 'another transaction changed the row at the same time';
  elsif code <> 'DROPPED' then
    raise exception using errcode = 'PN006', message = code, detail = operation::text, hint = coalesce(stored::text, '');
  end if;
  return case when guard_code = 'DROPPED' then 'DROPPED' else 'TRIGGER' end;
end
$$;
-- +goose StatementEnd

-- Locks a row before rules judge it and it is deleted, if the user sees it. It runs as
-- the user and keeps the user's search_path, as current_row does. Nobody can keep others
-- from a row that is hidden.
-- +goose StatementBegin
create function postern.lock_row(target oid, key_columns text[], keys text[])
returns void
language plpgsql volatile
as $$
declare
  condition text := postern.key_condition(target, key_columns, keys);
  visible boolean;
begin
  begin
    execute format('select exists (select from %s where %s)', target::regclass, condition) into visible;
  exception when insufficient_privilege then
    return; -- the statements after this one say so
  end;
  if visible then
    perform postern.lock_any_row(target, key_columns, keys);
  end if;
end
$$;
-- +goose StatementEnd

-- Locks a row, for lock_row. Postgres lets only those lock a row who may update it. A user
-- who may only delete it needs the lock too: the rules must judge the row that is deleted.
-- +goose StatementBegin
create function postern.lock_any_row(target oid, key_columns text[], keys text[])
returns void
language plpgsql volatile security definer
set search_path = ''
set row_security = off
as $$
declare
  condition text := postern.key_condition(target, key_columns, keys);
begin
  if not has_table_privilege(session_user, 'postern.receipts', 'insert') then
    raise insufficient_privilege using message = 'postern.lock_any_row is for Postern''s login role alone';
  end if;
  begin
    execute format('select from %s where %s for update', target::regclass, condition);
  exception when insufficient_privilege then
    raise exception using
      errcode = 'PN003',
      message = format('the owner of schema postern may not lock every row of %s', target::regclass),
      hint = 'Run postern migrate as a role with BYPASSRLS, such as the one that owns your tables.';
  end;
end
$$;
-- +goose StatementEnd

-- current_row and lock_row run as the user.
grant usage on schema postern to public;

-- +goose Down
revoke usage on schema postern from public;
drop function postern.lock_row;
drop function postern.lock_any_row;
drop function postern.explain_no_row;
drop function postern.current_row;
drop function postern.row_version;
drop function postern.key_condition;
drop function postern.settle;
drop function postern.expect_tables;
drop function postern.make_room;
drop function postern.raise_error;
drop table postern.rejected_actions;
drop table postern.rejected_identities;
drop table postern.rejected_writes;
drop table postern.failures;
drop table postern.receipts;
