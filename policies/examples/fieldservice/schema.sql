-- Field service: dispatchers hand out work orders; technicians work on them,
-- often without a network for hours, and book the parts they use.
create table work_orders (
  id          uuid primary key,
  title       text not null,
  state       text not null default 'new',
  assignee    uuid,
  notes       text,
  signature   text,
  started_at  timestamptz,
  finished_at timestamptz,
  rev         integer not null default 1
);
create table parts_used (
  id          uuid primary key,
  order_id    uuid not null references work_orders,
  part        text not null,
  qty         integer not null
);
-- Who changed what, and what it was before.
create table work_order_changes (
  n           bigint generated always as identity primary key,
  row_id      text not null,
  field       text not null,
  previous    jsonb,
  value       jsonb,
  metadata    text,
  changed_by  uuid default auth.uid(),
  changed_at  timestamptz default now()
);
grant select, insert, update, delete on work_orders, parts_used to authenticated;
grant insert on work_order_changes to authenticated;
alter table work_orders enable row level security;
alter table parts_used enable row level security;
alter table work_order_changes enable row level security;
-- Everybody in the company sees all orders; who may change what is in app.yaml.
create policy company on work_orders to authenticated using (true) with check (true);
create policy company on parts_used to authenticated using (true) with check (true);
create policy noted on work_order_changes for insert to authenticated with check (true);
