-- What a Supabase project has from the start, as far as writes see it: roles, and schema
-- auth. It may run again. See https://supabase.com/docs/guides/database/postgres/roles.

do $$
declare
  name text;
begin
  -- Roles belong to the whole cluster: several databases may be set up at once.
  perform pg_advisory_xact_lock(hashtext('postern project roles'));
  foreach name in array array['anon', 'authenticated', 'service_role'] loop
    if not exists (select from pg_roles where rolname = name) then
      execute format('create role %I nologin noinherit', name);
    end if;
  end loop;
  alter role service_role bypassrls;
end
$$;

create schema if not exists auth;
grant usage on schema auth to anon, authenticated, service_role;
grant usage on schema public to anon, authenticated, service_role;

create or replace function auth.jwt() returns jsonb language sql stable as $$
  select nullif(current_setting('request.jwt.claims', true), '')::jsonb
$$;

create or replace function auth.uid() returns uuid language sql stable as $$
  select (auth.jwt() ->> 'sub')::uuid
$$;

create or replace function auth.role() returns text language sql stable as $$
  select auth.jwt() ->> 'role'
$$;
