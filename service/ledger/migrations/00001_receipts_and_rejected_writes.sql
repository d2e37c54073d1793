-- +goose Up

-- One row for each transaction that was answered for good. Its primary key is
-- what makes a second arrival of the same transaction fail.
create table postern.receipts (
  digest  bytea primary key,
  outcome text not null check (outcome in ('applied', 'rejected')),
  at      timestamptz not null default now()
);
create index receipts_at on postern.receipts (at);

-- Every write that was turned down, whole. json rather than jsonb: a client's
-- text may hold what jsonb refuses (\u0000), and must be kept all the same.
create table postern.rejected_writes (
  id                       uuid primary key default gen_random_uuid(),
  digest                   bytea not null unique,
  issuer                   text not null,
  subject                  text not null,
  client_id                text not null,
  transaction              json not null,
  code                     text not null,
  message                  text not null,
  details                  json not null,
  operation_index          integer,
  requires_client_handling boolean not null,
  policy_sha256            text not null,
  attempts                 integer not null default 1,
  first_at                 timestamptz not null default now(),
  last_at                  timestamptz not null default now()
);
create index rejected_writes_subject on postern.rejected_writes (issuer, subject, first_at);

-- Called in the statement of an UPDATE or DELETE that touched no row of a table
-- with row-level security: under it, that is all one sees of a row that exists
-- and is hidden. It runs as this schema's owner, who must be able to see every
-- row (a superuser, a role with BYPASSRLS, or the tables' owner), and does nothing
-- for anyone but Postern's login role, whatever role that has taken: it must not
-- tell the application's users which ids exist.
--
-- A trigger may have taken the operation over and cancelled it, as soft deletes
-- are made. That the row is not where it was before the statement (place, see
-- postern.place) tells.
-- +goose StatementBegin
create function postern.untouched(operation integer, target oid, key_columns text[], keys text[], reject_missing boolean, place tid)
returns boolean
language plpgsql volatile security definer
set search_path = ''
set row_security = off
as $$
declare
  condition text := (select string_agg(format('%I = %L', c, k), ' and ') from unnest(key_columns, keys) as pair(c, k));
  now_at tid;
begin
  if not has_table_privilege(session_user, 'postern.receipts', 'insert') then
    raise insufficient_privilege using message = 'postern.untouched is for Postern''s login role alone';
  end if;
  begin
    execute format('select ctid from %s where %s', target::regclass, condition) into now_at;
  exception when insufficient_privilege then
    raise exception using
      errcode = 'PN003', detail = operation::text,
      message = format('the owner of schema postern may not read every row of %s', target::regclass),
      hint = 'Run postern migrate as a role with BYPASSRLS, such as the one that owns your tables.';
  end;
  if place <> now_at then
    return false;
  elsif now_at is not null then
    raise exception using errcode = 'PN001', detail = operation::text, message = 'the row exists and is hidden';
  elsif reject_missing then
    raise exception using errcode = 'PN002', detail = operation::text, message = 'the row does not exist';
  end if;
  return true;
end
$$;
-- +goose StatementEnd

-- Where a row was before the statement that asks: being stable, it sees what that
-- statement saw at its start. Like postern.untouched it works for Postern's login
-- role alone.
-- +goose StatementBegin
create function postern.place(target oid, key_columns text[], keys text[])
returns tid
language plpgsql stable security definer
set search_path = ''
set row_security = off
as $$
declare
  condition text := (select string_agg(format('%I = %L', c, k), ' and ') from unnest(key_columns, keys) as pair(c, k));
  found tid;
begin
  if not has_table_privilege(session_user, 'postern.receipts', 'insert') then
    raise insufficient_privilege using message = 'postern.place is for Postern''s login role alone';
  end if;
  execute format('select ctid from %s where %s', target::regclass, condition) into found;
  return found;
end
$$;
-- +goose StatementEnd

-- Called where a policy's condition on the stored row does not hold. It only
-- raises what it is given, so anyone may call it.
-- +goose StatementBegin
create function postern.decline(operation integer, code text, stored jsonb)
returns boolean
language plpgsql
set search_path = ''
as $$
begin
  raise exception using errcode = 'PN006', message = code, detail = operation::text, hint = stored::text;
end
$$;
-- +goose StatementEnd

grant usage on schema postern to public;

-- +goose Down
drop function postern.decline;
drop function postern.place;
drop function postern.untouched;
drop table postern.rejected_writes;
drop table postern.receipts;
