-- What a Supabase project has from the start, as far as writes see it, and the
-- demo's two tables. Run by dev mode and the tests in a fresh database; running
-- it again changes nothing. See https://supabase.com/docs/guides/database/postgres/roles.

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

create table if not exists public.lists (
  id         uuid primary key default gen_random_uuid(),
  created_at timestamptz not null default now(),
  name       text not null check (length(name) <= 200),
  owner_id   uuid not null default auth.uid()
);

create table if not exists public.todos (
  id           uuid primary key default gen_random_uuid(),
  created_at   timestamptz not null default now(),
  completed_at timestamptz,
  description  text not null,
  completed    boolean not null default false,
  created_by   uuid default auth.uid(),
  completed_by uuid,
  list_id      uuid not null references public.lists (id) on delete cascade
);
create index if not exists todos_list_id on public.todos (list_id);

alter table public.lists enable row level security;
alter table public.todos enable row level security;

drop policy if exists "owners have their lists" on public.lists;
create policy "owners have their lists" on public.lists to authenticated
  using (owner_id = (select auth.uid())) with check (owner_id = (select auth.uid()));

drop policy if exists "owners have their lists' todos" on public.todos;
create policy "owners have their lists' todos" on public.todos to authenticated
  using (exists (select from public.lists l where l.id = list_id and l.owner_id = (select auth.uid())))
  with check (exists (select from public.lists l where l.id = list_id and l.owner_id = (select auth.uid())));

grant select, insert, update, delete on public.lists, public.todos to authenticated, service_role;
