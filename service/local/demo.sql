-- The demo's two tables, for dev mode and the tests, in a project of Supabase. It may
-- run again.

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
