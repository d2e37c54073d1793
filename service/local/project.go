package local

import (
	"context"
	_ "embed"
	"fmt"

	"github.com/jackc/pgx/v5"

	"postern/service/ledger"
)

//go:embed project.sql
var projectSQL string

// SetUpProject makes a database look like a new Supabase project with the demo's
// tables lists and todos. ownerURL is a superuser's. It may run again.
func SetUpProject(ctx context.Context, ownerURL string) error {
	conn, err := pgx.Connect(ctx, ownerURL)
	if err != nil {
		return fmt.Errorf("setting up the demo project: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, projectSQL); err != nil {
		return fmt.Errorf("setting up the demo project: %w", err)
	}
	return nil
}

// LoginPassword is the login role's on this machine, where the database listens
// on the loopback address alone.
const LoginPassword = "postern"

// PrepareDatabase sets up the demo project and schema postern in a database, and
// returns the URL the service connects with.
func PrepareDatabase(ctx context.Context, p *Postgres, database string) (loginURL string, err error) {
	ownerURL := p.OwnerURL(database)
	if err := SetUpProject(ctx, ownerURL); err != nil {
		return "", err
	}
	if _, err := ledger.Migrate(ctx, ownerURL, []string{"authenticated"}); err != nil {
		return "", err
	}
	conn, err := pgx.Connect(ctx, ownerURL)
	if err != nil {
		return "", err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, fmt.Sprintf(`alter role %s password '%s'`, ledger.Login, LoginPassword)); err != nil {
		return "", fmt.Errorf("setting the login role's password: %w", err)
	}
	return p.URL(ledger.Login, LoginPassword, database), nil
}
