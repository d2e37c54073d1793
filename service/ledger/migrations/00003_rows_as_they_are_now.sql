-- +goose Up

-- An UPDATE or DELETE that waited for another writer's commit judges the row as
-- that left it. What else stands in its statement sees the row as it was when the
-- statement began. Volatile functions look anew.

-- The row as it is now and as the user sees it, with NULL in the columns that they
-- may not read; with locking, as far as they may change it. It runs as the user,
-- with their search_path, which their policies may need.
-- +goose StatementBegin
create function postern.current(shape anyelement, key_columns text[], keys text[], locking boolean)
returns setof anyelement
language plpgsql volatile
as $$
declare
  target regclass := (select typrelid from pg_catalog.pg_type where oid = pg_catalog.pg_typeof(shape));
  condition text := (select string_agg(format('%I = %L', c, k), ' and ') from unnest(key_columns, keys) as pair(c, k));
  visible text := (
    select string_agg(case when has_column_privilege(target, attnum, 'select') then quote_ident(attname)
                           else 'null::' || format_type(atttypid, atttypmod) end, ', ' order by attnum)
      from pg_catalog.pg_attribute where attrelid = target and attnum > 0 and not attisdropped);
begin
  return query execute format('select %s from %s where %s', visible, target, condition) || case when locking then ' for update' else '' end;
end
$$;
-- +goose StatementEnd

drop function postern.untouched;
drop function postern.decline;

-- Called in the statement of an UPDATE or DELETE that touched no row, to say why.
-- refusal is the code of what speaks against touching the row as it is now and the
-- user sees it, and stored that row; 'DROPPED' where such an operation is dropped
-- without a word, 'AGAIN' where it has to be tried again. Where nothing does, and
-- nothing has changed meanwhile, otherwise holds.
--
-- A row that is not where it was when the statement began (place, see postern.place)
-- has changed meanwhile. If this transaction did it, a trigger has taken the
-- operation over, as soft deletes are made; a version that one sees and whose
-- transaction is in progress is one's own. If another one did and there is no
-- refusal, what the operation does now is anyone's guess: it has to be tried again.
--
-- It runs as this schema's owner, who must be able to see every row (a superuser, a
-- role with BYPASSRLS, or the tables' owner), and does nothing for anyone but
-- Postern's login role, whatever role that has taken: it must not tell the
-- application's users which ids exist.
-- +goose StatementBegin
create function postern.untouched(operation integer, target oid, key_columns text[], keys text[], reject_missing boolean, place tid, refusal text, otherwise text, stored jsonb)
returns void
language plpgsql volatile security definer
set search_path = ''
set row_security = off
as $$
declare
  condition text := (select string_agg(format('%I = %L', c, k), ' and ') from unnest(key_columns, keys) as pair(c, k));
  now_at tid;
  writer xid;
begin
  if not has_table_privilege(session_user, 'postern.receipts', 'insert') then
    raise insufficient_privilege using message = 'postern.untouched is for Postern''s login role alone';
  end if;
  begin
    execute format('select ctid, xmin from %s where %s', target::regclass, condition) into now_at, writer;
  exception when insufficient_privilege then
    raise exception using
      errcode = 'PN003', detail = operation::text,
      message = format('the owner of schema postern may not read every row of %s', target::regclass),
      hint = 'Run postern migrate as a role with BYPASSRLS, such as the one that owns your tables.';
  end;
  case
    when now_at is null then
      if not reject_missing then
        return;
      end if;
      refusal := 'ROW_NOT_FOUND';
    when now_at is distinct from place then
      if pg_xact_status((pg_current_xact_id()::text::bigint - age(writer))::text::xid8) = 'in progress' then
        return;
      end if;
      refusal := coalesce(refusal, 'AGAIN');
    else
      refusal := coalesce(refusal, otherwise);
  end case;
  if refusal = 'AGAIN' then
    raise serialization_failure using message = 'another transaction has changed the row meanwhile';
  elsif refusal <> 'DROPPED' then
    raise exception using errcode = 'PN006', message = refusal, detail = operation::text, hint = coalesce(stored::text, '');
  end if;
end
$$;
-- +goose StatementEnd

-- Locks a row that a rule judges before it is deleted. Postgres lets nobody lock a
-- row that they may not change; but one who may only delete it must have it judged
-- as it is when it goes. It works for Postern's login role alone.
-- +goose StatementBegin
create function postern.lock(target oid, key_columns text[], keys text[])
returns void
language plpgsql volatile security definer
set search_path = ''
set row_security = off
as $$
declare
  condition text := (select string_agg(format('%I = %L', c, k), ' and ') from unnest(key_columns, keys) as pair(c, k));
begin
  if not has_table_privilege(session_user, 'postern.receipts', 'insert') then
    raise insufficient_privilege using message = 'postern.lock is for Postern''s login role alone';
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

-- +goose Down
drop function postern.lock;
drop function postern.current;
drop function postern.untouched;
