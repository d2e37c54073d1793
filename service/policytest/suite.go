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

// test is one transaction, or several in steps.
type test struct {
	Name       string           `yaml:"name"`
	Cases      []map[string]any `yaml:"cases"` // the test is made once for each; see expandCases
	As         string           `yaml:"as"`
	Now        string           `yaml:"now"`
	Rows       rows             `yaml:"rows"` // besides those of all tests, or instead of one of them
	Operations []operation      `yaml:"operations"`
	Expect     expectation      `yaml:"expect"`
	Steps      []step           `yaml:"steps"`   // instead of operations and expect
	Lookups    any              `yaml:"lookups"` // of the first edition: refused with an explanation

	line int
}

// step is one of the transactions of a test, made after those before it.
type step struct {
	As         string      `yaml:"as"`  // default: the test's
	Now        string      `yaml:"now"` // likewise
	Operations []operation `yaml:"operations"`
	Expect     expectation `yaml:"expect"`

	path []any // in the file
}

// steps are the transactions of a test.
func (s *suite) steps(i int) []step {
	t := &s.Tests[i]
	if t.Steps == nil {
		return []step{{t.As, cmp.Or(t.Now, s.Now), t.Operations, t.Expect, []any{"tests", i}}}
	}
	steps := slices.Clone(t.Steps)
	for n := range steps {
		steps[n].As = cmp.Or(steps[n].As, t.As)
		steps[n].Now = cmp.Or(steps[n].Now, t.Now, s.Now)
		steps[n].path = []any{"tests", i, "steps", n}
	}
	return steps
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
	Observed  []string       `yaml:"observed"` // the rules that would have rejected if they did not only observe; nil is any
	Rows      rows           `yaml:"rows"`     // afterwards: the columns named here, and null where there is no row
}

// ofRejection reports whether something is expected that only rejections have.
func (e *expectation) ofRejection() bool {
	return e.Operation != nil || e.Rule != nil || e.Message != nil || e.Client != nil || e.Details != nil
}

// accepted is the outcome of a transaction that is applied.
const accepted = "accepted"

// readSuite reads a test file. The problems are all that is wrong with it.
func readSuite(path string, names *names) (s *suite, problems []error, err error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, err
	}
	s, problems = parseSuite(path, content, names)
	return s, problems, nil
}

func parseSuite(path string, content []byte, names *names) (s *suite, problems []error) {
	s = &suite{}
	document, err := policies.Parse(path, content)
	if err != nil {
		return nil, []error{err}
	}
	problems, lines := expandCases(document)
	found, readable := document.Decode(s)
	if problems = append(problems, found...); !readable {
		return nil, problems
	}
	s.path = path // decoding has cleared it
	for i := range s.Tests {
		s.Tests[i].line = 1 // of tests that are an alias
		if i < len(lines) {
			s.Tests[i].line = lines[i]
		}
	}
	v := &validation{suite: s, document: document, names: names, problems: problems}
	v.validate()
	return s, v.problems
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
func (s *step) transaction() (upload.Transaction, error) {
	body, err := json.Marshal(map[string]any{"transactions": []any{map[string]any{"crud": s.Operations}}}, json.Deterministic(true))
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
