package local

import (
	"context"
	_ "embed"
	"fmt"
	"strings"
	"text/template"

	"github.com/jackc/pgx/v5"

	"postern/service/ledger"
)

// These roles of powersync.sql have the same password: the database listens on the
// loopback address alone.
const (
	replicationRole = "powersync_role"
	storageRole     = "powersync_storage"
	storageDatabase = "powersync_storage"
	roleSecret      = "powersync"
)

//go:embed powersync.sql
var powerSyncSQL string

// PreparePowerSync lets a PowerSync Service replicate a project that PrepareDatabase has
// set up, and gives the Service a database of its own. The server must be Logical. It may
// run again.
func PreparePowerSync(ctx context.Context, p *Postgres, database string) error {
	if err := p.execute(ctx, database, powerSyncSQL); err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, p.OwnerURL(database))
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var exists bool
	if err := conn.QueryRow(ctx, `select exists (select from pg_database where datname = $1)`, storageDatabase).Scan(&exists); err != nil || exists {
		return err
	}
	_, err = conn.Exec(ctx, `create database `+storageDatabase+` owner `+storageRole)
	return err
}

// PowerSyncConfig is the configuration of a PowerSync Service for a project on this
// machine.
type PowerSyncConfig struct {
	Postgres *Postgres
	Database string // the project's
	Host     string // by which the Service reaches Postgres
	Port     int    // the Service's own
	KeySet   string // the URL of the development issuer's key set
	SyncFile string // beside the configuration; if it is empty, the demo's streams are in the configuration
}

//go:embed powersync.yaml
var powerSyncYAML string

var powerSyncTemplate = template.Must(template.New("powersync.yaml").Parse(powerSyncYAML))

// YAML is the content of powersync.yaml.
func (c PowerSyncConfig) YAML() string {
	syncConfig := "  path: " + c.SyncFile + "\n"
	if c.SyncFile == "" {
		syncConfig = "  content: |\n    " + strings.ReplaceAll(strings.TrimSpace(DemoStreams()), "\n", "\n    ") + "\n"
	}
	var text strings.Builder
	err := powerSyncTemplate.Execute(&text, map[string]any{
		"Replication": c.url(replicationRole, c.Database), "Storage": c.url(storageRole, storageDatabase),
		"Port": c.Port, "SyncConfig": syncConfig, "KeySetURL": c.KeySet, "Audience": Audience,
	})
	if err != nil {
		panic(err) // the template and its fields are both constant
	}
	return text.String()
}

func (c PowerSyncConfig) url(user, database string) string {
	// The PowerSync Service takes no sslmode in a URL.
	url, _, _ := strings.Cut(c.Postgres.URL(user, roleSecret, database), "?")
	return strings.Replace(url, "127.0.0.1", c.Host, 1)
}

// DemoStreams is the sync configuration of the demo's tables and of rejected writes.
func DemoStreams() string { return fmt.Sprintf(demoStreams, ledger.Stream()) }

const demoStreams = `config:
  edition: 3
streams:
  lists:
    auto_subscribe: true
    query: SELECT * FROM lists WHERE owner_id = auth.user_id()
  todos:
    auto_subscribe: true
    query: |
      SELECT todos.* FROM todos INNER JOIN lists ON lists.id = todos.list_id
      WHERE lists.owner_id = auth.user_id()
%s`
