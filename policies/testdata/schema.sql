-- The tables that policies are tested against; catalog.json is made of them.
create table lists (id uuid primary key, name text not null, owner_id uuid not null, archived boolean not null default false);
create table todos (
  id         uuid primary key,
  list_id    uuid references lists,
  title      text not null,
  note       text,
  done       boolean not null default false,
  qty        integer not null default 0,
  price      numeric(10,2),
  weight     double precision,
  tags       text[],
  meta       jsonb,
  mood       text,
  due        date,
  updated_at timestamptz,
  rev        integer not null default 1,
  owner_id   uuid,
  deleted    boolean not null default false,
  doubled    integer generated always as (qty * 2) stored
);
create table members (list_id uuid, user_id uuid, role text, primary key (list_id, user_id));
create table changes (row_id text, field text, previous jsonb, value jsonb, metadata text);
create type stage as enum ('new', 'started', 'done');
create table orders (id uuid primary key, stage stage not null, stage_before stage, note text);
grant select, insert, update, delete on lists, todos, members, changes, orders to authenticated;
