package local

import (
	"context"
	_ "embed"
	"fmt"

	"github.com/jackc/pgx/v5"

	"postern/service/ledger"
)

// Project is what a provider's new project has in its database, as far as writes see
// it.
type Project struct {
	Name  string   // of the provider
	SQL   string   // its roles, schemas and functions; it may run again
	Roles []string // those that users write as
}

//go:embed demo.sql
var demoSQL string

// LoginPassword is the login role's on this machine, where the database listens on the
// loopback address alone.
const LoginPassword = "postern"

// PrepareDatabase sets up a project with the demo's tables and schema postern in a
// database, and returns the URL that the service connects with. It may run again.
func PrepareDatabase(ctx context.Context, p *Postgres, database string, project Project) (loginURL string, err error) {
	if err := PrepareProject(ctx, p, database, project); err != nil {
		return "", err
	}
	if _, err := ledger.Migrate(ctx, p.OwnerURL(database), project.Roles, nil); err != nil {
		return "", err
	}
	return p.URL(ledger.Login, LoginPassword, database), p.execute(ctx, database, fmt.Sprintf(`alter role %s password '%s'`, ledger.Login, LoginPassword))
}

// PrepareProject sets up a project with the demo's tables in a database, without schema
// postern. It may run again.
func PrepareProject(ctx context.Context, p *Postgres, database string, project Project) error {
	return p.execute(ctx, database, project.SQL+demoSQL)
}

func (p *Postgres) execute(ctx context.Context, database, sql string) error {
	conn, err := pgx.Connect(ctx, p.OwnerURL(database))
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if err := conn.PgConn().Exec(ctx, sql).Close(); err != nil {
		return fmt.Errorf("setting up the demo project: %w", err)
	}
	return nil
}
