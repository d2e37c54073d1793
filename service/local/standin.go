package local

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/golang-jwt/jwt/v5"
	"github.com/jackc/pgx/v5"
)

// The stand-in for the PowerSync Service sends all lists that a user may read, again
// whenever they have changed. It is for a demo with few rows, and replicates nothing.

const (
	lookEvery = 300 * time.Millisecond
	mostRows  = 1000
)

// serveStream sends a checkpoint at once, and one whenever the user's rows have changed or
// a queue has run empty.
func (p *Phones) serveStream(w http.ResponseWriter, r *http.Request) {
	claims, err := p.issuer.claims(r.Header.Get("Authorization"))
	if err != nil {
		http.Error(w, "the token: "+err.Error(), http.StatusUnauthorized)
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	var sent []SyncedRow
	acknowledged := -1
	for {
		writes, asked := p.checkpoints.Last()
		rows, err := p.visible(r.Context(), claims)
		if err != nil {
			return // the device tries again
		}
		if writes != acknowledged || !slices.Equal(rows, sent) {
			after := time.Now().UnixMilli() * mostRows // rises, also after a restart
			if err := SendCheckpoint(w, after, rows, writes); err != nil {
				return
			}
			sent, acknowledged = rows, writes
		}
		select {
		case <-asked:
		case <-time.After(lookEvery):
		case <-r.Context().Done():
			return
		}
	}
}

// visible are the lists that a user may read.
func (p *Phones) visible(ctx context.Context, claims []byte) (rows []SyncedRow, err error) {
	err = pgx.BeginTxFunc(ctx, p.db, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `select set_config('request.jwt.claims', $1, true), set_config('role', 'authenticated', true)`, string(claims))
		if err != nil {
			return err
		}
		lists, err := tx.Query(ctx, `select 'lists', id::text, (to_jsonb(l) - 'id')::text
  from (select * from lists order by created_at desc limit $1) l order by id`, mostRows)
		if err != nil {
			return err
		}
		rows, err = pgx.CollectRows(lists, pgx.RowToStructByPos[SyncedRow])
		return err
	})
	return rows, err
}

// claims are those of a device's token that this issuer has signed.
func (i *Issuer) claims(authorization string) ([]byte, error) {
	for _, scheme := range []string{"Token ", "Bearer "} {
		authorization = strings.TrimPrefix(authorization, scheme)
	}
	var claims jwt.MapClaims
	_, err := jwt.NewParser(jwt.WithValidMethods([]string{"ES256"})).ParseWithClaims(authorization, &claims, func(*jwt.Token) (any, error) { return i.key.Public(), nil })
	if err != nil {
		return nil, errors.New("it is none of the development issuer's, or it has expired")
	}
	return json.Marshal(claims, json.Deterministic(true))
}
