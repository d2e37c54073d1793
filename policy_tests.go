package main

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"postern/policies/policytest"
)

func policyTestCommand() *cobra.Command {
	var (
		junit   string
		verbose bool
	)
	cmd := &cobra.Command{
		Use:   "test [DIR]",
		Short: "Run the policies' tests, *_test.yaml beside them, without a database",
		Long: `Run the policies' tests, *_test.yaml beside them, without a database. They need
catalog.json, which policy catalog writes. What Postgres alone decides is not
tested: row-level security, foreign keys, check constraints, triggers.`,
		RunE: withDir(func(cmd *cobra.Command, dir string) error {
			report, err := policytest.Run(cmd.Context(), dir)
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
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "every test, and what each rule has said")
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
