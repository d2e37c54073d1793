-- What a PowerSync Service needs of a project's database: a role that replicates, a
-- publication, and a role that owns the Service's own database. It may run again.

do $$
begin
  -- Roles belong to the whole cluster: several databases may be set up at once.
  perform pg_advisory_xact_lock(hashtext('postern project roles'));
  if not exists (select from pg_roles where rolname = 'powersync_role') then
    create role powersync_role login replication bypassrls password 'powersync';
  end if;
  if not exists (select from pg_roles where rolname = 'powersync_storage') then
    create role powersync_storage login password 'powersync';
  end if;
  if not exists (select from pg_publication where pubname = 'powersync') then
    create publication powersync for all tables;
  end if;
end
$$;

grant usage on schema public, postern to powersync_role;
grant select on all tables in schema public to powersync_role;
grant select on postern.rejected_writes to powersync_role;
alter default privileges in schema public grant select on tables to powersync_role;
