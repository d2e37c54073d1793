package plan_test

import "testing"

// TestHistory has the statement of each write that adds rows to a history.
func TestHistory(t *testing.T) {
	t.Parallel()
	const kept = "{allow: all, history: changes}"
	for _, test := range []statementCase{
		{name: "Put", table: kept, operation: put("notes", "n1", `{"title": "a"}`),
			sql: `with touched as (insert into "public"."notes" as t ("id", "title") values ($1, $2)
			on conflict ("id") do update set "title" = excluded."title" returning 1),
			history as (insert into "public"."changes" ("row_id", "field", "previous", "value")
			select "row_id", "field", "previous", "value"
			from touched cross join lateral (values ($3::text, $4::text, $5::jsonb, $6::text, true)) as change ("row_id", "field", "previous", "value", "was set") where "was set") select`,
			args: `n1|a|n1|title|<null>|a`},
		{name: "PutOfTheKeyAlone", table: kept, operation: put("notes", "n1", `{"id": "n1"}`),
			sql:  `insert into "public"."notes" as t ("id") values ($1) on conflict ("id") do update set "id" = excluded."id"`,
			args: `n1`},
		{name: "Patch", table: kept, operation: after(`{"title": "was"}`, patch("notes", "n1", `{"title": "a", "qty": 3}`)),
			sql: `with touched as (update "public"."notes" as t set "title" = $2, "qty" = $3
			where t."id" = $1 returning 1),
			history as (insert into "public"."changes" ("row_id", "field", "previous", "value")
			select "row_id", "field", "previous", "value"
			from touched cross join lateral (values ($4::text, $5::text, $6::jsonb, $7::text, true), ($8::text, $9::text, $10::jsonb, $11::text, true)) as change ("row_id", "field", "previous", "value", "was set") where "was set") select`,
			args: `n1|a|3|n1|title|"was"|a|n1|qty|<null>|3`},
		{name: "PatchToNull", table: kept, operation: after(`{"qty": null}`, patch("notes", "n1", `{"qty": null}`)),
			sql: `with touched as (update "public"."notes" as t set "qty" = $2
			where t."id" = $1 returning 1),
			history as (insert into "public"."changes" ("row_id", "field", "previous", "value")
			select "row_id", "field", "previous", "value"
			from touched cross join lateral (values ($3::text, $4::text, $5::jsonb, $6::text, true)) as change ("row_id", "field", "previous", "value", "was set") where "was set") select`,
			args: `n1|<null>|n1|qty|<null>|<null>`},
		{name: "Metadata", table: kept, operation: noted("why", patch("notes", "n1", `{"title": "a"}`)),
			sql: `with touched as (update "public"."notes" as t set "title" = $2
			where t."id" = $1 returning 1),
			history as (insert into "public"."changes" ("row_id", "field", "previous", "value", "metadata")
			select "row_id", "field", "previous", "value", "metadata"
			from touched cross join lateral (values ($3::text, $4::text, $5::jsonb, $6::text, $7::text, true)) as change ("row_id", "field", "previous", "value", "metadata", "was set") where "was set") select`,
			args: `n1|a|n1|title|<null>|a|why`},
		{name: "InJSON", table: "{allow: all, history: changes_in_json}", operation: noted("why", after(`{"title": "was"}`, patch("notes", "n1", `{"title": "a"}`))),
			sql: `with touched as (update "public"."notes" as t set "title" = $2
			where t."id" = $1 returning 1),
			history as (insert into "public"."changes_in_json" ("row_id", "field", "previous", "value")
			select "row_id", "field", "previous", "value"
			from touched cross join lateral (values ($3::text, $4::text, $5::json, $6::jsonb, true)) as change ("row_id", "field", "previous", "value", "was set") where "was set") select`,
			args: `n1|a|n1|title|"was"|"a"`},
		{name: "Delete", table: kept, operation: remove("notes", "n1"), sql: `delete from "public"."notes" as t where t."id" = $1`, args: `n1`},
		{name: "SetByThePolicy", table: "{allow: all, history: changes, set: {title: auth.sub}}", operation: patch("notes", "n1", `{"qty": 3, "title": "a"}`),
			sql: `with touched as (update "public"."notes" as t set "qty" = $2, "title" = $3
			where t."id" = $1 returning 1),
			history as (insert into "public"."changes" ("row_id", "field", "previous", "value")
			select "row_id", "field", "previous", "value"
			from touched cross join lateral (values ($4::text, $5::text, $6::jsonb, $7::text, true)) as change ("row_id", "field", "previous", "value", "was set") where "was set") select`,
			args: `n1|3|u1|n1|qty|<null>|3`},
		{name: "ClientNames", table: "{allow: all, history: changes, columns: {heading: title}}", operation: after(`{"heading": "was"}`, patch("notes", "n1", `{"heading": "a"}`)),
			sql: `with touched as (update "public"."notes" as t set "title" = $2
			where t."id" = $1 returning 1),
			history as (insert into "public"."changes" ("row_id", "field", "previous", "value")
			select "row_id", "field", "previous", "value"
			from touched cross join lateral (values ($3::text, $4::text, $5::jsonb, $6::text, true)) as change ("row_id", "field", "previous", "value", "was set") where "was set") select`,
			args: `n1|a|n1|title|"was"|a`},
		{name: "FieldsThatMayKeepTheirValue", table: "{allow: all, history: changes, conflict: fields}", operation: after(`{"title": "was", "qty": 1}`, patch("notes", "n1", `{"title": "a", "qty": 3}`)),
			sql: `with touched as (update "public"."notes" as t set "title" =
			case when t."title" is not distinct from $4 then $2 else t."title" end, "qty" =
			case when t."qty" is not distinct from $5 then $3 else t."qty" end
			where t."id" = $1 returning 1, t."title" is not distinct from $10 as set1, t."qty" is not distinct from $15 as set2),
			history as (insert into "public"."changes" ("row_id", "field", "previous", "value")
			select "row_id", "field", "previous", "value"
			from touched cross join lateral (values ($6::text, $7::text, $8::jsonb, $9::text, set1), ($11::text, $12::text, $13::jsonb, $14::text, set2)) as change ("row_id", "field", "previous", "value", "was set") where "was set") select`,
			args: `n1|a|3|was|1|n1|title|"was"|a|a|n1|qty|1|3|3`},
		{name: "IncrementOfAPut", table: "{allow: all, history: changes, conflict: {increment: [qty]}}", operation: put("notes", "n1", `{"title": "a", "qty": 3}`),
			sql: `with touched as (insert into "public"."notes" as t ("id", "title", "qty") values ($1, $2, $3)
			on conflict ("id") do update set "title" = excluded."title", "qty" = t."qty" returning 1, t."qty" is not distinct from $12 as set2),
			history as (insert into "public"."changes" ("row_id", "field", "previous", "value")
			select "row_id", "field", "previous", "value"
			from touched cross join lateral (values ($4::text, $5::text, $6::jsonb, $7::text, true), ($8::text, $9::text, $10::jsonb, $11::text, set2)) as change ("row_id", "field", "previous", "value", "was set") where "was set") select`,
			args: `n1|a|3|n1|title|<null>|a|n1|qty|<null>|3|3`},
		{name: "Guarded", table: "{allow: all, history: changes, owner: owner_id}", operation: patch("notes", "n1", `{"title": "a"}`),
			sql: `with touched as (update "public"."notes" as t set "title" = $2
			where t."id" = $1 and t."owner_id" = $3 returning 1),
			history as (insert into "public"."changes" ("row_id", "field", "previous", "value")
			select "row_id", "field", "previous", "value"
			from touched cross join lateral (values ($4::text, $5::text, $6::jsonb, $7::text, true)) as change ("row_id", "field", "previous", "value", "was set") where "was set")
			select postern.explain_no_row($8, $9, $10, $11, $12, coalesce(postern.row_version($9, $10, $11), '(0,0)'),
			case when t."id" is null then $13 when (t."owner_id" = $3) is not true then $14 end, $15, null)
			from (select) one left join lateral postern.current_row(null::"public"."notes", $10, $11, true) as t on true where not exists (select from touched)`,
			args: `n1|a|u1|n1|title|<null>|a|0|1|{"id"}|{"n1"}|false|UNAUTHORIZED|UNAUTHORIZED|DROPPED`},
	} {
		t.Run(test.name, test.run)
	}
}
