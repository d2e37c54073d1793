package main

import (
	"context"
	"net"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"postern/tests/rig"
)

// startReference starts PowerSync's reference server, which is a checkout of
// https://github.com/powersync-ja/powersync-nodejs-backend-todolist-demo after npm
// install. It verifies no token and writes as the owner of the tables, without
// row-level security. It takes one transaction a request, so several are sent one after
// the other, as its connector does. It always talks to Postgres directly.
func (s *stage) startReference(ctx context.Context) (p program, err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return p, err
	}
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		return p, err
	}
	if err := listener.Close(); err != nil {
		return p, err
	}
	environment := []string{"PORT=" + port, "DATABASE_TYPE=postgres", "DATABASE_URI=" + s.postgres.OwnerURL("postgres"), "NODE_ENV=production"}
	p.process, err = rig.StartProcess(s.dir+"/reference.log", environment, "node", "--input-type=module", "--eval",
		"process.chdir("+strconv.Quote(reference)+"); await import(process.cwd() + '/index.js')")
	if err != nil {
		return p, err
	}
	_, err = p.process.Await(ctx, referenceAt)
	p.url, p.reference = "http://127.0.0.1:"+port, true
	return p, err
}

// referenceBodies are a request's transactions for the reference server.
func (s shape) referenceBodies() (bodies [][]byte) {
	for range s.transactions {
		operations := make([]string, s.operations)
		for i := range operations {
			operations[i] = `{"op":"PUT","table":"lists","id":"` + uuid.NewString() +
				`","data":{"name":"Groceries for the weekend","owner_id":"00000000-0000-4000-8000-000000000000"}}`
		}
		bodies = append(bodies, []byte(`{"batch":[`+strings.Join(operations, ",")+`]}`))
	}
	return bodies
}
