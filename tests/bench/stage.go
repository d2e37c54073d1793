package main

import (
	"context"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"

	"postern/service/local"
	"postern/supabase"
	"postern/tests/rig"
)

const (
	poolSize = 32 // so that no request waits for a connection
	users    = 8
	warmUp   = 200 * time.Millisecond // with each shape
)

// benchPolicies allow what the requests do, in words that every build of Postern knows.
const benchPolicies = "tables: {lists: {allow: all}, todos: {allow: all}}\n"

// stage is what all measurements share.
type stage struct {
	dir      string
	postgres *local.Postgres
	pooler   *rig.Pooler // nil without
	issuer   *local.Issuer
	keys     string // where the issuer's key set is, in front of /dev/jwks.json
	binary   string
	policies string
	loginURL string
	tokens   []string
}

func newStage(ctx context.Context) (s *stage, closeStage func(), err error) {
	dir, err := os.MkdirTemp("", "postern-bench-")
	if err != nil {
		return nil, nil, err
	}
	s = &stage{dir: dir}
	closers := []func(){func() { os.RemoveAll(dir) }}
	closeAll := func() {
		for i := len(closers) - 1; i >= 0; i-- {
			closers[i]()
		}
	}
	defer func() {
		if err != nil {
			closeAll()
		}
	}()
	if err := os.Chmod(s.dir, 0o755); err != nil { // Postgres' user passes through it
		return nil, nil, err
	}
	s.binary = filepath.Join(s.dir, "postern")
	if err := rig.BuildCommand(ctx, s.binary); err != nil {
		return nil, nil, err
	}
	s.policies = filepath.Join(s.dir, "policies")
	if err := os.Mkdir(s.policies, 0o755); err != nil {
		return nil, nil, err
	}
	if err := os.WriteFile(filepath.Join(s.policies, "bench.yaml"), []byte(benchPolicies), 0o644); err != nil {
		return nil, nil, err
	}
	s.postgres, err = local.StartPostgres(ctx, local.PostgresOptions{Dir: filepath.Join(s.dir, "postgres"), Throwaway: true, MaxConnections: 4 * poolSize})
	if err != nil {
		return nil, nil, err
	}
	closers = append(closers, s.postgres.Stop)
	if pooled {
		if s.pooler, err = rig.StartPooler(ctx, s.dir, "", s.postgres); err != nil {
			return nil, nil, err
		}
		closers = append(closers, s.pooler.Stop)
	}
	if s.loginURL, err = local.PrepareDatabase(ctx, s.postgres, "postgres", supabase.Project); err != nil {
		return nil, nil, err
	}
	s.loginURL += fmt.Sprintf("&pool_max_conns=%d", poolSize)
	if err := s.prepareBefore(ctx); err != nil {
		return nil, nil, err
	}
	if s.issuer, err = local.OpenIssuer(s.dir); err != nil {
		return nil, nil, err
	}
	keys := httptest.NewServer(s.issuer)
	closers = append(closers, keys.Close)
	s.keys = keys.URL
	if s.tokens, err = tokensOf(s.issuer); err != nil {
		return nil, nil, err
	}
	return s, closeAll, nil
}

// tokensOf returns a token of each user.
func tokensOf(issuer *local.Issuer) (tokens []string, err error) {
	for i := range users {
		token, err := issuer.Token(fmt.Sprint("user ", i), time.Now())
		if err != nil {
			return nil, err
		}
		tokens = append(tokens, token)
	}
	return tokens, nil
}

// prepareBefore prepares a database for the other build.
func (s *stage) prepareBefore(ctx context.Context) error {
	if before == "" {
		return nil
	}
	owner, err := pgx.Connect(ctx, s.postgres.OwnerURL("postgres"))
	if err != nil {
		return err
	}
	defer owner.Close(context.WithoutCancel(ctx))
	if _, err := owner.Exec(ctx, "create database before"); err != nil {
		return err
	}
	if err := local.PrepareProject(ctx, s.postgres, "before", supabase.Project); err != nil {
		return err
	}
	migrate := exec.CommandContext(ctx, before, "migrate")
	migrate.Env = append(os.Environ(), "DATABASE_URL="+s.postgres.OwnerURL("before"))
	if output, err := migrate.CombinedOutput(); err != nil {
		return fmt.Errorf("%s migrate: %w\n%s", before, err, output)
	}
	return nil
}
