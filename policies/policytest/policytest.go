// Package policytest runs the tests that stand beside policies, *_test.yaml,
// without a database: by the service's own plans and rules, on rows that the test
// gives, at a time that it sets. It needs catalog.json, the database's catalogue
// in a file, in the policies' folder.
//
// It is not for what Postgres alone decides: row-level security, foreign keys,
// check constraints, triggers. Where a test depends on something that cannot be
// known here, it fails and says so.
package policytest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"postern/policies"
	"postern/service/apply"
	"postern/service/catalog"
)

// CatalogFile is the name of the file with the database's catalogue.
const CatalogFile = "catalog.json"

// Report is what became of the tests of a folder.
type Report struct {
	Files []File
}

// File is what became of the tests of a file.
type File struct {
	Path    string
	Results []Result
	Took    time.Duration
}

// Result is what became of a test.
type Result struct {
	Name     string
	Line     int      // in its file
	Failures []string // none: it passed
	Outcome  string   // in one line
	Said     []policies.TraceEntry
	Effects  []apply.Effect
	Notes    []string // what was left out of account
	Took     time.Duration
}

// Failed counts the tests that did not pass.
func (r *Report) Failed() (n int) {
	for _, f := range r.Files {
		for _, result := range f.Results {
			if len(result.Failures) > 0 {
				n++
			}
		}
	}
	return n
}

// Count counts the tests.
func (r *Report) Count() (n int) {
	for _, f := range r.Files {
		n += len(f.Results)
	}
	return n
}

// ReadCatalog reads the catalogue file of a folder.
func ReadCatalog(dir string) (*catalog.Snapshot, error) {
	path := filepath.Join(dir, CatalogFile)
	content, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%s is missing: write it with `postern policy catalog %s`, DATABASE_URL being the database's, and keep it beside the policies: %w", path, dir, os.ErrNotExist)
	}
	if err != nil {
		return nil, err
	}
	snapshot, err := catalog.Load(content)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return snapshot, nil
}

// Run runs all tests of a folder. The error is of the policies, the catalogue or
// the form of a test file; failing tests are none.
func Run(ctx context.Context, dir string) (*Report, error) {
	snapshot, err := ReadCatalog(dir)
	if err != nil {
		return nil, err
	}
	live, err := policies.Load(dir)
	if err != nil {
		return nil, err
	}
	set, err := live.For(snapshot)
	if err != nil {
		return nil, err
	}
	paths, err := testFiles(dir)
	if err != nil {
		return nil, err
	}
	report := &Report{}
	for _, path := range paths {
		suite, err := readSuite(path, set)
		if err != nil {
			return nil, err
		}
		started := time.Now()
		f := File{Path: path}
		for i := range suite.Tests {
			f.Results = append(f.Results, suite.run(ctx, &suite.Tests[i], set, snapshot))
		}
		f.Took = time.Since(started)
		report.Files = append(report.Files, f)
	}
	return report, nil
}

func testFiles(dir string) ([]string, error) {
	var paths []string
	for _, pattern := range []string{"[^.]*_test.yaml", "[^.]*_test.yml"} {
		found, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return nil, err
		}
		paths = append(paths, found...)
	}
	return paths, nil
}
