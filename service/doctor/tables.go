package doctor

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"postern/policies"
	"postern/service/apply"
)

// set is the policies, compiled for the database; nil if they have problems, which
// checkPolicies reports.
func (e *examination) set() *policies.Set {
	if e.Policies == nil {
		return nil
	}
	set, err := e.Policies.For(e.snapshot)
	if err != nil {
		return nil
	}
	return set
}

func checkPolicies(ctx context.Context, e *examination) error {
	if e.Policies == nil {
		return nil
	}
	set, err := e.Policies.For(e.snapshot)
	if err != nil {
		e.fail("correct the files; `postern policy check` shows when they are right", "the policies do not fit the database, so nothing is written:\n%v", err)
		return nil
	}
	var columns policies.LookupColumns
	for _, role := range e.Roles {
		if prepared, _, err := apply.PrepareLookups(ctx, e.DB, role, e.snapshot.Settings(role), set); err == nil { // checkLookups tells of errors
			columns = prepared
		}
	}
	for _, warning := range slices.Concat(set.Warnings(e.snapshot, columns), set.Unused()) {
		e.warn("correct the policy, or leave it if you mean it", "%v", warning)
	}
	return nil
}

func checkLookups(ctx context.Context, e *examination) error {
	set := e.set()
	if set == nil {
		return nil
	}
	for _, role := range e.Roles {
		_, problems, err := apply.PrepareLookups(ctx, e.DB, role, e.snapshot.Settings(role), set)
		if err != nil {
			return err
		}
		if problems != nil {
			e.fail("correct the lookup, or grant the role what it reads", "a lookup does not run as role %s:\n%v", role, problems)
		}
	}
	return nil
}

func checkGrants(_ context.Context, e *examination) error {
	set := e.set()
	if set == nil {
		return nil
	}
	for _, role := range e.Roles {
		for _, grant := range set.MissingGrantsByTable(e.snapshot, role) {
			e.fail(grant.SQL+";", "the policies open %s, and role %s lacks %s on it", grant.Table, role, strings.Join(grant.Privileges, ", "))
		}
	}
	return nil
}

// checkRowSecurity names the tables that nothing protects, and those that row-level
// security closes to everybody.
func checkRowSecurity(ctx context.Context, e *examination) error {
	set := e.set()
	if set == nil {
		return nil
	}
	for _, table := range set.Unprotected(e.snapshot) {
		e.warn(fmt.Sprintf("alter table %s enable row level security; and create policies for it. Or set owner in the table's policy", table.SQL()),
			"each user may write every row of %s: it has neither row-level security nor an owner", table)
	}
	for _, table := range set.Opened(e.snapshot) {
		if !table.RowSecurity || len(e.Roles) == 0 {
			continue
		}
		var policies int
		err := e.DB.QueryRow(ctx, `
select count(*) from pg_catalog.pg_policy p
 where p.polrelid = $1 and p.polpermissive
   and exists (select from unnest(p.polroles) as named(oid) where named.oid = 0 or exists (select from pg_catalog.pg_roles r where r.rolname = any($2) and pg_has_role(r.oid, named.oid, 'usage')))`,
			table.OID, e.Roles).Scan(&policies)
		if err != nil {
			return err
		}
		if policies == 0 {
			e.fail(fmt.Sprintf("create policy own on %s to %s using (…) with check (…);", table.SQL(), e.Roles[0]), "row-level security is on for %s, and no policy lets users write", table)
		}
	}
	return nil
}

// authUID finds a function auth.uid() that returns a uuid. The login role may not use the
// schema, so to_regprocedure would fail.
const authUID = `
select from pg_catalog.pg_proc f join pg_catalog.pg_namespace n on n.oid = f.pronamespace
 where n.nspname = 'auth' and f.proname = 'uid' and f.pronargs = 0 and f.prorettype = 'uuid'::regtype`

// checkSubjects looks for row-level security that only works with UUIDs, if the issuer's
// subjects may be something else. With a token, checkToken tries it.
func checkSubjects(ctx context.Context, e *examination) error {
	set := e.set()
	if set == nil || e.Token != "" {
		return nil
	}
	var using []string
	err := e.DB.QueryRow(ctx, `
select array(select p.polrelid::regclass::text from pg_catalog.pg_policy p
              where p.polrelid = any($1) and concat(pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid)) ~ 'auth\.uid\(\)'
                and exists (`+authUID+`) group by 1 order by 1)`,
		oids(e, set)).Scan(&using)
	if err != nil || len(using) == 0 {
		return err
	}
	for _, i := range e.Issuers {
		if i.Role != "" { // neither Supabase's nor Neon's, whose subjects are UUIDs
			e.note("postern doctor --token <a user's token>; if sub is no UUID, use auth.jwt() ->> 'sub' in the policies", "auth.uid() is a uuid in the row-level security of %s, and the subjects of %s may be something else", short(using), i.Issuer)
		}
	}
	return nil
}

func oids(e *examination, set *policies.Set) (list []uint32) {
	for _, table := range set.Opened(e.snapshot) {
		list = append(list, table.OID)
	}
	return list
}
