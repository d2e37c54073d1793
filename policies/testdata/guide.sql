-- The tables of the guide's snippets. Ids and users are short texts. Who sees which row
-- would be row-level security's to say; it is left out here.
create table projects (
  id         text primary key,
  name       text,
  org_id     text,
  archived   boolean not null default false
);
create table members (
  id         text primary key,
  project_id text not null references projects,
  user_id    text not null,
  role       text not null check (role in ('viewer', 'editor')),
  unique (project_id, user_id)
);
create table invitations (
  project_id text not null references projects,
  user_id    text not null,
  primary key (project_id, user_id)
);
create table tasks (
  id           text primary key,
  project_id   text not null references projects,
  title        text not null,
  note         text,
  state        text not null default 'new',
  done         boolean not null default false,
  completed_by text,
  author_id    text,
  org_id       text,
  starts       date,
  due          date,
  created_at   timestamptz not null default now(),
  updated_at   timestamptz,
  deleted_at   timestamptz,
  constraint titles_are_unique unique (project_id, title)
);
create table task_changes (
  row_id   text not null,
  field    text not null,
  previous jsonb,
  value    jsonb,
  sent     jsonb,
  metadata text,
  by       text not null default current_setting('request.jwt.claims')::jsonb->>'sub',
  at       timestamptz not null default now()
);
create table items (
  id         text primary key,
  title      text,
  qty        integer not null default 0,
  price      numeric(10,2),
  notes      text,
  updated_at timestamptz
);
create table staff (
  user_id        text primary key,
  role           text not null,
  approval_limit numeric(10,2) not null default 0
);
create table expenses (
  id       text primary key,
  title    text,
  owner_id text,
  total    numeric(10,2),
  approved boolean not null default false
);
create table expense_items (
  id         text primary key,
  expense_id text not null references expenses,
  amount     numeric(10,2) not null
);
grant select, insert, update, delete on all tables in schema public to authenticated;
