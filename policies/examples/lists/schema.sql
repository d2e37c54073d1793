-- Shared to-do lists: a list has an owner and members, and tasks that all of them
-- see and tick off.
create table task_lists (
  id         uuid primary key,
  name       text not null,
  owner_id   uuid not null,
  archived   boolean not null default false
);
create table task_list_members (
  list_id    uuid not null references task_lists on delete cascade,
  user_id    uuid not null,
  primary key (list_id, user_id)
);
create table tasks (
  id           uuid primary key,
  list_id      uuid not null references task_lists on delete cascade,
  title        text not null,
  done         boolean not null default false,
  completed_by uuid,
  created_by   uuid,
  updated_at   timestamptz not null default now()
);
grant select, insert, update, delete on task_lists, task_list_members, tasks to authenticated;

-- Whether the user is of a list. It reads both tables past their own policies,
-- which would otherwise ask for each other.
create function is_of_list(list uuid) returns boolean
language sql stable security definer set search_path = '' as $$
  select exists (select from public.task_lists l where l.id = list and l.owner_id = auth.uid())
      or exists (select from public.task_list_members m where m.list_id = list and m.user_id = auth.uid())
$$;
alter table task_lists enable row level security;
alter table task_list_members enable row level security;
alter table tasks enable row level security;
create policy seen on task_lists for select to authenticated using (owner_id = auth.uid() or is_of_list(id));
create policy owned on task_lists to authenticated using (owner_id = auth.uid()) with check (owner_id = auth.uid());
create policy seen on task_list_members for select to authenticated using (is_of_list(list_id));
create policy invited on task_list_members to authenticated
  using (exists (select from task_lists l where l.id = list_id and l.owner_id = auth.uid()));
create policy shared on tasks to authenticated using (is_of_list(list_id));
