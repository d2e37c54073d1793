// Package policytest runs the tests that stand beside policies, *_test.yaml, shows what
// would become of an upload, and compares what two policy sets make of one. All use the service's own plan and apply on a real
// Postgres, and roll back. So row-level security, constraints, defaults and triggers
// take part, and an outcome is what a device would receive.
//
// The Postgres is a throwaway one with the provider's project and the app's schema in
// it, or a database of the app's own.
package policytest

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"postern/policies"
	"postern/service/apply"
)

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
	Failures []string // none if it passed; of several lines, if values are compared
	Steps    []Step
	Took     time.Duration
}

// Step is what became of one transaction of a test.
type Step struct {
	Outcome string // in one line
	Trace   []policies.TraceEntry
	Effects []apply.Effect
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

// Run runs all tests of a folder. The error is about the policies, the database or the
// form of a test file. A failing test is no error.
func Run(ctx context.Context, db *Database, live *policies.Live, dir string) (*Report, error) {
	paths, err := testFiles(dir)
	if err != nil {
		return nil, err
	}
	names, err := namesOf(live, db.Snapshot())
	if err != nil {
		return nil, err
	}
	var suites []*suite
	var problems []error
	for _, path := range paths {
		s, found, err := readSuite(path, names)
		if err != nil {
			return nil, err
		}
		suites, problems = append(suites, s), append(problems, found...)
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	report := &Report{}
	for _, s := range suites {
		started := time.Now()
		f := File{Path: s.path}
		for i := range s.Tests {
			result, err := s.run(ctx, db, live, i)
			if err != nil {
				return nil, err
			}
			f.Results = append(f.Results, result)
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
