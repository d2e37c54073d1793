-- What a Neon project with Neon Auth has, as far as writes see it: roles, and the
-- functions of pg_session_jwt, which read request.jwt.claims if the extension has no key
-- of its own. It may run again. See https://neon.com/docs/extensions/pg_session_jwt.

do $$
declare
  name text;
begin
  -- Roles belong to the whole cluster: several databases may be set up at once.
  perform pg_advisory_xact_lock(hashtext('postern project roles'));
  foreach name in array array['anonymous', 'authenticated'] loop
    if not exists (select from pg_roles where rolname = name) then
      execute format('create role %I nologin noinherit', name);
    end if;
  end loop;
end
$$;

create schema if not exists auth;
grant usage on schema auth to public;
grant usage on schema public to anonymous, authenticated;

create or replace function auth.session() returns jsonb language sql stable as $$
  select nullif(current_setting('request.jwt.claims', true), '')::jsonb
$$;

create or replace function auth.user_id() returns text language sql stable as $$
  select auth.session() ->> 'sub'
$$;
