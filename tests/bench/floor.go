package main

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/MicahParks/keyfunc/v3"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/gofiber/fiber/v2"
	"github.com/golang-jwt/jwt/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"postern/service/local"
)

// floorEnv marks a process as the floor and holds the address of its key set.
const floorEnv = "POSTERN_BENCH_FLOOR"

// floor is the least that a program must do which answers the same requests: it
// verifies the token, and sends the very statements that Postern sends for them
// (TestSameStatements) as one batch. It knows one table and one operation, checks
// nothing else, and remembers nothing.
type floor struct {
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
	config.ShouldPing = func(context.Context, pgxpool.ShouldPingParams) bool { return false }
	f := &floor{}
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
	f.more = [][]byte{[]byte("lock_timeout"), []byte("5000"), []byte("statement_timeout"), []byte("15000")}
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
	receiptSQL = `select postern.settle($1, $2, $3, $4, $5, $6, $7, $8)`
	roleSQL    = `select set_config('role', $1, true)`
	putSQL     = `insert into "public"."lists" as t ("id", "name") values ($1, $2) on conflict ("id") do update set "name" = excluded."name"`
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

// settleArgs are the arguments of postern.settle for transactions that are applied.
func settleArgs(claims []byte, body request) ([][]byte, error) {
	var who struct {
		Issuer  string `json:"iss"`
		Subject string `json:"sub"`
	}
	var last transaction
	if err := errors.Join(json.Unmarshal(claims, &who), json.Unmarshal(body.Transactions[len(body.Transactions)-1], &last)); err != nil {
		return nil, err
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
	return [][]byte{digests, outcomes, []byte("{}"), digests, []byte(who.Issuer), []byte(who.Subject), []byte(body.ClientID), last.ID}, nil
}

// write sends one batch and waits for its end. Like Postern it parses a
// statement that follows itself once; pgx.Batch would parse it each time.
func (f *floor) write(ctx context.Context, claims []byte, body request) error {
	conn, err := f.db.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	batch := conn.Conn().PgConn().StartPipeline(ctx)
	batch.SendQueryParams(f.setup, append([][]byte{claims}, f.more...), nil, nil, nil)
	receipts, err := settleArgs(claims, body)
	if err != nil {
		return errors.Join(err, batch.Close())
	}
	batch.SendQueryParams(receiptSQL, receipts, nil, nil, nil)
	batch.SendQueryParams(roleSQL, [][]byte{[]byte("authenticated")}, nil, nil, nil)
	first := true
	for _, raw := range body.Transactions {
		var t transaction
		if err := json.Unmarshal(raw, &t); err != nil {
			return errors.Join(err, batch.Close())
		}
		for _, op := range t.Crud {
			args := [][]byte{[]byte(op.ID), []byte(op.Data.Name)}
			if first {
				batch.SendQueryParams(putSQL, args, nil, nil, nil)
			} else {
				batch.SendQueryPrepared("", args, nil, nil)
			}
			first = false
		}
	}
	if err := batch.Sync(); err != nil {
		return errors.Join(err, batch.Close())
	}
	for {
		results, err := batch.GetResults()
		if err != nil {
			return errors.Join(err, batch.Close())
		}
		reader, ok := results.(*pgconn.ResultReader)
		if !ok { // the batch's end
			return batch.Close()
		}
		if _, err := reader.Close(); err != nil {
			return errors.Join(err, batch.Close())
		}
	}
}
