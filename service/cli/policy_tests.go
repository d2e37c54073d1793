package cli

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"postern/service/policytest"
)

func policyTestCommand() *cobra.Command {
	var (
		f       databaseFlags
		junit   string
		verbose bool
	)
	cmd := &cobra.Command{
		Use:   "test [DIR]",
		Short: "Run the policies' tests, *_test.yaml beside them, on a real Postgres",
		Long: `Run the policies' tests, *_test.yaml beside them, on a throwaway Postgres with your
provider's roles and your schema, or on a database of yours with --database. Each
test is a database transaction that is rolled back. Row-level security, constraints,
defaults and triggers take part.`,
		RunE: withDir(func(cmd *cobra.Command, dir string) error {
			db, err := f.open(cmd.Context(), dir)
			if err != nil {
				return err
			}
			defer db.Close()
			live, _, err := program{cmd}.compile(dir, db.Snapshot())
			if err != nil {
				return err
			}
			report, err := policytest.Run(cmd.Context(), db, live, dir)
			if err != nil {
				return problems(err)
			}
			report.Text(cmd.OutOrStdout(), verbose)
			if junit != "" {
				if err := writeFile(junit, report.JUnit); err != nil {
					return err
				}
			}
			switch failed := report.Failed(); {
			case report.Count() == 0:
				return fmt.Errorf("%s has no *_test.yaml", dir)
			case failed > 0:
				return &exit{1, fmt.Errorf("%d of %d tests failed", failed, report.Count())}
			}
			return nil
		}),
	}
	f.add(cmd)
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "every test, the result of each rule, and what each operation did")
	cmd.Flags().StringVar(&junit, "junit", "", "file to write JUnit's XML to, for CI")
	return cmd
}

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
