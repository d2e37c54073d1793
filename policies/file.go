package policies

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Source is a folder of policy files, read and of the right form, but not yet
// held against a database.
type Source struct {
	SHA256 string // of the files' names and contents, in hexadecimal

	files []sourceFile
	code  []CodeRule
}

type sourceFile struct {
	path    string
	content file
	lines   []string
	at      ast.Node // the document's body
}

// The form of a policy file. The comments of its keys are the reference in
// README.md and what editors show.
//
//go:generate go test . -run TestGenerated -update

// file is the form of a policy file.
type file struct {
	// The tables that clients may write, by the client's name. "*" is every other table of schema public, but for those that the others stand for or keep their history in.
	Tables map[string]tableRule `yaml:"tables"`
	// Rules over whole transactions.
	Transaction transactionRule `yaml:"transaction"`
	// Bounds each user's operations on all tables together, as one instance sees them; what is too much is answered as retryable.
	Rate *rateRule `yaml:"rate"`
}

type tableRule struct {
	// Where the table lives in Postgres: schema.name. Default: public and the client's name.
	Table string `yaml:"table"`
	// The operations that are open to clients: a list of put, patch and delete, or all.
	Allow allowed `yaml:"allow"`
	// Why every table is open. Required for "*".
	Because string `yaml:"because"`
	// The client's columns that have another name in the database: client column: database column.
	Columns map[string]string `yaml:"columns"`
	// What happens to columns that the table does not have: reject (default) the write, or ignore them.
	UnknownColumns string `yaml:"unknown_columns"`
	// What happens to a PATCH of a row that does not exist: ignore (default), or reject it with ROW_NOT_FOUND.
	OnMissing string `yaml:"on_missing"`
	// The database columns that the client's text id is made of. Default: the primary key.
	ID []string `yaml:"id"`
	// What stands between the columns of id. Default: a colon.
	Separator string `yaml:"separator"`
	// What a PUT does to a row that exists: merge (default) sets the columns that were sent, replace sets all others to their defaults, insert rejects it with UNIQUE_VIOLATION.
	Put PutMode `yaml:"put"`
	// The column that a DELETE sets instead of deleting the row: a boolean to true, a time to now. A PUT of the row sets it to its default again.
	SoftDelete string `yaml:"soft_delete"`
	// Columns whose numbers are times since 1970, in s or ms.
	Epoch map[string]string `yaml:"epoch"`
	// The column that holds the user's sub: set on insert, fixed afterwards, and required to match on patch and delete.
	Owner string `yaml:"owner"`
	// Columns that the policy sets, whatever the client sends: an expression, or one with the operations it is for (default put and patch). One that is immutable too is set in new rows alone.
	Set map[string]assignment `yaml:"set"`
	// Columns of a new row that the policy sets where the client sends nothing: an expression. A row that exists keeps what it has.
	Defaults map[string]string `yaml:"defaults"`
	// Columns that keep their first value; a write that changes one is rejected with IMMUTABLE_COLUMN.
	Immutable []string `yaml:"immutable"`
	// The only columns that clients may send, beside the id. Default: all.
	Writable []string `yaml:"writable"`
	// What happens to a write of a row that has changed since the client saw it; see the strategies.
	Conflict conflictRule `yaml:"conflict"`
	// A table that gets a row for each column a client changes: row_id, field, previous, value, and metadata where it has that. What is dropped, or kept from being set by a conflict, changes nothing.
	History string `yaml:"history"`
	// Codes of rejections that are the app's to decide about (requires_client_handling).
	Client []string `yaml:"client"`
	// Bounds each user's operations on the table, as one instance sees them; that of "*" on all of its tables together.
	Rate *rateRule `yaml:"rate"`
	// What has to hold for a write to happen.
	Rules []ruleRule `yaml:"rules"`
}

type transactionRule struct {
	// Rules that are asked once for each transaction; they see tx, auth and now.
	Rules []ruleRule `yaml:"rules"`
}

type ruleRule struct {
	// The rule's name, its own within the table; it is stored with each rejection.
	Name string `yaml:"name"`
	// The operations it is asked about. Default: all, but no DELETE where it looks at new or data and not at old.
	On opList `yaml:"on"`
	// A condition under which the rule is asked at all. Default: always.
	When string `yaml:"when"`
	// A condition that is true where the write may happen. Required.
	Check string `yaml:"check"`
	// The error code that the client gets, like TITLE_TOO_LONG. Required.
	Code string `yaml:"code"`
	// What people read. Required.
	Message string `yaml:"message"`
	// Values that the client gets beside the message: a name and an expression each.
	Details map[string]string `yaml:"details"`
	// The app decides: the client keeps the transaction until then (requires_client_handling).
	Client bool `yaml:"client"`
	// Queries whose first row the rule needs: a name and one SELECT each, with the parameters $new.column, $old.column, $id, $auth.sub and $auth.role. They run as the user.
	Lookup map[string]string `yaml:"lookup"`
}

// rateRule bounds a user's operations: most of them in a time, which is also
// what may come at once.
type rateRule struct {
	// How many operations.
	Most count `yaml:"most"`
	// In which time, like 30s, 1m or 1h.
	Per string `yaml:"per"`
}

// count is a whole number; 0 is what was none, which compiling says.
type count int

func (c *count) UnmarshalYAML(unmarshal func(any) error) error {
	var value any
	if err := unmarshal(&value); err != nil {
		return err
	}
	if n, ok := value.(uint64); ok && n <= math.MaxInt32 {
		*c = count(n)
	}
	return nil
}

// assignment is an expression, or one with the operations it is for.
type assignment struct {
	// The expression.
	Value string `yaml:"value"`
	// The operations it is for: put, patch or both.
	On opList `yaml:"on"`
}

func (a *assignment) UnmarshalYAML(unmarshal func(any) error) error {
	if unmarshal(&a.Value) == nil {
		return nil
	}
	type plain assignment
	return unmarshal((*plain)(a))
}

// allowed is a list of operations or the word all.
type allowed struct {
	word string
	ops  opList
}

func (a *allowed) UnmarshalYAML(unmarshal func(any) error) error {
	if unmarshal(&a.word) == nil {
		return nil
	}
	return unmarshal(&a.ops)
}

// opList are operations as a file spells them: put, patch and delete.
type opList []string

// Read reads every *.yaml and *.yml file of a folder but the *_test.yaml ones, and
// those whose name begins with a dot, such as editors leave. The error lists all problems found, with file, line and column.
func Read(dir string) (*Source, error) { return ReadFS(os.DirFS(dir), dir) }

// ReadFS is Read on a file system; dir stands before the file names in messages.
func ReadFS(files fs.FS, dir string) (*Source, error) {
	names, err := policyFiles(files)
	if err != nil {
		return nil, fmt.Errorf("policies: cannot read folder %s: %w", dir, err)
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("policies: folder %s has no *.yaml file; without one every write would be refused", dir)
	}
	source, sum := &Source{}, sha256.New()
	var problems []error
	for _, name := range names {
		content, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, fmt.Errorf("policies: %w", err)
		}
		fmt.Fprintf(sum, "%d %s %d ", len(name), name, len(content))
		sum.Write(content)
		parsed, err := readFile(filepath.Join(dir, name), content)
		problems = append(problems, err)
		source.files = append(source.files, parsed)
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	source.SHA256 = hex.EncodeToString(sum.Sum(nil))
	return source, nil
}

const bom = "\ufeff" // which some editors begin a file with

func readFile(path string, content []byte) (f sourceFile, err error) {
	f = sourceFile{path: path, lines: strings.Split(strings.TrimPrefix(string(content), bom), "\n")}
	f.at, err = Decode(path, content, &f.content)
	return f, err
}

// Decode reads a file of one YAML document into a form, and refuses keys that the
// form does not have. body is the document as it is written; nil where there is
// nothing. The error has file, line and column.
func Decode(path string, content []byte, form any) (body ast.Node, err error) {
	content = bytes.TrimPrefix(content, []byte(bom))
	lines := strings.Split(string(content), "\n")
	// The YAML library panics on some malformed files.
	defer func() {
		if trouble := recover(); trouble != nil {
			body, err = nil, fmt.Errorf("%s: this is not YAML that can be read (%v)", path, trouble)
		}
	}()
	tokens := lexer.Tokenize(string(content))
	if second := secondDocument(tokens); second != nil {
		return nil, newProblem(path, lines, second.Position, "a second document begins here: write one in each file")
	}
	if at := slices.IndexFunc(tokens, func(t *token.Token) bool { return t.Type == token.TagType }); at >= 0 {
		return nil, newProblem(path, lines, tokens[at].Position, "to YAML this is a tag, and not part of the value: put an expression that begins with ! in quotes")
	}
	if err := yaml.UnmarshalWithOptions(content, form, yaml.Strict()); err != nil {
		return nil, formProblem(path, lines, err, form)
	}
	parsed, err := parser.ParseBytes(content, 0)
	if err != nil {
		return nil, formProblem(path, lines, err, form)
	}
	if len(parsed.Docs) > 0 {
		body = parsed.Docs[0].Body
	}
	return body, nil
}

// secondDocument is where one begins, which the YAML library would leave out
// without a word; nil where there is none.
func secondDocument(tokens token.Tokens) *token.Token {
	begun, ended := false, false
	for _, t := range tokens {
		switch {
		case t.Type == token.CommentType:
		case ended || begun && t.Type == token.DocumentHeaderType:
			return t
		default:
			begun, ended = true, t.Type == token.DocumentEndType
		}
	}
	return nil
}

func policyFiles(files fs.FS) ([]string, error) {
	entries, err := fs.ReadDir(files, ".")
	if err != nil {
		return nil, err
	}
	var names []string
	for _, entry := range entries {
		name, extension := entry.Name(), filepath.Ext(entry.Name())
		if entry.IsDir() || strings.HasPrefix(name, ".") || extension != ".yaml" && extension != ".yml" || strings.HasSuffix(strings.TrimSuffix(name, extension), "_test") {
			continue
		}
		names = append(names, name)
	}
	return names, nil
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, cmp.Compare)
	return keys
}
