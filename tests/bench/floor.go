package main

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/MicahParks/keyfunc/v3"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/gofiber/fiber/v2"
	"github.com/golang-jwt/jwt/v5"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"postern/service/ledger"
	"postern/service/local"
)

// floorEnv marks a process as the floor or the limit, and holds the address of its key
// set. limitEnv makes it the limit.
const (
	floorEnv = "POSTERN_BENCH_FLOOR"
	limitEnv = "POSTERN_BENCH_LIMIT"
)

// floor is the least that a program must do which answers the same requests: it
// verifies the token, and sends the very statements that Postern sends for them
// (TestSameStatements) as one batch, named and prepared once a connection. It knows one
// table and one operation, checks nothing else, and remembers nothing.
//
// The limit is the floor without role, claims and receipts: it sends the operations
// alone, as the owner of the table.
type floor struct {
	bare   bool // it is the limit
	db     *pgxpool.Pool
	keys   keyfunc.Keyfunc
	parser *jwt.Parser
	setup  string
	more   [][]byte // arguments of setup after the claims
}

// runFloor serves until the process is ended.
func runFloor(databaseURL, keySet string) error {
	f, err := newFloor(context.Background(), databaseURL, keySet)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println("floor at", listener.Addr())
	return f.app().Listener(listener)
}

func newFloor(ctx context.Context, databaseURL, keySet string) (*floor, error) {
	config, err := pgxpool.ParseConfig(databaseURL)
	if err != nil {
		return nil, err
	}
	config.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		conn.PgConn().CustomData()["names"] = map[string]string{}
		// The owner of the limit's rows, of which the table asks.
		_, err := conn.Exec(ctx, `select set_config('request.jwt.claims', '{"sub":"00000000-0000-4000-8000-000000000000"}', false)`)
		return err
	}
	config.ShouldPing = func(context.Context, pgxpool.ShouldPingParams) bool { return false }
	f := &floor{bare: os.Getenv(limitEnv) != ""}
	if f.db, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return nil, err
	}
	if f.keys, err = keyfunc.NewDefaultCtx(ctx, []string{keySet}); err != nil {
		return nil, err
	}
	f.parser = jwt.NewParser(jwt.WithValidMethods([]string{"ES256"}), jwt.WithIssuer(local.IssuerName), jwt.WithAudience(local.Audience),
		jwt.WithExpirationRequired(), jwt.WithIssuedAt())
	return f, f.prepare(ctx)
}

func (f *floor) app() *fiber.App {
	app := fiber.New(fiber.Config{DisableStartupMessage: true, BodyLimit: 8 << 20, ReadBufferSize: 32 << 10})
	app.Post("/api/data", f.data)
	return app
}

// prepare words the first statement, which depends on the server's version.
func (f *floor) prepare(ctx context.Context) error {
	f.setup = `select set_config('request.jwt.claims', $1, true), set_config('request.method', 'POST', true), set_config('request.path', '/api/data', true), ` +
		`set_config($2, $3, true), set_config($4, $5, true)`
	f.more = [][]byte{[]byte("lock_timeout"), []byte("999"), []byte("statement_timeout"), []byte("15000")}
	var version int
	if err := f.db.QueryRow(ctx, `select current_setting('server_version_num')::integer`).Scan(&version); err != nil {
		return err
	}
	if version >= 170000 {
		f.setup += `, set_config($6, $7, true)`
		f.more = append(f.more, []byte("transaction_timeout"), []byte("15000"))
	}
	return nil
}

const (
	roleSQL = `select set_config('role', $1, true)`
	putSQL  = `insert into "public"."lists" as t ("id", "name") values ($1, $2) on conflict ("id") do update set "name" = excluded."name"`
)

// request is the part of a body that the floor reads.
type request struct {
	ClientID     string           `json:"client_id"`
	Transactions []jsontext.Value `json:"transactions"`
}

type transaction struct {
	ID   jsontext.Value `json:"transaction_id"`
	Crud []struct {
		ID   string `json:"id"`
		Data struct {
			Name string `json:"name"`
		} `json:"op_data"`
	} `json:"crud"`
}

func (f *floor) data(c *fiber.Ctx) error {
	ctx, cancel := context.WithTimeout(context.Background(), 25*time.Second)
	defer cancel()
	token := strings.TrimPrefix(c.Get(fiber.HeaderAuthorization), "Bearer ")
	if _, err := f.parser.Parse(token, f.keys.KeyfuncCtx(ctx)); err != nil {
		return fiber.ErrUnauthorized
	}
	claims, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	if err != nil {
		return err
	}
	var body request
	if err := json.Unmarshal(c.Body(), &body); err != nil {
		return err
	}
	if err := f.write(ctx, claims, body); err != nil {
		return err
	}
	results := make([]fiber.Map, len(body.Transactions))
	for i := range results {
		results[i] = fiber.Map{"status": "success"}
	}
	return c.JSON(fiber.Map{"results": results})
}

// settle is the statement of the receipts of transactions that are applied.
func settle(claims []byte, body request) (sql string, args [][]byte, err error) {
	var who struct {
		Issuer  string `json:"iss"`
		Subject string `json:"sub"`
	}
	var last transaction
	if err := errors.Join(json.Unmarshal(claims, &who), json.Unmarshal(body.Transactions[len(body.Transactions)-1], &last)); err != nil {
		return "", nil, err
	}
	digests, outcomes := []byte{'{'}, []byte{'{'}
	for i, t := range body.Transactions {
		if i > 0 {
			digests, outcomes = append(digests, ','), append(outcomes, ',')
		}
		sum := sha256.Sum256(t)
		digests = append(hex.AppendEncode(append(digests, `"\\x`...), sum[:]), '"')
		outcomes = append(outcomes, `"applied"`...)
	}
	digests, outcomes = append(digests, '}'), append(outcomes, '}')
	sql, args = ledger.SettleSQL, [][]byte{digests, outcomes, []byte("{}"), digests, []byte(who.Issuer), []byte(who.Subject), []byte(body.ClientID), last.ID}
	if len(body.Transactions) == 1 {
		sql, args[0], args[1] = ledger.SettleOneSQL, digests[3:len(digests)-2], []byte("applied")
	}
	return sql, args, nil
}

// write sends one batch and waits for its end.
func (f *floor) write(ctx context.Context, claims []byte, body request) error {
	conn, err := f.db.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	b := &batch{Pipeline: conn.Conn().PgConn().StartPipeline(ctx), names: conn.Conn().PgConn().CustomData()["names"].(map[string]string)}
	if !f.bare {
		sql, args, err := settle(claims, body)
		if err != nil {
			return errors.Join(err, b.Close())
		}
		b.send(f.setup, append([][]byte{claims}, f.more...)...)
		b.send(sql, args...)
		b.send(roleSQL, []byte("authenticated"))
	}
	for _, raw := range body.Transactions {
		var t transaction
		if err := json.Unmarshal(raw, &t); err != nil {
			return errors.Join(err, b.Close())
		}
		for _, op := range t.Crud {
			b.send(putSQL, []byte(op.ID), []byte(op.Data.Name))
		}
	}
	return b.finish()
}

// batch is a pipeline and the names of its connection's statements.
type batch struct {
	*pgconn.Pipeline
	names map[string]string
}

func (b *batch) send(sql string, args ...[]byte) {
	name, known := b.names[sql]
	if !known {
		name = "postern_" + strconv.Itoa(len(b.names)+1) // as long as Postern's
		b.names[sql] = name
		b.SendPrepare(name, sql, nil)
	}
	b.SendQueryPrepared(name, args, nil, nil)
}

func (b *batch) finish() error {
	if err := b.Sync(); err != nil {
		return errors.Join(err, b.Close())
	}
	for {
		results, err := b.GetResults()
		if err != nil {
			return errors.Join(err, b.Close())
		}
		switch result := results.(type) {
		case *pgconn.PipelineSync:
			return b.Close()
		case *pgconn.ResultReader:
			if _, err := result.Close(); err != nil {
				return errors.Join(err, b.Close())
			}
		}
	}
}
