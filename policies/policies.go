// Package policies holds the rules of an application: which tables its clients
// may write, and how. Rules stand in YAML files in one folder; what no file
// names is refused.
//
// A policy decides from what was sent and what the catalogue says; it never
// talks to the database itself.
package policies

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"postern/service/catalog"
	"postern/service/upload"
)

// Set is a folder of policies, loaded as a whole.
type Set struct {
	SHA256 string // of the files' names and contents, in hexadecimal

	tables map[string]*Table // by the client's name
	rest   *Table            // the table named "*"; nil when there is none
}

// Table is the policy of one table.
type Table struct {
	Schema, Name  string            // where it lives in Postgres
	Columns       map[string]string // client column: database column, where they differ
	RejectMissing bool              // a PATCH of a row that does not exist is rejected, not ignored
	ID            []string          // the database columns that a client's id is made of; empty is the primary key
	Separator     string            // between the parts of such an id
	Put           PutMode
	SoftDelete    string                      // the database column that a DELETE sets; empty deletes the row
	Epoch         map[string]catalog.TimeUnit // database columns whose numbers are times since 1970

	allow    []upload.Op
	position string // file:line:column of its name
}

// PutMode says what a PUT does to a row that exists.
type PutMode string

// The three modes.
const (
	Merge   PutMode = "merge"   // sets the columns that were sent
	Replace PutMode = "replace" // sets those, and all others to their defaults
	Insert  PutMode = "insert"  // is rejected as a UNIQUE_VIOLATION
)

// Column is the database's name of a client's column.
func (t *Table) Column(client string) string {
	if name, ok := t.Columns[client]; ok {
		return name
	}
	return client
}

// file is the form of a policy file.
type file struct {
	Tables map[string]tableRule `yaml:"tables"`
}

type tableRule struct {
	Table     string            `yaml:"table"`
	Allow     allowed           `yaml:"allow"`
	Because   string            `yaml:"because"`
	Columns   map[string]string `yaml:"columns"`
	OnMissing string            `yaml:"on_missing"`
	ID        []string          `yaml:"id"`
	Separator string            `yaml:"separator"`
	Put       PutMode           `yaml:"put"`
	Soft      string            `yaml:"soft_delete"`
	Epoch     map[string]string `yaml:"epoch"`
}

// allowed is a list of operations or the word all.
type allowed []upload.Op

func (a *allowed) UnmarshalYAML(unmarshal func(any) error) error {
	var word string
	if unmarshal(&word) == nil {
		if word != "all" {
			return fmt.Errorf("allow: %q is neither all nor a list of put, patch and delete", word)
		}
		*a = allowed{upload.Put, upload.Patch, upload.Delete}
		return nil
	}
	var words []string
	if err := unmarshal(&words); err != nil {
		return errors.New("allow must be all or a list of put, patch and delete")
	}
	for _, word := range words {
		op := upload.Op(strings.ToUpper(word))
		if strings.ToLower(word) != word || !slices.Contains([]upload.Op{upload.Put, upload.Patch, upload.Delete}, op) {
			return fmt.Errorf("allow: %q is not one of put, patch, delete", word)
		}
		*a = append(*a, op)
	}
	return nil
}

// Load reads every *.yaml and *.yml file of a folder but the *_test.yaml ones.
// The error lists all problems found, with file, line and column.
func Load(dir string) (*Set, error) {
	return LoadFS(os.DirFS(dir), dir)
}

// LoadFS is Load on a file system; dir stands before the file names in messages.
func LoadFS(files fs.FS, dir string) (*Set, error) {
	names, err := policyFiles(files)
	if err != nil {
		return nil, fmt.Errorf("policies: cannot read folder %s: %w", dir, err)
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("policies: folder %s has no *.yaml file; without one every write would be refused", dir)
	}
	set := &Set{tables: map[string]*Table{}}
	sum := sha256.New()
	var problems []error
	for _, name := range names {
		content, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, fmt.Errorf("policies: %w", err)
		}
		fmt.Fprintf(sum, "%d %s %d ", len(name), name, len(content))
		sum.Write(content)
		problems = append(problems, set.add(filepath.Join(dir, name), content)...)
	}
	if problems != nil {
		return nil, errors.Join(problems...)
	}
	set.SHA256 = hex.EncodeToString(sum.Sum(nil))
	return set, nil
}

func policyFiles(files fs.FS) ([]string, error) {
	entries, err := fs.ReadDir(files, ".")
	if err != nil {
		return nil, err
	}
	var names []string
	for _, entry := range entries {
		name, extension := entry.Name(), filepath.Ext(entry.Name())
		if entry.IsDir() || extension != ".yaml" && extension != ".yml" || strings.HasSuffix(strings.TrimSuffix(name, extension), "_test") {
			continue
		}
		names = append(names, name)
	}
	return names, nil
}

func (s *Set) add(path string, content []byte) (problems []error) {
	var f file
	if err := yaml.UnmarshalWithOptions(content, &f, yaml.Strict()); err != nil {
		return []error{fmt.Errorf("%s:%s", path, yaml.FormatError(err, false, true))}
	}
	positions := tablePositions(content)
	for _, name := range sortedKeys(f.Tables) {
		position := path + ":" + positions[name]
		table, err := f.Tables[name].compile(name, position)
		switch {
		case err != nil:
			problems = append(problems, fmt.Errorf("%s: table %q: %w", position, name, err))
		case s.tables[name] != nil:
			problems = append(problems, fmt.Errorf("%s: table %q is already defined at %s", position, name, s.tables[name].position))
		case name == "*":
			s.rest = table
			s.tables[name] = table
		default:
			s.tables[name] = table
		}
	}
	return problems
}

func (r tableRule) compile(name, position string) (*Table, error) {
	if len(r.Allow) == 0 {
		return nil, errors.New("allow is required: all, or a list of put, patch and delete")
	}
	table := &Table{Schema: "public", Name: name, Columns: r.Columns, allow: r.Allow, position: position}
	if name == "*" {
		switch {
		case r.Because == "":
			return nil, errors.New(`opening every table needs a reason: because: "RLS decides"`)
		case r.Table != "" || r.Columns != nil || r.ID != nil || r.Soft != "" || r.Epoch != nil:
			return nil, errors.New("table, columns, id, soft_delete and epoch are of one table, not of all")
		}
	}
	if r.Table != "" {
		schema, bare, ok := strings.Cut(r.Table, ".")
		if !ok {
			schema, bare = "public", r.Table
		}
		if schema == "" || bare == "" {
			return nil, fmt.Errorf("table: %q is not of the form schema.table", r.Table)
		}
		table.Schema, table.Name = schema, bare
	}
	if table.Schema == "postern" {
		return nil, errors.New("schema postern is Postern's own and closed to clients")
	}
	return table, r.compileModes(table)
}

func (r tableRule) compileModes(table *Table) error {
	switch r.OnMissing {
	case "", "ignore":
	case "reject":
		table.RejectMissing = true
	default:
		return fmt.Errorf("on_missing: %q is neither ignore nor reject", r.OnMissing)
	}
	switch r.Put {
	case "":
		table.Put = Merge
	case Merge, Replace, Insert:
		table.Put = r.Put
	default:
		return fmt.Errorf("put: %q is not one of merge, replace, insert", r.Put)
	}
	if r.Separator != "" && len(r.ID) < 2 {
		return errors.New("separator stands between the columns of id: [a, b]")
	}
	table.ID, table.Separator, table.SoftDelete = r.ID, cmp.Or(r.Separator, ":"), r.Soft
	for _, column := range sortedKeys(r.Epoch) {
		unit, ok := map[string]catalog.TimeUnit{"s": catalog.Seconds, "ms": catalog.Milliseconds}[r.Epoch[column]]
		if !ok {
			return fmt.Errorf("epoch: %s: %q is neither s nor ms", column, r.Epoch[column])
		}
		if table.Epoch == nil {
			table.Epoch = map[string]catalog.TimeUnit{}
		}
		table.Epoch[column] = unit
	}
	return nil
}

// Validate lists what the policies name and the database does not have.
func (s *Set) Validate(snapshot *catalog.Snapshot) error {
	var problems []error
	for _, name := range sortedKeys(s.tables) {
		policy := s.tables[name]
		if name == "*" {
			continue
		}
		table := snapshot.Table(policy.Schema, policy.Name)
		if table == nil {
			problems = append(problems, fmt.Errorf("%s: table %q: the database has no table %s.%s; create it, or say where it is with table: schema.name",
				policy.position, name, policy.Schema, policy.Name))
			continue
		}
		for _, problem := range policy.mismatches(table) {
			problems = append(problems, fmt.Errorf("%s: table %q: %w", policy.position, name, problem))
		}
	}
	return errors.Join(problems...)
}

// MissingGrants lists what the policies open to clients and the database keeps
// from a role, each with the statement that grants it.
func (s *Set) MissingGrants(snapshot *catalog.Snapshot, role string) (missing []string) {
	needs := map[upload.Op][]string{
		upload.Put: {"select", "insert", "update"}, upload.Patch: {"select", "update"}, upload.Delete: {"select", "delete"},
	}
	for _, name := range sortedKeys(s.tables) {
		policy := s.tables[name]
		table := snapshot.Table(policy.Schema, policy.Name)
		if table == nil {
			continue
		}
		var wanted []string
		for _, op := range policy.allow {
			if op == upload.Delete && policy.SoftDelete != "" {
				op = upload.Patch
			}
			for _, privilege := range needs[op] {
				if !slices.Contains(table.Grants[role], privilege) && !slices.Contains(wanted, privilege) {
					wanted = append(wanted, privilege)
				}
			}
		}
		if wanted != nil {
			missing = append(missing, fmt.Sprintf("grant %s on %s to %s", strings.Join(wanted, ", "), table.SQL(), role))
		}
	}
	return missing
}

// mismatches are the columns that the policy names and the table does not have,
// or not of the kind it takes.
func (t *Table) mismatches(table *catalog.Table) (problems []error) {
	check := func(key, column string) {
		if table.Column(column) == nil {
			problems = append(problems, fmt.Errorf("%s: %s has no column %q", key, table, column))
		}
	}
	for _, client := range sortedKeys(t.Columns) {
		check("columns", t.Columns[client])
	}
	for _, column := range t.ID {
		check("id", column)
	}
	if len(t.ID) == 0 && len(table.PrimaryKey) != 1 {
		problems = append(problems, fmt.Errorf("%s has a primary key of %d columns: say which columns a client's id is made of with id: [a, b]", table, len(table.PrimaryKey)))
	}
	if t.SoftDelete != "" {
		check("soft_delete", t.SoftDelete)
	}
	for _, column := range sortedKeys(t.Epoch) {
		check("epoch", column)
		if found := table.Column(column); found != nil && found.Type.Name != "timestamptz" && found.Type.Name != "timestamp" {
			problems = append(problems, fmt.Errorf("epoch: %s.%s is %s, which holds no moment", table, column, found.TypeName))
		}
	}
	return problems
}

// Decide finds the policy for an operation, or the reason why there is none that
// allows it.
func (s *Set) Decide(op upload.Operation) (*Table, *upload.Rejection) {
	table := s.tables[op.Table]
	if op.Table == "*" {
		table = nil
	}
	if table == nil && s.rest != nil {
		open := *s.rest
		open.Name = op.Table
		table = &open
	}
	switch {
	case table == nil:
		return nil, &upload.Rejection{Code: upload.Unauthorized, Message: fmt.Sprintf("no policy opens table %q to clients", op.Table)}
	case !slices.Contains(table.allow, op.Op):
		return nil, &upload.Rejection{Code: upload.Unauthorized, Message: fmt.Sprintf("the policy of table %q does not allow %s", op.Table, op.Op)}
	}
	return table, nil
}

// tablePositions finds line:column of each table's name.
func tablePositions(content []byte) map[string]string {
	positions := map[string]string{}
	parsed, err := parser.ParseBytes(content, 0)
	if err != nil {
		return positions
	}
	path, err := yaml.PathString("$.tables")
	if err != nil {
		return positions
	}
	for _, doc := range parsed.Docs {
		node, err := path.FilterNode(doc.Body)
		mapping, ok := node.(*ast.MappingNode)
		if err != nil || !ok {
			continue
		}
		for _, value := range mapping.Values {
			at := value.Key.GetToken()
			positions[at.Value] = fmt.Sprintf("%d:%d", at.Position.Line, at.Position.Column)
		}
	}
	return positions
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
