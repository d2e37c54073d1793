package plan_test

import "testing"

// TestHistory has the statement of each write that adds rows to a history: what was
// stored before and after, whatever the client says of it.
func TestHistory(t *testing.T) {
	t.Parallel()
	const kept = "{allow: all, history: changes}"
	for _, test := range []statementCase{
		{name: "Put", table: kept, operation: put("notes", "n1", `{"title": "a"}`),
			sql: `with before as (select t."title" from "public"."notes" as t where t."id" = $1 for update of t),
			touched as (insert into "public"."notes" as t ("id", "title") values ($1, $2) on conflict ("id") do update set "title" = excluded."title" where exists (select from before) returning 1, to_jsonb(t."title") as touched0),
			history as (insert into "public"."changes" ("row_id", "field", "previous", "value") select $4::text, change.field, change.previous, change.value #>> '{}'
			from touched left join before as b on true cross join lateral (values ($3::text, to_jsonb(b."title"), touched0, true)) as change (field, previous, value, counts) where counts and change.previous is distinct from change.value)
			select postern.explain_no_row($5, $6, $7, $8, $9, coalesce(postern.row_version($6, $7, $8), '(0,0)'),
			case when t."id" is null then $10 when (exists (select from before)) is not true then $11 end, $12, null)
			from (select) one left join lateral postern.current_row(null::"public"."notes", $7, $8, true) as t on true where not exists (select from touched)`,
			args: `n1|a|title|n1|0|1|{"id"}|{"n1"}|false|UNAUTHORIZED|AGAIN|DROPPED`},
		{name: "PutOfTheKeyAlone", table: kept, operation: put("notes", "n1", `{"id": "n1"}`),
			sql:  `insert into "public"."notes" as t ("id") values ($1) on conflict ("id") do update set "id" = excluded."id"`,
			args: `n1`},
		{name: "Patch", table: kept, operation: after(`{"title": "was"}`, patch("notes", "n1", `{"title": "a", "qty": 3}`)),
			sql: `with before as (select t."title", t."qty" from "public"."notes" as t where t."id" = $1 for update of t),
			touched as (update "public"."notes" as t set "title" = $2, "qty" = $3 where t."id" = $1 and exists (select from before) returning 1, to_jsonb(t."title") as touched0, to_jsonb(t."qty") as touched1),
			history as (insert into "public"."changes" ("row_id", "field", "previous", "value") select $6::text, change.field, change.previous, change.value #>> '{}'
			from touched left join before as b on true cross join lateral (values ($4::text, to_jsonb(b."title"), touched0, true), ($5::text, to_jsonb(b."qty"), touched1, true)) as change (field, previous, value, counts) where counts and change.previous is distinct from change.value)
			select postern.explain_no_row($7, $8, $9, $10, $11, coalesce(postern.row_version($8, $9, $10), '(0,0)'),
			case when t."id" is null then $12 when (exists (select from before)) is not true then $13 end, $14, null)
			from (select) one left join lateral postern.current_row(null::"public"."notes", $9, $10, true) as t on true where not exists (select from touched)`,
			args: `n1|a|3|title|qty|n1|0|1|{"id"}|{"n1"}|false|UNAUTHORIZED|AGAIN|DROPPED`},
		{name: "Metadata", table: kept, operation: noted("why", patch("notes", "n1", `{"title": "a"}`)),
			sql: `with before as (select t."title" from "public"."notes" as t where t."id" = $1 for update of t),
			touched as (update "public"."notes" as t set "title" = $2 where t."id" = $1 and exists (select from before) returning 1, to_jsonb(t."title") as touched0),
			history as (insert into "public"."changes" ("row_id", "field", "previous", "value", "metadata") select $4::text, change.field, change.previous, change.value #>> '{}', $5::text
			from touched left join before as b on true cross join lateral (values ($3::text, to_jsonb(b."title"), touched0, true)) as change (field, previous, value, counts) where counts and change.previous is distinct from change.value)
			select postern.explain_no_row($6, $7, $8, $9, $10, coalesce(postern.row_version($7, $8, $9), '(0,0)'),
			case when t."id" is null then $11 when (exists (select from before)) is not true then $12 end, $13, null)
			from (select) one left join lateral postern.current_row(null::"public"."notes", $8, $9, true) as t on true where not exists (select from touched)`,
			args: `n1|a|title|n1|why|0|1|{"id"}|{"n1"}|false|UNAUTHORIZED|AGAIN|DROPPED`},
		{name: "InJSON", table: "{allow: all, history: changes_in_json}", operation: noted("why", after(`{"title": "was"}`, patch("notes", "n1", `{"title": "a"}`))),
			sql: `with before as (select t."title" from "public"."notes" as t where t."id" = $1 for update of t),
			touched as (update "public"."notes" as t set "title" = $2 where t."id" = $1 and exists (select from before) returning 1, to_jsonb(t."title") as touched0),
			history as (insert into "public"."changes_in_json" ("row_id", "field", "previous", "value") select $4::text, change.field, change.previous::json, change.value
			from touched left join before as b on true cross join lateral (values ($3::text, to_jsonb(b."title"), touched0, true)) as change (field, previous, value, counts) where counts and change.previous is distinct from change.value)
			select postern.explain_no_row($5, $6, $7, $8, $9, coalesce(postern.row_version($6, $7, $8), '(0,0)'),
			case when t."id" is null then $10 when (exists (select from before)) is not true then $11 end, $12, null)
			from (select) one left join lateral postern.current_row(null::"public"."notes", $7, $8, true) as t on true where not exists (select from touched)`,
			args: `n1|a|title|n1|0|1|{"id"}|{"n1"}|false|UNAUTHORIZED|AGAIN|DROPPED`},
		{name: "Delete", table: "{table: public.small, allow: all, history: changes}", operation: remove("notes", "s1"),
			sql: `with
			touched as (delete from "public"."small" as t where t."id" = $1 returning 1, to_jsonb(t."a") as touched0, to_jsonb(t."b") as touched1),
			history as (insert into "public"."changes" ("row_id", "field", "previous", "value") select $4::text, change.field, change.previous, change.value #>> '{}'
			from touched cross join lateral (values ($2::text, touched0, null::jsonb, true), ($3::text, touched1, null::jsonb, true)) as change (field, previous, value, counts) where counts and change.previous is distinct from change.value) select from touched`,
			args: `s1|a|b|s1`},
		{name: "PutThatInserts", table: "{allow: all, history: changes, put: insert}", operation: put("notes", "n1", `{"title": "a"}`),
			sql: `with
			touched as (insert into "public"."notes" as t ("id", "title") values ($1, $2) returning 1),
			history as (insert into "public"."changes" ("row_id", "field", "previous", "value") select $4::text, change.field, change.previous, change.value #>> '{}'
			from touched cross join lateral (values ($3::text, null::jsonb, to_jsonb($2), true)) as change (field, previous, value, counts) where counts and change.previous is distinct from change.value) select from touched`,
			args: `n1|a|title|n1`},
		{name: "PutThatReplaces", table: "{table: public.small, allow: all, history: changes, put: replace}", operation: put("notes", "s1", `{"a": "x"}`),
			sql: `with before as (select t."a", t."b" from "public"."small" as t where t."id" = $1 for update of t),
			touched as (insert into "public"."small" as t ("id", "a") values ($1, $2) on conflict ("id") do update set "a" = excluded."a", "b" = excluded."b" where exists (select from before) returning 1, to_jsonb(t."a") as touched0, to_jsonb(t."b") as touched1),
			history as (insert into "public"."changes" ("row_id", "field", "previous", "value") select $5::text, change.field, change.previous, change.value #>> '{}'
			from touched left join before as b on true cross join lateral (values ($3::text, to_jsonb(b."a"), touched0, true), ($4::text, to_jsonb(b."b"), touched1, exists (select from before))) as change (field, previous, value, counts) where counts and change.previous is distinct from change.value)
			select postern.explain_no_row($6, $7, $8, $9, $10, coalesce(postern.row_version($7, $8, $9), '(0,0)'),
			case when t."id" is null then $11 when (exists (select from before)) is not true then $12 end, $13, null)
			from (select) one left join lateral postern.current_row(null::"public"."small", $8, $9, true) as t on true where not exists (select from touched)`,
			args: `s1|x|a|b|s1|0|2|{"id"}|{"s1"}|false|UNAUTHORIZED|AGAIN|DROPPED`},
		{name: "SoftDelete", table: "{allow: all, history: changes, soft_delete: gone}", operation: remove("notes", "n1"),
			sql: `with before as (select t."gone" from "public"."notes" as t where t."id" = $1 and t."gone" is not true for update of t),
			touched as (update "public"."notes" as t set "gone" = true where t."id" = $1 and t."gone" is not true and exists (select from before) returning 1, to_jsonb(t."gone") as touched0),
			history as (insert into "public"."changes" ("row_id", "field", "previous", "value") select $3::text, change.field, change.previous, change.value #>> '{}'
			from touched left join before as b on true cross join lateral (values ($2::text, to_jsonb(b."gone"), touched0, true)) as change (field, previous, value, counts) where counts and change.previous is distinct from change.value)
			select postern.explain_no_row($4, $5, $6, $7, $8, coalesce(postern.row_version($5, $6, $7), '(0,0)'),
			case when t."id" is null then $9 when (exists (select from before)) is not true then $10 end, $11, null, $12)
			from (select) one left join lateral postern.current_row(null::"public"."notes", $6, $7, true) as t on true where not exists (select from touched)`,
			args: `n1|gone|n1|0|1|{"id"}|{"n1"}|false|UNAUTHORIZED|AGAIN|DROPPED|gone`},
		{name: "SetByThePolicy", table: "{allow: all, history: changes, set: {title: auth.sub}}", operation: patch("notes", "n1", `{"qty": 3, "title": "a"}`),
			sql: `with before as (select t."qty" from "public"."notes" as t where t."id" = $1 for update of t),
			touched as (update "public"."notes" as t set "qty" = $2, "title" = $3 where t."id" = $1 and exists (select from before) returning 1, to_jsonb(t."qty") as touched0),
			history as (insert into "public"."changes" ("row_id", "field", "previous", "value") select $5::text, change.field, change.previous, change.value #>> '{}'
			from touched left join before as b on true cross join lateral (values ($4::text, to_jsonb(b."qty"), touched0, true)) as change (field, previous, value, counts) where counts and change.previous is distinct from change.value)
			select postern.explain_no_row($6, $7, $8, $9, $10, coalesce(postern.row_version($7, $8, $9), '(0,0)'),
			case when t."id" is null then $11 when (exists (select from before)) is not true then $12 end, $13, null)
			from (select) one left join lateral postern.current_row(null::"public"."notes", $8, $9, true) as t on true where not exists (select from touched)`,
			args: `n1|3|u1|qty|n1|0|1|{"id"}|{"n1"}|false|UNAUTHORIZED|AGAIN|DROPPED`},
		{name: "ClientNames", table: "{allow: all, history: changes, columns: {heading: title}}", operation: after(`{"heading": "was"}`, patch("notes", "n1", `{"heading": "a"}`)),
			sql: `with before as (select t."title" from "public"."notes" as t where t."id" = $1 for update of t),
			touched as (update "public"."notes" as t set "title" = $2 where t."id" = $1 and exists (select from before) returning 1, to_jsonb(t."title") as touched0),
			history as (insert into "public"."changes" ("row_id", "field", "previous", "value") select $4::text, change.field, change.previous, change.value #>> '{}'
			from touched left join before as b on true cross join lateral (values ($3::text, to_jsonb(b."title"), touched0, true)) as change (field, previous, value, counts) where counts and change.previous is distinct from change.value)
			select postern.explain_no_row($5, $6, $7, $8, $9, coalesce(postern.row_version($6, $7, $8), '(0,0)'),
			case when t."id" is null then $10 when (exists (select from before)) is not true then $11 end, $12, null)
			from (select) one left join lateral postern.current_row(null::"public"."notes", $7, $8, true) as t on true where not exists (select from touched)`,
			args: `n1|a|title|n1|0|1|{"id"}|{"n1"}|false|UNAUTHORIZED|AGAIN|DROPPED`},
		{name: "FieldsThatMayKeepTheirValue", table: "{allow: all, history: changes, conflict: fields}", operation: after(`{"title": "was", "qty": 1}`, patch("notes", "n1", `{"title": "a", "qty": 3}`)),
			sql: `with before as (select t."title", t."qty" from "public"."notes" as t where t."id" = $1 for update of t),
			touched as (update "public"."notes" as t set "title" = case when t."title" is not distinct from $7 then $2 else t."title" end, "qty" = case when t."qty" is not distinct from $8 then $3 else t."qty" end where t."id" = $1 and exists (select from before)
			returning 1, to_jsonb(t."title") as touched0, to_jsonb(t."qty") as touched1, not (t."title" is not distinct from $9) as resolved0, not (t."qty" is not distinct from $10) as resolved1),
			history as (insert into "public"."changes" ("row_id", "field", "previous", "value") select $6::text, change.field, change.previous, change.value #>> '{}'
			from touched left join before as b on true cross join lateral (values ($4::text, to_jsonb(b."title"), touched0, true), ($5::text, to_jsonb(b."qty"), touched1, true)) as change (field, previous, value, counts) where counts and change.previous is distinct from change.value)
			select postern.explain_no_row($11, $12, $13, $14, $15, coalesce(postern.row_version($12, $13, $14), '(0,0)'), case when t."id" is null then $16 when (exists (select from before)) is not true then $17 end, $18, null) from (select) one left join lateral postern.current_row(null::"public"."notes", $13, $14, true) as t on true where not exists (select from touched)
			union all select array[resolved0, resolved1]::text from touched`,
			args: `n1|a|3|title|qty|n1|was|1|a|3|0|1|{"id"}|{"n1"}|false|UNAUTHORIZED|AGAIN|DROPPED`},
		{name: "Guarded", table: "{allow: all, history: changes, owner: owner_id}", operation: patch("notes", "n1", `{"title": "a"}`),
			sql: `with before as (select t."title" from "public"."notes" as t where t."id" = $1 for update of t),
			touched as (update "public"."notes" as t set "title" = $2 where t."id" = $1 and t."owner_id" = $5 and exists (select from before) returning 1, to_jsonb(t."title") as touched0),
			history as (insert into "public"."changes" ("row_id", "field", "previous", "value") select $4::text, change.field, change.previous, change.value #>> '{}'
			from touched left join before as b on true cross join lateral (values ($3::text, to_jsonb(b."title"), touched0, true)) as change (field, previous, value, counts) where counts and change.previous is distinct from change.value)
			select postern.explain_no_row($6, $7, $8, $9, $10, coalesce(postern.row_version($7, $8, $9), '(0,0)'),
			case when t."id" is null then $11 when (t."owner_id" = $5) is not true then $12 when (exists (select from before)) is not true then $13 end, $14, null)
			from (select) one left join lateral postern.current_row(null::"public"."notes", $8, $9, true) as t on true where not exists (select from touched)`,
			args: `n1|a|title|n1|u1|0|1|{"id"}|{"n1"}|false|UNAUTHORIZED|UNAUTHORIZED|AGAIN|DROPPED`},
	} {
		t.Run(test.name, test.run)
	}
}
