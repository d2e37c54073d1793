package policytest

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/goccy/go-yaml/ast"

	"postern/policies"
	"postern/service/identity"
	"postern/service/upload"
)

// suite is the form of a test file.
type suite struct {
	Now   string          `yaml:"now"`   // the clock of expressions, for all tests
	Users map[string]user `yaml:"users"` // by the name that as: gives
	Rows  rows            `yaml:"rows"`  // there before each test
	Tests []test          `yaml:"tests"`

	Defaults any `yaml:"defaults"` // of the first edition: refused with an explanation

	path string
}

// rows are by table and id; a row that is null is not there.
type rows map[string]map[string]map[string]any

type user struct {
	Sub    string         `yaml:"sub"`
	Role   string         `yaml:"role"` // default: authenticated
	Claims map[string]any `yaml:"claims"`
}

type test struct {
	Name       string      `yaml:"name"`
	As         string      `yaml:"as"`
	Now        string      `yaml:"now"`
	Rows       rows        `yaml:"rows"` // besides those of all tests, or instead of one of them
	Operations []operation `yaml:"operations"`
	Expect     expectation `yaml:"expect"`
	Lookups    any         `yaml:"lookups"` // of the first edition: refused with an explanation

	line int
}

// operation is one of a transaction, as the write API spells it.
type operation struct {
	OpID     *int64         `yaml:"op_id" json:"op_id,omitzero"`
	Op       string         `yaml:"op" json:"op"`
	Table    string         `yaml:"table" json:"table"`
	ID       string         `yaml:"id" json:"id"`
	Data     map[string]any `yaml:"op_data" json:"op_data,omitzero"`
	Previous map[string]any `yaml:"previous_values" json:"previous_values,omitzero"`
	Metadata string         `yaml:"metadata" json:"metadata,omitzero"`
}

type expectation struct {
	Outcome   string         `yaml:"outcome"`   // accepted, or the code
	Operation *int           `yaml:"operation"` // the index of the one at fault; -1 is none
	Rule      *string        `yaml:"rule"`
	Message   *string        `yaml:"message"`
	Client    *bool          `yaml:"client"` // requires_client_handling
	Details   map[string]any `yaml:"details"`
	Rows      rows           `yaml:"rows"` // afterwards: the columns named here, and null where there is no row
}

// ofRejection reports whether something is expected that only rejections have.
func (e *expectation) ofRejection() bool {
	return e.Operation != nil || e.Rule != nil || e.Message != nil || e.Client != nil || e.Details != nil
}

// accepted is the outcome of a transaction that is applied.
const accepted = "accepted"

func readSuite(path string) (*suite, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	s := &suite{}
	body, err := policies.Decode(path, content, s)
	if err != nil {
		return nil, err
	}
	s.path = path
	s.findLines(body)
	return s, s.validate()
}

// findLines finds where each test begins.
func (s *suite) findLines(body ast.Node) {
	var pairs []*ast.MappingValueNode
	switch body := body.(type) {
	case *ast.MappingNode:
		pairs = body.Values
	case *ast.MappingValueNode:
		pairs = []*ast.MappingValueNode{body}
	}
	for _, pair := range pairs {
		if list, ok := pair.Value.(*ast.SequenceNode); ok && pair.Key.GetToken().Value == "tests" {
			for i, node := range list.Values {
				if i < len(s.Tests) {
					s.Tests[i].line = firstLine(node)
				}
			}
		}
	}
}

func firstLine(node ast.Node) int {
	if mapping, ok := node.(*ast.MappingNode); ok && len(mapping.Values) > 0 {
		node = mapping.Values[0].Key
	}
	return node.GetToken().Position.Line
}

// clock is the time of a test.
func (s *suite) clock(t test) string { return cmp.Or(t.Now, s.Now) }

func isTime(text string) bool {
	_, err := policies.ParseMoment(text)
	return err == nil
}

func (s *suite) validate() error {
	var problems []error
	add := func(line int, format string, args ...any) {
		problems = append(problems, fmt.Errorf("%s:%d: %s", s.path, max(line, 1), fmt.Sprintf(format, args...)))
	}
	if len(s.Tests) == 0 {
		add(1, "tests are missing")
	}
	if s.Defaults != nil {
		add(1, "defaults: the schema has them: leave this out")
	}
	names := map[string]bool{}
	for _, t := range s.Tests {
		switch _, known := s.Users[t.As]; {
		case t.Name == "" || names[t.Name]:
			add(t.line, "a test needs a name of its own")
		case !known:
			add(t.line, "as: %q is none of the file's users", t.As)
		case s.clock(t) == "":
			add(t.line, "now is missing, in the file or the test: a test must not depend on the clock")
		case !isTime(s.clock(t)):
			add(t.line, "now: %q is no time: write one like 2026-11-24T12:00:00Z", s.clock(t))
		case len(t.Operations) == 0:
			add(t.line, "operations are missing")
		case t.Expect.Outcome == "":
			add(t.line, "expect: outcome: is missing: %s, or a code", accepted)
		case t.Expect.Outcome == accepted && t.Expect.ofRejection():
			add(t.line, "expect: operation, rule, message, client and details are of a rejection, and outcome is %s", accepted)
		}
		names[t.Name] = true
		if t.Lookups != nil {
			add(t.line, "lookups: lookups read the given rows: write those that the query finds under rows")
		}
		for i, op := range t.Operations {
			if !slices.Contains([]string{"PUT", "PATCH", "DELETE"}, op.Op) {
				add(t.line, "operations[%d]: op is PUT, PATCH or DELETE, not %q", i, op.Op)
			}
		}
	}
	return errors.Join(problems...)
}

func (u user) identity() (identity.Identity, error) {
	who := identity.Identity{Issuer: "policytest", Subject: u.Sub, Role: u.Role}
	if who.Role == "" {
		who.Role = "authenticated"
	}
	claims := map[string]any{"sub": u.Sub, "role": who.Role}
	for name, value := range u.Claims {
		claims[name] = value
	}
	var err error
	who.Claims, err = json.Marshal(claims, json.Deterministic(true))
	return who, err
}

// transaction is decoded from the bytes that a client would send.
func (t *test) transaction() (upload.Transaction, error) {
	body, err := json.Marshal(map[string]any{"transactions": []any{map[string]any{"crud": t.Operations}}}, json.Deterministic(true))
	if err != nil {
		return upload.Transaction{}, err
	}
	batch, err := upload.DecodeBatch(body)
	if err != nil {
		return upload.Transaction{}, errors.New(strings.TrimPrefix(err.Error(), "transactions[0]."))
	}
	return batch.Transactions[0], nil
}

// members are columns with their values as a client would spell them.
func members(columns map[string]any) ([]upload.Member, error) {
	list := make([]upload.Member, 0, len(columns))
	for _, name := range sortedKeys(columns) {
		value, err := spell(columns[name])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		list = append(list, upload.Member{Name: name, Value: value})
	}
	return list, nil
}

func spell(value any) (jsontext.Value, error) { return json.Marshal(value, json.Deterministic(true)) }

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
