-- A clinic. Its people work on tablets, in rooms without a network.
create extension if not exists btree_gist;
create table staff (
  user_id        uuid primary key,
  role           text not null check (role in ('nurse', 'doctor', 'admin')),
  approval_limit numeric(10,2) not null default 0
);
create table patients (
  id         uuid primary key,
  name       text not null,
  phone      text,
  diagnosis  text,
  blocked    boolean not null default false,
  updated_at timestamptz not null
);
create table visit_notes (
  id         uuid primary key,
  patient_id uuid not null references patients,
  author     uuid not null,
  body       text not null,
  created_at timestamptz not null
);
create table appointments (
  id         uuid primary key,
  patient_id uuid not null references patients,
  doctor     uuid not null references staff,
  during     tstzrange not null,
  booked_by  uuid not null,
  booked_at  timestamptz not null,
  constraint one_patient_at_a_time exclude using gist (doctor with =, during with &&)
);
create table expenses (
  id          uuid primary key,
  claimant    uuid not null,
  total       numeric(10,2) not null check (total > 0),
  state       text not null default 'claimed' check (state in ('claimed', 'approved', 'refused')),
  approved_by uuid
);
create table expense_items (
  id         uuid primary key,
  expense_id uuid not null references expenses,
  what       text not null,
  amount     numeric(10,2) not null
);
-- The audit trail: every change of a patient's record.
create table patient_changes (
  id       bigint generated always as identity primary key,
  row_id   text not null,
  field    text not null,
  previous jsonb,
  value    jsonb,
  metadata text,
  by       uuid not null default auth.uid(),
  at       timestamptz not null default now()
);
grant select on staff to authenticated;
grant select, insert, update, delete on patients, visit_notes, appointments, expenses, expense_items to authenticated;
grant select, insert on patient_changes to authenticated;

alter table staff enable row level security;
alter table patients enable row level security;
alter table visit_notes enable row level security;
alter table appointments enable row level security;
alter table expenses enable row level security;
alter table expense_items enable row level security;
alter table patient_changes enable row level security;
create policy colleagues on staff for select to authenticated using (true);
create function is_staff() returns boolean language sql stable as $$ select exists (select from staff where user_id = auth.uid()) $$;
create policy staff on patients to authenticated using (is_staff()) with check (is_staff());
create policy staff on visit_notes to authenticated using (is_staff()) with check (is_staff());
create policy staff on appointments to authenticated using (is_staff()) with check (is_staff());
create policy staff on expenses to authenticated using (is_staff()) with check (is_staff());
create policy staff on expense_items to authenticated using (is_staff()) with check (is_staff());
create policy staff on patient_changes to authenticated using (is_staff()) with check (is_staff());
insert into staff values
  ('a0000000-0000-4000-8000-000000000001', 'nurse', 0),
  ('a0000000-0000-4000-8000-000000000002', 'doctor', 100),
  ('a0000000-0000-4000-8000-000000000003', 'admin', 50);
