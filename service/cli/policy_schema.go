package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"postern/policies"
	"postern/service/catalog"
	"postern/service/policytest"
)

func policySchemaCommand() *cobra.Command {
	var f databaseFlags
	cmd := &cobra.Command{
		Use:   "schema [DIR]",
		Short: "Write the JSON Schemas of policies and tests for your tables, by which editors complete them",
		Long: `Write the JSON Schemas of policies and tests, policy.schema.json and
policy_test.schema.json, with the tables and columns of DATABASE_URL, or of a throwaway
Postgres with your schema. Editors complete the files by them, with a line at the top:

  # yaml-language-server: $schema=policy.schema.json`,
		RunE: withDir(func(cmd *cobra.Command, dir string) error {
			database := f.orConfigured()
			db, err := database.open(cmd.Context(), dir)
			if err != nil {
				return err
			}
			defer db.Close()
			live, err := program{cmd}.policies(dir)
			if err != nil {
				live = nil // tests can name the tables all the same
			}
			files, err := schemas(db, live)
			if err != nil {
				return problems(err)
			}
			for _, file := range files {
				path := filepath.Join(dir, file.name)
				if err := os.WriteFile(path, file.content, 0o644); err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s written\n", path)
			}
			return nil
		}),
	}
	f.add(cmd)
	return cmd
}

type namedFile struct {
	name    string
	content []byte
}

// schemas are the JSON Schemas for the tables of a database. live is nil if there are no
// policies.
func schemas(db *policytest.Database, live *policies.Live) ([]namedFile, error) {
	ofPolicies, err := policies.SchemaFor(appTables(db))
	if err != nil {
		return nil, err
	}
	ofTests, err := policytest.SchemaFor(live, db.Snapshot())
	if err != nil {
		return nil, err
	}
	return []namedFile{{policies.SchemaFile, append(ofPolicies, '\n')}, {policytest.SchemaFile, append(ofTests, '\n')}}, nil
}

// appTables are the tables that the app may open.
func appTables(db *policytest.Database) []*catalog.Table {
	return slices.DeleteFunc(db.Snapshot().Tables(), func(t *catalog.Table) bool { return !ofApp(t) })
}
