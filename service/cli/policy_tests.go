package cli

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"postern/policies"
	"postern/service/policytest"
)

func policyTestCommand() *cobra.Command {
	var f testFlags
	cmd := &cobra.Command{
		Use:   "test [DIR]",
		Short: "Run the policies' tests, *_test.yaml beside them, on a real Postgres",
		Long: `Run the policies' tests, *_test.yaml beside them, on a throwaway Postgres with your
provider's roles and your schema, or on a database of yours with --database. Each
test is a database transaction that is rolled back. Row-level security, constraints,
defaults and triggers take part.

--coverage says of each condition of the policies how often it was true, false or
failed in the tests.`,
		RunE: withDir(func(cmd *cobra.Command, dir string) error { return testPolicies(cmd, dir, f) }),
	}
	f.add(cmd)
	flags := cmd.Flags()
	flags.BoolVarP(&f.verbose, "verbose", "v", false, "every test, the result of each rule, and what each operation did")
	flags.StringVar(&f.junit, "junit", "", "file to write JUnit's XML to, for CI")
	flags.BoolVar(&f.coverage, "coverage", false, "print how often each condition of the policies was true, false or failed")
	flags.StringVar(&f.coverageHTML, "coverage-html", "", "file to write that to, as a page")
	flags.StringVar(&f.coverageJSON, "coverage-json", "", "file to write that to, for the console: coverage.json in the policies' folder")
	flags.IntVar(&f.coverageMin, "coverage-min", 0, "fail if the tests cover less than this percentage of the conditions' results")
	return cmd
}

type testFlags struct {
	databaseFlags
	verbose, coverage                 bool
	junit, coverageHTML, coverageJSON string
	coverageMin                       int
}

func testPolicies(cmd *cobra.Command, dir string, f testFlags) error {
	if f.coverageMin < 0 || f.coverageMin > 100 {
		return fmt.Errorf("--coverage-min is a percentage: write a number from 0 to 100, not %d", f.coverageMin)
	}
	db, err := f.open(cmd.Context(), dir)
	if err != nil {
		return err
	}
	defer db.Close()
	live, err := program{cmd}.load(dir, db.Snapshot())
	if err != nil {
		return err
	}
	var coverage *policies.Coverage
	if f.coverage || f.coverageHTML != "" || f.coverageJSON != "" || f.coverageMin > 0 {
		coverage = live.WithCoverage()
	}
	report, err := policytest.Run(cmd.Context(), db, live, dir)
	if err != nil {
		return problems(err)
	}
	report.Text(cmd.OutOrStdout(), f.verbose, mayColour(cmd.OutOrStdout()))
	if f.junit != "" {
		if err := writeFile(f.junit, report.JUnit); err != nil {
			return err
		}
	}
	switch failed := report.Failed(); {
	case report.Count() == 0:
		return fmt.Errorf("%s has no *_test.yaml", dir)
	case failed > 0:
		return &exit{1, fmt.Errorf("%d of %d tests failed", failed, report.Count())}
	}
	return reportCoverage(cmd.OutOrStdout(), coverage, live.SHA256(), f)
}

// reportCoverage prints the coverage of tests that have passed, if it was asked for.
func reportCoverage(out io.Writer, coverage *policies.Coverage, sha256 string, f testFlags) error {
	if coverage == nil {
		return nil
	}
	policytest.CoverageText(out, coverage)
	for path, write := range map[string]func(io.Writer) error{
		f.coverageHTML: func(file io.Writer) error { return policytest.CoverageHTML(file, coverage) },
		f.coverageJSON: func(file io.Writer) error { return policytest.CoverageJSON(file, coverage, sha256) },
	} {
		if path == "" {
			continue
		}
		if err := writeFile(path, write); err != nil {
			return err
		}
	}
	if err := policytest.CheckCoverage(coverage, f.coverageMin); err != nil {
		return &exit{1, err}
	}
	return nil
}

// mayColour reports whether output may be coloured: https://no-color.org.
func mayColour(out io.Writer) bool { return isTerminal(out) && os.Getenv("NO_COLOR") == "" }

func writeFile(path string, write func(io.Writer) error) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := write(file); err != nil {
		file.Close()
		return err
	}
	return file.Close()
}
