package plan_test

import "testing"

// TestConflict has the statement of each strategy for each operation.
func TestConflict(t *testing.T) {
	t.Parallel()
	const (
		newest    = "{allow: all, conflict: {newest: at}}"
		version   = "{allow: all, conflict: {version: rev}}"
		fields    = "{allow: all, conflict: fields}"
		increment = "{allow: all, conflict: {increment: [qty, price]}}"
		server    = "{allow: all, conflict: server}"
		reject    = "{allow: all, conflict: reject}"
	)
	for _, test := range []statementCase{
		{name: "NewestPut", table: newest, operation: put("notes", "n1", `{"title": "a", "at": "2026-01-02T03:04:05Z"}`),
			sql: `with touched as (insert into "public"."notes" as t ("id", "title", "at") values ($1, $2, coalesce($3::pg_catalog.timestamptz, (null::"public"."notes")."at"))
			on conflict ("id") do update set "title" = excluded."title", "at" = excluded."at" where (t."at" is null or t."at" <= $4::timestamp(3) with time zone) returning 1)
			select postern.explain_no_row($5, $6, $7, $8, $9, coalesce(postern.row_version($6, $7, $8), '(0,0)'),
			case when t."id" is null then $10 when ((t."at" is null or t."at" <= $4::timestamp(3) with time zone)) is not true then $11 end, $12, null)
			from (select) one left join lateral postern.current_row(null::"public"."notes", $7, $8, true) as t on true where not exists (select from touched)`,
			args: `n1|a|2026-01-02 03:04:05+00|2026-01-02 03:04:05+00|0|1|{"id"}|{"n1"}|false|UNAUTHORIZED|DROPPED|DROPPED`},
		{name: "NewestPatch", table: newest, operation: patch("notes", "n1", `{"title": "a", "at": "2026-01-02T03:04:05Z"}`),
			sql: `with touched as (update "public"."notes" as t set "title" = $2, "at" = coalesce($3::pg_catalog.timestamptz, (null::"public"."notes")."at")
			where t."id" = $1 and (t."at" is null or t."at" <= $4::timestamp(3) with time zone) returning 1)
			select postern.explain_no_row($5, $6, $7, $8, $9, coalesce(postern.row_version($6, $7, $8), '(0,0)'),
			case when t."id" is null then $10 when ((t."at" is null or t."at" <= $4::timestamp(3) with time zone)) is not true then $11 end, $12, null)
			from (select) one left join lateral postern.current_row(null::"public"."notes", $7, $8, true) as t on true where not exists (select from touched)`,
			args: `n1|a|2026-01-02 03:04:05+00|2026-01-02 03:04:05+00|0|1|{"id"}|{"n1"}|false|UNAUTHORIZED|DROPPED|DROPPED`},
		{name: "NewestDelete", table: newest, operation: remove("notes", "n1"), sql: `delete from "public"."notes" as t where t."id" = $1`, args: `n1`},
		{name: "NewestOfANumber", table: "{allow: all, conflict: {newest: rev}}", operation: patch("notes", "n1", `{"title": "a", "rev": 5}`),
			sql: `with touched as (update "public"."notes" as t set "title" = $2, "rev" = $3
			where t."id" = $1 and (t."rev" is null or t."rev" <= $4) returning 1)
			select postern.explain_no_row($5, $6, $7, $8, $9, coalesce(postern.row_version($6, $7, $8), '(0,0)'),
			case when t."id" is null then $10 when ((t."rev" is null or t."rev" <= $4)) is not true then $11 end, $12, null)
			from (select) one left join lateral postern.current_row(null::"public"."notes", $7, $8, true) as t on true where not exists (select from touched)`,
			args: `n1|a|5|5|0|1|{"id"}|{"n1"}|false|UNAUTHORIZED|DROPPED|DROPPED`},

		{name: "VersionPut", table: version, operation: put("notes", "n1", `{"title": "a", "rev": 5}`),
			sql: `with touched as (insert into "public"."notes" as t ("id", "title", "rev") values ($1, $2, $3)
			on conflict ("id") do update set "title" = excluded."title", "rev" = t."rev" + 1
			where t."rev" = $4::int8 - 1 returning 1)
			select postern.explain_no_row($5, $6, $7, $8, $9, coalesce(postern.row_version($6, $7, $8), '(0,0)'),
			case when t."id" is null then $10 when (t."rev" = $4::int8 - 1) is not true then $11 end, $12, to_jsonb(t.*))
			from (select) one left join lateral postern.current_row(null::"public"."notes", $7, $8, true) as t on true where not exists (select from touched)`,
			args: `n1|a|5|5|0|1|{"id"}|{"n1"}|false|UNAUTHORIZED|CONFLICT|DROPPED`},
		{name: "VersionPutWithoutVersion", table: version, operation: put("notes", "n1", `{"title": "a"}`),
			sql:  `insert into "public"."notes" as t ("id", "title") values ($1, $2) on conflict ("id") do update set "title" = excluded."title", "rev" = t."rev" + 1`,
			args: `n1|a`},
		{name: "VersionPatch", table: version, operation: patch("notes", "n1", `{"title": "a", "rev": 5}`),
			sql: `with touched as (update "public"."notes" as t set "title" = $2, "rev" = t."rev" + 1
			where t."id" = $1 and t."rev" = $3::int8 - 1 returning 1)
			select postern.explain_no_row($4, $5, $6, $7, $8, coalesce(postern.row_version($5, $6, $7), '(0,0)'),
			case when t."id" is null then $9 when (t."rev" = $3::int8 - 1) is not true then $10 end, $11, to_jsonb(t.*))
			from (select) one left join lateral postern.current_row(null::"public"."notes", $6, $7, true) as t on true where not exists (select from touched)`,
			args: `n1|a|5|0|1|{"id"}|{"n1"}|false|UNAUTHORIZED|CONFLICT|DROPPED`},
		{name: "VersionPatchTracked", table: version, operation: after(`{"rev": 4}`, patch("notes", "n1", `{"title": "a"}`)),
			sql: `with touched as (update "public"."notes" as t set "title" = $2, "rev" = t."rev" + 1
			where t."id" = $1 and t."rev" = $3::int8 returning 1)
			select postern.explain_no_row($4, $5, $6, $7, $8, coalesce(postern.row_version($5, $6, $7), '(0,0)'),
			case when t."id" is null then $9 when (t."rev" = $3::int8) is not true then $10 end, $11, to_jsonb(t.*))
			from (select) one left join lateral postern.current_row(null::"public"."notes", $6, $7, true) as t on true where not exists (select from touched)`,
			args: `n1|a|4|0|1|{"id"}|{"n1"}|false|UNAUTHORIZED|CONFLICT|DROPPED`},
		{name: "VersionPatchOfTheVersionAlone", table: version, operation: patch("notes", "n1", `{"rev": 5}`),
			sql: `with touched as (update "public"."notes" as t set "rev" = t."rev" + 1
			where t."id" = $1 and t."rev" = $2::int8 - 1 returning 1)
			select postern.explain_no_row($3, $4, $5, $6, $7, coalesce(postern.row_version($4, $5, $6), '(0,0)'),
			case when t."id" is null then $8 when (t."rev" = $2::int8 - 1) is not true then $9 end, $10, to_jsonb(t.*))
			from (select) one left join lateral postern.current_row(null::"public"."notes", $5, $6, true) as t on true where not exists (select from touched)`,
			args: `n1|5|0|1|{"id"}|{"n1"}|false|UNAUTHORIZED|CONFLICT|DROPPED`},
		{name: "VersionPatchOfNothing", table: version, operation: patch("notes", "n1", `{}`)},
		{name: "VersionDelete", table: version, operation: remove("notes", "n1"), sql: `delete from "public"."notes" as t where t."id" = $1`, args: `n1`},
		{name: "VersionDeleteTracked", table: version, operation: after(`{"rev": 4}`, remove("notes", "n1")),
			sql: `with touched as (delete from "public"."notes" as t
			where t."id" = $1 and t."rev" = $2::int8 returning 1)
			select postern.explain_no_row($3, $4, $5, $6, $7, coalesce(postern.row_version($4, $5, $6), '(0,0)'),
			case when t."id" is null then $8 when (t."rev" = $2::int8) is not true then $9 end, $10, to_jsonb(t.*))
			from (select) one left join lateral postern.current_row(null::"public"."notes", $5, $6, false) as t on true where not exists (select from touched)`,
			args: `n1|4|0|1|{"id"}|{"n1"}|false|UNAUTHORIZED|CONFLICT|UNAUTHORIZED`},

		{name: "FieldsPut", table: fields, operation: put("notes", "n1", `{"title": "a"}`),
			sql:  `insert into "public"."notes" as t ("id", "title") values ($1, $2) on conflict ("id") do update set "title" = excluded."title"`,
			args: `n1|a`},
		{name: "FieldsPutTracked", table: fields, operation: after(`{"title": "was"}`, put("notes", "n1", `{"title": "a"}`)),
			sql: `with touched as (insert into "public"."notes" as t ("id", "title") values ($1, $2)
			on conflict ("id") do update set "title" = case when t."title" is not distinct from $3 then excluded."title" else t."title" end
			returning 1, not (t."title" is not distinct from $4) as resolved0) select array[resolved0]::text from touched`,
			args: `n1|a|was|a`},
		{name: "FieldsPatch", table: fields, operation: after(`{"title": "was", "price": null, "raw": "[1]"}`, patch("notes", "n1", `{"title": "a", "price": 2, "raw": "[2]"}`)),
			sql: `with touched as (update "public"."notes" as t set "title" = case when t."title" is not distinct from $5 then $2 else t."title" end, "price" = case when t."price" is not distinct from $6::numeric(10,2) then $3 else t."price" end, "raw" = case when t."raw"::text is not distinct from $7::json::text then $4 else t."raw" end where t."id" = $1
			returning 1, not (t."title" is not distinct from $8) as resolved0, not (t."price" is not distinct from $9::numeric(10,2)) as resolved1, not (t."raw"::text is not distinct from $10::json::text) as resolved2) select array[resolved0, resolved1, resolved2]::text from touched`,
			args: `n1|a|2|[2]|was|<null>|[1]|a|2|[2]`},
		{name: "FieldsPatchOfWhatThePolicySets", table: "{allow: all, conflict: fields, set: {owner_id: auth.sub}}", operation: after(`{"title": "was"}`, patch("notes", "n1", `{"title": "a"}`)),
			sql:  `with touched as (update "public"."notes" as t set "title" = case when t."title" is not distinct from $4 then $2 else t."title" end, "owner_id" = $3 where t."id" = $1 returning 1, not (t."title" is not distinct from $5) as resolved0) select array[resolved0]::text from touched`,
			args: `n1|a|u1|was|a`},
		{name: "FieldsDelete", table: fields, operation: after(`{"title": "was"}`, remove("notes", "n1")), sql: `delete from "public"."notes" as t where t."id" = $1`, args: `n1`},

		{name: "IncrementPut", table: increment, operation: put("notes", "n1", `{"title": "a", "qty": 3}`),
			sql: `with touched as (insert into "public"."notes" as t ("id", "title", "qty") values ($1, $2, $3)
			on conflict ("id") do update set "title" = excluded."title", "qty" = t."qty"
			returning 1, not (t."qty" is not distinct from $4) as resolved0) select array[resolved0]::text from touched`,
			args: `n1|a|3|3`},
		{name: "IncrementPutTracked", table: increment, operation: after(`{"qty": 1}`, put("notes", "n1", `{"qty": 3}`)),
			sql: `with touched as (insert into "public"."notes" as t ("id", "qty") values ($1, $2)
			on conflict ("id") do update set "qty" = coalesce(t."qty", 0) + (excluded."qty"::int4 - $3::int4)
			returning 1, not (t."qty" is not distinct from $4) as resolved0) select array[resolved0]::text from touched`,
			args: `n1|3|1|3`},
		{name: "IncrementPatch", table: increment, operation: after(`{"qty": 1, "price": "0.50"}`, patch("notes", "n1", `{"qty": 3, "price": 2, "title": "a"}`)),
			sql: `with touched as (update "public"."notes" as t set "qty" = coalesce(t."qty", 0) + ($2::int4 - $5::int4), "price" = coalesce(t."price", 0) + ($3::numeric - $6::numeric), "title" = $4 where t."id" = $1
			returning 1, not (t."qty" is not distinct from $7) as resolved0, not (t."price" is not distinct from $8::numeric(10,2)) as resolved1) select array[resolved0, resolved1]::text from touched`,
			args: `n1|3|2|a|1|0.50|3|2`},
		{name: "IncrementPatchFromNull", table: increment, operation: after(`{"qty": null}`, patch("notes", "n1", `{"qty": 3}`)),
			sql:  `with touched as (update "public"."notes" as t set "qty" = coalesce(t."qty", 0) + $2::int4 where t."id" = $1 returning 1, not (t."qty" is not distinct from $3) as resolved0) select array[resolved0]::text from touched`,
			args: `n1|3|3`},
		{name: "IncrementPatchToNull", table: increment, operation: after(`{"qty": 1}`, patch("notes", "n1", `{"qty": null}`)),
			sql:  `update "public"."notes" as t set "qty" = $2 where t."id" = $1`,
			args: `n1|<null>`},
		{name: "IncrementPatchOfAnotherColumn", table: increment, operation: patch("notes", "n1", `{"title": "a"}`),
			sql:  `update "public"."notes" as t set "title" = $2 where t."id" = $1`,
			args: `n1|a`},
		{name: "IncrementDelete", table: increment, operation: after(`{"qty": 1}`, remove("notes", "n1")), sql: `delete from "public"."notes" as t where t."id" = $1`, args: `n1`},

		{name: "ServerPut", table: server, operation: put("notes", "n1", `{"title": "a"}`),
			sql: `with touched as (insert into "public"."notes" as t ("id", "title") values ($1, $2)
			on conflict ("id") do update set "title" = excluded."title" where false returning 1)
			select postern.explain_no_row($3, $4, $5, $6, $7, coalesce(postern.row_version($4, $5, $6), '(0,0)'),
			case when t."id" is null then $8 when (false) is not true then $9 end, $10, null)
			from (select) one left join lateral postern.current_row(null::"public"."notes", $5, $6, true) as t on true where not exists (select from touched)`,
			args: `n1|a|0|1|{"id"}|{"n1"}|false|UNAUTHORIZED|DROPPED|DROPPED`},
		{name: "ServerPutTracked", table: server, operation: after(`{"title": "was"}`, put("notes", "n1", `{"title": "a"}`)),
			sql: `with touched as (insert into "public"."notes" as t ("id", "title") values ($1, $2)
			on conflict ("id") do update set "title" = excluded."title"
			where t."title" is not distinct from $3 returning 1)
			select postern.explain_no_row($4, $5, $6, $7, $8, coalesce(postern.row_version($5, $6, $7), '(0,0)'),
			case when t."id" is null then $9 when (t."title" is not distinct from $3) is not true then $10 end, $11, null)
			from (select) one left join lateral postern.current_row(null::"public"."notes", $6, $7, true) as t on true where not exists (select from touched)`,
			args: `n1|a|was|0|1|{"id"}|{"n1"}|false|UNAUTHORIZED|DROPPED|DROPPED`},
		{name: "ServerPatch", table: server, operation: after(`{"title": "was", "raw": null}`, patch("notes", "n1", `{"title": "a"}`)),
			sql: `with touched as (update "public"."notes" as t set "title" = $2
			where t."id" = $1 and t."title" is not distinct from $3 and t."raw"::text is not distinct from $4::json::text returning 1)
			select postern.explain_no_row($5, $6, $7, $8, $9, coalesce(postern.row_version($6, $7, $8), '(0,0)'),
			case when t."id" is null then $10 when (t."title" is not distinct from $3) is not true then $11 when (t."raw"::text is not distinct from $4::json::text) is not true then $12 end, $13, null)
			from (select) one left join lateral postern.current_row(null::"public"."notes", $7, $8, true) as t on true where not exists (select from touched)`,
			args: `n1|a|was|<null>|0|1|{"id"}|{"n1"}|false|UNAUTHORIZED|DROPPED|DROPPED|DROPPED`},
		{name: "ServerDelete", table: server, operation: remove("notes", "n1"), sql: `delete from "public"."notes" as t where t."id" = $1`, args: `n1`},
		{name: "ServerDeleteTracked", table: server, operation: after(`{"title": "was"}`, remove("notes", "n1")),
			sql: `with touched as (delete from "public"."notes" as t
			where t."id" = $1 and t."title" is not distinct from $2 returning 1)
			select postern.explain_no_row($3, $4, $5, $6, $7, coalesce(postern.row_version($4, $5, $6), '(0,0)'),
			case when t."id" is null then $8 when (t."title" is not distinct from $2) is not true then $9 end, $10, null)
			from (select) one left join lateral postern.current_row(null::"public"."notes", $5, $6, false) as t on true where not exists (select from touched)`,
			args: `n1|was|0|1|{"id"}|{"n1"}|false|UNAUTHORIZED|DROPPED|UNAUTHORIZED`},

		{name: "RejectPut", table: reject, operation: put("notes", "n1", `{"title": "a"}`),
			sql: `with touched as (insert into "public"."notes" as t ("id", "title") values ($1, $2)
			on conflict ("id") do update set "title" = excluded."title" where false returning 1)
			select postern.explain_no_row($3, $4, $5, $6, $7, coalesce(postern.row_version($4, $5, $6), '(0,0)'),
			case when t."id" is null then $8 when (false) is not true then $9 end, $10, to_jsonb(t.*))
			from (select) one left join lateral postern.current_row(null::"public"."notes", $5, $6, true) as t on true where not exists (select from touched)`,
			args: `n1|a|0|1|{"id"}|{"n1"}|false|UNAUTHORIZED|CONFLICT|DROPPED`},
		{name: "RejectPatch", table: reject, operation: after(`{"title": "was", "at": "2026-01-02T03:04:05.678Z"}`, patch("notes", "n1", `{"title": "a"}`)),
			sql: `with touched as (update "public"."notes" as t set "title" = $2
			where t."id" = $1 and t."title" is not distinct from $3 and t."at" is not distinct from $4::timestamp(3) with time zone returning 1)
			select postern.explain_no_row($5, $6, $7, $8, $9, coalesce(postern.row_version($6, $7, $8), '(0,0)'),
			case when t."id" is null then $10 when (t."title" is not distinct from $3) is not true then $11 when (t."at" is not distinct from $4::timestamp(3) with time zone) is not true then $12 end, $13, to_jsonb(t.*))
			from (select) one left join lateral postern.current_row(null::"public"."notes", $7, $8, true) as t on true where not exists (select from touched)`,
			args: `n1|a|was|2026-01-02 03:04:05.678+00|0|1|{"id"}|{"n1"}|false|UNAUTHORIZED|CONFLICT|CONFLICT|DROPPED`},
		{name: "RejectDelete", table: reject, operation: remove("notes", "n1"), sql: `delete from "public"."notes" as t where t."id" = $1`, args: `n1`},
		{name: "RejectDeleteTracked", table: reject, operation: after(`{"title": "was"}`, remove("notes", "n1")),
			sql: `with touched as (delete from "public"."notes" as t
			where t."id" = $1 and t."title" is not distinct from $2 returning 1)
			select postern.explain_no_row($3, $4, $5, $6, $7, coalesce(postern.row_version($4, $5, $6), '(0,0)'),
			case when t."id" is null then $8 when (t."title" is not distinct from $2) is not true then $9 end, $10, to_jsonb(t.*))
			from (select) one left join lateral postern.current_row(null::"public"."notes", $5, $6, false) as t on true where not exists (select from touched)`,
			args: `n1|was|0|1|{"id"}|{"n1"}|false|UNAUTHORIZED|CONFLICT|UNAUTHORIZED`},
		{name: "RejectSoftDeleteTracked", table: "{allow: all, conflict: reject, soft_delete: gone}", operation: after(`{"title": "was"}`, remove("notes", "n1")),
			sql: `with touched as (update "public"."notes" as t set "gone" = true
			where t."id" = $1 and t."gone" is not true and t."title" is not distinct from $2 returning 1)
			select postern.explain_no_row($3, $4, $5, $6, $7, coalesce(postern.row_version($4, $5, $6), '(0,0)'),
			case when t."id" is null then $8 when (t."title" is not distinct from $2) is not true then $9 end, $10, to_jsonb(t.*), $11)
			from (select) one left join lateral postern.current_row(null::"public"."notes", $5, $6, true) as t on true where not exists (select from touched)`,
			args: `n1|was|0|1|{"id"}|{"n1"}|false|UNAUTHORIZED|CONFLICT|DROPPED|gone`},
		{name: "RejectComesAfterTheOwner", table: "{allow: all, owner: owner_id, conflict: reject}", operation: after(`{"title": "was"}`, patch("notes", "n1", `{"title": "a"}`)),
			sql: `with touched as (update "public"."notes" as t set "title" = $2
			where t."id" = $1 and t."owner_id" = $3 and t."title" is not distinct from $4 returning 1)
			select postern.explain_no_row($5, $6, $7, $8, $9, coalesce(postern.row_version($6, $7, $8), '(0,0)'),
			case when t."id" is null then $10 when (t."owner_id" = $3) is not true then $11 when (t."title" is not distinct from $4) is not true then $12 end, $13, to_jsonb(t.*))
			from (select) one left join lateral postern.current_row(null::"public"."notes", $7, $8, true) as t on true where not exists (select from touched)`,
			args: `n1|a|u1|was|0|1|{"id"}|{"n1"}|false|UNAUTHORIZED|UNAUTHORIZED|CONFLICT|DROPPED`},
	} {
		t.Run(test.name, test.run)
	}
}
