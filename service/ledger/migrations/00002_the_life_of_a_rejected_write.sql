-- +goose Up

alter table postern.rejected_writes
  add column status         text not null default 'open'
                            check (status in ('open', 'held', 'replayed', 'dismissed', 'expired', 'resolved', 'released')),
  add column rule           text not null default '',   -- the policy's rule that said no
  add column tables         text[] not null default '{}', -- of its operations, by the client's names
  add column device         text not null default '',   -- client_id, else the token's session: whose queue it was in
  add column transaction_id bigint,
  add column closed_at      timestamptz,
  add constraint rejected_writes_closed check ((closed_at is null) = (status in ('open', 'held')));

update postern.rejected_writes
   set status = case when requires_client_handling then 'held' else 'open' end, device = client_id;
-- json functions refuse a text with \u0000 anywhere in it.
update postern.rejected_writes
   set transaction_id = (transaction ->> 'transaction_id')::bigint,
       tables = coalesce((select array_agg(distinct o ->> 'table') from json_array_elements(transaction -> 'crud') o), '{}')
 where transaction::text not like '%\\u0000%';

drop index postern.rejected_writes_subject;
create index rejected_writes_author on postern.rejected_writes (issuer, subject, first_at, id);
create index rejected_writes_first_at on postern.rejected_writes (first_at, id);
create index rejected_writes_held on postern.rejected_writes (issuer, subject) where status = 'held';
create index rejected_writes_closed_at on postern.rejected_writes (closed_at) where closed_at is not null;

-- Who wrote it, as needed to write again as them: the database role, and the
-- claims of their token. Never the token. A table of its own, because the other
-- one may be published for PowerSync and read by its authors.
create table postern.rejected_identities (
  id     uuid primary key references postern.rejected_writes on delete cascade,
  role   text not null,
  claims json not null
);

-- What was done about a rejected write; it goes when the rejected write goes.
create table postern.rejected_actions (
  id     bigint generated always as identity primary key,
  record uuid not null references postern.rejected_writes on delete cascade,
  action text not null,
  who    text not null,
  at     timestamptz not null default clock_timestamp(),
  note   text not null default ''
);
create index rejected_actions_record on postern.rejected_actions (record, id);

-- Fails, which undoes the database transaction that calls it.
-- +goose StatementBegin
create function postern.refuse(state text, reason text) returns void
language plpgsql volatile set search_path = '' as $$
begin
  raise exception using errcode = state, message = reason;
end
$$;
-- +goose StatementEnd

-- +goose Down
drop function postern.refuse;
drop table postern.rejected_actions;
drop table postern.rejected_identities;
alter table postern.rejected_writes disable row level security;
drop policy if exists "postern keeps them" on postern.rejected_writes;
drop policy if exists "authors see their own" on postern.rejected_writes;
drop index postern.rejected_writes_closed_at, postern.rejected_writes_held, postern.rejected_writes_first_at, postern.rejected_writes_author;
create index rejected_writes_subject on postern.rejected_writes (issuer, subject, first_at);
alter table postern.rejected_writes
  drop column status, drop column rule, drop column tables, drop column device, drop column transaction_id, drop column closed_at;
