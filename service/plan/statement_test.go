package plan_test

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"postern/service/plan"
	"postern/service/upload"
)

// statementCase is one operation and the statement that it becomes.
type statementCase struct {
	name      string
	table     string // its policy
	operation upload.Operation
	sql       string // each line is joined to the next with a space; empty if there is no statement
	args      string // joined with |
}

func (c statementCase) run(t *testing.T) {
	t.Parallel()
	orders := planned(t, newPlanner(t, shop, "tables: {'"+c.operation.Table+"': "+c.table+"}"), c.operation)
	require.Len(t, orders, 1)
	if c.sql == "" {
		require.Empty(t, inOrder(t, orders[0]))
		return
	}
	require.Len(t, inOrder(t, orders[0]), 1)
	o := inOrder(t, orders[0])[0]
	lines := strings.Split(c.sql, "\n")
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	require.Equal(t, strings.Join(lines, " "), o.SQL)
	require.Equal(t, c.args, strings.Join(args(o.Statement), "|"))
	require.Nil(t, o.Checks)
}

const all = "{allow: all}"

// TestStatement has the statement of each kind of operation.
func TestStatement(t *testing.T) {
	t.Parallel()
	const softly = "{allow: all, soft_delete: "
	for _, test := range []statementCase{
		{name: "PutMerges", table: all, operation: put("notes", "n1", `{"title": "a", "qty": "3", "raw": {"x": 1}}`),
			sql: `insert into "public"."notes" as t ("id", "title", "qty", "raw") values ($1, $2, $3, $4)
			on conflict ("id") do update set "title" = excluded."title", "qty" = excluded."qty", "raw" = excluded."raw"`,
			args: `n1|a|3|{"x": 1}`},
		{name: "PutNull", table: all, operation: put("notes", "n1", `{"title": null}`),
			sql:  `insert into "public"."notes" as t ("id", "title") values ($1, $2) on conflict ("id") do update set "title" = excluded."title"`,
			args: `n1|<null>`},
		{name: "PutOfTheKeyAlone", table: all, operation: put("notes", "n1", `{}`),
			sql:  `insert into "public"."notes" as t ("id") values ($1) on conflict ("id") do update set "id" = excluded."id"`,
			args: `n1`},
		{name: "PutSendsTheKey", table: all, operation: put("notes", "n1", `{"id": "n1", "title": "a"}`),
			sql:  `insert into "public"."notes" as t ("id", "title") values ($1, $2) on conflict ("id") do update set "title" = excluded."title"`,
			args: `n1|a`},
		{name: "PutLeavesOutGenerated", table: all, operation: put("small", "s1", `{"a": "x", "rank": 5}`),
			sql:  `insert into "public"."small" as t ("id", "a") values ($1, $2) on conflict ("id") do update set "a" = excluded."a"`,
			args: `s1|x`},
		{name: "PutReplaces", table: "{allow: all, put: replace}", operation: put("small", "s1", `{"a": "x"}`),
			sql:  `insert into "public"."small" as t ("id", "a") values ($1, $2) on conflict ("id") do update set "a" = excluded."a", "b" = excluded."b"`,
			args: `s1|x`},
		{name: "PutReplacesWithNothing", table: "{allow: all, put: replace}", operation: put("small", "s1", `{}`),
			sql:  `insert into "public"."small" as t ("id") values ($1) on conflict ("id") do update set "a" = excluded."a", "b" = excluded."b"`,
			args: `s1`},
		{name: "PutReplacesButImmutable", table: "{allow: all, put: replace, immutable: [b]}", operation: put("small", "s1", `{"a": "x"}`),
			sql:  `insert into "public"."small" as t ("id", "a") values ($1, $2) on conflict ("id") do update set "a" = excluded."a"`,
			args: `s1|x`},
		{name: "PutInserts", table: "{allow: all, put: insert, owner: owner_id, immutable: [title], conflict: reject}", operation: put("notes", "n1", `{"title": "a"}`),
			sql:  `insert into "public"."notes" as t ("id", "title", "owner_id") values ($1, $2, $3)`,
			args: `n1|a|u1`},
		{name: "PutUnderRowSecurity", table: all, operation: put("secrets", "s1", `{"title": "a"}`),
			sql:  `insert into "public"."secrets" as t ("id", "title") values ($1, $2) on conflict ("id") do update set "title" = excluded."title"`,
			args: `s1|a`},

		{name: "Patch", table: all, operation: patch("notes", "n1", `{"title": "a", "price": 1.50, "at": null}`),
			sql:  `update "public"."notes" as t set "title" = $2, "price" = $3, "at" = coalesce($4::pg_catalog.timestamptz, (null::"public"."notes")."at") where t."id" = $1`,
			args: `n1|a|1.50|<null>`},
		{name: "PatchOfNothing", table: all, operation: patch("notes", "n1", `{}`)},
		{name: "PatchOfTheKeyAlone", table: all, operation: patch("notes", "n1", `{"id": "n1"}`)},
		{name: "PatchOfGeneratedAlone", table: all, operation: patch("notes", "n1", `{"rank": 3}`), sql: `select`},
		{name: "PatchOfNothingRejectsMissing", table: "{allow: all, on_missing: reject}", operation: patch("notes", "n1", `{}`),
			sql: `select postern.explain_no_row($1, $2, $3, $4, $5, coalesce(postern.row_version($2, $3, $4), '(0,0)'),
			case when t."id" is null then $6 end, $7, null)
			from (select) one left join lateral postern.current_row(null::"public"."notes", $3, $4, true) as t on true`,
			args: `0|1|{"id"}|{"n1"}|true|UNAUTHORIZED|DROPPED`},
		{name: "PatchRejectsMissing", table: "{allow: all, on_missing: reject}", operation: patch("notes", "n1", `{"title": "a"}`),
			sql: `with touched as (update "public"."notes" as t set "title" = $2
			where t."id" = $1 returning 1)
			select postern.explain_no_row($3, $4, $5, $6, $7, coalesce(postern.row_version($4, $5, $6), '(0,0)'),
			case when t."id" is null then $8 end, $9, null)
			from (select) one left join lateral postern.current_row(null::"public"."notes", $5, $6, true) as t on true where not exists (select from touched)`,
			args: `n1|a|0|1|{"id"}|{"n1"}|true|UNAUTHORIZED|DROPPED`},
		{name: "PatchUnderRowSecurity", table: all, operation: patch("secrets", "s1", `{"title": "a"}`),
			sql: `with touched as (update "public"."secrets" as t set "title" = $2
			where t."id" = $1 returning 1)
			select postern.explain_no_row($3, $4, $5, $6, $7, coalesce(postern.row_version($4, $5, $6), '(0,0)'),
			case when t."id" is null then $8 end, $9, null)
			from (select) one left join lateral postern.current_row(null::"public"."secrets", $5, $6, true) as t on true where not exists (select from touched)`,
			args: `s1|a|0|6|{"id"}|{"s1"}|false|UNAUTHORIZED|DROPPED`},

		{name: "Delete", table: all, operation: remove("notes", "n1"), sql: `delete from "public"."notes" as t where t."id" = $1`, args: `n1`},
		{name: "DeleteAcceptsMissing", table: "{allow: all, on_missing: reject}", operation: remove("notes", "n1"),
			sql:  `delete from "public"."notes" as t where t."id" = $1`,
			args: `n1`},
		{name: "DeleteUnderRowSecurity", table: all, operation: remove("secrets", "s1"),
			sql: `with touched as (delete from "public"."secrets" as t
			where t."id" = $1 returning 1)
			select postern.explain_no_row($2, $3, $4, $5, $6, coalesce(postern.row_version($3, $4, $5), '(0,0)'),
			case when t."id" is null then $7 end, $8, null)
			from (select) one left join lateral postern.current_row(null::"public"."secrets", $4, $5, false) as t on true where not exists (select from touched)`,
			args: `s1|0|6|{"id"}|{"s1"}|false|UNAUTHORIZED|UNAUTHORIZED`},
		{name: "SoftDeleteByBoolean", table: softly + "gone}", operation: remove("notes", "n1"),
			sql:  `update "public"."notes" as t set "gone" = true where t."id" = $1 and t."gone" is not true`,
			args: `n1`},
		{name: "SoftDeleteByTime", table: softly + "gone_at}", operation: remove("notes", "n1"),
			sql:  `update "public"."notes" as t set "gone_at" = now() where t."id" = $1 and t."gone_at" is null`,
			args: `n1`},
		{name: "SoftDeleteByTimeWithoutZone", table: softly + "gone_on}", operation: remove("notes", "n1"),
			sql:  `update "public"."notes" as t set "gone_on" = now() at time zone 'UTC' where t."id" = $1 and t."gone_on" is null`,
			args: `n1`},
		{name: "SoftDeleteCountsUp", table: softly + "gone, conflict: {version: rev}}", operation: remove("notes", "n1"),
			sql:  `update "public"."notes" as t set "gone" = true, "rev" = t."rev" + 1 where t."id" = $1 and t."gone" is not true`,
			args: `n1`},
		{name: "PatchOfADeletedRow", table: softly + "gone}", operation: patch("notes", "n1", `{"title": "a", "gone": 0}`),
			sql:  `update "public"."notes" as t set "title" = $2 where t."id" = $1 and t."gone" is not true`,
			args: `n1|a`},
		{name: "PatchOfADeletedRowRejectsMissing", table: softly + "gone_at, on_missing: reject}", operation: patch("notes", "n1", `{"title": "a"}`),
			sql: `with touched as (update "public"."notes" as t set "title" = $2 where t."id" = $1 and t."gone_at" is null returning 1)
			select postern.explain_no_row($3, $4, $5, $6, $7, coalesce(postern.row_version($4, $5, $6), '(0,0)'),
			case when t."id" is null then $8 end, $9, null, $10)
			from (select) one left join lateral postern.current_row(null::"public"."notes", $5, $6, true) as t on true where not exists (select from touched)`,
			args: `n1|a|0|1|{"id"}|{"n1"}|true|UNAUTHORIZED|DROPPED|gone_at`},
		{name: "PutOfADeletedRow", table: softly + "gone}", operation: put("notes", "n1", `{"title": "a", "gone": null}`),
			sql: `with touched as (insert into "public"."notes" as t ("id", "title") values ($1, $2) on conflict ("id") do update set
			"title" = excluded."title" where t."gone" is not true returning 1)
			select postern.explain_no_row($3, $4, $5, $6, $7, coalesce(postern.row_version($4, $5, $6), '(0,0)'),
			case when t."id" is null then $8 when (t."gone" is not true) is not true then $9 end, $10, null)
			from (select) one left join lateral postern.current_row(null::"public"."notes", $5, $6, true) as t on true where not exists (select from touched)`,
			args: `n1|a|0|1|{"id"}|{"n1"}|false|UNAUTHORIZED|ROW_DELETED|DROPPED`},

		{name: "CompositePut", table: "{allow: all, id: [list_id, user_id]}", operation: put("members", "l1:7", `{"role": "admin"}`),
			sql: `insert into "public"."members" as t ("list_id", "user_id", "role") values ($1, $2, $3)
			on conflict ("list_id", "user_id") do update set "role" = excluded."role"`,
			args: `l1|7|admin`},
		{name: "CompositePatch", table: "{allow: all, id: [user_id, list_id], separator: /}", operation: patch("members", "7/l1", `{"role": "admin"}`),
			sql:  `update "public"."members" as t set "role" = $3 where t."user_id" = $1 and t."list_id" = $2`,
			args: `7|l1|admin`},
		{name: "CompositeDelete", table: "{allow: all, id: [list_id, user_id]}", operation: remove("members", "l1:7"),
			sql:  `delete from "public"."members" as t where t."list_id" = $1 and t."user_id" = $2`,
			args: `l1|7`},

		{name: "IdentityPut", table: all, operation: put("counters", "7", `{"id": 7, "label": "a"}`),
			sql: `insert into "public"."counters" as t ("id", "label") overriding system value values ($1, $2)
			on conflict ("id") do update set "label" = excluded."label"`,
			args: `7|a`},
		{name: "IdentityPutOfTheKeyAlone", table: all, operation: put("counters", "7", `{}`),
			sql:  `insert into "public"."counters" as t ("id") overriding system value values ($1) on conflict ("id") do update set "label" = t."label"`,
			args: `7`},
		{name: "IdentityPutOfATableOfKeys", table: all, operation: put("numbers", "7", `{}`),
			sql:  `insert into "public"."numbers" as t ("id") overriding system value values ($1) on conflict ("id") do nothing`,
			args: `7`},
		{name: "IdentityPutReplaces", table: "{allow: all, put: replace}", operation: put("counters", "7", `{}`),
			sql:  `insert into "public"."counters" as t ("id") overriding system value values ($1) on conflict ("id") do update set "label" = excluded."label"`,
			args: `7`},
		{name: "IdentityPatch", table: all, operation: patch("counters", "7", `{"id": 7, "label": "a"}`),
			sql:  `update "public"."counters" as t set "label" = $2 where t."id" = $1`,
			args: `7|a`},

		{name: "QuotedNames", table: all, operation: put(`odd " name`, "n1", `{"a\"b": "x"}`),
			sql:  `insert into "public"."odd "" name" as t ("the id", "a""b") values ($1, $2) on conflict ("the id") do update set "a""b" = excluded."a""b"`,
			args: `n1|x`},
		{name: "ClientNames", table: "{table: public.notes, allow: all, columns: {heading: title}}", operation: patch("memos", "n1", `{"heading": "a"}`),
			sql:  `update "public"."notes" as t set "title" = $2 where t."id" = $1`,
			args: `n1|a`},
		{name: "Epoch", table: "{allow: all, epoch: {at: ms}}", operation: patch("notes", "n1", `{"at": 1700000000123}`),
			sql:  `update "public"."notes" as t set "at" = coalesce($2::pg_catalog.timestamptz, (null::"public"."notes")."at") where t."id" = $1`,
			args: `n1|2023-11-14 22:13:20.123+00`},
	} {
		t.Run(test.name, test.run)
	}
}

// TestGuards has the conditions on the stored row that an owner and immutable columns
// make.
func TestGuards(t *testing.T) {
	t.Parallel()
	const owned, fixed = "{allow: all, owner: owner_id}", "{allow: all, immutable: [title, qty]}"
	for _, test := range []statementCase{
		{name: "OwnerPut", table: owned, operation: put("notes", "n1", `{"title": "a"}`),
			sql: `with touched as (insert into "public"."notes" as t ("id", "title", "owner_id") values ($1, $2, $3)
			on conflict ("id") do update set "title" = excluded."title", "owner_id" = excluded."owner_id"
			where t."owner_id" = $4 returning 1)
			select postern.explain_no_row($5, $6, $7, $8, $9, coalesce(postern.row_version($6, $7, $8), '(0,0)'),
			case when t."id" is null then $10 when (t."owner_id" = $4) is not true then $11 end, $12, null)
			from (select) one left join lateral postern.current_row(null::"public"."notes", $7, $8, true) as t on true where not exists (select from touched)`,
			args: `n1|a|u1|u1|0|1|{"id"}|{"n1"}|false|UNAUTHORIZED|UNAUTHORIZED|DROPPED`},
		{name: "OwnerPutByTheClient", table: owned, operation: put("notes", "n1", `{"owner_id": "u1", "title": "a"}`),
			sql: `with touched as (insert into "public"."notes" as t ("id", "owner_id", "title") values ($1, $2, $3)
			on conflict ("id") do update set "owner_id" = excluded."owner_id", "title" = excluded."title"
			where t."owner_id" = $4 returning 1)
			select postern.explain_no_row($5, $6, $7, $8, $9, coalesce(postern.row_version($6, $7, $8), '(0,0)'),
			case when t."id" is null then $10 when (t."owner_id" = $4) is not true then $11 end, $12, null)
			from (select) one left join lateral postern.current_row(null::"public"."notes", $7, $8, true) as t on true where not exists (select from touched)`,
			args: `n1|u1|a|u1|0|1|{"id"}|{"n1"}|false|UNAUTHORIZED|UNAUTHORIZED|DROPPED`},
		{name: "OwnerPatch", table: owned, operation: patch("notes", "n1", `{"owner_id": "u1", "title": "a"}`),
			sql: `with touched as (update "public"."notes" as t set "title" = $2
			where t."id" = $1 and t."owner_id" = $3 returning 1)
			select postern.explain_no_row($4, $5, $6, $7, $8, coalesce(postern.row_version($5, $6, $7), '(0,0)'),
			case when t."id" is null then $9 when (t."owner_id" = $3) is not true then $10 end, $11, null)
			from (select) one left join lateral postern.current_row(null::"public"."notes", $6, $7, true) as t on true where not exists (select from touched)`,
			args: `n1|a|u1|0|1|{"id"}|{"n1"}|false|UNAUTHORIZED|UNAUTHORIZED|DROPPED`},
		{name: "OwnerPatchOfTheOwnerAlone", table: owned, operation: patch("notes", "n1", `{"owner_id": "u1"}`)},
		{name: "OwnerDelete", table: owned, operation: remove("notes", "n1"),
			sql: `with touched as (delete from "public"."notes" as t
			where t."id" = $1 and t."owner_id" = $2 returning 1)
			select postern.explain_no_row($3, $4, $5, $6, $7, coalesce(postern.row_version($4, $5, $6), '(0,0)'),
			case when t."id" is null then $8 when (t."owner_id" = $2) is not true then $9 end, $10, null)
			from (select) one left join lateral postern.current_row(null::"public"."notes", $5, $6, false) as t on true where not exists (select from touched)`,
			args: `n1|u1|0|1|{"id"}|{"n1"}|false|UNAUTHORIZED|UNAUTHORIZED|UNAUTHORIZED`},
		{name: "OwnerSoftDelete", table: "{allow: all, owner: owner_id, soft_delete: gone}", operation: remove("notes", "n1"),
			sql: `with touched as (update "public"."notes" as t set "gone" = true
			where t."id" = $1 and t."gone" is not true and t."owner_id" = $2 returning 1)
			select postern.explain_no_row($3, $4, $5, $6, $7, coalesce(postern.row_version($4, $5, $6), '(0,0)'),
			case when t."id" is null then $8 when (t."owner_id" = $2) is not true then $9 end, $10, null, $11)
			from (select) one left join lateral postern.current_row(null::"public"."notes", $5, $6, true) as t on true where not exists (select from touched)`,
			args: `n1|u1|0|1|{"id"}|{"n1"}|false|UNAUTHORIZED|UNAUTHORIZED|DROPPED|gone`},
		{name: "OwnerInTheKey", table: "{allow: all, id: [list_id, user_id], owner: list_id}", operation: put("members", "u1:7", `{"role": "admin"}`),
			sql: `with touched as (insert into "public"."members" as t ("list_id", "user_id", "role") values ($1, $2, $3)
			on conflict ("list_id", "user_id") do update set "role" = excluded."role"
			where t."list_id" = $4 returning 1)
			select postern.explain_no_row($5, $6, $7, $8, $9, coalesce(postern.row_version($6, $7, $8), '(0,0)'),
			case when t."list_id" is null then $10 when (t."list_id" = $4) is not true then $11 end, $12, null)
			from (select) one left join lateral postern.current_row(null::"public"."members", $7, $8, true) as t on true where not exists (select from touched)`,
			args: `u1|7|admin|u1|0|3|{"list_id","user_id"}|{"u1","7"}|false|UNAUTHORIZED|UNAUTHORIZED|DROPPED`},

		{name: "ImmutablePut", table: fixed, operation: put("notes", "n1", `{"title": "a", "price": 2}`),
			sql: `with touched as (insert into "public"."notes" as t ("id", "title", "price") values ($1, $2, $3)
			on conflict ("id") do update set "title" = excluded."title", "price" = excluded."price"
			where t."title" is not distinct from $4 returning 1)
			select postern.explain_no_row($5, $6, $7, $8, $9, coalesce(postern.row_version($6, $7, $8), '(0,0)'),
			case when t."id" is null then $10 when (t."title" is not distinct from $4) is not true then $11 end, $12, null)
			from (select) one left join lateral postern.current_row(null::"public"."notes", $7, $8, true) as t on true where not exists (select from touched)`,
			args: `n1|a|2|a|0|1|{"id"}|{"n1"}|false|UNAUTHORIZED|IMMUTABLE_COLUMN|DROPPED`},
		{name: "ImmutablePutNotSent", table: fixed, operation: put("notes", "n1", `{"price": 2}`),
			sql:  `insert into "public"."notes" as t ("id", "price") values ($1, $2) on conflict ("id") do update set "price" = excluded."price"`,
			args: `n1|2`},
		{name: "ImmutablePatchUnchanged", table: fixed, operation: after(`{"title": "a"}`, patch("notes", "n1", `{"title": "a", "price": 2}`)),
			sql:  `update "public"."notes" as t set "price" = $2 where t."id" = $1`,
			args: `n1|2`},
		{name: "ImmutableDelete", table: fixed, operation: remove("notes", "n1"), sql: `delete from "public"."notes" as t where t."id" = $1`, args: `n1`},
		{name: "ImmutableJSON", table: "{allow: all, immutable: [raw]}", operation: put("notes", "n1", `{"raw": "[1]"}`),
			sql: `with touched as (insert into "public"."notes" as t ("id", "raw") values ($1, $2)
			on conflict ("id") do update set "raw" = excluded."raw"
			where t."raw"::text is not distinct from $3::json::text returning 1)
			select postern.explain_no_row($4, $5, $6, $7, $8, coalesce(postern.row_version($5, $6, $7), '(0,0)'),
			case when t."id" is null then $9 when (t."raw"::text is not distinct from $3::json::text) is not true then $10 end, $11, null)
			from (select) one left join lateral postern.current_row(null::"public"."notes", $6, $7, true) as t on true where not exists (select from touched)`,
			args: `n1|[1]|[1]|0|1|{"id"}|{"n1"}|false|UNAUTHORIZED|IMMUTABLE_COLUMN|DROPPED`},
		{name: "OwnerAndImmutable", table: "{allow: all, owner: owner_id, immutable: [title]}", operation: put("notes", "n1", `{"title": "a"}`),
			sql: `with touched as (insert into "public"."notes" as t ("id", "title", "owner_id") values ($1, $2, $3)
			on conflict ("id") do update set "title" = excluded."title", "owner_id" = excluded."owner_id"
			where t."owner_id" = $4 and t."title" is not distinct from $5 returning 1)
			select postern.explain_no_row($6, $7, $8, $9, $10, coalesce(postern.row_version($7, $8, $9), '(0,0)'),
			case when t."id" is null then $11 when (t."owner_id" = $4) is not true then $12 when (t."title" is not distinct from $5) is not true then $13 end, $14, null)
			from (select) one left join lateral postern.current_row(null::"public"."notes", $8, $9, true) as t on true where not exists (select from touched)`,
			args: `n1|a|u1|u1|a|0|1|{"id"}|{"n1"}|false|UNAUTHORIZED|UNAUTHORIZED|IMMUTABLE_COLUMN|DROPPED`},

		{name: "SetAndDefaults", table: "{allow: all, set: {gone_at: now}, defaults: {title: \"'none'\"}}", operation: put("notes", "n1", `{"qty": 1}`),
			sql: `insert into "public"."notes" as t ("id", "qty", "gone_at", "title") values ($1, $2, coalesce($3::pg_catalog.timestamptz, (null::"public"."notes")."gone_at"), $4)
			on conflict ("id") do update set "qty" = excluded."qty", "gone_at" = excluded."gone_at"`,
			args: `n1|1|2026-01-02 03:04:05+00|none`},
		{name: "ImmutableIsSet", table: "{allow: all, immutable: [title], set: {title: auth.sub}}", operation: put("notes", "n1", `{"qty": 1, "title": "x"}`),
			sql:  `insert into "public"."notes" as t ("id", "qty", "title") values ($1, $2, $3) on conflict ("id") do update set "qty" = excluded."qty"`,
			args: `n1|1|u1`},
		{name: "ImmutableIsNotSetByAPatch", table: "{allow: all, immutable: [title], set: {title: auth.sub}}", operation: patch("notes", "n1", `{"qty": 1}`),
			sql:  `update "public"."notes" as t set "qty" = $2 where t."id" = $1`,
			args: `n1|1`},
		{name: "DefaultsOfAReplacingPut", table: "{allow: all, put: replace, defaults: {a: \"'none'\"}}", operation: put("small", "s1", `{}`),
			sql:  `insert into "public"."small" as t ("id", "a") values ($1, $2) on conflict ("id") do update set "a" = excluded."a", "b" = excluded."b"`,
			args: `s1|none`},
	} {
		t.Run(test.name, test.run)
	}
}

// TestText has operations that differ in their values alone. Their statements have one
// text, which has none of the values, so that a connection parses it once.
func TestText(t *testing.T) {
	t.Parallel()
	const first, second = `odd'; "$1" \\ --`, `/* even`
	for _, test := range []struct {
		name, table, policy string
		make                func(id, value string) upload.Operation
	}{
		{"Put", "small", all, func(id, value string) upload.Operation { return put("small", id, `{"a": `+value+`}`) }},
		{"PutUnderRowSecurity", "secrets", all, func(id, value string) upload.Operation { return put("secrets", id, `{"title": `+value+`}`) }},
		{"Patch", "small", all, func(id, value string) upload.Operation { return patch("small", id, `{"a": `+value+`}`) }},
		{"PatchUnderRowSecurity", "secrets", all, func(id, value string) upload.Operation { return patch("secrets", id, `{"title": `+value+`}`) }},
		{"PatchRejectsMissing", "small", "{allow: all, on_missing: reject}", func(id, value string) upload.Operation { return patch("small", id, `{"a": `+value+`}`) }},
		{"PatchOfNothing", "small", "{allow: all, on_missing: reject}", func(id, _ string) upload.Operation { return patch("small", id, `{}`) }},
		{"Delete", "small", all, func(id, _ string) upload.Operation { return remove("small", id) }},
		{"DeleteUnderRowSecurity", "secrets", all, func(id, _ string) upload.Operation { return remove("secrets", id) }},
		{"SoftDelete", "notes", "{allow: all, soft_delete: gone_at}", func(id, _ string) upload.Operation { return remove("notes", id) }},
		{"PutUnderSoftDelete", "notes", "{allow: all, soft_delete: gone_at}", func(id, value string) upload.Operation { return put("notes", id, `{"title": `+value+`}`) }},
		{"Defaults", "small", "{allow: all, defaults: {b: metadata}}", func(id, value string) upload.Operation { return noted(value, put("small", id, `{"a": `+value+`}`)) }},
		{"Immutable", "small", "{allow: all, immutable: [a]}", func(id, value string) upload.Operation { return put("small", id, `{"a": `+value+`}`) }},
		{"Owner", "small", "{allow: all, owner: b}", func(id, value string) upload.Operation { return patch("small", id, `{"a": `+value+`}`) }},
		{"Fields", "small", "{allow: all, conflict: fields}", func(id, value string) upload.Operation {
			return after(`{"a": `+value+`}`, patch("small", id, `{"a": `+value+`}`))
		}},
		{"Reject", "small", "{allow: all, conflict: reject}", func(id, value string) upload.Operation { return after(`{"a": `+value+`}`, remove("small", id)) }},
		{"History", "small", "{allow: all, history: changes}", func(id, value string) upload.Operation {
			return noted(value, after(`{"a": `+value+`}`, put("small", id, `{"a": `+value+`}`)))
		}},
		{"Rule", "small", `{allow: all, rules: [{name: r, check: old == null || lookup.l != null, code: C, message: m, lookup: {l: "select 1 from small where a = $new.a and id = $id"}}]}`,
			func(id, value string) upload.Operation { return put("small", id, `{"a": `+value+`}`) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := newPlanner(t, shop, "tables: {"+test.table+": "+test.policy+", members: {allow: all, id: [list_id, user_id]}}")
			a, b, other := test.make(first+"1", strconv.Quote(first)), test.make(second+"2", strconv.Quote(second)), remove("members", "l1:7")
			repeated := sent(t, p, a, b)
			require.Len(t, repeated, 2)
			require.Equal(t, textsOf(repeated[:1]), textsOf(repeated[1:]))
			for _, sql := range slices.Concat(textsOf(repeated), textsOfLocks(t, planned(t, p, a, b)[0])) {
				require.NotContains(t, sql, "odd")
				require.NotContains(t, sql, "even")
			}
			rendered := sent(t, p, other, b)
			require.Equal(t, textsOf(rendered[1:]), textsOf(repeated[1:]))
			require.Equal(t, args(rendered[1].Statement), args(repeated[1].Statement))
		})
	}
}

// TestWithoutRulesRestores is that the team's replay of a PUT restores a row that a soft
// delete has deleted, and that its PATCH changes it.
func TestWithoutRulesRestores(t *testing.T) {
	t.Parallel()
	p := newPlanner(t, shop, "tables: {notes: {allow: all, soft_delete: gone}}")
	p.Set = p.Set.WithoutRules()
	texts := textsOf(sent(t, p, put("notes", "n1", `{"title": "a"}`), put("notes", "n1", `{"gone": 1}`), patch("notes", "n1", `{"title": "a"}`)))
	require.Equal(t, []string{
		`insert into "public"."notes" as t ("id", "title") values ($1, $2) on conflict ("id") do update set "title" = excluded."title", "gone" = excluded."gone"`,
		`insert into "public"."notes" as t ("id", "gone") values ($1, coalesce($2::pg_catalog.bool, (null::"public"."notes")."gone")) on conflict ("id") do update set "gone" = excluded."gone"`,
		`update "public"."notes" as t set "title" = $2 where t."id" = $1`,
	}, texts)
}

// TestTextsThatDiffer has operations one after the other that look alike and need
// statements of their own.
func TestTextsThatDiffer(t *testing.T) {
	t.Parallel()
	p := newPlanner(t, shop, `tables: {notes: {allow: all, defaults: {title: "'none'"}}, bin: {table: public.notes, allow: all, owner: owner_id}}`)
	for _, test := range []struct {
		name          string
		first, second upload.Operation
	}{
		{"Kind", put("notes", "n1", `{"qty": 1}`), patch("notes", "n1", `{"qty": 1}`)},
		{"Columns", patch("notes", "n1", `{"qty": 1}`), patch("notes", "n2", `{"price": 1}`)},
		{"OrderOfColumns", patch("notes", "n1", `{"qty": 1, "price": 1}`), patch("notes", "n2", `{"price": 1, "qty": 1}`)},
		{"Policy", remove("notes", "n1"), remove("bin", "n2")},
		{"DefaultOrSent", put("notes", "n1", `{"qty": 1}`), put("notes", "n2", `{"qty": 1, "title": "a"}`)},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			texts := textsOf(sent(t, p, test.first, test.second))
			require.Equal(t, textsOf(sent(t, p, test.first))[0], texts[0])
			require.Equal(t, textsOf(sent(t, p, test.second))[0], texts[1])
			require.NotEqual(t, texts[0], texts[1])
		})
	}
}

// textsOf is the SQL of operations, with the queries of their rules.
func textsOf(operations []*plan.Operation) (list []string) {
	for _, o := range operations {
		list = append(list, o.SQL)
		if o.Checks == nil {
			continue
		}
		for _, q := range slices.Concat(o.Checks.Before(), o.Checks.After()) {
			list = append(list, q.SQL)
		}
	}
	return list
}

// textsOfLocks is the SQL that locks what the operations of an order need.
func textsOfLocks(t *testing.T, order *plan.Order) (list []string) {
	t.Helper()
	locked := locks(t, order, nil)
	for _, lock := range slices.Concat(locked.Rows, locked.Keys) {
		list = append(list, lock.SQL)
	}
	return list
}
