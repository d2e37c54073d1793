package plan_test

import "testing"

// TestConflictByColumn has the statement of each column's strategy for each operation.
func TestConflictByColumn(t *testing.T) {
	t.Parallel()
	const (
		mixed  = "{allow: all, conflict: {columns: {title: {newest: at}, qty: increment, raw: fields, price: reject}}}"
		newest = "{allow: all, conflict: {columns: {'*': {newest: at}}}}"
		number = "{allow: all, conflict: {columns: {title: {newest: rev}}}}"
		bound  = "{allow: all, conflict: {columns: {title: {newest: {column: gone_on, ahead: 5m}}}}}"
		fields = "{allow: all, conflict: {columns: {title: fields}}}"
	)
	for _, test := range []statementCase{
		{name: "MixedPut", table: mixed, operation: put("notes", "n1", `{"title": "a", "at": "2026-01-02T03:04:05Z", "qty": 3, "raw": "[1]", "price": 2}`),
			sql: `with
			touched as (insert into "public"."notes" as t ("id", "title", "at", "qty", "raw", "price") values ($1, $2, coalesce($3::pg_catalog.timestamptz, (null::"public"."notes")."at"), $4, $5, $6)
			on conflict ("id") do update set "title" = case when t."at" is null or t."at" <= $8::timestamp(3) with time zone then excluded."title" else t."title" end,
			"at" = greatest(t."at", excluded."at"),
			"qty" = t."qty",
			"raw" = excluded."raw",
			"price" = excluded."price" where t."price" is not distinct from $7::numeric(10,2)
			returning 1, not (t."title" is not distinct from $9) as resolved0, not (t."qty" is not distinct from $10) as resolved1)
			select postern.explain_no_row($11, $12, $13, $14, $15, coalesce(postern.row_version($12, $13, $14), '(0,0)'),
			case when t."id" is null then $16 when (t."price" is not distinct from $7::numeric(10,2)) is not true then $17 end, $18, to_jsonb(t.*))
			from (select) one left join lateral postern.current_row(null::"public"."notes", $13, $14, true) as t on true where not exists (select from touched)
			union all select array[resolved0, resolved1]::text from touched`,
			args: `n1|a|2026-01-02 03:04:05+00|3|[1]|2|2|2026-01-02 03:04:05+00|a|3|0|1|{"id"}|{"n1"}|false|UNAUTHORIZED|CONFLICT|DROPPED`},
		{name: "MixedPatch", table: mixed, operation: after(`{"qty": 1, "raw": "[1]", "price": "1.50"}`, patch("notes", "n1", `{"title": "a", "at": "2026-01-02T03:04:05Z", "qty": 3, "raw": "[2]", "price": 2}`)),
			sql: `with
			touched as (update "public"."notes" as t set "title" = case when t."at" is null or t."at" <= $8::timestamp(3) with time zone then $2 else t."title" end,
			"at" = greatest(t."at", coalesce($3::pg_catalog.timestamptz, (null::"public"."notes")."at")),
			"qty" = coalesce(t."qty", 0) + ($4::int4 - $9::int4),
			"raw" = case when t."raw"::text is not distinct from $10::json::text then $5 else t."raw" end,
			"price" = $6
			where t."id" = $1 and t."price" is not distinct from $7::numeric(10,2)
			returning 1, not (t."title" is not distinct from $11) as resolved0, not (t."qty" is not distinct from $12) as resolved1, not (t."raw"::text is not distinct from $13::json::text) as resolved2)
			select postern.explain_no_row($14, $15, $16, $17, $18, coalesce(postern.row_version($15, $16, $17), '(0,0)'),
			case when t."id" is null then $19 when (t."price" is not distinct from $7::numeric(10,2)) is not true then $20 end, $21, to_jsonb(t.*))
			from (select) one left join lateral postern.current_row(null::"public"."notes", $16, $17, true) as t on true where not exists (select from touched)
			union all select array[resolved0, resolved1, resolved2]::text from touched`,
			args: `n1|a|2026-01-02 03:04:05+00|3|[2]|2|1.50|2026-01-02 03:04:05+00|1|[1]|a|3|[2]|0|1|{"id"}|{"n1"}|false|UNAUTHORIZED|CONFLICT|DROPPED`},
		{name: "MixedPatchOfAnotherColumn", table: mixed, operation: after(`{"price": 1}`, patch("notes", "n1", `{"owner_id": "u2"}`)),
			sql: `update "public"."notes" as t set "owner_id" = $2
			where t."id" = $1`,
			args: `n1|u2`},
		{name: "MixedPatchOfTheTimeAlone", table: mixed, operation: patch("notes", "n1", `{"at": "2026-01-02T03:04:05Z"}`),
			sql: `update "public"."notes" as t set
			"at" = greatest(t."at", coalesce($2::pg_catalog.timestamptz, (null::"public"."notes")."at"))
			where t."id" = $1`,
			args: `n1|2026-01-02 03:04:05+00`},
		{name: "MixedDelete", table: mixed, operation: remove("notes", "n1"),
			sql: `delete from "public"."notes" as t
			where t."id" = $1`,
			args: `n1`},
		{name: "MixedDeleteTracked", table: mixed, operation: after(`{"qty": 1, "title": "was", "price": null}`, remove("notes", "n1")),
			sql: `with
			touched as (delete from "public"."notes" as t
			where t."id" = $1 and t."price" is not distinct from $2::numeric(10,2)
			returning 1)
			select postern.explain_no_row($3, $4, $5, $6, $7, coalesce(postern.row_version($4, $5, $6), '(0,0)'),
			case when t."id" is null then $8 when (t."price" is not distinct from $2::numeric(10,2)) is not true then $9 end, $10, to_jsonb(t.*))
			from (select) one left join lateral postern.current_row(null::"public"."notes", $5, $6, false) as t on true where not exists (select from touched)`,
			args: `n1|<null>|0|1|{"id"}|{"n1"}|false|UNAUTHORIZED|CONFLICT|UNAUTHORIZED`},
		{name: "IncrementToNull", table: mixed, operation: after(`{"qty": 1}`, patch("notes", "n1", `{"qty": null}`)),
			sql: `update "public"."notes" as t set
			"qty" = $2
			where t."id" = $1`,
			args: `n1|<null>`},
		{name: "NewestOfSeveral", table: newest, operation: patch("notes", "n1", `{"title": "a", "qty": 1, "at": "2026-01-02T03:04:05Z"}`),
			sql: `with
			touched as (update "public"."notes" as t set "title" = case when t."at" is null or t."at" <= $5::timestamp(3) with time zone then $2 else t."title" end,
			"qty" = case when t."at" is null or t."at" <= $6::timestamp(3) with time zone then $3 else t."qty" end,
			"at" = greatest(t."at", coalesce($4::pg_catalog.timestamptz, (null::"public"."notes")."at"))
			where t."id" = $1
			returning 1, not (t."title" is not distinct from $7) as resolved0, not (t."qty" is not distinct from $8) as resolved1) select array[resolved0, resolved1]::text from touched`,
			args: `n1|a|1|2026-01-02 03:04:05+00|2026-01-02 03:04:05+00|2026-01-02 03:04:05+00|a|1`},
		{name: "NewestByANumber", table: number, operation: patch("notes", "n1", `{"title": "a", "rev": 5}`),
			sql: `with
			touched as (update "public"."notes" as t set "title" = case when t."rev" is null or t."rev" <= $4 then $2 else t."title" end, "rev" = greatest(t."rev", $3)
			where t."id" = $1
			returning 1, not (t."title" is not distinct from $5) as resolved0) select array[resolved0]::text from touched`,
			args: `n1|a|5|5|a`},
		{name: "NewestWithinTheBound", table: bound, operation: patch("notes", "n1", `{"title": "a", "gone_on": "2026-01-02T03:09:05"}`),
			sql: `with
			touched as (update "public"."notes" as t set "title" = case when t."gone_on" is null or t."gone_on" <= $4 then $2 else t."title" end, "gone_on" = greatest(t."gone_on", coalesce($3::pg_catalog.timestamp, (null::"public"."notes")."gone_on"))
			where t."id" = $1
			returning 1, not (t."title" is not distinct from $5) as resolved0) select array[resolved0]::text from touched`,
			args: `n1|a|2026-01-02 03:09:05|2026-01-02 03:09:05|a`},
		{name: "NewestBeyondTheBound", table: bound, operation: patch("notes", "n1", `{"title": "a", "gone_on": "2026-01-02T03:09:06"}`),
			sql: `with
			touched as (update "public"."notes" as t set "title" = case when t."gone_on" is null or t."gone_on" <= $4 then $2 else t."title" end, "gone_on" = greatest(t."gone_on", coalesce($3::pg_catalog.timestamp, (null::"public"."notes")."gone_on"))
			where t."id" = $1
			returning 1, not (t."title" is not distinct from $5) as resolved0) select array[resolved0]::text from touched`,
			args: `n1|a|2026-01-02 03:04:05|2026-01-02 03:04:05|a`},
		{name: "NewestRowBeyondTheBound", table: "{allow: all, conflict: {newest: {column: gone_at, ahead: 5m}}}", operation: put("notes", "n1", `{"title": "a", "gone_at": "infinity"}`),
			sql: `with touched as (insert into "public"."notes" as t ("id", "title", "gone_at") values ($1, $2, coalesce($3::pg_catalog.timestamptz, (null::"public"."notes")."gone_at"))
			on conflict ("id") do update set "title" = excluded."title", "gone_at" = excluded."gone_at" where (t."gone_at" is null or t."gone_at" <= $4) returning 1)
			select postern.explain_no_row($5, $6, $7, $8, $9, coalesce(postern.row_version($6, $7, $8), '(0,0)'),
			case when t."id" is null then $10 when ((t."gone_at" is null or t."gone_at" <= $4)) is not true then $11 end, $12, null)
			from (select) one left join lateral postern.current_row(null::"public"."notes", $7, $8, true) as t on true where not exists (select from touched)`,
			args: `n1|a|2026-01-02 03:04:05+00|2026-01-02 03:04:05+00|0|1|{"id"}|{"n1"}|false|UNAUTHORIZED|DROPPED|DROPPED`},
		{name: "FieldsPut", table: fields, operation: put("notes", "n1", `{"title": "a"}`),
			sql: `insert into "public"."notes" as t ("id", "title") values ($1, $2)
			on conflict ("id") do update set "title" = excluded."title"`,
			args: `n1|a`},
		{name: "FieldsWithHistory", table: "{allow: all, history: changes, conflict: {columns: {title: fields}}}", operation: after(`{"title": "was"}`, patch("notes", "n1", `{"title": "a"}`)),
			sql: `with before as (select t."title" from "public"."notes" as t
			where t."id" = $1 for update of t),
			touched as (update "public"."notes" as t set "title" = case when t."title" is not distinct from $5 then $2 else t."title" end
			where t."id" = $1 and exists (select from before)
			returning 1, to_jsonb(t."title") as touched0, not (t."title" is not distinct from $6) as resolved0),
			history as (insert into "public"."changes" ("row_id", "field", "previous", "value") select $4::text, change.field, change.previous, change.value #>> '{}'
			from touched left join before as b on true cross join lateral (values ($3::text, to_jsonb(b."title"), touched0, true)) as change (field, previous, value, counts) where counts and change.previous is distinct from change.value)
			select postern.explain_no_row($7, $8, $9, $10, $11, coalesce(postern.row_version($8, $9, $10), '(0,0)'),
			case when t."id" is null then $12 when (exists (select from before)) is not true then $13 end, $14, null)
			from (select) one left join lateral postern.current_row(null::"public"."notes", $9, $10, true) as t on true where not exists (select from touched)
			union all select array[resolved0]::text from touched`,
			args: `n1|a|title|n1|was|a|0|1|{"id"}|{"n1"}|false|UNAUTHORIZED|AGAIN|DROPPED`},
		{name: "FieldsWithAMissingRow", table: "{allow: all, on_missing: reject, conflict: {columns: {title: fields}}}", operation: after(`{"title": "was"}`, patch("notes", "n1", `{"title": "a"}`)),
			sql: `with
			touched as (update "public"."notes" as t set "title" = case when t."title" is not distinct from $3 then $2 else t."title" end
			where t."id" = $1
			returning 1, not (t."title" is not distinct from $4) as resolved0)
			select postern.explain_no_row($5, $6, $7, $8, $9, coalesce(postern.row_version($6, $7, $8), '(0,0)'),
			case when t."id" is null then $10 end, $11, null)
			from (select) one left join lateral postern.current_row(null::"public"."notes", $7, $8, true) as t on true where not exists (select from touched)
			union all select array[resolved0]::text from touched`,
			args: `n1|a|was|a|0|1|{"id"}|{"n1"}|true|UNAUTHORIZED|DROPPED`},
		{name: "FieldsWithADefault", table: "{allow: all, defaults: {title: \"'none'\"}, conflict: {columns: {title: {newest: at}}}}", operation: put("notes", "n1", `{"qty": 1}`),
			sql: `insert into "public"."notes" as t ("id", "qty", "title") values ($1, $2, $3)
			on conflict ("id") do update set
			"qty" = excluded."qty"`,
			args: `n1|1|none`},
	} {
		t.Run(test.name, test.run)
	}
}
