package plan_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"postern/policies"
	"postern/service/upload"
)

// TestRules has which rules are evaluated when a transaction is planned, and which
// need the database.
func TestRules(t *testing.T) {
	t.Parallel()
	const (
		passes   = "passes" // at once, or the rule is skipped
		rejects  = "rejects"
		needs    = "needs the database"
		fails    = "fails"
		positive = `{name: r, check: new.qty > 0, code: C, message: m}`
		short    = `{name: r, check: size(new.title) < 3, code: C, message: m}`
		owned    = `{name: r, check: old.owner_id == auth.sub, code: C, message: m}`
		archived = `{name: r, check: lookup.l == null, code: C, message: m, lookup: {l: select 1}}`
	)
	for _, test := range []struct {
		name      string
		rule      string
		policy    string // what else the table's policy has
		operation upload.Operation
		want      string
	}{
		{"Data", `{name: r, check: data.qty > 0, code: C, message: m}`, "", patch("notes", "n1", `{"qty": 1}`), passes},
		{"DataIsWrong", `{name: r, check: data.qty > 0, code: C, message: m}`, "", patch("notes", "n1", `{"qty": 0}`), rejects},
		{"User", `{name: r, check: auth.sub == 'u2', code: C, message: m}`, "", remove("notes", "n1"), rejects},
		{"OtherOperation", `{name: r, on: [delete], check: "false", code: C, message: m}`, "", put("notes", "n1", `{}`), passes},

		{"NewSent", positive, "", put("notes", "n1", `{"qty": 1}`), passes},
		{"NewSentIsWrong", positive, "", patch("notes", "n1", `{"qty": 0}`), rejects},
		{"NewNotSentByAPatch", positive, "", patch("notes", "n1", `{"title": "a"}`), needs},
		{"NewNotSentByAPut", positive, "", put("notes", "n1", `{"title": "a"}`), needs},
		{"NewAsAWhole", `{name: r, check: "[new].size() > 0", code: C, message: m}`, "", put("notes", "n1", `{"title": "a"}`), needs},
		{"NewThatPostgresRounds", `{name: r, check: new.at < now, code: C, message: m}`, "", put("notes", "n1", `{"at": "2026-01-01T00:00:00Z"}`), needs},
		{"NewThatATriggerMayChange", short, "", patch("triggered", "x1", `{"title": "a"}`), needs},
		{"NewThatATriggerMayChangeByAPut", short, "", put("triggered", "x1", `{"title": "a"}`), needs},
		{"NewIsSet", short, "set: {title: metadata}", noted("long", put("notes", "n1", `{}`)), rejects},
		{"NewIsADefault", short, "defaults: {title: metadata}", noted("long", put("notes", "n1", `{}`)), needs},
		{"NewIsAReplacingDefault", short, "put: replace, defaults: {title: metadata}", noted("long", put("notes", "n1", `{}`)), rejects},
		{"NewIsForbiddenNull", short, "", put("notes", "n1", `{"title": null}`), needs},
		{"NewOfADelete", `{name: r, on: [delete], check: new == null, code: C, message: m}`, "", remove("notes", "n1"), needs},
		{"NewColumnOfADelete", `{name: r, on: [delete], check: op == 'delete' || new.qty > 0, code: C, message: m}`, "", remove("notes", "n1"), passes},

		{"NewVersion", `{name: r, check: new.rev > 0, code: C, message: m}`, "conflict: {version: rev}", put("notes", "n1", `{"rev": 1}`), needs},
		{"NewSum", positive, "conflict: {increment: [qty]}", put("notes", "n1", `{"qty": 1}`), needs},
		{"NewField", positive, "conflict: fields", after(`{"qty": 2}`, patch("notes", "n1", `{"qty": 1}`)), needs},
		{"NewFieldOfAPut", positive, "conflict: fields", put("notes", "n1", `{"qty": 1}`), passes},

		{"OldOfAPut", owned, "", put("notes", "n1", `{}`), needs},
		{"OldOfAPatch", owned, "", patch("notes", "n1", `{"qty": 1}`), needs},
		{"OldOfAnEmptyPatch", owned, "", patch("notes", "n1", `{}`), needs},
		{"OldOfADelete", owned, "", remove("notes", "n1"), needs},
		{"Lookup", archived, "", put("notes", "n1", `{}`), needs},

		{"WhenIsFalse", `{name: r, when: has(data.qty), check: old.qty < 1, code: C, message: m}`, "", put("notes", "n1", `{}`), passes},
		{"WhenIsTrue", `{name: r, when: has(data.qty), check: old.qty < 1, code: C, message: m}`, "", put("notes", "n1", `{"qty": 1}`), needs},
		{"WhenNeedsOld", `{name: r, when: old != null, check: data.qty < 1, code: C, message: m}`, "", put("notes", "n1", `{"qty": 1}`), needs},
		{"WhenNeedsALookup", `{name: r, when: lookup.l != null, check: data.qty < 1, code: C, message: m, lookup: {l: select 1}}`, "", put("notes", "n1", `{"qty": 1}`), needs},
		{"DetailNeedsOld", `{name: r, check: data.qty < 1, details: {was: old.qty}, code: C, message: m}`, "", put("notes", "n1", `{"qty": 1}`), needs},

		{"Fails", `{name: r, check: 1 / data.qty > 0, code: C, message: m}`, "", patch("notes", "n1", `{"qty": 0}`), fails},
		{"WhenFails", `{name: r, when: 1 / data.qty > 0, check: old.qty > 0, code: C, message: m}`, "", patch("notes", "n1", `{"qty": 0}`), fails},
		{"AssignmentFails", `{name: r, check: "true", code: C, message: m}`, "set: {title: data.title}", patch("notes", "n1", `{"qty": 0}`), fails},
		{"AssignmentDoesNotFit", `{name: r, check: "true", code: C, message: m}`, "set: {rev: data.raw}", patch("notes", "n1", `{"raw": "\"many\""}`), fails},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := newPlanner(t, shop, "tables: {"+test.operation.Table+": {allow: all, rules: ["+test.rule+"], "+test.policy+"}}")
			orders, _, rejection, err := p.Transaction(t.Context(), upload.Transaction{Operations: []upload.Operation{test.operation}})
			got := passes
			var failed *policies.RuleError
			switch {
			case err != nil:
				require.ErrorAs(t, err, &failed)
				require.Empty(t, orders)
				got = fails
			case rejection != nil:
				require.Equal(t, upload.Code("C"), rejection.Code)
				require.Empty(t, orders)
				got = rejects
			case orders[0].Checked:
				got = needs
			}
			require.Equal(t, test.want, got)
		})
	}
}

// TestRuleRejection has what the rejection of a rule tells the client.
func TestRuleRejection(t *testing.T) {
	t.Parallel()
	const rule = `{name: r, check: data.qty > 0, code: TOO_FEW, message: Take more, client: `
	for _, test := range []struct {
		name, yaml string
		operation  int
		rule       string
		client     bool
	}{
		{"Table", `{tables: {notes: {allow: all, rules: [` + rule + `false}]}}}`, 1, "r", false},
		{"TableAndClient", `{tables: {notes: {allow: all, rules: [` + rule + `true}]}}}`, 1, "r", true},
		{"ClientByCode", `{tables: {notes: {allow: all, client: [TOO_FEW], rules: [` + rule + `false}]}}}`, 1, "r", true},
		{"Transaction", `{tables: {notes: {allow: all}}, transaction: {rules: [{name: few, check: tx.size() < 2, code: TOO_FEW, message: Take more}]}}`, -1, "few", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			rejection := rejected(t, newPlanner(t, shop, test.yaml), patch("notes", "n1", `{"qty": 1}`), patch("notes", "n2", `{"qty": 0}`))
			require.Equal(t, &upload.Rejection{Code: "TOO_FEW", Message: "Take more", Operation: test.operation, Rule: test.rule, ClientHandling: test.client}, rejection)
		})
	}
}

// TestGranted has whether a role has the privilege that an operation needs.
func TestGranted(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name      string
		policy    string
		operation upload.Operation
		want      bool
	}{
		{"Insert", all, put("small", "s1", `{}`), true},
		{"Update", all, patch("small", "s1", `{"a": "x"}`), false},
		{"Delete", all, remove("small", "s1"), true},
		{"SoftDelete", "{allow: all, soft_delete: gone}", remove("notes", "n1"), true},
		{"NoGrant", all, put("secrets", "s1", `{}`), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := newPlanner(t, shop, "tables: {"+test.operation.Table+": "+test.policy+"}")
			require.Equal(t, test.want, sent(t, p, test.operation)[0].Granted())
			p.Who.Role = "anon"
			require.False(t, sent(t, p, test.operation)[0].Granted())
		})
	}
}

// TestQuotesClaim has errors of class 22 that a row-level security policy may raise about
// the user's claims, and the same about what was sent.
func TestQuotesClaim(t *testing.T) {
	t.Parallel()
	p := newPlanner(t, shop, "tables: {small: "+all+"}")
	p.Who.Claims = []byte(`{"sub": "u1", "org": "acme \"two\"", "role": "authenticated"}`)
	const invalid = "invalid input syntax for type uuid: "
	for _, test := range []struct {
		name, sent, message string
		want                bool
	}{
		{"Subject", "x", invalid + `"u1"`, true},
		{"AnotherClaim", "x", invalid + `"acme "two""`, true},
		{"WhatWasSent", "y", invalid + `"y"`, false},
		{"SubjectThatIsSent", "u1", invalid + `"u1"`, true},
		{"AnotherClaimThatIsSent", "authenticated", invalid + `"authenticated"`, false},
		{"PartOfWhatWasSent", "{authenticated}", invalid + `"authenticated"`, false},
		{"NoText", "x", "division by zero", false},
		{"AnEmptyText", "x", invalid + `""`, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, test.want, sent(t, p, put("small", "s1", `{"a": "`+test.sent+`"}`))[0].QuotesClaim(test.message))
		})
	}
}
