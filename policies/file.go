package policies

import (
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

	"github.com/goccy/go-yaml/ast"

	"postern/service/catalog"
)

// Source is a folder of policy files that was read. Their form is right; Compile
// checks them against a database.
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

	mistaken bool      // there are mistakes in its form
	coverage *Coverage // of the expressions; nil if nothing is counted
}

// The form of a policy file. The comments of its keys are the reference in
// README.md and what editors show.
//
//go:generate go test . -run TestGenerated -update

// file is the form of a policy file.
type file struct {
	// The tables that clients may write to, by the clients' names. "*" is every table of schema public, except tables that another policy maps and tables that hold a history.
	Tables map[string]tableRule `yaml:"tables"`
	// Constants that all expressions of all files can use, by name: texts, numbers, true, false, and lists of one of these types.
	Params map[string]any `yaml:"params"`
	// Functions that all expressions of all files can use: name(parameter type, …) and the expression. It can use auth, now, tx, params and other functions; what it needs of a row is a parameter. The types are string, int, double, bool, timestamp, duration, list, map and any.
	Functions map[string]string `yaml:"functions"`
	// Lets of every table whose expressions use them, such as the lookup of a user's role. See let of a table.
	Let map[string]letRule `yaml:"let"`
	// Rules over whole transactions.
	Transaction transactionRule `yaml:"transaction"`
	// Limits the operations of each user on all tables together, counted by each instance. What exceeds the limit is answered with retryable_error.
	Rate *rateRule `yaml:"rate"`
}

type tableRule struct {
	// The table in Postgres: schema.name. Default: the client's name in schema public.
	Table string `yaml:"table"`
	// What clients may do to rows: a list of create, update and delete, or all. Required. Without update, a PUT of a row that exists is rejected with UNIQUE_VIOLATION; without create, a PUT of a row that does not exist with ROW_NOT_FOUND. The client's verbs put and patch stand for themselves: put is create and update by PUT, patch is update by PATCH.
	Allow allowed `yaml:"allow"`
	// Why every table is open. Required for "*".
	Because string `yaml:"because"`
	// Columns whose name in the database differs from the clients' name: client column: database column.
	Columns map[string]string `yaml:"columns"`
	// What to do about columns that the table does not have: reject the write (default), or ignore them.
	UnknownColumns string `yaml:"unknown_columns"`
	// What to do about a PATCH of a row that does not exist: ignore it (default), or reject it with ROW_NOT_FOUND.
	OnMissing string `yaml:"on_missing"`
	// The database columns that the clients' text id consists of. Default: the primary key.
	ID []string `yaml:"id"`
	// The text between the columns of id. Default: a colon.
	Separator string `yaml:"separator"`
	// What a PUT does if the row exists: merge (default) sets the columns that were sent, replace also sets all others to their defaults, insert rejects the PUT with UNIQUE_VIOLATION. If allow has create and not update, it is insert.
	Put PutMode `yaml:"put"`
	// The column that a DELETE sets instead of deleting the row: a boolean to true, a timestamp to now. Clients cannot set it in another way: false or null is ignored, any other value is rejected with UNAUTHORIZED. A PATCH or DELETE of a deleted row is one of a row that does not exist; a PUT is rejected with ROW_DELETED. All policies of the same table in Postgres have it.
	SoftDelete string `yaml:"soft_delete"`
	// Timestamp columns that clients send as numbers: the time since 1970, in s or ms.
	Epoch map[string]string `yaml:"epoch"`
	// The column that holds the user's sub. It is set on insert and never changes. A PATCH or DELETE of another user's row is rejected.
	Owner string `yaml:"owner"`
	// Columns that the policy sets, whatever the client sends: an expression, or {value, when, on}. on are the operations (default: create and update); for others the column is what the client sends. A column that is also immutable is set in new rows only.
	Set map[string]assignment `yaml:"set"`
	// Columns of a new row that the policy sets if the client sends no value: an expression, or {value, when}. A row that exists keeps its values.
	Defaults map[string]assignment `yaml:"defaults"`
	// Columns that keep their first value; a write that changes one is rejected with IMMUTABLE_COLUMN.
	Immutable []string `yaml:"immutable"`
	// The only columns that clients may send, besides the id. Default: all.
	Writable []string `yaml:"writable"`
	// What happens to a write if the row has changed since the client saw it: one of the conflict strategies, or one for each column.
	Conflict conflictRule `yaml:"conflict"`
	// A table that gets a row for each column that a client's PUT, PATCH or DELETE changes: row_id, field, previous and value as they were stored before and after, and metadata if the table has that column. A column whose value stays the same adds no row, nor does one that the policy sets. If the table has a column sent, a column adds a row too if a conflict strategy merged or dropped what the client sent, which is kept there.
	History string `yaml:"history"`
	// Codes of rejections that the app handles: the client keeps the transaction (requires_client_handling).
	Client []string `yaml:"client"`
	// Your own words for what rejects a write: a message by the name of a constraint or unique index of the table, or by owner or immutable.
	Messages map[string]messageRule `yaml:"messages"`
	// Limits the operations of each user on the table, counted by each instance. The rate of "*" is for all of its tables together.
	Rate *rateRule `yaml:"rate"`
	// Names for what the table's expressions share: an expression, or {lookup} with one SELECT, whose first row is the value. Each is evaluated at most once for an operation, when an expression first needs it.
	Let map[string]letRule `yaml:"let"`
	// Whether the table's rules reject (enforce, default) or only count and log what they would reject (observe). A rule may have a mode of its own. All other keys hold as ever.
	Mode string `yaml:"mode"`
	// Conditions that a write must meet.
	Rules []ruleRule `yaml:"rules"`
}

type messageRule struct {
	// The error code that the client receives, like TITLE_TAKEN. Default: the code that it receives without a message.
	Code string `yaml:"code"`
	// The sentence that the app's user reads. Required.
	Message string `yaml:"message"`
	// If true, the app handles the rejection: the client keeps the transaction (requires_client_handling).
	Client bool `yaml:"client"`
}

type transactionRule struct {
	// Rules that are evaluated once for each transaction, or for each of some values. They can use tx, auth, now, lookup and the lets of files that need no row. Without each and lookups they are evaluated before the writes, otherwise after them.
	Rules []ruleRule `yaml:"rules"`
}

type ruleRule struct {
	// The rule's name, unique within the table. It is stored with each rejection. Required.
	Name string `yaml:"name"`
	// What the rule applies to: a list of create, update and delete, whichever verb the client sends; or of the verbs put and patch. Default: all, but not delete if the rule looks at new or data and not at old.
	On opList `yaml:"on"`
	// A condition. If it is false, the rule is skipped. Null counts as true. Default: true.
	When string `yaml:"when"`
	// A condition. If it is false or null, the write is rejected. Required.
	Check string `yaml:"check"`
	// The error code that the client receives, like TITLE_TOO_LONG. Required.
	Code string `yaml:"code"`
	// The sentence that the app's user reads. Required.
	Message string `yaml:"message"`
	// Values that the client receives with the message: a name and an expression each.
	Details map[string]string `yaml:"details"`
	// If true, the app handles the rejection: the client keeps the transaction (requires_client_handling).
	Client bool `yaml:"client"`
	// Queries whose first row the rule needs: a name and one SELECT each. They run as the user. Their parameters are $new.column, $old.column, $id, $auth.sub and $auth.role. Under transaction they run after the writes, their parameters are $each, $auth.sub and $auth.role, and {rows: SELECT} gives all rows, up to 1000.
	Lookup map[string]lookupRule `yaml:"lookup"`
	// Only under transaction: tables with a column each. The rule is evaluated once for each value that these columns have in the rows that the transaction writes, as they were and as they will be.
	Each map[string]string `yaml:"each"`
	// enforce: the rule rejects. observe: it rejects nothing, and what it would reject is counted and logged. Default: the table's mode, or else enforce.
	Mode string `yaml:"mode"`
}

// rateRule limits a user's operations. A user may send all of them at once.
type rateRule struct {
	// The number of operations. A larger transaction passes if the user has all of them left. Then the user waits until it is made up for.
	Most count `yaml:"most"`
	// The number of bytes of their names, ids, values and metadata, which come in the same duration. Default: any number.
	Bytes *count `yaml:"bytes"`
	// The duration in which they come, like 30s, 1m, 1h or 3d.
	Per string `yaml:"per"`
}

// count is a whole number. It is 0 if the file has something else, which the compiler
// reports.
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

// assignment is an expression, or one with a condition and operations.
type assignment struct {
	// The expression.
	Value string `yaml:"value"`
	// A condition. If it is false, the column keeps its value, or a new row gets the database's default, whatever the client sends. Null counts as true. Default: true.
	When string `yaml:"when"`
	// The operations: create, update or both. Not in defaults, which are for new rows.
	On opList `yaml:"on"`

	bare bool // it is only an expression
}

func (a *assignment) UnmarshalYAML(unmarshal func(any) error) error {
	if unmarshal(&a.Value) == nil {
		a.bare = true
		return nil
	}
	type plain assignment
	return unmarshal((*plain)(a))
}

// letRule is an expression, or a lookup.
type letRule struct {
	Value string
	// One SELECT, whose first row is the value: null if there is none. See a rule's lookup.
	Lookup string `yaml:"lookup"`
}

func (l *letRule) UnmarshalYAML(unmarshal func(any) error) error {
	if unmarshal(&l.Value) == nil {
		return nil
	}
	type plain letRule
	return unmarshal((*plain)(l))
}

// lookupRule is a SELECT whose first row is the value, or one that gives all its rows.
type lookupRule struct {
	First string
	// One SELECT, whose rows are the value.
	Rows string `yaml:"rows"`
}

func (l *lookupRule) UnmarshalYAML(unmarshal func(any) error) error {
	if unmarshal(&l.First) == nil {
		return nil
	}
	type plain lookupRule
	return unmarshal((*plain)(l))
}

// allowed is a list of words for operations, or the word all.
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

// opList is a list of words for operations: create, update and delete, or put, patch
// and delete.
type opList []string

// Read reads the *.yaml and *.yml files of a folder. It leaves out *_test.yaml files
// and files whose name begins with a dot, which editors create. The error lists all
// mistakes, with file, line and column.
func Read(dir string) (*Source, error) { return ReadFS(os.DirFS(dir), dir) }

// ReadFS is Read on a file system. Messages name the files with dir in front.
func ReadFS(files fs.FS, dir string) (*Source, error) {
	source, problems, err := read(files, dir)
	if err := errors.Join(append(problems, err)...); err != nil {
		return nil, err
	}
	return source, nil
}

// Examine compiles what it can of the policies of a folder. problems is everything that is
// wrong with them: the form of their files, and what the rest of these says about the
// tables; nil if nothing is. part has what is not wrong, for CheckLookups and for warnings:
// it must not come into force. err says why the folder could not be read.
func Examine(files fs.FS, dir string, snapshot *catalog.Snapshot, code ...CodeRule) (part *Set, problems, err error) {
	source, found, err := read(files, dir)
	if err != nil {
		return nil, nil, err
	}
	source.code = code
	part, found = source.examine(snapshot, found)
	return part, errors.Join(found...), nil
}

// Problems is everything that is wrong with the policies of a folder, or why it could not
// be read; nil if nothing is.
func Problems(files fs.FS, dir string, snapshot *catalog.Snapshot, code ...CodeRule) error {
	_, problems, err := Examine(files, dir, snapshot, code...)
	return cmp.Or(err, problems)
}

// read reads a folder. source has what could be read, without the problems; err says why
// the folder could not be read.
func read(files fs.FS, dir string) (source *Source, problems []error, err error) {
	names, err := policyFiles(files)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("policies: %w: write it with `postern policy init`, or name another one with --policies or POSTERN_POLICIES",
			&fs.PathError{Op: "open", Path: dir, Err: fs.ErrNotExist}) // not ".", which it is in files
	}
	if err != nil {
		return nil, nil, fmt.Errorf("policies: cannot read folder %s: %w", dir, err)
	}
	if len(names) == 0 {
		return nil, nil, fmt.Errorf("policies: folder %s has no *.yaml file, so every write would be rejected: write one with `postern policy init`", dir)
	}
	source, sum := &Source{}, sha256.New()
	for _, name := range names {
		content, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, nil, fmt.Errorf("policies: %w", err)
		}
		fmt.Fprintf(sum, "%d %s %d ", len(name), name, len(content))
		sum.Write(content)
		parsed, found := readFile(filepath.Join(dir, name), content)
		parsed.mistaken = len(found) > 0
		problems = append(problems, found...)
		source.files = append(source.files, parsed)
	}
	source.SHA256 = hex.EncodeToString(sum.Sum(nil))
	return source, problems, nil
}

// readFile reads a file. If it has mistakes, f has the rest of it; f.at is nil if there
// is none.
func readFile(path string, content []byte) (f sourceFile, problems []error) {
	document, err := Parse(path, content)
	f = sourceFile{path: path, lines: document.lines}
	if err != nil {
		return f, []error{err}
	}
	problems, readable := document.Decode(&f.content)
	if readable {
		f.at = document.Body
	}
	if c := f.content; len(problems) == 0 && c.Tables == nil && c.Transaction.Rules == nil && c.Rate == nil && c.Params == nil && c.Functions == nil && c.Let == nil {
		problems = append(problems, fmt.Errorf("%s: the file says nothing, so its tables would be closed: write at least one table under tables, or delete the file", path))
	}
	return f, problems
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
